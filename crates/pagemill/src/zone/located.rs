//! Located frames: the zone and span of a frame that is known by its number, with what is read of them.

use crate::base::raw_page::Class;
use crate::base::units::Order;
use crate::zone::block_state::{BlockState, State};
use crate::zone::span::{Span, block_base};
use crate::zone::zone::Zone;

/// A span and its zone, as calls by frame number look them up.
///
/// The other fields are copies, so that the lookup of a frame in the allocator's largest span reads one
/// cache line of this.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Located {
    start: u64,
    end: u64,
    /// The states of the pageblocks that the span touches.
    states: &'static [BlockState],
    /// The class of single pages of the zone's first migrate type.
    first_class: Class,
    pub(crate) zone: &'static Zone,
    pub(crate) span: &'static Span,
}

impl Located {
    pub(crate) fn new(zone: &'static Zone, span: &'static Span) -> Self {
        let (start, end) = (span.start, span.end);
        let (states, first_class) = (zone.states.of_span(span), zone.facts.first_class);
        Self { start, end, states, first_class, zone, span }
    }

    /// Returns the largest span of all zones.
    pub(crate) fn largest(zones: &'static [Zone]) -> Option<Self> {
        let spans = |zone: &'static Zone| zone.facts.spans.iter().map(move |span| (zone, span));
        let (zone, span) =
            zones.iter().flat_map(spans).max_by_key(|(_, span)| span.end - span.start)?;
        Some(Self::new(zone, span))
    }

    /// Returns whether a frame is in the span.
    #[inline]
    pub(crate) fn holds(&self, pfn: u64) -> bool {
        (self.start..self.end).contains(&pfn)
    }

    /// Returns the state of the pageblock of a frame of the span.
    ///
    /// # Panics
    /// If the frame is in no pageblock of the span.
    #[inline]
    pub(crate) fn state(&self, pfn: u64) -> State {
        self.find_state(pfn).expect("a frame of the span")
    }

    /// Returns the state of the pageblock of a frame, or `None` if the span touches no such pageblock.
    /// Where the pageblock is whole, the frame is in the span.
    #[inline]
    pub(crate) fn find_state(&self, pfn: u64) -> Option<State> {
        let index = block_base(pfn).wrapping_sub(block_base(self.start));
        self.states.get(usize::try_from(index).ok()?).map(BlockState::get)
    }

    /// Returns the class of blocks, not charged, of a pageblock in this state.
    #[inline]
    pub(crate) fn class(&self, state: State, order: Order) -> Class {
        self.first_class.with_list_behind(state.migratetype_index()).of_order(order)
    }
}
