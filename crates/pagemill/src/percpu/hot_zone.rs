//! Hot zone: for each kind of request, the preferred zone's per-CPU lists and limit, computed at setup.

use crate::base::gfp::{Gfp, ZoneKind};
use crate::base::raw_page::Class;
use crate::base::sync::Counter;
use crate::base::units::{NodeId, Order};
use crate::percpu::slot::Slots;
use crate::zone::shard::Shard;
use crate::zone::zone::{ShardHint, Zone};
use crate::zone::zonelist::ZoneList;

/// The per-CPU lists of the zone that a request prefers, and the free pages that it must leave there.
#[derive(Clone, Debug)]
pub(crate) struct HotZone {
    zone: &'static Zone,
    /// The class of the single pages of the zone that serve such requests.
    pub(crate) class: Class,
    /// Their list and those of larger blocks; they belong to the CPU whose hot zones these are.
    pub(crate) slots: &'static Slots,
    /// The CPU's own shard of the zone.
    own: &'static Shard,
    home: ShardHint,
    /// The highest kind of zone that such requests may use.
    highest: ZoneKind,
    /// Whether requests may use this hot zone at all.
    is_open: bool,
    limit: Limit,
}

/// The low watermark of the zone, plus the reserve that the zone keeps from such requests.
///
/// A copy beside the other fields that a request reads: the zone's own value would cost another cache
/// line.
#[derive(Debug)]
struct Limit(Counter);

impl Clone for Limit {
    fn clone(&self) -> Self {
        let limit = Self(Counter::new());
        limit.0.set(self.0.get());
        limit
    }
}

/// The hot zones of one CPU, indexed by the flags that decide the zone and the migrate type.
#[derive(Debug)]
pub(crate) struct HotZones([HotZone; NR_HOT_ZONES]);

const NR_HOT_ZONES: usize = Gfp::HOT_ZONE.bits() as usize + 1;

/// The limit of a closed hot zone: larger than any zone, so no request is admitted.
const CLOSED: u64 = u64::MAX;

impl HotZones {
    /// Computes the hot zones of a CPU of `node`. `slots` are its lists; `zonelists` are the node's, by
    /// highest kind of zone.
    ///
    /// Hot zones on other nodes are closed, because requests served there update other NUMA counters.
    pub(crate) fn new(
        node: NodeId,
        home: ShardHint,
        zones: &'static [Zone],
        slots: &'static [Slots],
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
                slots: &slots[list.index()],
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

    /// Returns whether all lists are in `slots`.
    pub(crate) fn are_within(&self, slots: &[Slots]) -> bool {
        let slots = slots.as_ptr_range();
        self.0.iter().all(|hot_zone| slots.contains(&core::ptr::from_ref(hot_zone.slots)))
    }

    /// Copies the zones' current watermarks; the caller must be the only writer.
    pub(crate) fn renew(&self) {
        self.0.iter().for_each(HotZone::renew);
    }

    /// Yields the copied limit of each hot zone, and the limit that it is a copy of.
    pub(crate) fn limits(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().map(HotZone::limits)
    }

    /// Returns the hot zone of a request.
    #[inline]
    pub(crate) fn of(&self, gfp: Gfp) -> &HotZone {
        &self.0[(gfp.bits() & Gfp::HOT_ZONE.bits()) as usize]
    }
}

impl HotZone {
    /// Copies its zone's current watermark; the caller must be the only writer.
    pub(crate) fn renew(&self) {
        self.limit.0.set(self.current_limit());
    }

    /// Returns the limit that requests are tested against, and the one that it is a copy of.
    pub(crate) fn limits(&self) -> (u64, u64) {
        (self.limit.0.get(), self.current_limit())
    }

    fn current_limit(&self) -> u64 {
        if self.is_open { self.zone.marks.bulk_limit(self.highest) } else { CLOSED }
    }

    /// Returns the zone, and the CPU's own shard of it.
    #[inline]
    pub(crate) fn own(&self) -> (&'static Zone, &'static Shard) {
        (self.zone, self.own)
    }

    /// Returns whether the CPU's own shard has so many free frames that the zone can give `nr_pages` and
    /// stay above its low watermark. If not, the zone may still be able to.
    #[inline]
    pub(crate) fn own_admits(&self, nr_pages: usize) -> bool {
        self.own.nr_free() > self.limit.0.get().saturating_add(nr_pages as u64)
    }

    /// Returns whether the zone can give `nr_pages` and stay above its low watermark.
    #[inline]
    pub(crate) fn admits(&self, nr_pages: usize) -> bool {
        let nr = self.limit.0.get().saturating_add(nr_pages as u64);
        // A closed hot zone is not worth a walk over the zone's shards.
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
