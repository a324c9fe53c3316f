//! Receive ring: io_uring receives over TCP into single pages, in bundles of many.

use alloc::rc::Rc;
use core::cell::RefCell;
use core::time::Duration;

use anyhow::Context as _;
use pagemill_uring::supply::{AllocatorSupply, PageSupply, Refill};
use pagemill_uring::{Event, ReceiveConfig, ReceiveRing};

use super::sample::{AllocTicks, Meter};
use super::sender::Sender;
use super::{Arm, Sample, Setup, Start, User};
use crate::Clock;
use crate::frames::Frames;

/// Bytes that count as one operation, and that the sender sends at a time.
pub(super) const OPERATION_BYTES: usize = 1 << 20;
/// Longest wait for data.
const PATIENCE: Duration = Duration::from_mins(1);

#[derive(Debug)]
struct RingUser {
    setup: Setup,
}

/// Starts the user, unless the kernel lacks what it needs.
pub(super) fn start(setup: &Setup) -> anyhow::Result<Start> {
    let supply = AllocatorSupply::new(setup.frames, Refill::Bulk);
    match ReceiveRing::new(supply, &ReceiveConfig::new()) {
        Ok(_) => Ok(Start::Ready(Box::new(RingUser { setup: setup.clone() }))),
        Err(error) if error.is_unsupported() => Ok(Start::Skipped(error.to_string())),
        Err(error) => Err(error.into()),
    }
}

/// A supply whose calls to the page allocator are timed.
struct Timed {
    supply: AllocatorSupply<Frames>,
    clock: Clock,
    alloc: Rc<RefCell<AllocTicks>>,
}

impl PageSupply for Timed {
    type Page = pagemill::Page<Frames>;

    fn take(&mut self, nr: usize, pages: &mut Vec<Self::Page>) -> usize {
        self.alloc.borrow_mut().time(self.clock, || self.supply.take(nr, pages))
    }

    fn put(&mut self, pages: &mut Vec<Self::Page>) {
        self.alloc.borrow_mut().time(self.clock, || self.supply.put(pages));
    }
}

impl User for RingUser {
    fn measure(&mut self, arm: Arm, slice: Duration) -> anyhow::Result<Sample> {
        let refill = match arm {
            Arm::Single => Refill::Single,
            Arm::Bulk => Refill::Bulk,
            Arm::Block => Refill::Split,
        };
        let alloc = Rc::new(RefCell::new(AllocTicks::default()));
        let Setup { frames, clock, peer_cpu, .. } = self.setup;
        let supply = AllocatorSupply::new(frames, refill);
        let timed = Timed { supply, clock, alloc: Rc::clone(&alloc) };
        let mut ring = ReceiveRing::new(timed, &ReceiveConfig::new())?;
        let (sender, stream) = Sender::start(peer_cpu, OPERATION_BYTES)?;
        ring.add(stream)?;
        // The first data fill the ring with pages.
        receive(&mut ring)?;
        *alloc.borrow_mut() = AllocTicks::default();
        let meter = Meter::start();
        let mut nr_bytes = 0;
        while nr_bytes == 0 || meter.elapsed() < slice {
            nr_bytes += receive(&mut ring)?;
        }
        let alloc = *alloc.borrow();
        let sample = meter.stop_partly(nr_bytes as f64 / OPERATION_BYTES as f64, alloc);
        let (_supply, ended) = ring.shutdown();
        ended?;
        sender.stop()?;
        Ok(sample)
    }
}

/// Receives what is there, at least one byte, and returns how many bytes that were.
fn receive(ring: &mut ReceiveRing<Timed>) -> anyhow::Result<usize> {
    let mut nr_bytes = 0;
    while nr_bytes == 0 {
        anyhow::ensure!(ring.wait(Some(PATIENCE))? > 0, "no data came within {PATIENCE:?}");
        while let Some(event) = ring.next_event() {
            match event {
                Event::Data { received, .. } => {
                    nr_bytes += received.len();
                    ring.put(received);
                }
                Event::Error { error, .. } => return Err(error).context("the ring cannot receive"),
                other => anyhow::bail!("the sender is gone: {other:?}"),
            }
        }
    }
    Ok(nr_bytes)
}
