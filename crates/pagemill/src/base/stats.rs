//! Counters of allocator events, under the names of `/proc/vmstat`.

use core::ops::AddAssign;

use crate::base::gfp::{NR_ZONE_KINDS, ZoneKind};
use crate::base::sync::Counter;
use crate::base::units::Order;

/// The events of one zone, counted by one writer, on a cache line that no other writer uses.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct ZoneEvents {
    pub(crate) pgalloc: Counter,
    pub(crate) pgfree: Counter,
    pub(crate) numa_hit: Counter,
    pub(crate) numa_miss: Counter,
    pub(crate) numa_foreign: Counter,
    pub(crate) numa_local: Counter,
    pub(crate) numa_other: Counter,
}

/// The events of one CPU's list, counted by the holder of the CPU's lists, in blocks of the list's order.
///
/// Pages handed out from a list are from the zone that the request preferred, on the CPU's node.
#[derive(Debug)]
pub(crate) struct ListEvents {
    pub(crate) alloc: Counter,
    pub(crate) free: Counter,
}

impl ListEvents {
    pub(crate) fn new() -> Self {
        Self { alloc: Counter::new(), free: Counter::new() }
    }
}

impl ZoneEvents {
    pub(crate) fn new() -> Self {
        Self {
            pgalloc: Counter::new(),
            pgfree: Counter::new(),
            numa_hit: Counter::new(),
            numa_miss: Counter::new(),
            numa_foreign: Counter::new(),
            numa_local: Counter::new(),
            numa_other: Counter::new(),
        }
    }
}

/// Counters under the names of `/proc/vmstat`, summed over CPUs and nodes.
///
/// # Concurrency
/// Each counter is exact once the calls that it counts have returned. A snapshot during concurrent
/// calls may read some counters earlier than others.
///
/// # Source
/// `linux-6.12` `include/linux/vm_event_item.h`, `mm/vmstat.c`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VmStat {
    /// Free pages in the zones, without those in per-CPU lists.
    pub nr_free_pages: u64,
    /// Pages allocated, by kind of zone: `pgalloc_dma`, `_dma32`, `_normal`, `_movable`.
    pub pgalloc: [u64; NR_ZONE_KINDS],
    /// Pages freed.
    pub pgfree: u64,
    /// Allocations served by the node that they preferred.
    ///
    /// Single pages, pages of a bulk call and blocks of higher order count one each.
    pub numa_hit: u64,
    /// Allocations served by a node that was not the preferred one.
    pub numa_miss: u64,
    /// Allocations that preferred this node and were served by another; the sum equals `numa_miss`.
    pub numa_foreign: u64,
    /// Allocations served by the node of the caller's CPU.
    pub numa_local: u64,
    /// Allocations served by a node other than that of the caller's CPU.
    pub numa_other: u64,
}

impl VmStat {
    /// Adds the events of a zone of `kind`.
    pub(crate) fn add(&mut self, kind: ZoneKind, events: &ZoneEvents) {
        self.pgalloc[kind.index()] += events.pgalloc.get();
        self.pgfree += events.pgfree.get();
        self.numa_hit += events.numa_hit.get();
        self.numa_miss += events.numa_miss.get();
        self.numa_foreign += events.numa_foreign.get();
        self.numa_local += events.numa_local.get();
        self.numa_other += events.numa_other.get();
    }

    /// Adds the events of a list of blocks of `order`, of a zone of `kind`.
    pub(crate) fn add_list(&mut self, kind: ZoneKind, order: Order, events: &ListEvents) {
        let nr_alloc = events.alloc.get();
        self.pgalloc[kind.index()] += nr_alloc << order.value();
        self.numa_hit += nr_alloc;
        self.numa_local += nr_alloc;
        self.pgfree += events.free.get() << order.value();
    }

    /// Yields each counter with its name in `/proc/vmstat`.
    pub fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        [
            ("nr_free_pages", self.nr_free_pages),
            ("numa_hit", self.numa_hit),
            ("numa_miss", self.numa_miss),
            ("numa_foreign", self.numa_foreign),
            ("numa_local", self.numa_local),
            ("numa_other", self.numa_other),
            ("pgalloc_dma", self.pgalloc[ZoneKind::Dma.index()]),
            ("pgalloc_dma32", self.pgalloc[ZoneKind::Dma32.index()]),
            ("pgalloc_normal", self.pgalloc[ZoneKind::Normal.index()]),
            ("pgalloc_movable", self.pgalloc[ZoneKind::Movable.index()]),
            ("pgfree", self.pgfree),
        ]
        .into_iter()
    }
}

impl AddAssign for VmStat {
    fn add_assign(&mut self, other: Self) {
        self.nr_free_pages += other.nr_free_pages;
        for (sum, count) in self.pgalloc.iter_mut().zip(other.pgalloc) {
            *sum += count;
        }
        self.pgfree += other.pgfree;
        self.numa_hit += other.numa_hit;
        self.numa_miss += other.numa_miss;
        self.numa_foreign += other.numa_foreign;
        self.numa_local += other.numa_local;
        self.numa_other += other.numa_other;
    }
}
