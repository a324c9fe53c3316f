//! Fault-around: a pager in this process supplies a group of pages around each missing one.
//!
//! The pager takes pages, fills them with the data of the group, and has the kernel copy them to where
//! they are missing: page by page, or by one call if they are one block. Another pager has them moved
//! instead: see [`fault_move`](super::fault_move).

use alloc::sync::Arc;
use core::hint::black_box;
use core::time::Duration;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

use anyhow::Context as _;
use pagemill::units::{CpuId, PAGE_SIZE};
use pagemill::{AllocPages as _, Folio, Gfp, Order};
use pagemill_host::fault::FaultRegion;
use pagemill_host::machine::Cpus;

use super::pages::{Slot, Taker};
use super::sample::{AllocTicks, Meter, thread_cpu};
use super::{Arm, Sample, Setup, Start, User};
use crate::frames::Frames;

/// Pages of the region.
pub(super) const NR_PAGES: usize = 4096;
/// Longest wait for a fault.
const TICK: Duration = Duration::from_millis(10);

/// A pager, and a thread that reads one byte of each page again and again.
#[derive(Debug)]
struct Pager {
    setup: Setup,
    region: Arc<FaultRegion>,
    /// What the pages are filled with.
    data: Vec<u8>,
    /// Pages per fault.
    group: usize,
}

/// Starts a pager of groups of `group` pages.
pub(super) fn start(setup: &Setup, group: usize) -> anyhow::Result<Start> {
    let region = match FaultRegion::new(NR_PAGES) {
        Ok(region) => Arc::new(region),
        Err(error) => return Ok(Start::Skipped(error.to_string())),
    };
    let data = vec![0x5a; NR_PAGES * PAGE_SIZE];
    Ok(Start::Ready(Box::new(Pager { setup: setup.clone(), region, data, group })))
}

impl User for Pager {
    fn measure(&mut self, arm: Arm, slice: Duration) -> anyhow::Result<Sample> {
        let mut taker = Taker::new(self.setup.frames, self.setup.clock, arm);
        let mut slots: Vec<Slot> = (0..self.group).map(|_| None).collect();
        let served = serve(&self.setup, &self.region, Passes::Clear, slice, |page| {
            self.supply(arm, &mut taker, page - page % self.group, &mut slots)
        })?;
        Ok(served.sample(taker.alloc))
    }
}

/// Whether all pages of the region are removed after each pass of the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passes {
    /// They are.
    Clear,
    /// The pager removes pages.
    Keep,
}

/// Work of a pager that goes on, after the reader has ended.
#[derive(Debug)]
pub(super) struct Served {
    meter: Meter,
    nr_faults: u64,
    reader: Duration,
}

impl Served {
    /// Ends the measurement, of which an operation is a fault.
    pub(super) fn sample(self, alloc: AllocTicks) -> Sample {
        self.meter.stop(self.nr_faults, self.reader, alloc)
    }
}

/// Reads all of an empty `region` again and again for about `slice` on another thread, and calls
/// `supply` with each page that is missing.
pub(super) fn serve(
    setup: &Setup,
    region: &Arc<FaultRegion>,
    passes: Passes,
    slice: Duration,
    mut supply: impl FnMut(usize) -> anyhow::Result<()>,
) -> anyhow::Result<Served> {
    region.clear()?;
    let (stop, stopped) = sync_channel(0);
    let (read_from, cpu) = (Arc::clone(region), setup.peer_cpu);
    let reader = std::thread::spawn(move || read(&read_from, passes, cpu, &stopped));
    let mut stop = Some(stop);
    let meter = Meter::start();
    let mut nr_faults = 0;
    while !reader.is_finished() {
        if let Some(page) = region.wait(TICK)? {
            supply(page)?;
            nr_faults += 1;
        }
        // The reader ends after its pass.
        if meter.elapsed() >= slice {
            drop(stop.take());
        }
    }
    let reader = reader.join().ok().context("the reader panicked")??;
    Ok(Served { meter, nr_faults, reader })
}

/// Reads a byte of each page, pass after pass; returns the CPU time.
fn read(
    region: &FaultRegion,
    passes: Passes,
    cpu: CpuId,
    stopped: &Receiver<()>,
) -> anyhow::Result<Duration> {
    Cpus::pin_to(cpu)?;
    while stopped.try_recv() != Err(TryRecvError::Disconnected) {
        for page in 0..region.nr_pages() {
            black_box(region.read(page * PAGE_SIZE));
        }
        if passes == Passes::Clear {
            region.clear()?;
        }
    }
    Ok(thread_cpu())
}

impl Pager {
    /// Supplies the group that begins with page `first`.
    fn supply(
        &self,
        arm: Arm,
        taker: &mut Taker,
        first: usize,
        slots: &mut [Slot],
    ) -> anyhow::Result<()> {
        let data = &self.data[first * PAGE_SIZE..(first + self.group) * PAGE_SIZE];
        if arm == Arm::Block {
            return self.supply_block(taker, first, data);
        }
        taker.take(slots)?;
        let pages = slots.iter_mut().flatten().zip(data.as_chunks().0).zip(first..);
        for ((page, data), at) in pages {
            *page.as_bytes_mut() = *data;
            self.region.copy(at, page.as_bytes())?;
        }
        taker.give_back(slots);
        Ok(())
    }

    fn supply_block(&self, taker: &mut Taker, first: usize, data: &[u8]) -> anyhow::Result<()> {
        let order = u8::try_from(self.group.ilog2()).map(Order::new)??;
        let (frames, clock) = (self.setup.frames, self.setup.clock);
        let block: Option<Folio<Frames>> =
            taker.alloc.time(clock, || frames.alloc_pages(Gfp::KERNEL, order));
        let mut block = block.context("there is no such block: use a larger --arena")?;
        block.as_bytes_mut().copy_from_slice(data);
        self.region.copy(first, block.as_bytes())?;
        taker.alloc.time(clock, || drop(block));
        Ok(())
    }
}
