//! Zonelists: the order in which a request tries the zones.
//!
//! There is one list for each pair of a preferred node and a highest kind of zone. Nodes are ordered by
//! distance, the preferred one first. Within a node the highest zone comes first, so that the scarce
//! low memory is used last.

use crate::base::gfp::{NR_ZONE_KINDS, ZoneKind};
use crate::base::units::NodeId;
use crate::zone::zone::Zone;

/// The zones that a request may use, best first, as zone numbers.
#[derive(Debug)]
pub(crate) struct ZoneList(&'static [u16]);

impl ZoneList {
    pub(crate) const fn new(zones: &'static [u16]) -> Self {
        Self(zones)
    }

    #[inline]
    pub(crate) fn zones(&self) -> &'static [u16] {
        self.0
    }
}

/// Returns the index of a list among those of all nodes and kinds.
#[inline]
pub(crate) const fn position(node: NodeId, highest: ZoneKind) -> usize {
    node.index() * NR_ZONE_KINDS + highest.index()
}

/// Fills `order` with the numbers of the zones up to kind `highest`, in the order for `node`.
pub(crate) fn zone_order(
    zones: &[Zone],
    node: usize,
    highest: ZoneKind,
    distance: impl Fn(usize, usize) -> u8,
    order: &mut [u16],
) {
    let eligible = zones.iter().filter(|zone| zone.facts.kind <= highest);
    for (entry, zone) in order.iter_mut().zip(eligible) {
        *entry = zone.facts.index;
    }
    let key = |index: u16| {
        let facts = zones[usize::from(index)].facts;
        let to = facts.node.index();
        (distance(node, to), to, core::cmp::Reverse(facts.kind))
    };
    // By insertion: a few zones, once. The sort of `core` is ten times as much code as all of this file.
    for sorted in 1..order.len() {
        let mut at = sorted;
        while at > 0 && key(order[at]) < key(order[at - 1]) {
            order.swap(at, at - 1);
            at -= 1;
        }
    }
}
