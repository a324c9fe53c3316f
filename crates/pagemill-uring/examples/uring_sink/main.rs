//! Receives and drops everything, or measures what receiving costs in different ways.
//!
//! `cargo run --release -p pagemill-uring --example uring_sink -- --help`
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

extern crate alloc;

mod arms;
mod measure;

use alloc::sync::Arc;
use core::error::Error;
use std::env;
use std::net::TcpListener;
use std::process::ExitCode;

use pagemill_host::{HostAllocator, SharedAllocator};
use pagemill_pool::dma::NoDma;
use pagemill_pool::{PagePool, PoolOwner, PoolParams};
use pagemill_uring::{Event, ReceiveConfig, ReceiveRing};

const HELP: &str = "\
Receives over TCP with io_uring into pages of a page pool, and drops what arrives.

usage: uring_sink [--listen ADDRESS:PORT]
       uring_sink --measure [--mib NUMBER] [--rounds NUMBER] [--buffers NUMBER]

  --listen ADDRESS:PORT  where to listen (default 127.0.0.1:7008); prints a line for each connection
  --measure              compares read(2), buffers of 1 MiB and pages from different sources, over
                         loopback: the receiver's CPU time, alternating, with the spread of rounds
  --mib NUMBER           MiB that each arm receives in each round (default 512)
  --rounds NUMBER        rounds, each with every arm (default 9)
  --buffers NUMBER       pages on the buffer rings, a power of two (default 1024)
  --help                 this text";

struct Arguments {
    listen: String,
    measures: bool,
    nr_mib: u64,
    nr_rounds: u64,
    nr_buffers: u16,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("uring_sink: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let Some(arguments) = parse()? else {
        println!("{HELP}");
        return Ok(());
    };
    if arguments.measures {
        measure::run(arguments.nr_mib << 20, arguments.nr_rounds, arguments.nr_buffers)
    } else {
        serve(&arguments.listen)
    }
}

fn serve(listen: &str) -> Result<(), Box<dyn Error>> {
    let frames = SharedAllocator::new(HostAllocator::new(64 << 20)?);
    let pool = Arc::new(PagePool::new(&PoolParams::new(), frames, NoDma)?);
    let owner = PoolOwner::claim(pool).ok_or("a new pool has no owner")?;
    let mut ring = ReceiveRing::new(owner, &ReceiveConfig::new())?;
    let listener = TcpListener::bind(listen).map_err(|error| {
        format!("cannot listen on {listen}: {error}; choose another by --listen")
    })?;
    println!("listening on {}", listener.local_addr()?);
    ring.listen(listener)?;
    loop {
        ring.wait(None)?;
        while let Some(event) = ring.next_event() {
            match event {
                Event::Data { received, .. } => ring.put(received),
                Event::End { connection } => {
                    println!(
                        "connection {connection} ended, {} MiB in all",
                        ring.stats().bytes_received >> 20
                    );
                    ring.close(connection)?;
                }
                Event::Error { connection, error } => {
                    println!("connection {connection}: {error}");
                    ring.close(connection)?;
                }
                _ => {}
            }
        }
    }
}

fn parse() -> Result<Option<Arguments>, String> {
    let mut arguments = Arguments {
        listen: "127.0.0.1:7008".to_owned(),
        measures: false,
        nr_mib: 512,
        nr_rounds: 9,
        nr_buffers: ReceiveConfig::new().nr_buffers,
    };
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value; see --help"));
        let number = |text: String, max: u64| {
            let nr = text.parse().ok().filter(|nr| (1..=max).contains(nr));
            nr.ok_or(format!("{word} {text}: use a number from 1 to {max}"))
        };
        match word.as_str() {
            "--listen" => arguments.listen = value()?,
            "--measure" => arguments.measures = true,
            "--mib" => arguments.nr_mib = number(value()?, 1 << 20)?,
            "--rounds" => arguments.nr_rounds = number(value()?, 1000)?,
            "--buffers" => {
                arguments.nr_buffers = u16::try_from(number(value()?, 1 << 15)?).unwrap_or(1);
            }
            "--help" => return Ok(None),
            _ => return Err(format!("unknown argument {word}; see --help")),
        }
    }
    Ok(Some(arguments))
}
