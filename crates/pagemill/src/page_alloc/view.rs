//! State of an allocator for people and tests, as in `/proc/zoneinfo`, `/proc/buddyinfo` and
//! `/proc/vmstat`.

use core::panic::Location;

use crate::account::table::AccountInfo;
use crate::base::gfp::ZoneKind;
use crate::base::migratetype::{MigrateType, NR_MIGRATE_TYPES};
use crate::base::stats::VmStat;
use crate::base::units::{CpuId, MAX_ORDER, NodeId, Order, Pfn};
use crate::page_alloc::allocator::PageAllocator;
use crate::page_alloc::slow_path_flags::OWNERS;
use crate::platform::platform::Platform;
use crate::zone::block_state::Special;
use crate::zone::watermark::Watermarks;
use crate::zone::zone::Zone;

/// Number of orders, from zero to [`MAX_ORDER`].
pub const NR_PAGE_ORDERS: usize = MAX_ORDER.value() as usize + 1;

/// One zone at a glance, as `/proc/zoneinfo` and `/proc/buddyinfo` show it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ZoneInfo {
    /// Its node.
    pub node: NodeId,
    /// Its kind.
    pub kind: ZoneKind,
    /// Free pages, without those in per-CPU lists.
    pub nr_free_pages: u64,
    /// The watermarks that requests are tested against.
    pub watermarks: Watermarks,
    /// Pages from its first to its last, holes included.
    pub spanned: u64,
    /// Pages in the memory map, reserved ones included.
    pub present: u64,
    /// Pages that the allocator manages: all but reserved ones that have not been handed in.
    pub managed: u64,
    /// Number of the first frame.
    pub start_pfn: u64,
    /// Free blocks by migrate type and order; each frame is counted once, in its largest free block.
    pub free_blocks: [[u64; NR_PAGE_ORDERS]; NR_MIGRATE_TYPES],
    /// Pageblocks by migrate type.
    pub pageblocks: [u64; NR_MIGRATE_TYPES],
}

impl ZoneInfo {
    /// Returns the number of free blocks of each order, over all migrate types.
    #[must_use]
    pub fn buddyinfo(&self) -> [u64; NR_PAGE_ORDERS] {
        let mut sums = [0; NR_PAGE_ORDERS];
        for counts in self.free_blocks {
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum += count;
            }
        }
        sums
    }
}

/// One shard of a zone: a part of its pageblocks, with a lock of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardInfo {
    /// The zone's node.
    pub node: NodeId,
    /// The zone's kind.
    pub kind: ZoneKind,
    /// The shard's number in its zone.
    pub shard: usize,
    /// Free pages, without those in per-CPU lists.
    pub nr_free_pages: u64,
}

/// One CPU's list for one zone, migrate type and order.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PcpInfo {
    /// The CPU.
    pub cpu: CpuId,
    /// The zone's node.
    pub node: NodeId,
    /// The zone's kind.
    pub kind: ZoneKind,
    /// The migrate type.
    pub migratetype: MigrateType,
    /// The order of its blocks: zero for single pages; else 1, 2, 3 or 9.
    pub order: Order,
    /// Pages in the list.
    pub count: usize,
    /// The most pages that it can hold; zero for large blocks of a small zone.
    pub high: usize,
    /// Pages moved to or from the zone at a time; for single pages, before doubling.
    pub batch: usize,
}

impl<P: Platform> PageAllocator<P> {
    /// Yields the state of each zone.
    ///
    /// # Cost
    /// Reads every pageblock that is partly free.
    pub fn zone_info(&self) -> impl Iterator<Item = ZoneInfo> + '_ {
        self.zones().iter().map(|zone| self.one_zone_info(zone))
    }

    /// Yields the lists of each CPU; lists in use are skipped.
    pub fn pcp_info(&self) -> impl Iterator<Item = PcpInfo> + '_ {
        let of_cpus = (0..).zip(self.cpus());
        let of_lists =
            of_cpus.flat_map(|(number, cpu)| cpu.list_ids().map(move |list| (number, cpu, list)));
        of_lists.filter_map(|(number, cpu, (id, of_order))| {
            let mut lists = cpu.try_visit(self.platform())?;
            let list = lists.block_list(id, of_order);
            let order = of_order.order();
            let facts = &self.zone(id.zone()).facts;
            Some(PcpInfo {
                cpu: CpuId::new(number),
                node: facts.node,
                kind: facts.kind,
                migratetype: id.migratetype(),
                order,
                count: list.count() << order.value(),
                high: list.high() << order.value(),
                batch: list.batch() << order.value(),
            })
        })
    }

    /// Yields the shards of each zone.
    ///
    /// # Cost
    /// One load per shard; takes no lock.
    pub fn shard_info(&self) -> impl Iterator<Item = ShardInfo> + '_ {
        self.zones().iter().flat_map(|zone| {
            let (node, kind) = (zone.facts.node, zone.facts.kind);
            let free = zone.shard_free().enumerate();
            free.map(move |(shard, nr_free_pages)| ShardInfo { node, kind, shard, nr_free_pages })
        })
    }

    /// Yields the accounts that are open, and closed ones that have pages or children, by number.
    ///
    /// # Concurrency
    /// Takes no lock. The figures of an account may be from different moments; if an account is closed
    /// and another one opened during the call, one item may have figures of both.
    pub fn account_info(&self) -> impl Iterator<Item = AccountInfo> + use<P> {
        self.accounts().info()
    }

    /// Calls `visit` with each frame in use and the call that allocated it.
    ///
    /// Visits nothing unless the allocator was built with [`page_owner`](crate::Config::page_owner).
    ///
    /// # Concurrency
    /// Frames that are allocated or freed during the call may be visited or not.
    pub fn for_each_owner(&self, mut visit: impl FnMut(Pfn, &'static Location<'static>)) {
        for span in self.zones().iter().flat_map(|zone| zone.facts.spans.iter()) {
            for pfn in span.start..span.end {
                if let Some(site) = self.owners().holder(span.frame(pfn)) {
                    visit(Pfn::new(pfn), site);
                }
            }
        }
    }

    /// Returns whether the allocator was built with [`page_owner`](crate::Config::page_owner).
    #[inline]
    #[must_use]
    pub fn records_owners(&self) -> bool {
        self.slow_path_flags.has(OWNERS)
    }

    /// Returns whether a call holds a frame, or `None` if that is not known: the allocator was built without
    /// [`page_owner`](crate::Config::page_owner), or the frame is reserved or not in the memory map.
    ///
    /// # Concurrency
    /// Another thread may allocate or free the frame at any time.
    ///
    /// # Cost
    /// One load without `page_owner`; otherwise a search for the frame's zone.
    #[inline]
    #[must_use]
    pub fn is_in_use(&self, pfn: Pfn) -> Option<bool> {
        if self.records_owners() { self.find_in_use(pfn.value()) } else { None }
    }

    #[cold]
    #[inline(never)]
    fn find_in_use(&self, pfn: u64) -> Option<bool> {
        let find = |zone: &'static Zone| Some((zone, zone.facts.spans.find(pfn)?));
        let (zone, span) = self.zones().iter().find_map(find)?;
        let is_reserved = zone.states.set(Special::Reserved).holds(span, pfn);
        (!is_reserved).then(|| self.owners().holder(span.frame(pfn)).is_some())
    }

    /// Returns the counters, summed over all CPUs and zones.
    #[must_use]
    pub fn vmstat(&self) -> VmStat {
        let mut sum = VmStat::default();
        for zone in self.zones() {
            sum.nr_free_pages += zone.nr_free();
            zone.events().for_each(|events| sum.add(zone.facts.kind, events));
        }
        for cpu in self.cpus() {
            for (zone, events) in self.zones().iter().zip(cpu.zone_events()) {
                sum.add(zone.facts.kind, events);
            }
            for (list, order, events) in cpu.list_events() {
                sum.add_list(self.zone(list.zone()).facts.kind, order.order(), events);
            }
        }
        sum
    }

    /// Returns the number of free pages, those in per-CPU lists included.
    ///
    /// # Concurrency
    /// Exact while no thread allocates or frees; lists in use count as empty.
    #[must_use]
    pub fn nr_free_pages(&self) -> u64 {
        let in_zones: u64 = self.zones().iter().map(Zone::nr_free).sum();
        in_zones + self.pcp_info().map(|list| list.count as u64).sum::<u64>()
    }

    fn one_zone_info(&self, zone: &Zone) -> ZoneInfo {
        let facts = &zone.facts;
        let view = zone.view(self.platform());
        let start_pfn = facts.spans.iter().map(|span| span.start).min().unwrap_or(0);
        let end_pfn = facts.spans.iter().map(|span| span.end).max().unwrap_or(0);
        ZoneInfo {
            node: facts.node,
            kind: facts.kind,
            nr_free_pages: zone.nr_free(),
            watermarks: zone.marks.get(),
            spanned: end_pfn - start_pfn,
            present: facts.present,
            managed: zone.managed.get(),
            start_pfn,
            free_blocks: view.free_blocks,
            pageblocks: view.pageblocks,
        }
    }
}
