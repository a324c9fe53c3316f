//! What can be watched while an allocator works: events, named after Linux's tracepoints.
//!
//! The core hands each event to its platform, whose hook does nothing unless it is written
//! ([`Platform::trace`](crate::Platform::trace)); the fields are then not even computed. Events are
//! made where something out of the ordinary happens. The two that concern every page are made only
//! while the platform asks for them, because the hot paths have no room for a question of their own.

use crate::account::table::AccountId;
use crate::base::gfp::Gfp;
use crate::base::migratetype::MigrateType;
use crate::base::shortage::Shortage;
use crate::base::units::{NodeId, Order, Pfn};

/// Something that happened in an allocator.
///
/// `zone` is a zone's position in [`zone_info`](crate::PageAllocator::zone_info).
///
/// # Source
/// `linux-6.12` `include/trace/events/kmem.h`, `include/trace/events/vmscan.h`. Differs: where a
/// batch is moved, there is one event for the batch and not one for each page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields of an event say what they are by name and type")]
pub enum Event {
    /// A block is handed out: `mm_page_alloc`. Only while pages are traced.
    PageAlloc { pfn: Pfn, order: Order, gfp: Gfp, migratetype: MigrateType },
    /// A block comes back: `mm_page_free`. Only while pages are traced.
    PageFree { pfn: Pfn, order: Order },
    /// That many single pages came back in one call: `mm_page_free_batched`. Only while pages are
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
    /// A CPU's list gave pages back to their zone: `mm_page_pcpu_drain`.
    PagePcpuDrain { node: NodeId, zone: u16, migratetype: MigrateType, nr_pages: usize },
    /// Pages were taken from pageblocks of another kind: `mm_page_alloc_extfrag`.
    ///
    /// Of the `nr_pageblocks` that one hold of a zone lock took from, the fields tell the last.
    PageAllocExtfrag {
        pfn: Pfn,
        order: Order,
        migratetype: MigrateType,
        fallback_migratetype: MigrateType,
        /// Whether the pageblock changed its kind.
        change_ownership: bool,
        nr_pageblocks: u32,
    },
    /// A bulk call got less than it wanted; while pages are traced, any bulk call.
    ///
    /// Linux has none like it. Calls with Linux's contract then try for one page by other means,
    /// which is not in `got`.
    BulkAlloc { gfp: Gfp, order: Order, wanted: usize, got: usize, short: Option<Shortage> },
    /// A request called for background reclaim: `mm_vmscan_wakeup_kswapd`.
    VmscanWakeupKswapd { gfp: Gfp, order: Order },
    /// Background reclaim begins; the node that is worst off lacks that many pages to have a zone
    /// above high: `mm_vmscan_kswapd_wake`.
    VmscanKswapdWake { nr_missing: u64 },
    /// Background reclaim ends: `mm_vmscan_kswapd_sleep`.
    VmscanKswapdSleep { nr_reclaimed: u64 },
    /// A request begins to reclaim by itself: `mm_vmscan_direct_reclaim_begin`.
    VmscanDirectReclaimBegin { gfp: Gfp, order: Order },
    /// It ends to: `mm_vmscan_direct_reclaim_end`.
    VmscanDirectReclaimEnd { nr_reclaimed: u64 },
    /// A shrinker, known by its place, is asked for pages: `mm_shrink_slab_start`.
    ShrinkSlabStart { place: usize, gfp: Gfp, nr_to_scan: usize, count: usize },
    /// It has answered: `mm_shrink_slab_end`.
    ShrinkSlabEnd { place: usize, nr_freed: usize },
    /// A request takes its place among those who wait for memory.
    WaitBegin,
    /// It was served, or was stopped by its caller.
    WaitEnd { is_served: bool },
    /// An account's limit refused pages: all, or those that did not fit.
    AccountRefused { account: AccountId, wanted: u64, charged: u64 },
    /// A request fails because it was told to.
    FaultInjected { gfp: Gfp, order: Order },
    /// The lock of a shard of a zone was just taken. The hook runs under it.
    ZoneLocked { node: NodeId, zone: u16, shard: u16 },
    /// The lock of a shard of a zone is about to be let go. The hook runs under it.
    ZoneUnlocked { node: NodeId, zone: u16, shard: u16 },
    /// A CPU's lists were just taken. The hook runs while they are held.
    ListsLocked,
    /// A CPU's lists are about to be let go. The hook runs while they are held.
    ListsUnlocked,
}
