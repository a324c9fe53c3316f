//! How many turns a client waits for, counted with one worker that the test drives.

use core::net::{Ipv4Addr, SocketAddr};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use pagemill_host::{AllocatorConfig, ArenaConfig, SharedAllocator, allocator};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::*;
use crate::dispatch::dispatch::Dispatcher;
use crate::dispatch::program::{Call, Data, Procedure, Program, Replies, Version};
use crate::dispatch::reply_cache::ReplyCacheLimits;
use crate::server::config::ServerConfig;
use crate::transport::listener::Listener;
use crate::wire::error::CallError;
use crate::wire::record::mark_of;

const NR_BUSY: usize = 1024;
/// Calls that a connection with many has sent: more than its turns in a test take.
const NR_CALLS: usize = 512;

/// A call of procedure 0 of a program that is not served. It gets a reply nevertheless.
fn call() -> Vec<u8> {
    call_of(1, 0)
}

fn call_of(program: u32, procedure: u32) -> Vec<u8> {
    let body = body_of(program, procedure);
    [&mark_of(body.len())[..], &body].concat()
}

fn body_of(program: u32, procedure: u32) -> Vec<u8> {
    [7, 0, 2, program, 1, procedure, 0, 0, 0, 0].map(u32::to_be_bytes).concat()
}

/// A program whose calls take as long as a turn may.
struct Slow;

const SLOW: u32 = 7;

impl Program<SharedAllocator> for Slow {
    fn number(&self) -> u32 {
        SLOW
    }

    fn name(&self) -> &'static str {
        "slow"
    }

    fn versions(&self) -> &'static [Version] {
        const fn procedure(blocking: Blocking) -> Procedure {
            let (replies, data) = (Replies::Forgotten, Data::InPages);
            Procedure { name: "SLOW", blocking, replies, data }
        }
        const ALL: &[Procedure] =
            &[procedure(Blocking::No), procedure(Blocking::No), procedure(Blocking::Yes)];
        &[Version { number: 1, procedures: ALL }]
    }

    fn call(&self, _call: &mut Call<'_, SharedAllocator>) -> Result<(), CallError> {
        thread::sleep(Duration::from_millis(MAX_TURN_MS));
        Ok(())
    }
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
    let dispatcher = Dispatcher::new(vec![Arc::new(Slow)], ReplyCacheLimits::default());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (tcp, addr) = Socket::new(Listener::Tcp(listener)).unwrap();
    let (udp, _) = Socket::new(Listener::Udp(UdpSocket::bind(addr).unwrap())).unwrap();
    let state = ServerState::new(config, frames, dispatcher, vec![tcp, udp]).unwrap();
    state.workers.set_target(1);
    (state, addr)
}

/// Both ends of each connection are in this process.
fn allow_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

/// Opens connections from `from`, and has the worker accept all and find nothing to read.
fn connect_all(
    worker: &mut Worker<'_, SharedAllocator>,
    addr: SocketAddr,
    from: Ipv4Addr,
    nr: usize,
) -> Vec<TcpStream> {
    let before = worker.state.nr_connections();
    let mut clients = Vec::new();
    while clients.len() < nr {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&socket, &SocketAddr::from((from, 0))).unwrap();
        connect(&socket, &addr).unwrap();
        clients.push(TcpStream::from(socket));
        // Two turns: one accepts, one receives.
        while worker.state.nr_connections() < before + clients.len() {
            worker.turn();
        }
        worker.turn();
    }
    clients
}

/// Returns after how many turns `read` returns a reply. Before each turn, as much time passes as a slow
/// call takes.
fn slow_turns_until(
    worker: &mut Worker<'_, SharedAllocator>,
    mut read: impl FnMut() -> std::io::Result<usize>,
) -> usize {
    for nr_turns in 1.. {
        thread::sleep(Duration::from_millis(POLL_MS));
        worker.turn();
        if read().is_ok_and(|len| len > 0) {
            return nr_turns;
        }
    }
    unreachable!("the loop ends with the reply")
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
    let mut clients = connect_all(&mut worker, addr, Ipv4Addr::LOCALHOST, NR_BUSY);
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

/// As in the time of slow calls, all connections of a client are ready whenever a thread is.
#[test]
fn a_client_with_250_connections_delays_another_by_few_turns() {
    allow_descriptors();
    let (state, addr) = state();
    let mut worker = Worker::new(&state, Arc::new(WorkerSlot::new()));
    let mut many = connect_all(&mut worker, addr, Ipv4Addr::new(127, 0, 0, 2), 250);
    let [mut own] =
        <[_; 1]>::try_from(connect_all(&mut worker, addr, Ipv4Addr::LOCALHOST, 1)).unwrap();
    own.set_nonblocking(true).unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.connect(addr).unwrap();
    udp.set_nonblocking(true).unwrap();
    // Each has calls for more turns than the test takes, or comes back with an event.
    for (index, client) in many.iter_mut().enumerate() {
        let nr_calls = if index % 2 == 0 { NR_CALLS } else { 1 };
        client.write_all(&call().repeat(nr_calls)).unwrap();
    }
    for _ in 0..10 {
        own.write_all(&call()).unwrap();
        let nr_turns = slow_turns_until(&mut worker, || own.read(&mut [0; 64]));
        assert!(nr_turns <= 2, "{nr_turns} turns for a call");
        udp.send(&body_of(1, 0)).unwrap();
        let nr_turns = slow_turns_until(&mut worker, || udp.recv(&mut [0; 64]));
        assert!(nr_turns <= 2, "{nr_turns} turns for a datagram");
    }
    assert!(
        state.dispatcher.stats().calls.value() < 250 / 2 * NR_CALLS as u64,
        "they had calls left"
    );
}

#[test]
fn datagrams_delay_a_connection_by_one_turn() {
    let (state, addr) = state();
    let mut worker = Worker::new(&state, Arc::new(WorkerSlot::new()));
    let [mut own] =
        <[_; 1]>::try_from(connect_all(&mut worker, addr, Ipv4Addr::LOCALHOST, 1)).unwrap();
    own.set_nonblocking(true).unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..50 {
        udp.send_to(&body_of(1, 0), addr).unwrap();
    }
    for _ in 0..10 {
        own.write_all(&call()).unwrap();
        let nr_turns = slow_turns_until(&mut worker, || own.read(&mut [0; 64]));
        assert!(nr_turns <= 2, "{nr_turns} turns");
    }
}

/// Whether a procedure is declared as one that blocks or not, and there is a single thread.
#[test]
fn a_turn_ends_after_its_time_however_many_calls_wait() {
    for procedure in [1, 2] {
        let (state, addr) = state();
        let mut worker = Worker::new(&state, Arc::new(WorkerSlot::new()));
        let clients = connect_all(&mut worker, addr, Ipv4Addr::LOCALHOST, 1);
        (&clients[0]).write_all(&call_of(SLOW, procedure).repeat(5)).unwrap();
        for nr_calls in 1..=5 {
            worker.turn();
            assert_eq!(state.dispatcher.stats().calls.value(), nr_calls, "procedure {procedure}");
        }
    }
}
