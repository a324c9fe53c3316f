//! Spans: the contiguous pieces of a zone, and the dense numbering of frames and pageblocks.
//!
//! The numbers of frames and pageblocks skip the holes between spans, so metadata is dense and a hole
//! costs nothing, however large it is.

use crate::base::units::PAGEBLOCK_ORDER;

/// A contiguous piece of a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// First frame number.
    pub(crate) start: u64,
    /// One past the last frame number.
    pub(crate) end: u64,
    /// Index, within the zone, of the pageblock that holds the first frame.
    pub(crate) first_block: u32,
    /// Index, within the allocator, of the first frame.
    pub(crate) first_frame: u32,
}

impl Span {
    /// A span without frames.
    pub(crate) const EMPTY: Self = Self { start: 0, end: 0, first_block: 0, first_frame: 0 };

    /// Returns whether frame `pfn` is in this span.
    #[inline]
    pub(crate) fn holds(&self, pfn: u64) -> bool {
        (self.start..self.end).contains(&pfn)
    }

    /// Returns the allocator's indexes of the frames of this span.
    pub(crate) fn frames(&self) -> core::ops::Range<usize> {
        self.frame(self.start)..self.frame(self.end)
    }

    /// Returns the zone's index of the pageblock that holds frame `pfn` of this span.
    #[inline]
    pub(crate) fn block(&self, pfn: u64) -> u32 {
        // No overflow: the frame is not before the first one.
        let blocks = block_base(pfn).wrapping_sub(block_base(self.start));
        #[expect(clippy::cast_possible_truncation, reason = "a span has 2^32 frames at most")]
        let blocks = blocks as u32;
        self.first_block.wrapping_add(blocks)
    }

    /// Returns the frames of this span that are in pageblocks `blocks`, given as indexes within the
    /// zone.
    pub(crate) fn pfns_within(&self, blocks: core::ops::Range<u32>) -> core::ops::Range<u64> {
        let first_base = block_base(self.start);
        let pfn = |block: u32| {
            let behind = u64::from(block.saturating_sub(self.first_block));
            ((first_base + behind) << PAGEBLOCK_ORDER.value()).clamp(self.start, self.end)
        };
        pfn(blocks.start)..pfn(blocks.end)
    }

    /// Returns the allocator's index of frame `pfn` of this span.
    #[inline]
    pub(crate) fn frame(&self, pfn: u64) -> usize {
        let frames = pfn - self.start;
        self.first_frame as usize + usize::try_from(frames).expect("a span has 2^32 frames at most")
    }
}

/// Returns the index that a pageblock would have if pageblocks were numbered from frame zero.
#[inline]
pub(crate) const fn block_base(pfn: u64) -> u64 {
    pfn >> PAGEBLOCK_ORDER.value()
}

/// The spans of one zone, in ascending order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spans(&'static [Span]);

impl Spans {
    pub(crate) const fn new(spans: &'static [Span]) -> Self {
        Self(spans)
    }

    /// Returns the span that holds frame `pfn`, or `None` if the frame is not in this zone.
    ///
    /// # Cost
    /// Logarithmic in the number of spans; one comparison for a zone without holes.
    #[inline]
    pub(crate) fn find(&self, pfn: u64) -> Option<&'static Span> {
        let index = match self.0 {
            [_] => 0,
            spans => spans.partition_point(|span| span.end <= pfn),
        };
        self.0.get(index).filter(|span| span.holds(pfn))
    }

    /// Like [`find`](Self::find), for walks over many pages: tries `last`, the span of the previous
    /// frame, first.
    #[inline]
    pub(crate) fn find_near(&self, last: &mut &'static Span, pfn: u64) -> Option<&'static Span> {
        if !last.holds(pfn) {
            *last = self.find_anywhere(pfn)?;
        }
        Some(*last)
    }

    #[cold]
    #[inline(never)]
    fn find_anywhere(&self, pfn: u64) -> Option<&'static Span> {
        self.find(pfn)
    }

    /// Returns whether the pageblock that holds frame `pfn`, of `span`, is the upper half of a block of
    /// the largest order.
    pub(crate) fn is_upper(&self, span: &Span, pfn: u64) -> bool {
        let base = block_base(pfn);
        let before = (base << PAGEBLOCK_ORDER.value()).wrapping_sub(1);
        base % 2 == 1 && (span.start <= before || self.find(before).is_some())
    }

    /// Returns the first frame of the zone in pageblock `block`, or `None` if it has none.
    pub(crate) fn first_in(&self, block: u32) -> Option<u64> {
        let pfns = self.iter().map(|span| span.pfns_within(block..block + 1));
        pfns.filter(|pfns| !pfns.is_empty()).map(|pfns| pfns.start).next()
    }

    /// Returns the span with the most frames.
    pub(crate) fn largest(&self) -> &'static Span {
        self.iter().max_by_key(|span| span.end - span.start).expect("a zone has a span")
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &'static Span> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use alloc::boxed::Box;

    use super::*;

    #[test]
    fn frames_are_found_in_their_span_and_nowhere_else() {
        let one = Span { start: 100, end: 700, first_block: 0, first_frame: 0 };
        let two = Span { start: 1024, end: 2048, first_block: 2, first_frame: 600 };
        let spans = Spans::new(Box::leak(Box::new([one, two])));
        for (pfn, found) in [(99, None), (100, Some(one)), (699, Some(one)), (700, None)] {
            assert_eq!(spans.find(pfn).copied(), found);
        }
        for (pfn, found) in [(1023, None), (1024, Some(two)), (2047, Some(two)), (2048, None)] {
            assert_eq!(spans.find(pfn).copied(), found);
        }
        assert_eq!((one.block(511), one.block(512)), (0, 1));
        assert_eq!((two.block(1535), two.block(1536)), (2, 3));
        assert_eq!(two.frame(1025), 601);
        assert_eq!((one.frames(), two.frames()), (0..600, 600..1624));
        assert_eq!(*spans.largest(), two);
        assert_eq!((one.pfns_within(0..1), one.pfns_within(1..9)), (100..512, 512..700));
        assert_eq!((two.pfns_within(0..2), two.pfns_within(2..3)), (1024..1024, 1024..1536));
        let upper = |span, pfn| spans.is_upper(span, pfn);
        assert_eq!([upper(&one, 100), upper(&one, 699)], [false, true]);
        assert_eq!([upper(&two, 1535), upper(&two, 1536)], [false, true]);
        assert_eq!(
            (spans.first_in(1), spans.first_in(3), spans.first_in(4)),
            (Some(512), Some(1536), None)
        );
    }
}
