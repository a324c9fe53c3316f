//! Takes pages in one of the three ways, and gives them back.

use pagemill::{AllocPages, Gfp, Order, Page};

use super::Arm;
use super::sample::AllocTicks;
use crate::Clock;
use crate::frames::Frames;

/// A slot for a page.
pub(super) type Slot = Option<Page<Frames>>;

/// Takes pages and gives them back by one arm, and measures how long the calls take.
#[derive(Debug)]
pub(super) struct Taker {
    frames: Frames,
    clock: Clock,
    arm: Arm,
    /// What the calls took so far.
    pub(super) alloc: AllocTicks,
}

impl Taker {
    /// Makes one that has not taken anything.
    pub(super) fn new(frames: Frames, clock: Clock, arm: Arm) -> Self {
        Self { frames, clock, arm, alloc: AllocTicks::default() }
    }

    /// Fills slots that are all empty.
    ///
    /// # Errors
    /// If there are too few pages.
    pub(super) fn take(&mut self, slots: &mut [Slot]) -> anyhow::Result<()> {
        let (frames, arm) = (self.frames, self.arm);
        let is_full = self.alloc.time(self.clock, || take(frames, arm, slots));
        anyhow::ensure!(is_full, "the experiment ran out of pages: use a larger --arena");
        Ok(())
    }

    /// Frees the pages of some slots: one by one if they came so, else by one call.
    pub(super) fn give_back(&mut self, slots: &mut [Slot]) {
        let (frames, arm) = (self.frames, self.arm);
        self.alloc.time(self.clock, || match arm {
            Arm::Single => slots.fill_with(|| None),
            Arm::Bulk | Arm::Block => {
                frames.release_pages(slots);
            }
        });
    }
}

/// Fills slots that are all empty, as far as there are pages; returns whether it did.
#[inline]
pub(super) fn take(frames: Frames, arm: Arm, slots: &mut [Slot]) -> bool {
    match arm {
        Arm::Single => slots.iter_mut().all(|slot| {
            *slot = frames.alloc_page(Gfp::KERNEL);
            slot.is_some()
        }),
        Arm::Bulk => frames.fill(Gfp::KERNEL, slots).is_ok(),
        Arm::Block => take_blocks(frames, slots),
    }
}

/// Fills the slots with the largest blocks that fit, each split.
fn take_blocks(frames: Frames, mut slots: &mut [Slot]) -> bool {
    while let Some(order) = Order::all().rfind(|order| order.nr_pages() <= slots.len()) {
        let Some(block) = frames.alloc_pages(Gfp::KERNEL, order) else { return false };
        let (now, later) = slots.split_at_mut(order.nr_pages());
        for (slot, page) in now.iter_mut().zip(block.split()) {
            *slot = Some(page);
        }
        slots = later;
    }
    true
}
