//! The allocator type: the request context, the walk over zones and lists, refills and counters.
//!
//! This module works on [`RawPage`]s; the owning handles are built on top. Calls go down only: it calls
//! lists and zones, which never call back.

use core::alloc::Layout;
use core::fmt;
use core::panic::Location;
use core::ptr::NonNull;

use crate::account::table::Accounts;
use crate::base::gfp::{Gfp, ZoneKind};
use crate::base::migratetype::MigrateType;
use crate::base::policy::{NodeMask, Policy};
use crate::base::raw_page::{Class, RawPage};
use crate::base::stats::ZoneEvents;
use crate::base::sync::Lock;
use crate::base::units::{CpuId, NodeId, Order, Pfn};
use crate::config::config::Config;
use crate::config::error::ConfigError;
use crate::memmap::links::FrameTables;
use crate::memmap::page_owner::Owners;
use crate::page_alloc::fault::Faults;
use crate::page_alloc::setup::{self, Tables};
use crate::page_alloc::shrinker::Shrinkers;
use crate::page_alloc::slow_path_flags::{OWNERS, POISON, SlowPathFlags, TRACE};
use crate::percpu::hot_zone::HotZone;
use crate::percpu::percpu::{Lists, PerCpu};
use crate::platform::platform::Platform;
use crate::wait::queue::WaitQueue;
use crate::zone::frame_words::FrameWords;
use crate::zone::span::Span;
use crate::zone::watermark::{Mark, MarkPolicy};
use crate::zone::zone::{ShardHint, Zone};
use crate::zone::zonelist::{ZoneList, position};

/// A page allocator: zones of frames, with per-CPU lists of free pages in front of them.
///
/// It owns the frames of its memory map and hands them out as [`Page`](crate::Page)s and
/// [`Folio`](crate::Folio)s. Allocate through [`AllocPages`](crate::AllocPages), which `&PageAllocator`
/// and statics implement.
///
/// # Concurrency
/// Any thread may allocate and free at any time. No thread waits for the per-CPU lists. A zone's free
/// frames are in shards, whose locks are held for a bounded number of frames, however large the request
/// is. Lock order: a CPU's lists, then one shard; never two locks of one kind.
pub struct PageAllocator<P: Platform> {
    tables: Tables,
    pub(crate) slow_path_flags: SlowPathFlags,
    pub(crate) faults: Faults,
    pub(crate) shrinkers: Shrinkers,
    pub(crate) queue: WaitQueue,
    /// Held while watermarks are written.
    mark_policy: Lock<MarkPolicy>,
    platform: P,
}

/// Closes the per-CPU lists of an allocator, so that every call takes the slow path and checks whether
/// the allocator [is abandoned](Platform::is_abandoned).
#[derive(Clone, Copy, Debug)]
pub struct ListCloser(&'static [PerCpu]);

impl ListCloser {
    /// Closes the lists for good, also when a thread holds some of them.
    ///
    /// Never waits, and stores two words per CPU: a signal handler may call it.
    ///
    /// # Safety
    /// - The allocator is alive.
    /// - No other thread uses it, and the caller is not inside one of its methods.
    pub unsafe fn close(&self) {
        self.0.iter().for_each(PerCpu::seize);
    }
}

/// The zones and nodes that may serve a request.
#[derive(Clone, Copy)]
pub(crate) struct AllocContext {
    migratetype: MigrateType,
    highest: ZoneKind,
    zones: &'static [u16],
    /// Nodes that may serve the request.
    nodes: NodeMask,
    /// Node of the requesting CPU, and the CPU's index there.
    local: NodeId,
    home: ShardHint,
}

/// The source location that made the allocation call.
pub(crate) type Site = &'static Location<'static>;

/// The CPU that the caller is pinned to, as far as the platform can pin.
pub(crate) struct Pinned<'a, P: Platform> {
    allocator: &'a PageAllocator<P>,
    cpu: &'static PerCpu,
}

/// Pages moved before a CPU's lists are released for a moment.
///
/// Bounds how long the lists are held, and how long a kernel cannot be preempted.
pub(crate) const PAGES_PER_HOLD: usize = 512;

impl<P: Platform> PageAllocator<P> {
    /// Returns the size and alignment of the metadata that an allocator of this configuration needs.
    ///
    /// # Errors
    /// Returns what is wrong with the configuration.
    ///
    /// # Cost
    /// 12 bytes per frame and 148 per pageblock that a region touches, so at most 13 bytes per frame if
    /// regions are large; 24 per region; 384 per shard of a zone; and for each CPU and zone, three
    /// lists of [`pcp_high`](Config::pcp_high) x 8 bytes, rounded up to cache lines.
    pub fn metadata_layout(config: &Config<'_>) -> Result<Layout, ConfigError> {
        setup::metadata_layout(config)
    }

    /// Builds an allocator that owns every frame of `config.memory` that is not reserved.
    ///
    /// # Errors
    /// Returns what is wrong with the configuration or the metadata memory; nothing has been written
    /// then.
    ///
    /// # Safety
    /// - `metadata` points to initialised memory (its value does not matter) that is valid for
    ///   reads and writes, and that nothing else uses, for as long as the allocator lives.
    /// - For as long as the allocator lives, nothing else uses a frame of the map that is not
    ///   reserved, and no other allocator manages it.
    ///
    /// # Cost
    /// Linear in the number of pageblocks; does not touch the 12 bytes per frame.
    pub unsafe fn new(
        config: &Config<'_>,
        metadata: NonNull<[u8]>,
        platform: P,
    ) -> Result<Self, ConfigError> {
        let (nr_cpus, max) = (config.nr_cpus, platform.nr_cpus());
        if !(1..=max).contains(&nr_cpus) {
            return Err(ConfigError::BadNrCpus { nr_cpus, max });
        }
        // SAFETY: 1. metadata initialised, valid, not used otherwise: guaranteed by the caller.
        let tables = unsafe { setup::build(config, metadata, nr_cpus < max) }?;
        let on = |reason, is_on: bool| if is_on { reason } else { 0 };
        let slow_path_flags =
            SlowPathFlags::new(on(OWNERS, config.page_owner) | on(POISON, config.poison));
        let (faults, shrinkers, queue) = (Faults::new(), Shrinkers::new(), WaitQueue::new());
        let mark_policy = Lock::new(setup::mark_policy(config));
        let allocator =
            Self { tables, slow_path_flags, faults, shrinkers, queue, mark_policy, platform };
        if config.poison {
            for zone in allocator.zones() {
                zone.for_each_free(&allocator.platform, |pfn| allocator.poison(pfn, Order::ZERO));
            }
        }
        Ok(allocator)
    }

    /// Fills a block with zeroes. As for `poison` and `find_unpoisoned`, nobody else owns it: it is free,
    /// or on its way from or to its owner.
    pub(crate) fn zero(&self, block: RawPage) {
        // SAFETY: 1. owned: see above.
        unsafe { self.platform.zero_pages(block.pfn(), block.order().nr_pages()) };
    }

    /// Poisons a block.
    pub(crate) fn poison(&self, first: Pfn, order: Order) {
        // SAFETY: 1. owned: as in `zero`.
        unsafe { self.platform.poison_pages(first, order.nr_pages()) };
    }

    /// Returns the position of a byte of a block that was written since it was poisoned.
    pub(crate) fn find_unpoisoned(&self, block: RawPage) -> Option<usize> {
        // SAFETY: 1. owned: as in `zero`.
        unsafe { self.platform.find_unpoisoned(block.pfn(), block.order().nr_pages()) }
    }

    /// Returns the platform that the allocator was built with.
    pub fn platform(&self) -> &P {
        &self.platform
    }

    /// Returns the number of CPUs that have lists.
    pub fn nr_cpus(&self) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "there are as many as Config says")]
        let nr_cpus = self.tables.cpus.len() as u32;
        nr_cpus
    }

    /// Moves the pages in all CPUs' lists to the zones, and returns their number.
    ///
    /// # Concurrency
    /// Skips lists that are in use.
    ///
    /// # Source
    /// `linux-6.12` `mm/page_alloc.c` `drain_all_pages`
    pub fn drain_all_pages(&self) -> usize {
        self.tables.cpus.iter().map(|cpu| self.drain(cpu)).sum()
    }

    /// Moves the pages in one CPU's lists to the zones, and returns their number.
    ///
    /// Any CPU may call this for any other, for instance for one that went offline.
    ///
    /// # Panics
    /// If there is no such CPU, with its number and the range allowed.
    ///
    /// # Concurrency
    /// Leaves lists that are in use as they are.
    ///
    /// # Source
    /// `linux-6.12` `mm/page_alloc.c` `drain_pages`
    pub fn drain_pages(&self, cpu: CpuId) -> usize {
        match self.tables.cpus.get(cpu.value() as usize) {
            Some(cpu) => self.drain(cpu),
            None => {
                panic!("unknown CPU {cpu}: this allocator has CPUs 0 to {}", self.nr_cpus() - 1)
            }
        }
    }

    /// Returns the closer of this allocator's per-CPU lists; it stays valid when the allocator moves.
    #[must_use]
    pub fn list_closer(&self) -> ListCloser {
        ListCloser(self.tables.cpus)
    }

    /// Asks the platform whether to trace every page, and switches tracing on or off accordingly.
    ///
    /// The allocator itself asks whenever a list is refilled or drained. Where the lists alone may
    /// serve calls for a long time, the platform calls this when its answer changes.
    #[inline]
    pub fn look_for_tracers(&self) {
        let on = self.platform.traces_pages();
        if on != self.slow_path_flags.has(TRACE) {
            self.slow_path_flags.set(TRACE, on);
        }
    }

    #[inline]
    pub(crate) fn zones(&self) -> &'static [Zone] {
        self.tables.zones
    }

    #[inline]
    pub(crate) fn zone(&self, index: usize) -> &'static Zone {
        &self.tables.zones[index]
    }

    pub(crate) fn cpus(&self) -> &'static [PerCpu] {
        self.tables.cpus
    }

    pub(crate) fn accounts(&self) -> Accounts {
        self.tables.accounts
    }

    pub(crate) fn owners(&self) -> Owners {
        self.tables.owners
    }

    #[inline]
    pub(crate) fn frames(&self) -> &FrameTables {
        &self.tables.frames
    }

    /// Returns the index of a page's frame in the per-frame tables.
    #[inline]
    pub(crate) fn frame_of(&self, page: RawPage) -> usize {
        let pfn = page.pfn().value();
        self.span_of(page).frame(pfn)
    }

    /// Returns the span of its zone that a page is in.
    pub(crate) fn span_of(&self, page: RawPage) -> &'static Span {
        let pfn = page.pfn().value();
        match self.zone(page.list().zone()).facts.spans.find(pfn) {
            Some(span) => span,
            None => panic!("page of frame {pfn:#x} is not in the zone that its handle names"),
        }
    }

    /// Returns the node of an owned block.
    #[inline]
    pub(crate) fn node_of(&self, page: RawPage) -> NodeId {
        self.zone(page.list().zone()).facts.node
    }

    /// Returns the node of the CPU that runs the caller, as far as the platform can tell.
    #[must_use]
    pub fn local_node(&self) -> NodeId {
        self.pin().cpu().node
    }

    /// Returns the raw page of a block of which only the frame number is known.
    pub(crate) fn handle_of(&self, pfn: Pfn, order: Order) -> Option<RawPage> {
        let spans = |zone: &Zone| zone.facts.spans;
        let zone = self.zones().iter().find(|zone| spans(zone).find(pfn.value()).is_some())?;
        Some(Class::new(zone.list(MigrateType::Movable), order).at(pfn))
    }

    /// Updates the watermarks when a reserved frame is handed in by its number.
    pub(crate) fn hand_in(&self, page: RawPage) {
        let zone = self.zone(page.list().zone());
        if !zone.reserved.take(self.span_of(page), page.pfn().value()) {
            return;
        }
        let irq_state = self.platform.irq_save();
        let policy = self.mark_policy.lock(|spins| self.platform.relax(spins));
        zone.managed.add(1);
        if setup::set_watermarks(&policy, self.zones()) {
            self.cpus().iter().for_each(PerCpu::renew_hot_zones);
        }
        drop(policy);
        self.platform.irq_restore(irq_state);
    }

    #[inline]
    pub(crate) fn pin(&self) -> Pinned<'_, P> {
        let number = self.platform.pin().value() as usize;
        // Read after pinning, which may be a call, so that the value need not be saved across it.
        let cpus = self.tables.cpus;
        let cpu = cpus.get(number).unwrap_or_else(|| wrapped(cpus, number));
        Pinned { allocator: self, cpu }
    }

    /// Prepares a request by the pinned CPU, for `node` or for the CPU's own node.
    ///
    /// # Panics
    /// If `node` is neither a node of the map nor of a CPU.
    #[inline]
    pub(crate) fn context(
        &self,
        pinned: &Pinned<'_, P>,
        gfp: Gfp,
        node: Option<NodeId>,
    ) -> AllocContext {
        let local = pinned.cpu.node;
        let highest = gfp.highest_zone();
        let node = node.unwrap_or(local);
        let zones = self.zonelist(node, highest).zones();
        let nodes = if gfp.contains(Gfp::THISNODE) { NodeMask::of(&[node]) } else { NodeMask::ALL };
        let home = pinned.cpu.home;
        AllocContext { migratetype: gfp.migratetype(), highest, zones, nodes, local, home }
    }

    #[inline]
    fn zonelist(&self, node: NodeId, highest: ZoneKind) -> &'static ZoneList {
        match self.tables.zonelists.get(position(node, highest)) {
            Some(list) => list,
            None => unknown_node(node, self.nr_nodes()),
        }
    }

    /// Returns one more than the largest node of the memory map and the CPUs.
    pub fn nr_nodes(&self) -> usize {
        self.tables.zonelists.len() / crate::base::gfp::NR_ZONE_KINDS
    }

    /// Takes a block from the first zone that has one above `mark`.
    ///
    /// # Source
    /// `linux-6.12` `mm/page_alloc.c` `get_page_from_freelist`
    pub(crate) fn take_from_zones(
        &self,
        pinned: &Pinned<'_, P>,
        context: &AllocContext,
        order: Order,
        mark: Mark,
    ) -> Option<RawPage> {
        for zone in self.eligible(context) {
            let marks = &zone.marks;
            if !marks.ok(zone.nr_free(), order, mark, context.highest) {
                continue;
            }
            let ready = if order == Order::ZERO {
                // A request that may use the reserve takes no more than it needs: any request may take
                // pages that are in a list.
                let spare = marks.spare(zone.nr_free(), mark.at_least_min(), context.highest);
                self.take_from_lists(pinned, context, zone, spare)
            } else {
                None
            };
            let page = ready.or_else(|| self.take_from_zone(context, zone, order));
            if page.is_some() {
                return page;
            }
        }
        None
    }

    /// Yields the zones that may serve a request, best first.
    #[inline]
    pub(crate) fn eligible(
        &self,
        context: &AllocContext,
    ) -> impl Iterator<Item = &'static Zone> + use<'_, P> {
        let nodes = context.nodes;
        let zones = context.zones.iter().map(|&index| self.zone(usize::from(index)));
        zones.filter(move |zone| nodes.contains(zone.facts.node))
    }

    /// Prepares a request that all of a policy's nodes may serve.
    pub(crate) fn context_for(&self, gfp: Gfp, policy: &Policy<'_>) -> AllocContext {
        let pinned = self.pin();
        let this_node = gfp.contains(Gfp::THISNODE);
        let nodes = if this_node { policy.nodes_named(pinned.cpu.node) } else { policy.nodes() };
        self.context(&pinned, gfp.difference(Gfp::THISNODE), None).on(nodes)
    }

    /// Returns an upper limit on the blocks of `order` that a request's zones could give down to `mark`
    /// if no page were in use. Ignores the holes of a zone, which may rule some out.
    pub(crate) fn most(&self, context: &AllocContext, order: Order, mark: Mark) -> u64 {
        let spare = |zone: &Zone| {
            // Counts reserved frames, which may be handed in later.
            zone.marks.spare(zone.facts.present, mark, context.highest)
        };
        self.eligible(context).map(|zone| spare(zone) >> order.value()).sum()
    }

    /// Checks the nodes that a policy interleaves over or binds to.
    ///
    /// # Panics
    /// If one of them is neither a node of the map nor of a CPU.
    pub(crate) fn check_nodes(&self, policy: &Policy<'_>) {
        let last = match *policy {
            Policy::Preferred(node) => Some(node),
            Policy::Interleave(nodes, _) | Policy::WeightedInterleave(nodes, ..) => nodes.last(),
            _ => None,
        };
        if let Some(node) = last.filter(|node| node.index() >= self.nr_nodes()) {
            unknown_node(node, self.nr_nodes());
        }
    }

    /// Returns the nodes of the zones that may serve a request.
    pub(crate) fn nodes_of(&self, context: &AllocContext) -> NodeMask {
        self.eligible(context).fold(NodeMask::NONE, |nodes, zone| nodes.with(zone.facts.node))
    }

    /// Returns the node of a request's preferred zone.
    #[inline]
    pub(crate) fn preferred(&self, context: &AllocContext) -> Option<NodeId> {
        context.zones.first().map(|&index| self.zone(usize::from(index)).facts.node)
    }

    /// Takes a page from this CPU's list for `zone`, refilling an empty list with up to `spare` pages.
    /// Returns `None` if the zone has none or the lists are in use.
    ///
    /// # Source
    /// `linux-6.12` `mm/page_alloc.c` `rmqueue_pcplist`
    #[inline]
    fn take_from_lists(
        &self,
        pinned: &Pinned<'_, P>,
        context: &AllocContext,
        zone: &'static Zone,
        spare: u64,
    ) -> Option<RawPage> {
        let mut lists = pinned.lists()?;
        let id = zone.list(context.migratetype);
        let mut page = lists.list(id).pop();
        if page.is_none() && spare > 0 {
            self.refill(&mut lists, zone, context.migratetype, spare);
            page = lists.list(id).pop();
        }
        if page.is_some() {
            self.count_alloc(lists.zone_events(id.zone()), context, zone, 1, 1);
        }
        page
    }

    /// Takes a block from `zone`, bypassing the lists.
    fn take_from_zone(&self, context: &AllocContext, zone: &Zone, order: Order) -> Option<RawPage> {
        if self.platform.is_abandoned() {
            return None;
        }
        let AllocContext { home, migratetype, .. } = *context;
        let count = |events: &_| self.count_alloc(events, context, zone, 0, 1);
        let page = zone.rmqueue(&self.platform, home, migratetype, order, count)?;
        self.platform.trace(zone.gave(context.migratetype, order, order.nr_pages(), false));
        Some(page)
    }

    /// Takes a page from this CPU's lists, without a refill.
    ///
    /// Differs: Linux leaves such pages alone once their zone is at its watermark, although taking them
    /// does not lower the zone's free count. Here they are the last resort of a request that cannot
    /// wait.
    pub(crate) fn take_from_own_lists(
        &self,
        pinned: &Pinned<'_, P>,
        context: &AllocContext,
    ) -> Option<RawPage> {
        let mut lists = pinned.lists()?;
        self.eligible(context).find_map(|zone| {
            // The reserve that a zone keeps from requests that could use a higher zone applies here
            // too.
            if zone.nr_free() < zone.marks.reserve(context.highest) {
                return None;
            }
            let id = zone.list(context.migratetype);
            let page = lists.list(id).pop()?;
            self.count_alloc(lists.zone_events(id.zone()), context, zone, 1, 1);
            Some(page)
        })
    }

    /// Adds up to `max` pages from `zone` to a list that has room, and returns the number added.
    ///
    /// Differs: Linux refills a whole batch once its test has passed, and so moves pages of the reserve
    /// to where any request may take them. Here `max` is what the watermark test leaves.
    #[cold]
    pub(crate) fn refill(
        &self,
        lists: &mut Lists<'_, P>,
        zone: &Zone,
        migratetype: MigrateType,
        max: u64,
    ) -> usize {
        if max == 0 {
            return 0;
        }
        let id = zone.list(migratetype);
        let home = lists.home();
        let mut list = lists.list(id);
        let mut words = FrameWords::new();
        let nr = list.next_refill().min(usize::try_from(max).unwrap_or(usize::MAX));
        let taken = zone.rmqueue_bulk(&self.platform, home, migratetype, nr, &mut words);
        let class = Class::new(id, Order::ZERO);
        for &word in words.as_slice() {
            list.push_word(class, word);
        }
        self.look_for_tracers();
        self.platform.trace(zone.gave(migratetype, Order::ZERO, taken, true));
        taken
    }

    /// Counts an allocation of `pages` pages as `events` allocations in the NUMA counters.
    #[inline]
    pub(crate) fn count_alloc(
        &self,
        counters: &ZoneEvents,
        context: &AllocContext,
        zone: &Zone,
        pages: u64,
        events: u64,
    ) {
        counters.pgalloc.add(pages);
        let node = zone.facts.node;
        if self.preferred(context) == Some(node) {
            counters.numa_hit.add(events);
        } else {
            counters.numa_miss.add(events);
            counters.numa_foreign.add(events);
        }
        if node == context.local {
            counters.numa_local.add(events);
        } else {
            counters.numa_other.add(events);
        }
    }

    /// Returns a zone that can give `nr_pages` single pages and stay above its low watermark.
    ///
    /// Checks only zones of the preferred node.
    ///
    /// # Source
    /// `linux-6.12` `mm/page_alloc.c` `alloc_pages_bulk_noprof`
    #[inline]
    pub(crate) fn bulk_zone(
        &self,
        context: &AllocContext,
        nr_pages: usize,
    ) -> Option<&'static Zone> {
        let mut zones = self.eligible(context).peekable();
        let node = zones.peek()?.facts.node;
        zones.take_while(|zone| zone.facts.node == node).find(|zone| {
            let limit = zone.marks.bulk_limit(context.highest);
            zone.has_more_than(limit.saturating_add(nr_pages as u64), context.home)
        })
    }
}

impl<'a, P: Platform> Pinned<'a, P> {
    #[inline]
    pub(crate) fn cpu(&self) -> &'static PerCpu {
        self.cpu
    }

    /// Takes the CPU's lists unless they are in use.
    #[inline]
    pub(crate) fn lists(&self) -> Option<Lists<'a, P>> {
        self.cpu.try_lock(&self.allocator.platform)
    }

    /// Takes the CPU's lists as [`lists`](Self::lists) does, but returns `None` if they are shared.
    #[inline]
    pub(crate) fn lists_at_once(&self) -> Option<Lists<'a, P>> {
        self.cpu.try_lock_at_once(&self.allocator.platform)
    }

    /// Returns the hot zone of a request that prefers `node`, or the CPU's own node; `None` if `node`
    /// is another.
    #[inline]
    pub(crate) fn hot_zone(&self, gfp: Gfp, node: Option<NodeId>) -> Option<&'static HotZone> {
        if node.is_some_and(|node| node != self.cpu.node) {
            return None;
        }
        Some(self.cpu.hot_zone(gfp))
    }
}

impl<P: Platform> Drop for Pinned<'_, P> {
    #[inline]
    fn drop(&mut self) {
        self.allocator.platform.unpin();
    }
}

impl AllocContext {
    /// Returns the same request, restricted to `nodes`.
    #[inline]
    pub(crate) fn on(self, nodes: NodeMask) -> Self {
        Self { nodes: self.nodes.and(nodes), ..self }
    }

    #[inline]
    pub(crate) fn highest(&self) -> ZoneKind {
        self.highest
    }

    #[inline]
    pub(crate) fn nodes(&self) -> NodeMask {
        self.nodes
    }

    #[inline]
    pub(crate) fn home(&self) -> ShardHint {
        self.home
    }

    #[inline]
    pub(crate) fn migratetype(&self) -> MigrateType {
        self.migratetype
    }
}

impl<P: Platform> fmt::Debug for PageAllocator<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageAllocator")
            .field("nr_zones", &self.tables.zones.len())
            .field("nr_cpus", &self.tables.cpus.len())
            .field("nr_free", &self.zones().iter().map(Zone::nr_free).sum::<u64>())
            .finish_non_exhaustive()
    }
}

/// Returns the lists of CPU `number` where CPUs share lists because there are fewer lists than CPUs.
#[cold]
#[inline(never)]
fn wrapped(cpus: &'static [PerCpu], number: usize) -> &'static PerCpu {
    &cpus[number % cpus.len()]
}

#[cold]
fn unknown_node(node: NodeId, nr_nodes: usize) -> ! {
    panic!("unknown node {node}: this allocator has nodes 0 to {}", nr_nodes - 1)
}
