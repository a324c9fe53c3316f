//! Shard: adjacent pageblocks of a zone, and the lock that guards their free frames.

use crate::base::book::{Book, BookError, Place};
use crate::base::stats::ZoneEvents;
use crate::base::sync::{Counter, Lock, LockGuard};
use crate::base::units::NodeId;
use crate::platform::platform::{IrqOff, Platform};
use crate::platform::trace::Event;
use crate::zone::block_state::BlockStates;
use crate::zone::buddy::Buddy;
use crate::zone::check::{Sums, Walk};
use crate::zone::span::Spans;

/// A part of a zone's pageblocks with its own lock.
///
/// Occupies its own cache lines: a CPU that finds what it needs in its shard shares none with CPUs of
/// other shards.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Shard {
    /// Guards the free frames and, for writing, `nr_free` and `events`.
    buddy: Lock<Buddy>,
    /// The number of free frames, for readers without the lock.
    nr_free: Counter,
    /// Counts of pages taken and freed past the per-CPU lists.
    events: ZoneEvents,
    place: ShardId,
}

/// The zone of a shard and its index there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShardId {
    pub(crate) node: NodeId,
    pub(crate) zone: u16,
    /// Index of the shard in the zone.
    pub(crate) shard: u16,
}

/// The lock of a shard; interrupts are off while it is held.
pub(crate) struct ShardGuard<'a, P: Platform> {
    shard: &'a Shard,
    buddy: LockGuard<'a, Buddy>,
    /// Behind the lock, which must be released before interrupts are restored.
    irq: IrqOff<'a, P>,
}

impl Shard {
    pub(crate) fn new(place: ShardId, buddy: Buddy) -> Self {
        let nr_free = Counter::new();
        nr_free.set(buddy.nr_free());
        Self { buddy: Lock::new(buddy), nr_free, events: ZoneEvents::new(), place }
    }

    /// Returns the number of free frames, without the lock, so the result may be outdated.
    #[inline]
    pub(crate) fn nr_free(&self) -> u64 {
        self.nr_free.get()
    }

    /// Returns the counters, for reading.
    pub(crate) fn events(&self) -> &ZoneEvents {
        &self.events
    }

    /// Checks the shard's books, a few pageblocks at a time.
    pub(crate) fn check(
        &self,
        platform: &impl Platform,
        spans: Spans,
        states: &BlockStates,
    ) -> Result<(), BookError> {
        const STEP: usize = 4;
        let place = Place::Shard { zone: self.place.zone.into(), shard: self.place.shard.into() };
        // Read first: whoever holds the lock writes it anew.
        let counter = self.nr_free();
        let (nr_free, nr_pageblocks) = {
            let mut held = self.hold(platform);
            (held.buddy().nr_free(), held.buddy().nr_pageblocks())
        };
        place.expect(Book::ShardCounter, counter, nr_free)?;
        let mut sums = Sums::new();
        for start in (0..nr_pageblocks).step_by(STEP) {
            let range = start..nr_pageblocks.min(start + STEP);
            sums.add(self.hold(platform).buddy(), range, spans, states)?;
        }
        for mut walk in Walk::all() {
            while walk.step(self.hold(platform).buddy(), &sums) {}
            walk.check(&sums, place)?;
        }
        sums.check(self.hold(platform).buddy(), place)
    }

    /// Waits for the lock.
    #[inline]
    pub(crate) fn hold<'a, P: Platform>(&'a self, platform: &'a P) -> ShardGuard<'a, P> {
        // If a hook of the platform panics, both are dropped in the reverse order.
        let irq = IrqOff::new(platform);
        let buddy = self.buddy.lock(|spins| platform.relax(spins));
        let ShardId { node, zone, shard } = self.place;
        platform.trace(Event::ZoneLocked { node, zone, shard });
        ShardGuard { shard: self, buddy, irq }
    }
}

impl<P: Platform> ShardGuard<'_, P> {
    #[inline]
    pub(crate) fn buddy(&mut self) -> &mut Buddy {
        &mut self.buddy
    }

    /// Returns the counters, for writing.
    pub(crate) fn events(&self) -> &ZoneEvents {
        &self.shard.events
    }
}

impl<P: Platform> Drop for ShardGuard<'_, P> {
    /// The lock is released and interrupts are restored afterwards, also if the trace panics.
    #[inline]
    fn drop(&mut self) {
        self.shard.nr_free.set(self.buddy.nr_free());
        let ShardId { node, zone, shard } = self.shard.place;
        self.irq.platform().trace(Event::ZoneUnlocked { node, zone, shard });
    }
}

#[cfg(test)]
mod tests {
    use alloc::boxed::Box;
    use alloc::vec;

    use super::*;
    use crate::page_alloc::setup::tests::Machine;
    use crate::zone::block_state::BlockState;
    use crate::zone::buddy::Block;
    use crate::zone::frame_set::{FrameSet, FrameSetBlock};
    use crate::zone::pageblock::Bitmap;
    use crate::zone::span::Span;

    #[test]
    fn a_counter_that_is_wrong_is_found() {
        let span = Span { start: 0, end: 512, first_block: 0, first_frame: 0 };
        let spans = Spans::new(Box::leak(Box::new([span])));
        let (blocks, bitmaps) = ([Block::new()], [Bitmap::EMPTY]);
        let (blocks, bitmaps) = (Box::leak(Box::new(blocks)), Box::leak(Box::new(bitmaps)));
        let table: &'static [_] = Box::leak(Box::new([BlockState::new(0)]));
        let mut buddy = Buddy::new(blocks, bitmaps, table, spans, 0);
        buddy.free_all_except(core::iter::empty());
        let no_frames = || {
            let table = Box::leak(vec![FrameSetBlock::new()].into_boxed_slice());
            FrameSet::new(table, spans, core::iter::empty())
        };
        let states = BlockStates::new(table, spans, no_frames(), no_frames());
        let shard = Shard::new(ShardId { node: NodeId::new(0), zone: 3, shard: 1 }, buddy);
        let machine = Machine::default();
        assert_eq!(shard.check(&machine, spans, &states), Ok(()));
        shard.nr_free.set(511);
        let error = shard.check(&machine, spans, &states).unwrap_err();
        assert_eq!((error.book, error.found, error.expected), (Book::ShardCounter, 511, 512));
        assert_eq!(error.place, Place::Shard { zone: 3, shard: 1 });
    }
}
