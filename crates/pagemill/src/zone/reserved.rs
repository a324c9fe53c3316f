//! Reserved frames of a zone that have not been handed in yet, as bitmaps.

use core::ops::Range;

use crate::base::sync::{AtomicU64, Ordering};
use crate::base::units::{PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER};
use crate::zone::span::{Span, Spans};

/// The reserved frames of one pageblock, one bit each.
#[derive(Debug)]
pub(crate) struct ReservedBlock([AtomicU64; PAGEBLOCK_NR_PAGES / WORD_NR_PAGES]);

const WORD_NR_PAGES: usize = u64::BITS as usize;

/// The reserved frames of a zone, by pageblock.
///
/// Its size does not depend on what is reserved: the place of the metadata is chosen, and reserved,
/// once its size is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reserved(&'static [ReservedBlock]);

impl ReservedBlock {
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

impl Reserved {
    /// Records which of `ranges` are in a zone of these spans; `table` has one entry per pageblock.
    pub(crate) fn new(
        table: &'static [ReservedBlock],
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

    /// Returns the reserved frames of word `index` of the zone's pageblock `block`, as bits.
    pub(crate) fn word(&self, block: u32, index: usize) -> u64 {
        // Relaxed: a snapshot.
        self.0[block as usize].0[index].load(Ordering::Relaxed)
    }

    /// Returns the number of reserved frames.
    pub(crate) fn count(&self) -> u64 {
        let words = self.0.iter().flat_map(|ReservedBlock(words)| words);
        // Relaxed: a snapshot.
        words.map(|word| u64::from(word.load(Ordering::Relaxed).count_ones())).sum()
    }

    /// Removes a frame of `span`, and returns whether it was reserved.
    pub(crate) fn take(&self, span: &Span, pfn: u64) -> bool {
        let (word, bit) = self.bit(span, pfn);
        // Relaxed: the caller owns the frame, so no other thread accesses its bit.
        word.fetch_and(!bit, Ordering::Relaxed) & bit != 0
    }

    /// Returns whether a frame of `span` is reserved.
    pub(crate) fn holds(&self, span: &Span, pfn: u64) -> bool {
        let (word, bit) = self.bit(span, pfn);
        // Relaxed: a snapshot.
        word.load(Ordering::Relaxed) & bit != 0
    }

    /// Returns the word that a frame of `span` is in, and its bit there.
    fn bit(&self, span: &Span, pfn: u64) -> (&'static AtomicU64, u64) {
        let ReservedBlock(words) = &self.0[span.block(pfn) as usize];
        let within = pfn % PAGEBLOCK_NR_PAGES as u64;
        let position = usize::try_from(within).expect("less than a pageblock");
        (&words[position / WORD_NR_PAGES], 1 << (position % WORD_NR_PAGES))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use alloc::boxed::Box;
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn each_reserved_frame_is_taken_once() {
        // The second begins in the last pageblock of the first.
        let of_zone = [
            Span { start: 100, end: 1100, first_block: 0, first_frame: 0 },
            Span { start: 1200, end: 2048, first_block: 2, first_frame: 1000 },
        ];
        let spans = Spans::new(Box::leak(Box::new(of_zone)));
        let table: Vec<_> = (0..4).map(|_| ReservedBlock::new()).collect();
        let ranges = [1000..1500, 3..105, 1400..1537, 64..128, 9..9, 1535..1537, 2000..9000];
        let table = Box::leak(table.into_boxed_slice());
        let reserved = Reserved::new(table, spans, ranges.iter().cloned());
        for round in 0..2 {
            for span in spans.iter() {
                for pfn in span.start..span.end {
                    let is_reserved = ranges.iter().any(|range| range.contains(&pfn));
                    assert_eq!(reserved.take(span, pfn), is_reserved && round == 0, "{pfn}");
                }
            }
        }
    }
}
