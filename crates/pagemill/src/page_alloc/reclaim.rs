//! Reclaim: registers shrinkers and asks them, drains per-CPU lists, waits for other threads to free,
//! balances zones.

use core::fmt;

use crate::base::gfp::{Gfp, ZoneKind};
use crate::base::policy::NodeMask;
use crate::base::shortage::Shortage;
use crate::base::units::{NodeId, Order};
use crate::page_alloc::allocator::PageAllocator;
use crate::page_alloc::shrinker::{MAX_NR_SHRINKERS, Meter, ShrinkControl, Shrinker, Whom};
use crate::page_alloc::slow_path_flags::WAITERS;
use crate::percpu::percpu::PerCpu;
use crate::platform::platform::Platform;
use crate::platform::trace::Event;
use crate::zone::watermark::Watermarks;
use crate::zone::zone::Zone;

/// No more shrinkers can be registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyShrinkers;

impl fmt::Display for TooManyShrinkers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "all {MAX_NR_SHRINKERS} places for shrinkers are taken: remove one first")
    }
}

impl core::error::Error for TooManyShrinkers {}

/// A registered shrinker; dropping this waits for calls of the shrinker to end and then removes it.
///
/// A shrinker that drops its own guard while it is being asked deadlocks.
#[must_use = "dropping this removes the shrinker at once"]
pub struct ShrinkerGuard<'a, P: Platform> {
    allocator: &'a PageAllocator<P>,
    place: usize,
}

impl<P: Platform> fmt::Debug for ShrinkerGuard<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShrinkerGuard").field("place", &self.place).finish_non_exhaustive()
    }
}

impl<P: Platform> Drop for ShrinkerGuard<'_, P> {
    fn drop(&mut self) {
        self.allocator.shrinkers.remove(self.place, self.allocator.platform());
    }
}

impl<P: Platform> PageAllocator<P> {
    /// Registers a cache that can free pages when memory is short.
    ///
    /// The cache lives as long as the program: a static, or what `Box::leak` returns. The pages that it
    /// keeps therefore need a source without a lifetime; see [`Shrinker`].
    ///
    /// # Errors
    /// [`TooManyShrinkers`] if [`MAX_NR_SHRINKERS`] are registered.
    pub fn register_shrinker(
        &self,
        shrinker: &'static dyn Shrinker,
    ) -> Result<ShrinkerGuard<'_, P>, TooManyShrinkers> {
        let place = self.shrinkers.add(shrinker).ok_or(TooManyShrinkers)?;
        Ok(ShrinkerGuard { allocator: self, place })
    }

    /// Does the work of background reclaim, and returns the number of pages that shrinkers freed.
    ///
    /// Reclaims until every request finds a zone above its high watermark on each node, or until a
    /// round makes no progress.
    ///
    /// [`Platform::wake_reclaim`] asks for it; [`needs_balance`](Self::needs_balance) returns whether
    /// it is still needed.
    ///
    /// # Source
    /// `linux-6.12` `mm/vmscan.c` `balance_pgdat`, `pgdat_balanced`
    pub fn balance(&self) -> u64 {
        if self.platform().is_abandoned() {
            return 0;
        }
        let high = |marks: &Watermarks| marks.high;
        let nr_missing = node_kinds().map(|(node, kind)| self.missing(node, kind, high)).max();
        let Some(nr_missing @ 1..) = nr_missing else { return 0 };
        self.platform().trace(Event::VmscanKswapdWake { nr_missing });
        let mut freed = 0;
        for (node, kind) in node_kinds() {
            let missing = || self.missing(node, kind, high);
            let mut before = missing();
            while before > 0 {
                let wanted = usize::try_from(before).unwrap_or(usize::MAX);
                let gfp = Gfp::KERNEL | up_to(kind);
                freed += self.reclaim(wanted, gfp, NodeMask::of(&[node]), Whom::Due);
                let after = missing();
                // No progress: the pages that the shrinkers freed, if any, did not help.
                if after >= before {
                    break;
                }
                before = after;
            }
        }
        self.platform().trace(Event::VmscanKswapdSleep { nr_reclaimed: freed });
        freed
    }

    /// Returns whether some request would find every zone that it may use on a node at its low
    /// watermark, so that background reclaim is due.
    #[must_use]
    pub fn needs_balance(&self) -> bool {
        node_kinds().any(|(node, kind)| self.missing(node, kind, |marks| marks.low) > 0)
    }

    /// Returns how many waits for memory succeeded without a wake-up, because the waiter checked again
    /// after [`Platform::wait`] returned.
    ///
    /// A wake-up can be missed if a page is freed just as a wait begins. A number that keeps growing
    /// means that wake-ups are lost. Waits for a [`Mempool`](crate::reserves::Mempool) are counted by
    /// [`Mempool::nr_polled_waits`](crate::reserves::Mempool::nr_polled_waits).
    #[must_use]
    pub fn nr_polled_waits(&self) -> u32 {
        self.queue.nr_polled()
    }

    /// Returns how many pages the zone of `node` nearest to `mark` lacks to be above it, for requests
    /// that may use zones up to `kind`; zero if the node has no such zone.
    fn missing(&self, node: NodeId, kind: ZoneKind, mark: impl Fn(&Watermarks) -> u64) -> u64 {
        let zones = self.zones().iter();
        let zones = zones.filter(|zone| zone.facts.node == node && zone.facts.kind <= kind);
        let missing = zones.map(|zone| {
            let marks = zone.marks.get();
            (mark(&marks) + marks.lowmem_reserve[kind.index()] + 1).saturating_sub(zone.nr_free())
        });
        missing.min().unwrap_or(0)
    }

    /// Asks the platform for background reclaim, if the request allows it.
    pub(crate) fn wake_reclaim(&self, order: Order, gfp: Gfp) {
        if gfp.contains(Gfp::KSWAPD_RECLAIM) {
            self.platform().wake_reclaim();
            self.platform().trace(Event::VmscanWakeupKswapd { gfp, order });
        }
    }

    /// Runs [`reclaim`](Self::reclaim) for a request for one block.
    pub(crate) fn reclaim_directly(
        &self,
        order: Order,
        gfp: Gfp,
        nodes: NodeMask,
        whom: Whom,
    ) -> u64 {
        self.platform().trace(Event::VmscanDirectReclaimBegin { gfp, order });
        let nr_reclaimed = self.reclaim(order.nr_pages(), gfp, nodes, whom);
        self.platform().trace(Event::VmscanDirectReclaimEnd { nr_reclaimed });
        nr_reclaimed
    }

    /// Asks the shrinkers for `nr` pages, and empties the per-CPU lists into the zones. Returns the
    /// number of helpful pages that shrinkers freed, for this thread or another.
    ///
    /// Pages drained from lists do not count as progress: other threads refill the lists as fast as
    /// they are drained.
    pub(crate) fn reclaim(&self, nr: usize, gfp: Gfp, nodes: NodeMask, whom: Whom) -> u64 {
        // A `MEMALLOC` request frees memory itself, and may come from within a shrinker.
        let freed = if gfp.contains(Gfp::MEMALLOC) {
            0
        } else {
            let mut meter = FreedPages { allocator: self, of: None };
            let control = ShrinkControl { gfp, nodes };
            self.shrinkers.shrink(nr, control, whom, self.platform(), &mut meter)
        };
        // Drains after the shrinkers, so that the pages that they freed are drained too.
        self.drain_all_pages();
        freed
    }

    /// Calls `attempt` each time memory may have been freed, until it succeeds or `stop` returns true.
    /// Requests that claim nodes take turns, as
    /// [`WaitQueue::in_turn`](crate::wait::queue::WaitQueue::in_turn) documents.
    ///
    /// `is_served` returns whether a success is what the wait was for.
    pub(crate) fn in_turn<T>(
        &self,
        claims: NodeMask,
        stop: Option<&dyn Fn() -> bool>,
        mut attempt: impl FnMut() -> Option<T>,
        is_served: impl FnOnce(&T) -> bool,
    ) -> Result<T, Shortage> {
        self.platform().trace(Event::WaitBegin);
        let result = self.queue.in_turn(self.platform(), claims, stop, || {
            // Set again before each wait: the first thread that frees clears the flag.
            self.slow_path_flags.set(WAITERS, true);
            attempt()
        });
        self.platform().trace(Event::WaitEnd { is_served: result.as_ref().is_some_and(is_served) });
        result.ok_or(Shortage::Stopped)
    }
}

/// Counts the pages that are freed while a shrinker runs.
struct FreedPages<'a, P: Platform> {
    allocator: &'a PageAllocator<P>,
    of: Option<Freed>,
}

/// The counters at the start.
struct Freed {
    control: ShrinkControl,
    level: Level,
}

/// Counters of the zones that help a request.
struct Level {
    /// Pages freed to per-CPU lists.
    to_lists: u64,
    /// Pages freed by any thread past the per-CPU lists.
    past_lists: u64,
    nr_free: u64,
}

impl<P: Platform> FreedPages<'_, P> {
    fn level(&self, control: ShrinkControl) -> Level {
        let highest = control.gfp.highest_zone();
        let helps =
            |zone: &&Zone| control.nodes.contains(zone.facts.node) && zone.facts.kind <= highest;
        let zones = || self.allocator.zones().iter().filter(helps);
        let sum = |sum: u64, count: u64| sum.wrapping_add(count);
        let cpus = self.allocator.cpus().iter();
        let lists = cpus.flat_map(PerCpu::list_events);
        let lists = lists.filter(|&(list, ..)| helps(&self.allocator.zone(list.zone())));
        let past_lists = zones().flat_map(Zone::events).map(|events| events.pgfree.get());
        Level {
            to_lists: lists
                .map(|(_, order, events)| events.free.get() << order.order().value())
                .fold(0, sum),
            past_lists: past_lists.fold(0, sum),
            nr_free: zones().map(Zone::nr_free).sum(),
        }
    }
}

/// Counts on all CPUs, because other threads may free a shrinker's pages. So it also counts pages that
/// unrelated threads free at the same time, and pages that the shrinker has just allocated itself: a
/// caller that retries while the number is above zero must bound its retries. Pages freed past the
/// lists count only as far as the zones have more free pages than before.
impl<P: Platform> Meter for FreedPages<'_, P> {
    fn start(&mut self, control: ShrinkControl) {
        self.of = Some(Freed { control, level: self.level(control) });
    }

    fn nr_freed(&self) -> u64 {
        let Some(Freed { control, level: before }) = &self.of else { return 0 };
        let now = self.level(*control);
        let past_lists = now.past_lists.wrapping_sub(before.past_lists);
        let more = now.nr_free.saturating_sub(before.nr_free);
        now.to_lists.wrapping_sub(before.to_lists).saturating_add(past_lists.min(more))
    }
}

/// Yields each pair of a node and a kind of zone, lowest first.
fn node_kinds() -> impl Iterator<Item = (NodeId, ZoneKind)> {
    NodeMask::ALL.iter().flat_map(|node| ZoneKind::ALL.map(|kind| (node, kind)))
}

/// Returns the flags of a request whose highest zone is `kind`.
fn up_to(kind: ZoneKind) -> Gfp {
    match kind {
        ZoneKind::Dma => Gfp::DMA,
        ZoneKind::Dma32 => Gfp::DMA32,
        ZoneKind::Normal => Gfp::empty(),
        ZoneKind::Movable => Gfp::HIGHMEM | Gfp::MOVABLE,
    }
}
