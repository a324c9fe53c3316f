//! Fault-around: a pager in this process supplies a group of pages around each missing one.
//!
//! The pager takes pages, fills them with the data of the group, and has the kernel copy them to where
//! they are missing: page by page, or by one call if they are one block.

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
use super::sample::{Meter, thread_cpu};
use super::{Arm, Sample, Setup, Start, User};
use crate::frames::Frames;

/// Pages of the region.
const NR_PAGES: usize = 4096;
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
        self.region.clear()?;
        let mut taker = Taker::new(self.setup.frames, self.setup.clock, arm);
        let mut slots: Vec<Slot> = (0..self.group).map(|_| None).collect();
        let (stop, stopped) = sync_channel(0);
        let (region, cpu) = (Arc::clone(&self.region), self.setup.peer_cpu);
        let reader = std::thread::spawn(move || read(&region, cpu, &stopped));
        let mut stop = Some(stop);
        let meter = Meter::start();
        let mut nr_faults = 0;
        while !reader.is_finished() {
            if let Some(page) = self.region.wait(TICK)? {
                let first = page - page % self.group;
                self.supply(arm, &mut taker, first, &mut slots)?;
                nr_faults += 1;
            }
            // The reader ends after its pass.
            if meter.elapsed() >= slice {
                drop(stop.take());
            }
        }
        let sample = |others| meter.stop(nr_faults, others, taker.alloc);
        reader.join().ok().context("the reader panicked")?.map(sample)
    }
}

/// Reads a byte of each page, and removes all pages after each pass; returns the CPU time.
fn read(region: &FaultRegion, cpu: CpuId, stopped: &Receiver<()>) -> anyhow::Result<Duration> {
    Cpus::pin_to(cpu)?;
    while stopped.try_recv() != Err(TryRecvError::Disconnected) {
        for page in 0..region.nr_pages() {
            black_box(region.read(page * PAGE_SIZE));
        }
        region.clear()?;
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
