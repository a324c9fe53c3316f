//! Frame sets: some frames of a zone as bitmaps by pageblock, for readers and writers without a lock.

use core::ops::Range;

use crate::base::sync::{AtomicU64, Ordering};
use crate::base::units::{PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER};
use crate::zone::pageblock::{position_in_block, word_in_block};
use crate::zone::span::{Span, Spans};

/// The frames of one pageblock that are in a set, one bit each.
#[derive(Debug)]
pub(crate) struct FrameSetBlock([AtomicU64; PAGEBLOCK_NR_PAGES / WORD_NR_PAGES]);

const WORD_NR_PAGES: usize = u64::BITS as usize;

/// A set of frames of a zone. A zone has one of its reserved frames that have not been handed in yet,
/// and one of its charged frames that are known by their numbers alone.
///
/// Its size does not depend on what is in it: the place of the metadata is chosen, and reserved, once
/// its size is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameSet(&'static [FrameSetBlock]);

impl FrameSetBlock {
    pub(crate) fn new() -> Self {
        Self(core::array::from_fn(|_| AtomicU64::new(0)))
    }

    /// Adds those of `pfns` that are in the pageblock that begins at frame `first`.
    fn add(&self, first: u64, pfns: &Range<u64>) {
        for (start, word) in (first..).step_by(WORD_NR_PAGES).zip(&self.0) {
            let within = |pfn: u64| pfn.clamp(start, start + WORD_NR_PAGES as u64) - start;
            let (from, to) = (within(pfns.start), within(pfns.end));
            if from < to {
                // Relaxed: no other thread can reach the table yet.
                word.fetch_or(u64::MAX << from & u64::MAX >> (64 - to), Ordering::Relaxed);
            }
        }
    }
}

impl FrameSet {
    /// Makes the set of those frames of `ranges` that are in a zone of these spans; `table` has one entry
    /// per pageblock.
    pub(crate) fn new(
        table: &'static [FrameSetBlock],
        spans: Spans,
        ranges: impl Iterator<Item = Range<u64>>,
    ) -> Self {
        for pfns in ranges {
            for span in spans.iter() {
                let pfns = pfns.start.max(span.start)..pfns.end.min(span.end);
                let mut pfn = pfns.start;
                while pfn < pfns.end {
                    let first = pfn >> PAGEBLOCK_ORDER.value() << PAGEBLOCK_ORDER.value();
                    table[span.block(pfn) as usize].add(first, &pfns);
                    pfn = first + PAGEBLOCK_NR_PAGES as u64;
                }
            }
        }
        Self(table)
    }

    /// Returns the set's frames in word `index` of the zone's pageblock `block`, as bits.
    pub(crate) fn word(&self, block: u32, index: usize) -> u64 {
        // Relaxed: a snapshot.
        self.0[block as usize].0[index].load(Ordering::Relaxed)
    }

    /// Returns the number of frames in the set.
    pub(crate) fn count(&self) -> u64 {
        // Relaxed: a snapshot.
        self.words().map(|word| u64::from(word.load(Ordering::Relaxed).count_ones())).sum()
    }

    /// Returns the number of frames of the zone's pageblock `block` that are in the set.
    pub(crate) fn count_in(&self, block: u32) -> u32 {
        let words = self.0.get(block as usize).map_or(&[][..], |FrameSetBlock(words)| words);
        // Relaxed: a snapshot.
        words.iter().map(|word| word.load(Ordering::Relaxed).count_ones()).sum()
    }

    /// Adds the frames of `mask` in word `index` of the zone's pageblock `block`.
    pub(crate) fn add(&self, block: u32, index: usize, mask: u64) {
        // Relaxed: the caller owns the frames, so no other thread accesses their bits.
        self.0[block as usize].0[index].fetch_or(mask, Ordering::Relaxed);
    }

    /// Removes the frames of `mask` in word `index` of the zone's pageblock `block`, and returns which of
    /// them were in the set.
    pub(crate) fn remove(&self, block: u32, index: usize, mask: u64) -> u64 {
        // Relaxed: as in `add`.
        self.0[block as usize].0[index].fetch_and(!mask, Ordering::Relaxed) & mask
    }

    /// Returns whether a frame of `span` is in the set.
    pub(crate) fn holds(&self, span: &Span, pfn: u64) -> bool {
        let bit = 1 << (position_in_block(pfn) % WORD_NR_PAGES);
        self.word(span.block(pfn), word_in_block(pfn)) & bit != 0
    }

    fn words(&self) -> impl Iterator<Item = &AtomicU64> {
        self.0.iter().flat_map(|FrameSetBlock(words)| words)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use alloc::boxed::Box;
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn each_frame_of_a_set_is_removed_once() {
        // The second begins in the last pageblock of the first.
        let of_zone = [
            Span { start: 100, end: 1100, first_block: 0, first_frame: 0 },
            Span { start: 1200, end: 2048, first_block: 2, first_frame: 1000 },
        ];
        let spans = Spans::new(Box::leak(Box::new(of_zone)));
        let table: Vec<_> = (0..4).map(|_| FrameSetBlock::new()).collect();
        let ranges = [1000..1500, 3..105, 1400..1537, 64..128, 9..9, 1535..1537, 2000..9000];
        let table = Box::leak(table.into_boxed_slice());
        let reserved = FrameSet::new(table, spans, ranges.iter().cloned());
        let in_blocks: u32 = (0..4).map(|block| reserved.count_in(block)).sum();
        assert_eq!(u64::from(in_blocks), reserved.count());
        for round in 0..2 {
            for span in spans.iter() {
                for pfn in span.start..span.end {
                    let is_reserved = ranges.iter().any(|range| range.contains(&pfn));
                    let is_there = is_reserved && round == 0;
                    let (block, index, bit) =
                        (span.block(pfn), word_in_block(pfn), 1 << (pfn % 64));
                    assert_eq!(reserved.holds(span, pfn), is_there, "{pfn}");
                    assert_eq!(reserved.remove(block, index, bit) != 0, is_there, "{pfn}");
                }
            }
        }
    }
}
