//! Where the frames of a zone are: its contiguous pieces, and how they are numbered.
//!
//! Metadata is dense: frames and pageblocks are numbered without the holes between them, so a
//! hole costs nothing however large it is.

use crate::units::PAGEBLOCK_ORDER;

/// One piece of a zone without holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// First frame number.
    pub(crate) start: u64,
    /// Frame number behind the last.
    pub(crate) end: u64,
    /// Number, within the zone, of the pageblock that holds the first frame.
    pub(crate) first_block: u32,
    /// Number, within the allocator, of the first frame.
    pub(crate) first_frame: u32,
}

impl Span {
    /// Returns the number of the pageblock that holds frame `pfn` of this span.
    #[inline]
    pub(crate) fn block(&self, pfn: u64) -> usize {
        let blocks = block_base(pfn) - block_base(self.start);
        self.first_block as usize + usize::try_from(blocks).expect("a span has 2^32 frames at most")
    }

    /// Returns the number of frame `pfn` of this span.
    #[inline]
    pub(crate) fn frame(&self, pfn: u64) -> usize {
        let frames = pfn - self.start;
        self.first_frame as usize + usize::try_from(frames).expect("a span has 2^32 frames at most")
    }
}

/// The frames of the span that was asked for last, for walks over many pages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LastSpan(Span);

impl LastSpan {
    /// Remembers no span.
    pub(crate) const fn new() -> Self {
        Self(Span { start: 0, end: 0, first_block: 0, first_frame: 0 })
    }

    /// Returns the number of frame `pfn`, looking its span up if it is not the last one.
    #[inline]
    pub(crate) fn frame(&mut self, pfn: u64, look_up: impl FnOnce() -> &'static Span) -> usize {
        if !(self.0.start..self.0.end).contains(&pfn) {
            self.0 = *look_up();
        }
        self.0.frame(pfn)
    }
}

/// Returns the number that a pageblock would have if frames were numbered from zero on.
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

    /// Returns the span that holds frame `pfn`, or `None` if the frame is not of this zone.
    ///
    /// # Cost
    /// Logarithmic in the number of spans; one comparison for the usual zone without holes.
    #[inline]
    pub(crate) fn find(&self, pfn: u64) -> Option<&'static Span> {
        let index = match self.0 {
            [_] => 0,
            spans => spans.partition_point(|span| span.end <= pfn),
        };
        self.0.get(index).filter(|span| (span.start..span.end).contains(&pfn))
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
    }
}
