//! Getting memory back: from the per-CPU lists, from shrinkers, from others who free some.

use core::fmt;

use crate::base::gfp::{Gfp, ZoneKind};
use crate::base::migratetype::NR_MIGRATE_TYPES;
use crate::base::policy::NodeMask;
use crate::base::shortage::Shortage;
use crate::base::units::{NodeId, Order};
use crate::page_alloc::allocator::PageAllocator;
use crate::page_alloc::shrinker::{MAX_NR_SHRINKERS, Meter, ShrinkControl, Shrinker, Whom};
use crate::page_alloc::slow_path_flags::WAITERS;
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

/// A registered shrinker; dropping this removes it, once nobody is asking it any more.
///
/// So a shrinker that drops its own registration while it is being asked waits for itself, for ever.
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
    /// Registers a cache that can give pages back when memory is short.
    ///
    /// The cache lives as long as the program: a static, or what `Box::leak` returns.
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

    /// Reclaims until every request finds a zone above its high watermark on each node, or for as
    /// long as that comes nearer, and returns the number of pages that shrinkers freed: the work
    /// of background reclaim.
    ///
    /// [`Platform::wake_reclaim`] says when it is due, [`needs_balance`](Self::needs_balance)
    /// whether it still is.
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
                // What the shrinkers freed, if anything, was of no use here.
                if after >= before {
                    break;
                }
                before = after;
            }
        }
        self.platform().trace(Event::VmscanKswapdSleep { nr_reclaimed: freed });
        freed
    }

    /// Tells whether some request finds every zone that it admits on a node at its low watermark,
    /// so that background reclaim is due.
    pub fn needs_balance(&self) -> bool {
        node_kinds().any(|(node, kind)| self.missing(node, kind, |marks| marks.low) > 0)
    }

    /// Returns how many waits for memory succeeded without a wake-up, because the waiter looked
    /// again by itself after [`Platform::wait`] returned.
    ///
    /// A wake-up can be missed where a page is freed at the moment at which a wait begins; a number
    /// that keeps growing means that wake-ups are lost. Waits for a [`Mempool`](crate::Mempool) are
    /// counted by [`Mempool::nr_polled_waits`](crate::Mempool::nr_polled_waits).
    pub fn nr_polled_waits(&self) -> u32 {
        self.queue.nr_polled()
    }

    /// Returns how many pages the best zone of `node` lacks to be above `mark` for requests that
    /// may use zones up to `kind`; zero if there is no zone.
    fn missing(&self, node: NodeId, kind: ZoneKind, mark: impl Fn(&Watermarks) -> u64) -> u64 {
        let zones = self.zones().iter();
        let zones = zones.filter(|zone| zone.facts.node == node && zone.facts.kind <= kind);
        let missing = zones.map(|zone| {
            let marks = zone.marks.get();
            (mark(&marks) + marks.lowmem_reserve[kind.index()] + 1).saturating_sub(zone.nr_free())
        });
        missing.min().unwrap_or(0)
    }

    /// Asks for background reclaim, if the request lets that be done for it.
    pub(crate) fn wake_reclaim(&self, order: Order, gfp: Gfp) {
        if gfp.contains(Gfp::KSWAPD_RECLAIM) {
            self.platform().wake_reclaim();
            self.platform().trace(Event::VmscanWakeupKswapd { gfp, order });
        }
    }

    /// As [`reclaim`](Self::reclaim), by a request for a block for itself.
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

    /// Asks the shrinkers for `nr` pages and empties the per-CPU lists into the zones; returns the
    /// number of pages that shrinkers freed, for this thread or another, and that help.
    ///
    /// What was in lists is no progress: others fill them as fast as they are emptied.
    pub(crate) fn reclaim(&self, nr: usize, gfp: Gfp, nodes: NodeMask, whom: Whom) -> u64 {
        // Who frees memory soon does not come back to the shrinkers from within one.
        let freed = if gfp.contains(Gfp::MEMALLOC) {
            0
        } else {
            let mut meter = FreedPages { allocator: self, of: None };
            let control = ShrinkControl { gfp, nodes };
            self.shrinkers.shrink(nr, control, whom, self.platform(), &mut meter)
        };
        // What the shrinkers freed is among what is drained.
        self.drain_all_pages();
        freed
    }

    /// Makes `attempt` whenever there may be more memory, until it succeeds or `stop` says so; where
    /// nodes are claimed, as [`WaitQueue::in_turn`](crate::wait::queue::WaitQueue::in_turn) says.
    ///
    /// `is_served` tells from the success whether the wait brought what it was for.
    pub(crate) fn in_turn<T>(
        &self,
        claims: NodeMask,
        stop: Option<&dyn Fn() -> bool>,
        mut attempt: impl FnMut() -> Option<T>,
        is_served: impl FnOnce(&T) -> bool,
    ) -> Result<T, Shortage> {
        self.platform().trace(Event::WaitBegin);
        let result = self.queue.in_turn(self.platform(), claims, stop, || {
            // Set again each time: the first to free clears it, and the others need not tell.
            self.slow_path_flags.set(WAITERS, true);
            attempt()
        });
        self.platform().trace(Event::WaitEnd { is_served: result.as_ref().is_some_and(is_served) });
        result.ok_or(Shortage::Stopped)
    }
}

/// Counts pages that come free while a shrinker is asked.
struct FreedPages<'a, P: Platform> {
    allocator: &'a PageAllocator<P>,
    of: Option<Freed>,
}

/// What was counted at the beginning.
struct Freed {
    control: ShrinkControl,
    level: Level,
}

/// The counters of zones that help a request.
struct Level {
    /// Pages that were freed to per-CPU lists.
    to_lists: u64,
    /// Pages that any thread freed past all lists.
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
        let lists = cpus.flat_map(|cpu| cpu.list_events().enumerate());
        let lists = lists.filter(|&(list, _)| helps(&self.allocator.zone(list / NR_MIGRATE_TYPES)));
        let past_lists = zones().flat_map(Zone::events).map(|events| events.pgfree.get());
        Level {
            to_lists: lists.map(|(_, events)| events.free.get()).fold(0, sum),
            past_lists: past_lists.fold(0, sum),
            nr_free: zones().map(Zone::nr_free).sum(),
        }
    }
}

/// Counts on all CPUs, because a shrinker may have its pages freed by other threads. So pages that other
/// threads free at the same time count as the shrinker's, and so do pages that it has just allocated
/// itself: a caller that retries while the number is above zero must bound its retries. Pages freed past
/// the lists count only as far as the zones have more free pages than before.
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

/// Yields each node with each kind of zone, lowest first.
fn node_kinds() -> impl Iterator<Item = (NodeId, ZoneKind)> {
    NodeMask::ALL.iter().flat_map(|node| ZoneKind::ALL.map(|kind| (node, kind)))
}

/// Returns the flags of a request whose highest zone is of `kind`.
fn up_to(kind: ZoneKind) -> Gfp {
    match kind {
        ZoneKind::Dma => Gfp::DMA,
        ZoneKind::Dma32 => Gfp::DMA32,
        ZoneKind::Normal => Gfp::empty(),
        ZoneKind::Movable => Gfp::HIGHMEM | Gfp::MOVABLE,
    }
}
