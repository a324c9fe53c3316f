//! What a request of the tests asks for, and the naive rules of where it may be served.

use core::cell::Cell;

use pagemill::accounts::AccountId;
use pagemill::policy::{InterleaveCursor, NodeMask, Policy};
use pagemill::request::{BulkOutcome, Effort};
use pagemill::stats::ZoneInfo;
use pagemill::units::NodeId;
use pagemill::{BulkRequest, Gfp, Order, Shortage};

/// Where the blocks go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sink {
    Fill,
    Range,
    Write,
    List,
    Each,
    Extents,
    /// `bulk_pfns`: the blocks are known by their numbers.
    Numbers,
    /// `fill`, which takes no request.
    Complete,
    /// `alloc_exactly`, which takes no request.
    Exactly,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Local,
    Preferred(u8),
    PreferredMany(u64),
    Bind(u64),
    Interleave(u64),
    Weighted(u64),
}

pub(crate) const WEIGHTS: [u8; 3] = [3, 0, 2];

/// A request in full.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) sink: Sink,
    /// Pages or folios.
    pub(crate) folios: bool,
    pub(crate) gfp: Gfp,
    pub(crate) order: Order,
    pub(crate) effort: Effort,
    pub(crate) place: Place,
    pub(crate) payer: Option<usize>,
    /// Whether the payer is named by a flag, and not by the request.
    pub(crate) by_flag: bool,
    /// How often the stop callback says no before it says yes.
    pub(crate) patience: Option<u32>,
    /// Slots, or blocks wanted where there are none.
    pub(crate) nr: usize,
    /// How many of the slots, or of the list, hold a block before.
    pub(crate) full: usize,
}

/// Returns the nodes of a mask as the interface takes them.
fn mask(bits: u64) -> NodeMask {
    let nodes: Vec<NodeId> = (0..8).filter(|node| bits >> node & 1 != 0).map(NodeId::new).collect();
    NodeMask::of(&nodes)
}

/// The result of a request, whichever call served it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) new: usize,
    pub(crate) populated: usize,
    pub(crate) short: Option<Shortage>,
}

impl From<BulkOutcome> for Outcome {
    fn from(outcome: BulkOutcome) -> Self {
        let BulkOutcome { new, populated, short, .. } = outcome;
        Self { new, populated, short }
    }
}

impl Shape {
    /// Returns the shape with what a call without a request cannot say left out.
    pub(crate) fn as_sink_allows(self) -> Self {
        let effort = match self.sink {
            Sink::Complete => Effort::TryHard,
            Sink::Exactly => Effort::AllOrNothing,
            _ => return self,
        };
        let by_flag = self.payer.is_some();
        let flag = if by_flag { Gfp::ACCOUNT } else { Gfp::empty() };
        Self {
            folios: false,
            gfp: self.gfp.difference(Gfp::NOFAIL) | flag,
            order: Order::ZERO,
            effort,
            place: Place::Local,
            by_flag,
            patience: None,
            ..self
        }
    }

    /// Calls `serve` with the request.
    pub(crate) fn with_request<R>(
        &self,
        account: Option<AccountId>,
        serve: impl FnOnce(&BulkRequest<'_>) -> R,
    ) -> R {
        let cursor = InterleaveCursor::default();
        let policy = match self.place {
            Place::Local => Policy::Local,
            Place::Preferred(node) => Policy::Preferred(NodeId::new(node)),
            Place::PreferredMany(nodes) => Policy::PreferredMany(mask(nodes)),
            Place::Bind(nodes) => Policy::Bind(mask(nodes)),
            Place::Interleave(nodes) => Policy::Interleave(mask(nodes), &cursor),
            Place::Weighted(nodes) => Policy::WeightedInterleave(mask(nodes), &WEIGHTS, &cursor),
        };
        let asked = Cell::new(0);
        let patience = self.patience.unwrap_or(0);
        let stop = || {
            asked.set(asked.get() + 1);
            asked.get() > patience
        };
        let stop: Option<&dyn Fn() -> bool> =
            if self.patience.is_some() { Some(&stop) } else { None };
        let account = if self.by_flag { None } else { account };
        let Self { gfp, order, effort, .. } = *self;
        serve(&BulkRequest { gfp, order, effort, policy, account, stop })
    }

    /// Returns whether the call may allocate pages and free them again.
    pub(crate) fn may_give_back(&self) -> bool {
        self.effort == Effort::AllOrNothing
            || self.effort != Effort::Fast
                && self.gfp.contains(Gfp::DIRECT_RECLAIM)
                && (self.patience.is_some() || self.gfp.contains(Gfp::NOFAIL))
    }

    /// Tells whether the request takes its payer past the limit rather than fail.
    pub(crate) fn may_exceed(&self) -> bool {
        self.effort != Effort::Fast && self.gfp.contains(Gfp::NOFAIL)
    }

    /// Returns the nodes that may serve the request, as bits.
    pub(crate) fn nodes(&self, local: u8) -> u64 {
        let this_node = self.gfp.contains(Gfp::THISNODE);
        let local = 1 << local;
        match self.place {
            Place::Bind(nodes) if this_node => nodes & local,
            Place::Bind(nodes) => nodes,
            _ if !this_node => u64::MAX,
            Place::Local => local,
            Place::Preferred(node) => 1 << node,
            Place::PreferredMany(nodes) => nodes & local,
            Place::Interleave(0) | Place::Weighted(0) => local,
            Place::Interleave(nodes) | Place::Weighted(nodes) => nodes,
        }
    }

    /// Tells whether a zone may serve the request.
    pub(crate) fn admits(&self, zone: &ZoneInfo, local: u8) -> bool {
        zone.kind <= self.gfp.highest_zone() && self.nodes(local) >> zone.node.value() & 1 != 0
    }

    /// Returns what the request must leave free in a zone.
    pub(crate) fn limit(&self, zone: &ZoneInfo) -> u64 {
        let marks = &zone.watermarks;
        let reserve = marks.lowmem_reserve[self.gfp.highest_zone().index()];
        let all = self.gfp.contains(Gfp::MEMALLOC) && !self.gfp.contains(Gfp::NOMEMALLOC);
        match self.effort {
            Effort::Fast => marks.low + reserve,
            _ if all => 0,
            _ if self.gfp.contains(Gfp::HIGH) => marks.min - marks.min / 2 + reserve,
            _ => marks.min + reserve,
        }
    }

    /// Tells whether a zone could give another block of `order`, its lists left aside.
    pub(crate) fn can_give(&self, zone: &ZoneInfo, order: Order) -> bool {
        let blocks = &zone.buddyinfo()[usize::from(order.value())..];
        let enough = zone.nr_free_pages + 1 > self.limit(zone) + order.nr_pages() as u64;
        let unlimited = self.limit(zone) == 0;
        (enough || unlimited) && blocks.iter().any(|&nr| nr > 0)
    }

    /// Deals `nr` blocks to the nodes of a spread policy, one by one.
    pub(crate) fn dealt(&self, nr: usize) -> Option<Vec<usize>> {
        let (nodes, weight): (u64, fn(usize) -> usize) = match self.place {
            Place::Interleave(nodes) => (nodes, |_| 1),
            Place::Weighted(nodes) => (nodes, |node| usize::from(WEIGHTS[node].max(1))),
            _ => return None,
        };
        let turns = (0..WEIGHTS.len()).filter(|node| nodes >> node & 1 != 0);
        let turns = turns.flat_map(|node| core::iter::repeat_n(node, weight(node)));
        let mut dealt = vec![0; WEIGHTS.len()];
        turns.cycle().take(nr).for_each(|node| dealt[node] += 1);
        (nodes != 0).then_some(dealt)
    }
}
