//! An echo server for 10,000 connections: received pages are sent back as they are, without a copy.
//!
//! `cargo run --release -p pagemill-uring --example uring_echo -- --help`
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

extern crate alloc;

use alloc::sync::Arc;
use core::error::Error;
use core::time::Duration;
use std::env;
use std::net::TcpListener;
use std::process::ExitCode;
use std::time::Instant;

use pagemill::Page;
use pagemill_host::{HostAllocator, SharedAllocator};
use pagemill_pool::dma::NoDma;
use pagemill_pool::{PagePool, PoolOwner, PoolPage, PoolParams};
use pagemill_uring::{Event, ReceiveConfig, ReceiveRing, RingStats};
use rustix::process::{Resource, getrlimit};

const HELP: &str = "\
Serves an echo over TCP, with io_uring into pages of a page pool.

usage: uring_echo [--listen ADDRESS:PORT] [--connections NUMBER]

  --listen ADDRESS:PORT  where to listen (default 127.0.0.1:7007)
  --connections NUMBER   most connections at a time (default 10000)
  --help                 this text

Each connection is a descriptor; 16 more are for the program. With the default, set the limit to
10016 at least: ulimit -n 10016. Ends when it is interrupted.";

/// Descriptors beside those of connections: standard streams, the ring, the listener, and some more.
const NR_OTHER_DESCRIPTORS: u64 = 16;

/// Connections that wait to be accepted; the system's limit, net.core.somaxconn, is lower on some machines.
const NR_WAITING: i32 = 4096;

/// Bytes of the arena: 1,024 pages for the kernel, and what waits to be sent.
const ARENA_BYTES: u64 = 128 << 20;

type Pool = Arc<PagePool<Page<SharedAllocator>>>;
type Ring = ReceiveRing<PoolOwner<Pool>>;

struct Arguments {
    listen: String,
    nr_connections: u32,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("uring_echo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let Some(arguments) = parse()? else {
        println!("{HELP}");
        return Ok(());
    };
    check_descriptors(arguments.nr_connections)?;
    let frames = SharedAllocator::new(HostAllocator::new(ARENA_BYTES)?);
    let pool = Arc::new(PagePool::new(&PoolParams::new(), frames, NoDma)?);
    let owner = PoolOwner::claim(pool).ok_or("a new pool has no owner")?;
    let config = ReceiveConfig {
        // One more for the listener.
        nr_connections_max: arguments.nr_connections + 1,
        nr_held_max: 16_384,
        nr_held_per_connection_max: 256,
        ..ReceiveConfig::new()
    };
    let mut ring = ReceiveRing::new(owner, &config)?;
    let listen = &arguments.listen;
    let listener = TcpListener::bind(listen).map_err(|error| {
        format!("cannot listen on {listen}: {error}; choose another by --listen")
    })?;
    // The standard library asks for 128 waiting connections; the 129th waits for a second.
    rustix::net::listen(&listener, NR_WAITING)?;
    println!("listening on {}", listener.local_addr()?);
    ring.listen(listener)?;
    serve(&mut ring)
}

fn serve(ring: &mut Ring) -> Result<(), Box<dyn Error>> {
    let mut shown = (Instant::now(), ring.stats());
    loop {
        ring.wait(Some(Duration::from_secs(1)))?;
        while let Some(event) = ring.next_event() {
            handle(ring, event)?;
        }
        if shown.0.elapsed() >= Duration::from_secs(1) {
            let stats = ring.stats();
            if stats.bytes_received != shown.1.bytes_received {
                show(&stats);
            }
            shown = (Instant::now(), stats);
        }
    }
}

fn handle(ring: &mut Ring, event: Event<PoolPage<Pool>>) -> Result<(), Box<dyn Error>> {
    match event {
        Event::Data { connection, received } => ring.send(connection, received)?,
        // What was received before is sent first.
        Event::End { connection } => ring.close(connection)?,
        Event::Error { connection, error } => {
            println!("connection {connection}: {error}");
            ring.abort(connection)?;
        }
        _ => {}
    }
    Ok(())
}

fn show(stats: &RingStats) {
    println!(
        "{} connections, {} MiB received, {} MiB sent, {} pages held, {} pauses, {} starved",
        // Without the listener.
        stats.nr_connections.saturating_sub(1),
        stats.bytes_received >> 20,
        stats.bytes_sent >> 20,
        stats.nr_held,
        stats.nr_paused,
        stats.nr_starved,
    );
}

/// Refuses to start where the process may not have a descriptor for each connection.
fn check_descriptors(nr_connections: u32) -> Result<(), String> {
    let needed = u64::from(nr_connections) + NR_OTHER_DESCRIPTORS;
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < needed => Err(format!(
            "{nr_connections} connections need {needed} descriptors, and the limit is {limit}: raise it \
             (ulimit -n {needed}), or use --connections {}",
            limit.saturating_sub(NR_OTHER_DESCRIPTORS)
        )),
        _ => Ok(()),
    }
}

fn parse() -> Result<Option<Arguments>, String> {
    let mut arguments = Arguments { listen: "127.0.0.1:7007".to_owned(), nr_connections: 10_000 };
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value; see --help"));
        match word.as_str() {
            "--listen" => arguments.listen = value()?,
            "--connections" => {
                let text = value()?;
                let nr = text.parse().ok().filter(|nr| (1..1 << 24).contains(nr));
                arguments.nr_connections = nr.ok_or(format!(
                    "--connections {text}: use a number from 1 to {}",
                    (1 << 24) - 1
                ))?;
            }
            "--help" => return Ok(None),
            _ => return Err(format!("unknown argument {word}; see --help")),
        }
    }
    Ok(Some(arguments))
}
