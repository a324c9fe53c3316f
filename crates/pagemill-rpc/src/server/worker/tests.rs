//! How many turns a connection waits for, counted with one worker that the test drives.

use core::net::SocketAddr;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use pagemill_host::{AllocatorConfig, ArenaConfig, SharedAllocator, allocator};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::*;
use crate::dispatch::dispatch::Dispatcher;
use crate::dispatch::reply_cache::ReplyCacheLimits;
use crate::server::config::ServerConfig;
use crate::transport::listener::Listener;
use crate::wire::record::mark_of;

const NR_BUSY: usize = 1024;
/// Calls that a connection with many has sent: more than its turns in a test take.
const NR_CALLS: usize = 512;

/// A call of procedure 0 of a program that is not served. It gets a reply nevertheless.
fn call() -> Vec<u8> {
    let words = [7_u32, 0, 2, 1, 1, 0, 0, 0, 0, 0];
    let body = words.map(u32::to_be_bytes).concat();
    [&mark_of(body.len())[..], &body].concat()
}

fn state() -> (ServerState<SharedAllocator>, SocketAddr) {
    let config = ServerConfig {
        nr_threads: 1,
        max_payload_bytes: 4096,
        max_connections: 2 * NR_BUSY,
        ..ServerConfig::default()
    };
    let arena = ArenaConfig::new(64 << 20);
    let frames = SharedAllocator::new(allocator(&AllocatorConfig::new(arena)).unwrap());
    let dispatcher = Dispatcher::new(Vec::new(), ReplyCacheLimits::default());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (socket, addr) = Socket::new(Listener::Tcp(listener)).unwrap();
    let state = ServerState::new(config, frames, dispatcher, vec![socket]).unwrap();
    state.workers.set_target(1);
    (state, addr)
}

/// Both ends of each connection are in this process.
fn allow_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

/// Connects, and has the worker accept all and find nothing to read.
fn connect_all<'a>(worker: &mut Worker<'a, SharedAllocator>, addr: SocketAddr) -> Vec<TcpStream> {
    let mut clients = Vec::new();
    while clients.len() < NR_BUSY {
        clients.push(TcpStream::connect(addr).unwrap());
        // Two turns: one accepts, one receives.
        while worker.state.nr_connections() < clients.len() {
            worker.turn();
        }
        worker.turn();
    }
    clients
}

/// Returns after how many turns a new connection has the reply to a call.
fn turns_of_a_new_connection(worker: &mut Worker<'_, SharedAllocator>, addr: SocketAddr) -> usize {
    let mut new = TcpStream::connect(addr).unwrap();
    new.write_all(&call()).unwrap();
    new.set_nonblocking(true).unwrap();
    for nr_turns in 1.. {
        worker.turn();
        if new.read(&mut [0; 64]).is_ok_and(|len| len > 0) {
            return nr_turns;
        }
    }
    unreachable!("the loop ends with the reply")
}

#[test]
fn a_new_connection_is_served_within_a_round_of_1024_busy_ones() {
    allow_descriptors();
    let (state, addr) = state();
    let mut worker = Worker::new(&state, Arc::new(WorkerSlot::new()));
    let mut clients = connect_all(&mut worker, addr);
    // Half of the connections always have more to do, and half have an event.
    let many = call().repeat(NR_CALLS);
    for (index, client) in clients.iter_mut().enumerate() {
        let calls = if index % 2 == 0 { &many[..] } else { &call() };
        client.write_all(calls).unwrap();
    }
    let nr_turns = turns_of_a_new_connection(&mut worker, addr);
    assert!(nr_turns <= 2 * NR_BUSY, "{nr_turns} turns");
    // By now all that are busy have used up a turn: those do not delay another.
    let nr_turns = turns_of_a_new_connection(&mut worker, addr);
    let limit = usize::try_from(3 * POLL_TURNS).unwrap();
    assert!(nr_turns <= limit, "{nr_turns} turns");
    let answered = state.dispatcher.stats().calls.value();
    assert!(answered < (NR_BUSY / 2 * NR_CALLS) as u64, "they were busy all the time");
}
