//! Trace events: what a platform can observe in an allocator, named after Linux's tracepoints.
//!
//! The core passes each event to its platform's hook, [`Platform::trace`](crate::Platform::trace). The
//! default hook does nothing, and the compiler then removes even the fields. Most events are rare ones.
//! The two that concern every page are raised only while the platform asks for them, because the hot
//! paths have no room for a check of their own.

use crate::account::table::AccountId;
use crate::base::gfp::Gfp;
use crate::base::migratetype::MigrateType;
use crate::base::shortage::Shortage;
use crate::base::units::{NodeId, Order, Pfn};

/// An event in an allocator.
///
/// `zone` is the index of a zone in [`zone_info`](crate::PageAllocator::zone_info).
///
/// # Source
/// `linux-6.12` `include/trace/events/kmem.h`, `include/trace/events/vmscan.h`. Differs: a batch that
/// moves raises one event, not one per page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields of an event say what they are by name and type")]
pub enum Event {
    /// A block was allocated: `mm_page_alloc`. Only while pages are traced.
    PageAlloc { pfn: Pfn, order: Order, gfp: Gfp, migratetype: MigrateType },
    /// A block was freed: `mm_page_free`. Only while pages are traced.
    PageFree { pfn: Pfn, order: Order },
    /// `nr_pages` single pages were freed in one call: `mm_page_free_batched`. Only while pages are
    /// traced.
    PageFreeBatched { nr_pages: usize },
    /// A zone gave pages: `mm_page_alloc_zone_locked`. With `percpu_refill`, to a CPU's list.
    PageAllocZoneLocked {
        node: NodeId,
        zone: u16,
        migratetype: MigrateType,
        order: Order,
        nr_pages: usize,
        percpu_refill: bool,
    },
    /// A CPU's list returned pages to their zone: `mm_page_pcpu_drain`.
    PagePcpuDrain { node: NodeId, zone: u16, migratetype: MigrateType, nr_pages: usize },
    /// Pages were taken from pageblocks of another migrate type: `mm_page_alloc_extfrag`.
    ///
    /// One hold of a zone lock may take from several pageblocks; `nr_pageblocks` is their number. `pfn` is
    /// the first frame of the last of them, and `fallback_migratetype` and `change_ownership` are about
    /// that one. `order` and `migratetype` are those of the request.
    PageAllocExtfrag {
        pfn: Pfn,
        order: Order,
        migratetype: MigrateType,
        fallback_migratetype: MigrateType,
        /// Whether the pageblock changed its migrate type.
        change_ownership: bool,
        nr_pageblocks: u32,
    },
    /// A bulk call got less than it wanted; while pages are traced, any bulk call.
    ///
    /// Linux has no such event. Calls with Linux's contract then try for one page by other means, which
    /// is not included in `got`.
    BulkAlloc { gfp: Gfp, order: Order, wanted: usize, got: usize, short: Option<Shortage> },
    /// A request woke background reclaim: `mm_vmscan_wakeup_kswapd`.
    VmscanWakeupKswapd { gfp: Gfp, order: Order },
    /// Background reclaim begins: `mm_vmscan_kswapd_wake`. The node that lacks most needs `nr_missing`
    /// pages to have a zone above its high watermark.
    VmscanKswapdWake { nr_missing: u64 },
    /// Background reclaim ends: `mm_vmscan_kswapd_sleep`.
    VmscanKswapdSleep { nr_reclaimed: u64 },
    /// A request begins direct reclaim: `mm_vmscan_direct_reclaim_begin`.
    VmscanDirectReclaimBegin { gfp: Gfp, order: Order },
    /// Direct reclaim ends: `mm_vmscan_direct_reclaim_end`.
    VmscanDirectReclaimEnd { nr_reclaimed: u64 },
    /// The shrinker in slot `place` is asked for pages: `mm_shrink_slab_start`.
    ShrinkSlabStart { place: usize, gfp: Gfp, nr_to_scan: usize, count: usize },
    /// The shrinker has returned: `mm_shrink_slab_end`.
    ShrinkSlabEnd { place: usize, nr_freed: usize },
    /// A request begins to wait for memory.
    WaitBegin,
    /// The wait ends: the request was served, or its caller stopped it.
    WaitEnd { is_served: bool },
    /// An account's limit refused pages: all of them, or those that did not fit.
    AccountRefused { account: AccountId, wanted: u64, charged: u64 },
    /// Fault injection makes a request fail.
    FaultInjected { gfp: Gfp, order: Order },
    /// The lock of a shard was just taken. The hook runs under the lock.
    ZoneLocked { node: NodeId, zone: u16, shard: u16 },
    /// The lock of a shard is about to be released. The hook runs under the lock.
    ZoneUnlocked { node: NodeId, zone: u16, shard: u16 },
    /// A CPU's lists were just taken. The hook runs while they are held.
    ListsLocked,
    /// A CPU's lists are about to be released. The hook runs while they are held.
    ListsUnlocked,
}
