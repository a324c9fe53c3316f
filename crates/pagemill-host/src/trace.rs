//! Trace sinks of a process: USDT probes for bpftrace, perf and gdb, and `tracing` events for rare
//! ones.
//!
//! A probe without a tracer costs one load of its semaphore. A `tracing` event without a subscriber
//! costs one load of the maximum level. Neither is on a hot path: only a
//! [`Tracer`](crate::debug::Tracer) receives how long a CPU's lists are held.
//!
//! The probes and their arguments are listed in `docs/tracepoints.md`.

use pagemill::Shortage;
use pagemill::debug::Event;
use probe::probe_lazy;
use tracing::{debug, trace};

/// Passes an event to the sinks.
///
/// Always inlined: the kind of event is known at each call site, so no code remains for events without
/// a sink, which are on the hot paths.
#[inline(always)]
pub(crate) fn tell(event: Event) {
    match event {
        Event::ListsLocked | Event::ListsUnlocked => {}
        Event::ZoneLocked { node, zone, shard } => {
            probe_lazy!(pagemill, zone_locked, node.value(), zone, shard);
        }
        Event::ZoneUnlocked { node, zone, shard } => {
            probe_lazy!(pagemill, zone_unlocked, node.value(), zone, shard);
        }
        Event::PageAllocZoneLocked { node, zone, migratetype, order, nr_pages, percpu_refill } => {
            probe_lazy!(
                pagemill,
                mm_page_alloc_zone_locked,
                node.value(),
                zone,
                migratetype.index(),
                order.value(),
                nr_pages,
                percpu_refill
            );
        }
        Event::PagePcpuDrain { node, zone, migratetype, nr_pages } => {
            let migratetype = migratetype.index();
            probe_lazy!(pagemill, mm_page_pcpu_drain, node.value(), zone, migratetype, nr_pages);
        }
        _ => tell_outside(event),
    }
}

/// Returns whether a tracer is attached to the probe that stands for all single pages.
pub(crate) fn pages_are_wanted() -> bool {
    probe_lazy!(pagemill, page_events)
}

/// Passes on an event that is rare, or any event while every page is traced.
#[cold]
fn tell_outside(event: Event) {
    match event {
        Event::PageAlloc { pfn, order, gfp, migratetype } => {
            let migratetype = migratetype.index();
            probe_lazy!(
                pagemill,
                mm_page_alloc,
                pfn.value(),
                order.value(),
                gfp.bits(),
                migratetype
            );
        }
        Event::PageFree { pfn, order } => {
            probe_lazy!(pagemill, mm_page_free, pfn.value(), order.value());
        }
        Event::PageFreeBatched { nr_pages } => {
            probe_lazy!(pagemill, mm_page_free_batched, nr_pages);
        }
        Event::PageAllocExtfrag {
            pfn,
            order,
            migratetype,
            fallback_migratetype,
            change_ownership,
            nr_pageblocks,
        } => {
            probe_lazy!(
                pagemill,
                mm_page_alloc_extfrag,
                pfn.value(),
                order.value(),
                migratetype.index(),
                fallback_migratetype.index(),
                change_ownership,
                nr_pageblocks
            );
        }
        _ => tell_of_shortage(event),
    }
}

/// Passes on events of requests that fall short or wait, then those of reclaim.
#[cold]
fn tell_of_shortage(event: Event) {
    match event {
        Event::BulkAlloc { gfp, order, wanted, got, short } => {
            let why = short.map_or(0, reason);
            probe_lazy!(pagemill, bulk_alloc, gfp.bits(), order.value(), wanted, got, why);
            if let Some(short) = short {
                debug!(
                    target: "pagemill::shortage",
                    gfp = gfp.bits(),
                    order = order.value(),
                    wanted,
                    got,
                    %short,
                    "bulk_alloc"
                );
            }
        }
        Event::AccountRefused { account, wanted, charged } => {
            let account = account.number();
            probe_lazy!(pagemill, account_refused, account, wanted, charged);
            debug!(target: "pagemill::shortage", account, wanted, charged, "account_refused");
        }
        Event::FaultInjected { gfp, order } => {
            let (gfp, order) = (gfp.bits(), order.value());
            probe_lazy!(pagemill, fault_injected, gfp, order);
            debug!(target: "pagemill::shortage", gfp, order, "fault_injected");
        }
        Event::WaitBegin => {
            probe_lazy!(pagemill, wait_begin);
            debug!(target: "pagemill::wait", "wait_begin");
        }
        Event::WaitEnd { is_served } => {
            probe_lazy!(pagemill, wait_end, is_served);
            debug!(target: "pagemill::wait", is_served, "wait_end");
        }
        _ => tell_of_reclaim(event),
    }
}

/// Passes on events of reclaim.
fn tell_of_reclaim(event: Event) {
    match event {
        Event::VmscanWakeupKswapd { gfp, order } => {
            let (gfp, order) = (gfp.bits(), order.value());
            probe_lazy!(pagemill, mm_vmscan_wakeup_kswapd, gfp, order);
            debug!(target: "pagemill::reclaim", gfp, order, "wakeup_kswapd");
        }
        Event::VmscanKswapdWake { nr_missing } => {
            probe_lazy!(pagemill, mm_vmscan_kswapd_wake, nr_missing);
            debug!(target: "pagemill::reclaim", nr_missing, "kswapd_wake");
        }
        Event::VmscanKswapdSleep { nr_reclaimed } => {
            probe_lazy!(pagemill, mm_vmscan_kswapd_sleep, nr_reclaimed);
            debug!(target: "pagemill::reclaim", nr_reclaimed, "kswapd_sleep");
        }
        Event::VmscanDirectReclaimBegin { gfp, order } => {
            let (gfp, order) = (gfp.bits(), order.value());
            probe_lazy!(pagemill, mm_vmscan_direct_reclaim_begin, gfp, order);
            debug!(target: "pagemill::reclaim", gfp, order, "direct_reclaim_begin");
        }
        Event::VmscanDirectReclaimEnd { nr_reclaimed } => {
            probe_lazy!(pagemill, mm_vmscan_direct_reclaim_end, nr_reclaimed);
            debug!(target: "pagemill::reclaim", nr_reclaimed, "direct_reclaim_end");
        }
        Event::ShrinkSlabStart { place, gfp, nr_to_scan, count } => {
            let gfp = gfp.bits();
            probe_lazy!(pagemill, mm_shrink_slab_start, place, gfp, nr_to_scan, count);
            trace!(target: "pagemill::reclaim", place, gfp, nr_to_scan, count, "shrink_slab_start");
        }
        Event::ShrinkSlabEnd { place, nr_freed } => {
            probe_lazy!(pagemill, mm_shrink_slab_end, place, nr_freed);
            trace!(target: "pagemill::reclaim", place, nr_freed, "shrink_slab_end");
        }
        // An event without a probe. An event that is added to the core gets an arm above.
        _ => {}
    }
}

/// Returns the number of the reason in a probe's arguments; zero for none.
fn reason(short: Shortage) -> usize {
    match short {
        Shortage::Memory => 1,
        Shortage::Account => 2,
        Shortage::Stopped => 3,
        Shortage::Fault => 4,
        _ => usize::MAX,
    }
}
