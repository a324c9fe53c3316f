//! Load loop: keeps all connections of a workload busy for a while, on one thread.
//!
//! One thread that waits for all sockets at once leaves the other CPUs to the server, and switches
//! between connections without the scheduler.

use core::time::Duration;
use std::os::fd::OwnedFd;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{Errno, write};

use super::client::PATIENCE;
use super::pattern;
use super::pipe::{Pipe, empty_histogram};

/// The result of a load.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Time from the first call to the last reply.
    pub elapsed: Duration,
    /// Number of replies.
    pub calls: u64,
    /// Latency of the calls, in ns.
    pub latency: Histogram<u64>,
}

/// Maximum number of sockets that are handled per wait.
const EVENTS: usize = 64;

/// Keeps `pipes` busy for `time`, then waits for the last replies.
///
/// # Errors
/// If a reply is wrong, or the server stops replying.
pub fn run(pipes: &mut [Pipe<'_>], time: Duration) -> anyhow::Result<Outcome> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (pipe, number) in pipes.iter().zip(0..) {
        epoll::add(&poll, pipe, epoll::EventData::new_u64(number), epoll::EventFlags::IN)?;
    }
    let start = Instant::now();
    let mut full = vec![false; pipes.len()];
    for (number, pipe) in pipes.iter_mut().enumerate() {
        full[number] = pipe.send(true)?;
        watch(&poll, pipe, number, full[number])?;
    }
    let mut events = Vec::with_capacity(EVENTS);
    let mut heard = start;
    while pipes.iter().any(|pipe| !pipe.is_idle()) {
        events.clear();
        let patience = Timespec::try_from(PATIENCE).expect("a few seconds");
        match epoll::wait(&poll, spare_capacity(&mut events), Some(&patience)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let now = Instant::now();
        heard = if events.is_empty() { heard } else { now };
        ensure!(now - heard < PATIENCE, "the server has not answered for {} s", PATIENCE.as_secs());
        for event in &events {
            let number = usize::try_from(event.data.u64()).expect("it is a place in a slice");
            let pipe = &mut pipes[number];
            pipe.receive()?;
            let was_full = core::mem::replace(&mut full[number], pipe.send(now - start < time)?);
            if was_full != full[number] {
                watch(&poll, pipe, number, full[number])?;
            }
        }
    }
    Ok(outcome(pipes, start.elapsed()))
}

/// Registers for replies, and for room in the socket if it is full.
fn watch(poll: &OwnedFd, pipe: &Pipe<'_>, number: usize, full: bool) -> rustix::io::Result<()> {
    let mut flags = epoll::EventFlags::IN;
    flags.set(epoll::EventFlags::OUT, full);
    epoll::modify(poll, pipe, epoll::EventData::new_u64(number as u64), flags)
}

fn outcome(pipes: &[Pipe<'_>], elapsed: Duration) -> Outcome {
    let mut latency = empty_histogram();
    for pipe in pipes {
        latency.add(&pipe.done.latency).expect("the bounds are the same");
    }
    Outcome { elapsed, calls: pipes.iter().map(|pipe| pipe.done.calls).sum(), latency }
}

/// Makes a memfd with `len` bytes of the pattern, as a source for sending.
///
/// # Errors
/// If there is not enough memory.
pub fn source(len: u64) -> anyhow::Result<OwnedFd> {
    const BLOCK: usize = 64 << 10;
    let no_room = || format!("cannot keep {len} bytes of data in memory; use a smaller --size");
    let file = memfd_create("pagemill-bench", MemfdFlags::CLOEXEC)
        .context("cannot make a file in memory for the data of the load")?;
    let mut bytes = vec![0; BLOCK];
    for block in pattern::blocks(len, BLOCK) {
        pattern::fill(block.start, &mut bytes);
        let mut left = &bytes[..];
        while !left.is_empty() {
            left = &left[write(&file, left).with_context(no_room)?..];
        }
    }
    Ok(file)
}
