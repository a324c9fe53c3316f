//! Block state: what a thread without the shard's lock can read about a pageblock in one load.

use crate::base::migratetype::{MigrateType, NR_MIGRATE_TYPES};
use crate::base::sync::{AtomicU32, Ordering};
use crate::base::units::PAGEBLOCK_NR_PAGES;
use crate::zone::frame_set::FrameSet;
use crate::zone::span::{Span, Spans};

/// The migrate type of a pageblock, and how many of its frames need attention when they come back by
/// their numbers.
///
/// Freeing a frame by its number reads this one word. If it is plain, nothing else is recorded about the
/// frame, and its migrate type is that of the pageblock.
///
/// ```text
///    22      21.................12   11.................2   1..........0
///  partial   charged, by number       reserved              migrate type
/// ```
#[derive(Debug)]
pub(crate) struct BlockState(AtomicU32);

/// A snapshot of a [`BlockState`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State(u32);

/// A set of frames whose number in a pageblock is part of the pageblock's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    /// Reserved frames that have not been handed in.
    Reserved,
    /// Charged frames that are known by their numbers alone.
    Charged,
}

/// The states of a zone's pageblocks, and the frames that they count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockStates {
    states: &'static [BlockState],
    reserved: FrameSet,
    /// Without a table if the allocator has no accounts.
    charged: FrameSet,
}

const TYPE_MASK: u32 = 3;
/// Each count has ten bits, since a pageblock has 512 frames.
const COUNT_BITS: u32 = 10;
const RESERVED_SHIFT: u32 = 2;
const CHARGED_SHIFT: u32 = RESERVED_SHIFT + COUNT_BITS;
/// Some frames of the pageblock are in no span, or in another one than its other frames.
const PARTIAL: u32 = 1 << (CHARGED_SHIFT + COUNT_BITS);

impl Special {
    const fn shift(self) -> u32 {
        match self {
            Self::Reserved => RESERVED_SHIFT,
            Self::Charged => CHARGED_SHIFT,
        }
    }
}

impl BlockState {
    /// Makes the state of a movable pageblock of which `nr_reserved` frames are reserved.
    pub(crate) fn new(nr_reserved: u32) -> Self {
        Self(AtomicU32::new(MigrateType::Movable as u32 | nr_reserved << RESERVED_SHIFT))
    }

    /// Returns a snapshot.
    #[inline]
    pub(crate) fn get(&self) -> State {
        // Relaxed: the migrate type is a hint. A thread that adds to a count owns the frames that it
        // counts, and passes them on by means that order this store before the next owner's load.
        State(self.0.load(Ordering::Relaxed))
    }

    /// Changes the migrate type from `old`, under the lock of the pageblock's shard.
    #[inline]
    pub(crate) fn change_migratetype(&self, old: MigrateType, new: MigrateType) {
        // A difference, so that the counts beside it stay as other threads change them. Relaxed: as in
        // `get`.
        self.0.fetch_xor(old as u32 ^ new as u32, Ordering::Relaxed);
    }

    /// Counts `nr` frames more; the caller owns them.
    fn add(&self, special: Special, nr: u32) {
        // Relaxed: as in `get`.
        self.0.fetch_add(nr << special.shift(), Ordering::Relaxed);
    }

    /// Counts `nr` frames less; the caller owns them.
    fn sub(&self, special: Special, nr: u32) {
        // Relaxed: as in `get`.
        self.0.fetch_sub(nr << special.shift(), Ordering::Relaxed);
    }
}

impl State {
    /// Returns the index of the migrate type.
    #[inline]
    pub(crate) const fn migratetype_index(self) -> u32 {
        self.0 & TYPE_MASK
    }

    /// Returns whether no frame needs attention.
    #[inline]
    pub(crate) const fn is_plain(self) -> bool {
        self.0 & !PARTIAL <= TYPE_MASK
    }

    /// Returns whether no frame needs attention and all frames are in one span.
    #[inline]
    pub(crate) const fn is_plain_and_whole(self) -> bool {
        self.0 <= TYPE_MASK
    }

    /// Returns the number of frames of a kind.
    #[inline]
    pub(crate) const fn count(self, special: Special) -> u32 {
        self.0 >> special.shift() & ((1 << COUNT_BITS) - 1)
    }

    /// Returns how another state differs, as bits; zero for equal ones.
    #[inline]
    pub(crate) const fn difference(self, other: Self) -> u32 {
        self.0 ^ other.0
    }
}

impl BlockStates {
    /// Makes the states of the pageblocks of a zone of these spans out of their table, which counts the
    /// frames of `reserved`.
    pub(crate) fn new(
        states: &'static [BlockState],
        spans: Spans,
        reserved: FrameSet,
        charged: FrameSet,
    ) -> Self {
        for span in spans.iter() {
            let is_cut = |pfn: u64| !pfn.is_multiple_of(PAGEBLOCK_NR_PAGES as u64);
            let ends = [(span.start, span.start), (span.end, span.end - 1)];
            for (_, pfn) in ends.into_iter().filter(|&(end, _)| is_cut(end)) {
                let state = &states[span.block(pfn) as usize];
                // Relaxed: no other thread can reach the table yet.
                state.0.fetch_or(PARTIAL, Ordering::Relaxed);
            }
        }
        Self { states, reserved, charged }
    }

    /// Returns the states of the pageblocks that a span touches, in order.
    #[inline]
    pub(crate) fn of_span(&self, span: &Span) -> &'static [BlockState] {
        &self.states[span.first_block as usize..=span.block(span.end - 1) as usize]
    }

    /// Returns the table of states, one for each of the zone's pageblocks.
    #[inline]
    pub(crate) fn table(&self) -> &'static [BlockState] {
        self.states
    }

    /// Returns the state of the zone's pageblock `block`.
    #[inline]
    pub(crate) fn get(&self, block: u32) -> State {
        self.states[block as usize].get()
    }

    /// Returns the frames of a kind.
    #[inline]
    pub(crate) fn set(&self, special: Special) -> &FrameSet {
        match special {
            Special::Reserved => &self.reserved,
            Special::Charged => &self.charged,
        }
    }

    /// Adds the charged frames of `mask` in word `index` of pageblock `block`; the caller owns them.
    pub(crate) fn add_charged(&self, block: u32, index: usize, mask: u64) {
        self.charged.add(block, index, mask);
        self.states[block as usize].add(Special::Charged, mask.count_ones());
    }

    /// Removes frames of a kind: those of `mask` in word `index` of pageblock `block`, which the caller
    /// owns. Returns which of them were in the set.
    pub(crate) fn remove(&self, special: Special, block: u32, index: usize, mask: u64) -> u64 {
        if self.get(block).count(special) == 0 {
            return 0;
        }
        let removed = self.set(special).remove(block, index, mask);
        if removed != 0 {
            self.states[block as usize].sub(special, removed.count_ones());
        }
        removed
    }
}

const _: () = assert!(NR_MIGRATE_TYPES <= TYPE_MASK as usize + 1);

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn each_field_changes_alone() {
        let state = BlockState::new(512);
        let counts = |state: State| (state.count(Special::Reserved), state.count(Special::Charged));
        let mut old = MigrateType::Movable;
        for (nr, new) in [1, 2, 509].into_iter().zip(MigrateType::ALL) {
            state.change_migratetype(old, new);
            state.add(Special::Charged, nr);
            state.sub(Special::Reserved, nr);
            old = new;
            assert_eq!(state.get().migratetype_index() as usize, new.index());
            assert!(!state.get().is_plain());
        }
        assert_eq!(counts(state.get()), (0, 512));
        state.sub(Special::Charged, 511);
        assert_eq!(counts(state.get()), (0, 1));
        state.sub(Special::Charged, 1);
        assert!(state.get().is_plain());
        assert_eq!(state.get().difference(state.get()), 0);
        assert!(!BlockState::new(1).get().is_plain());
    }
}

#[cfg(all(test, loom))]
mod loom;
