//! Fault-around without a copy: the pages of the pager themselves move to where they are missing, and
//! back when the region has too many.
//!
//! Pages from anywhere are moved one by one, a block by one call. The pager owns a page for as long as
//! its memory is in the region, as a cache owns its pages, and frees it once the memory is back.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::time::Duration;

use anyhow::Context as _;
use pagemill::source::PageSource as _;
use pagemill::units::PAGE_SIZE;
use pagemill::{AllocPages as _, Folio, Gfp, Order};
use pagemill_host::fault::FaultRegion;

use super::fault_around::{NR_PAGES, Passes, serve};
use super::pages::{Slot, Taker};
use super::{Arm, Sample, Setup, Start, User};
use crate::frames::Frames;

/// Most pages that are in the region at a time: the reader comes back to none before it is moved out.
const NR_PAGES_MAX: usize = NR_PAGES / 2;

/// A pager that moves pages, and a thread that reads.
#[derive(Debug)]
struct Mover {
    setup: Setup,
    region: Arc<FaultRegion>,
    /// What the pages are filled with.
    data: Vec<u8>,
    /// Pages per fault.
    group: usize,
}

/// Pages whose memory is in the region, from page `first` on: pages from anywhere, or one block.
#[derive(Debug)]
struct Group {
    first: usize,
    slots: Vec<Slot>,
    block: Option<Folio<Frames>>,
}

/// Starts a pager of groups of `group` pages.
pub(super) fn start(setup: &Setup, group: usize) -> anyhow::Result<Start> {
    let region = match FaultRegion::new(NR_PAGES) {
        Ok(region) => Arc::new(region),
        Err(error) => return Ok(Start::Skipped(error.to_string())),
    };
    if let Err(error) = region.lend(setup.frames.allocator().platform().memory()) {
        return Ok(Start::Skipped(error.to_string()));
    }
    let data = vec![0x5a; NR_PAGES * PAGE_SIZE];
    Ok(Start::Ready(Box::new(Mover { setup: setup.clone(), region, data, group })))
}

impl User for Mover {
    fn measure(&mut self, arm: Arm, slice: Duration) -> anyhow::Result<Sample> {
        let free = self.setup.frames.allocator().nr_free_pages();
        let mut taker = Taker::new(self.setup.frames, self.setup.clock, arm);
        let nr_groups_max = NR_PAGES_MAX / self.group;
        let mut inside = VecDeque::with_capacity(nr_groups_max);
        let served = serve(&self.setup, &self.region, Passes::Keep, slice, |page| {
            let mut group = if inside.len() < nr_groups_max {
                Group { first: 0, slots: self.slots(arm), block: None }
            } else {
                let mut oldest = inside.pop_front().context("the region has groups")?;
                self.move_out(&mut taker, &mut oldest)?;
                oldest
            };
            group.first = page - page % self.group;
            self.move_in(arm, &mut taker, &mut group)?;
            inside.push_back(group);
            Ok(())
        })?;
        // Each group that was moved in is moved out within the measurement.
        inside.iter_mut().try_for_each(|group| self.move_out(&mut taker, group))?;
        let sample = served.sample(taker.alloc);
        let now = self.setup.frames.allocator().nr_free_pages();
        anyhow::ensure!(now == free, "{now} pages are free, {free} were");
        Ok(sample)
    }
}

impl Mover {
    fn slots(&self, arm: Arm) -> Vec<Slot> {
        let nr_slots = if arm == Arm::Block { 0 } else { self.group };
        (0..nr_slots).map(|_| None).collect()
    }

    /// Takes pages, fills them, and moves them in.
    fn move_in(&self, arm: Arm, taker: &mut Taker, group: &mut Group) -> anyhow::Result<()> {
        let data = &self.data[group.first * PAGE_SIZE..(group.first + self.group) * PAGE_SIZE];
        let nr_moved = if arm == Arm::Block {
            let order = u8::try_from(self.group.ilog2()).map(Order::new)??;
            let (frames, clock) = (self.setup.frames, self.setup.clock);
            group.block = taker.alloc.time(clock, || frames.alloc_pages(Gfp::KERNEL, order));
            let block = group.block.as_mut();
            let block = block.context("there is no such block: use a larger --arena")?;
            block.as_bytes_mut().copy_from_slice(data);
            self.region.move_in(group.first, block.as_bytes_mut())?
        } else {
            taker.take(&mut group.slots)?;
            let mut nr_moved = 0;
            let pages = group.slots.iter_mut().flatten().zip(data.as_chunks().0);
            for ((page, data), at) in pages.zip(group.first..) {
                *page.as_bytes_mut() = *data;
                nr_moved += self.region.move_in(at, page.as_bytes_mut())?;
            }
            nr_moved
        };
        self.check("in", nr_moved)
    }

    /// Moves pages out, which puts their memory back to where it was, and frees them.
    fn move_out(&self, taker: &mut Taker, group: &mut Group) -> anyhow::Result<()> {
        let nr_moved = if let Some(mut block) = group.block.take() {
            let nr_moved = self.region.move_out(group.first, block.as_bytes_mut())?;
            taker.alloc.time(self.setup.clock, || drop(block));
            nr_moved
        } else {
            let mut nr_moved = 0;
            for (page, at) in group.slots.iter_mut().flatten().zip(group.first..) {
                nr_moved += self.region.move_out(at, page.as_bytes_mut())?;
            }
            taker.give_back(&mut group.slots);
            nr_moved
        };
        self.check("out", nr_moved)
    }

    fn check(&self, way: &str, nr_moved: usize) -> anyhow::Result<()> {
        let group = self.group;
        anyhow::ensure!(nr_moved == group, "{nr_moved} pages of {group} were moved {way}");
        Ok(())
    }
}
