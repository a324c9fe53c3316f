//! Where ordinary requests of a node go first, worked out beforehand.

use crate::base::gfp::{Gfp, ZoneKind};
use crate::base::raw_page::Class;
use crate::base::sync::Counter;
use crate::base::units::{NodeId, Order};
use crate::percpu::slot::Slot;
use crate::zone::shard::Shard;
use crate::zone::zone::{ShardHint, Zone};
use crate::zone::zonelist::ZoneList;

/// The list of the zone that a request prefers, and what it must leave in the zone.
#[derive(Clone, Debug)]
pub(crate) struct HotZone {
    zone: &'static Zone,
    /// The class of the pages in the list.
    pub(crate) class: Class,
    /// The list; the CPU is the one whose routes these are.
    pub(crate) slot: &'static Slot,
    /// The CPU's own shard of the zone.
    own: &'static Shard,
    home: ShardHint,
    /// The highest kind of zone that such requests admit.
    highest: ZoneKind,
    /// Whether requests may go there at all.
    is_open: bool,
    limit: Limit,
}

/// The low watermark of a route's zone, with what the zone keeps from its requests.
///
/// Beside what else a request looks at: the zone's own copy would be another cache line.
#[derive(Debug)]
struct Limit(Counter);

impl Clone for Limit {
    fn clone(&self) -> Self {
        let limit = Self(Counter::new());
        limit.0.set(self.0.get());
        limit
    }
}

/// The routes of one CPU, by the flags that decide about zone and kind of page.
#[derive(Debug)]
pub(crate) struct HotZones([HotZone; NR_HOT_ZONES]);

const NR_HOT_ZONES: usize = Gfp::HOT_ZONE.bits() as usize + 1;

/// More than any zone has: what nobody is admitted to.
const CLOSED: u64 = u64::MAX;

impl HotZones {
    /// Works out the routes of a CPU of `node`, whose lists are in `slots`; `zonelists` are the node's,
    /// by highest kind of zone.
    ///
    /// Those to zones of other nodes are closed: requests that go there are counted otherwise.
    pub(crate) fn new(
        node: NodeId,
        home: ShardHint,
        zones: &'static [Zone],
        slots: &'static [Slot],
        zonelists: &[ZoneList],
    ) -> Self {
        Self(core::array::from_fn(|bits| {
            #[expect(clippy::cast_possible_truncation, reason = "few bits")]
            let gfp = Gfp::from_bits_retain(bits as u32);
            let highest = gfp.highest_zone();
            let first = zonelists[highest.index()].zones().first();
            let zone = &zones[first.map_or(0, |&index| usize::from(index))];
            let list = zone.list(gfp.migratetype());
            let is_open = first.is_some() && zone.facts.node == node;
            let hot_zone = HotZone {
                zone,
                class: Class::new(list, Order::ZERO),
                slot: &slots[list.index()],
                own: zone.home(home),
                home,
                highest,
                is_open,
                limit: Limit(Counter::new()),
            };
            hot_zone.renew();
            hot_zone
        }))
    }

    /// Follows the watermarks of the zones; the caller is the only one that does.
    pub(crate) fn renew(&self) {
        self.0.iter().for_each(HotZone::renew);
    }

    /// Returns the route of a request.
    #[inline]
    pub(crate) fn of(&self, gfp: Gfp) -> &HotZone {
        &self.0[(gfp.bits() & Gfp::HOT_ZONE.bits()) as usize]
    }
}

impl HotZone {
    /// Follows the watermarks of its zone; the caller is the only one that does.
    pub(crate) fn renew(&self) {
        let limit = if self.is_open { self.zone.marks.bulk_limit(self.highest) } else { CLOSED };
        self.limit.0.set(limit);
    }

    /// Tells whether the zone can give `nr_pages` and stay above its low watermark.
    #[inline]
    pub(crate) fn admits(&self, nr_pages: usize) -> bool {
        let nr = self.limit.0.get().saturating_add(nr_pages as u64);
        // A closed one is not worth a walk over the zone's shards.
        self.own.nr_free() > nr || nr != CLOSED && self.zone.has_more_than(nr, self.home)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_other_flag_decides_about_zone_and_kind_of_page() {
        for gfp in Gfp::all().iter() {
            for hot_zone in 0..=Gfp::HOT_ZONE.bits() {
                let hot_zone = Gfp::from_bits_retain(hot_zone);
                let with = hot_zone.union(gfp.difference(Gfp::HOT_ZONE));
                assert_eq!(with.highest_zone(), hot_zone.highest_zone(), "{gfp:?}");
                assert_eq!(with.migratetype(), hot_zone.migratetype(), "{gfp:?}");
            }
        }
    }
}
