//! The allocator: which zone and which list a request is served from, and where pages return to.
//!
//! Everything here speaks in [`RawPage`]s; the owning handles are built on top. Control flows
//! down: this file asks lists and zones, and they never ask back.

use core::alloc::Layout;
use core::fmt;
use core::mem::MaybeUninit;
use core::ptr::NonNull;

use crate::batch::Batch;
use crate::config::Config;
use crate::error::ConfigError;
use crate::gfp::{Gfp, ZoneKind};
use crate::handle::{Class, RawPage};
use crate::memmap::FrameTables;
use crate::migratetype::MigrateType;
use crate::pageblock::Runs;
use crate::percpu::{Lists, PerCpu};
use crate::platform::Platform;
use crate::setup::{self, Tables};
use crate::span::Span;
use crate::stats::ZoneEvents;
use crate::units::{CpuId, NodeId, Order, Pfn};
use crate::watermark::Mark;
use crate::zone::{Zone, gather};
use crate::zonelist::{ZoneList, position};

/// A page allocator: zones of frames with a list of free pages for each CPU in front of them.
///
/// It owns the frames of its memory map; [`Page`](crate::Page)s and [`Folio`](crate::Folio)s are
/// what it hands out. Allocate through [`AllocPages`](crate::AllocPages), which is implemented for
/// `&PageAllocator` and for statics.
///
/// # Concurrency
/// Any thread may allocate and free at any time. Nobody waits for the per-CPU lists; a zone lock
/// is held for a bounded number of frames, whatever the request. Lock order: a CPU's lists, then
/// one zone; never two of a kind.
pub struct PageAllocator<P: Platform> {
    tables: Tables,
    platform: P,
}

/// What a request comes down to.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    gfp: Gfp,
    migratetype: MigrateType,
    highest: ZoneKind,
    zones: &'static [u16],
    /// The node that was asked for, or else that of the CPU.
    node: NodeId,
    /// The node of the CPU that asked.
    local: NodeId,
}

/// A CPU that the caller stays on, as far as the platform can see to that.
pub(crate) struct Pinned<'a, P: Platform> {
    allocator: &'a PageAllocator<P>,
    cpu: &'static PerCpu,
}

/// Pages moved before a CPU's lists are let go for a moment.
///
/// Bounds the time for which they are held, and for which a kernel cannot be preempted.
pub(crate) const PAGES_PER_HOLD: usize = 512;

impl<P: Platform> PageAllocator<P> {
    /// Returns how much memory an allocator of this configuration needs for its books.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    ///
    /// # Cost
    /// At most 13 bytes per frame, and for each CPU and zone three lists of
    /// [`pcp_high`](Config::pcp_high) x 8 bytes.
    pub fn metadata_layout(config: &Config<'_>) -> Result<Layout, ConfigError> {
        setup::metadata_layout(config)
    }

    /// Builds an allocator that owns every frame of `config.memory` that is not reserved.
    ///
    /// # Errors
    /// What is wrong with the configuration or the metadata memory; nothing was written then.
    ///
    /// # Safety
    /// - `metadata` points to initialised memory (its value does not matter) that is valid for
    ///   reads and writes and used by nobody else for as long as the allocator lives.
    /// - No frame of the map that is not reserved is used by anybody else for as long as the
    ///   allocator lives, and none is handed to another allocator.
    ///
    /// # Cost
    /// Linear in the number of pageblocks; the 12 bytes per frame are not touched.
    pub unsafe fn new(
        config: &Config<'_>,
        metadata: NonNull<[u8]>,
        platform: P,
    ) -> Result<Self, ConfigError> {
        let (nr_cpus, max) = (config.nr_cpus, platform.nr_cpus());
        if !(1..=max).contains(&nr_cpus) {
            return Err(ConfigError::BadNrCpus { nr_cpus, max });
        }
        // SAFETY: 1. the metadata memory is ours: the caller's obligation.
        let tables = unsafe { setup::build(config, metadata) }?;
        Ok(Self { tables, platform })
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

    /// Gives the pages in every CPU's lists back to the zones, and returns their number.
    ///
    /// # Concurrency
    /// Lists that are in use at the moment are passed over.
    ///
    /// # Source
    /// `linux-6.12` `mm/page_alloc.c` `drain_all_pages`
    pub fn drain_all_pages(&self) -> usize {
        self.tables.cpus.iter().map(|cpu| self.drain(cpu)).sum()
    }

    /// Gives the pages in one CPU's lists back to the zones, and returns their number.
    ///
    /// Any CPU may do this for any other, for instance for one that went offline.
    ///
    /// # Panics
    /// If there is no such CPU, with its number and the range allowed.
    ///
    /// # Concurrency
    /// Lists that are in use at the moment are left as they are.
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

    #[inline]
    pub(crate) fn frames(&self) -> &FrameTables {
        &self.tables.frames
    }

    /// Returns the number of a page's frame in the frame tables.
    #[inline]
    pub(crate) fn frame_of(&self, page: RawPage) -> usize {
        let pfn = page.pfn().value();
        self.span_of(page).frame(pfn)
    }

    /// Returns the piece of its zone that a page is in.
    pub(crate) fn span_of(&self, page: RawPage) -> &'static Span {
        let pfn = page.pfn().value();
        match self.zone(page.list().zone()).facts.spans.find(pfn) {
            Some(span) => span,
            None => panic!("page of frame {pfn:#x} is not in the zone that its handle names"),
        }
    }

    /// Returns the handle of a block whose owner knows only its frame.
    pub(crate) fn handle_of(&self, pfn: Pfn, order: Order) -> Option<RawPage> {
        let spans = |zone: &Zone| zone.facts.spans;
        let zone = self.zones().iter().find(|zone| spans(zone).find(pfn.value()).is_some())?;
        Some(Class::new(zone.list(MigrateType::Movable), order).at(pfn))
    }

    #[inline]
    pub(crate) fn pin(&self) -> Pinned<'_, P> {
        let cpus = self.tables.cpus;
        let number = self.platform.pin().value() as usize;
        let cpu = cpus.get(number).unwrap_or_else(|| &cpus[number % cpus.len()]);
        Pinned { allocator: self, cpu }
    }

    /// Prepares a request of the pinned CPU, for `node` or for its own.
    ///
    /// # Panics
    /// If `node` is not one of the map's or the CPUs'.
    #[inline]
    pub(crate) fn request(
        &self,
        pinned: &Pinned<'_, P>,
        gfp: Gfp,
        node: Option<NodeId>,
    ) -> Request {
        let local = pinned.cpu.node;
        let highest = gfp.highest_zone();
        let node = node.unwrap_or(local);
        let zones = self.zonelist(node, highest).zones();
        Request { gfp, migratetype: gfp.migratetype(), highest, zones, node, local }
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
        self.tables.zonelists.len() / crate::gfp::NR_ZONE_KINDS
    }

    /// Allocates one page, from this CPU's list of the zone that is preferred if nothing stands
    /// against it.
    ///
    /// # Source
    /// `linux-6.12` `mm/page_alloc.c` `__alloc_frozen_pages_noprof`
    #[inline]
    pub(crate) fn alloc_single(&self, gfp: Gfp, node: Option<NodeId>) -> Option<RawPage> {
        match self.alloc_hot(gfp, node) {
            Some(page) => Some(page),
            None => self.alloc_block(gfp, node, Order::ZERO),
        }
    }

    /// Takes a page from this CPU's list of the preferred zone, if it holds one and the zone is
    /// above its low watermark.
    #[inline]
    fn alloc_hot(&self, gfp: Gfp, node: Option<NodeId>) -> Option<RawPage> {
        if gfp.intersects(Gfp::ZERO.union(Gfp::THISNODE)) {
            return None;
        }
        let pinned = self.pin();
        let request = self.request(&pinned, gfp, node);
        let zone = self.zone(usize::from(*request.zones.first()?));
        if !zone.facts.watermarks.bulk_ok(zone.nr_free(), 0, request.highest) {
            return None;
        }
        let mut lists = pinned.cpu.try_lock()?;
        let id = zone.list(request.migratetype);
        let page = lists.list(id.index()).pop()?;
        self.count_alloc(lists.events(id.zone()), &request, zone, 1, 1);
        Some(page)
    }

    /// Allocates one block: from the lists for a single page, from a zone otherwise.
    ///
    /// # Source
    /// `linux-6.12` `mm/page_alloc.c` `__alloc_frozen_pages_noprof`
    #[cold]
    pub(crate) fn alloc_block(
        &self,
        gfp: Gfp,
        node: Option<NodeId>,
        order: Order,
    ) -> Option<RawPage> {
        let pinned = self.pin();
        let request = self.request(&pinned, gfp, node);
        let page = match self.take_from_zones(&pinned, &request, order, Mark::Low) {
            Some(page) => Some(page),
            None => self.alloc_slow(&pinned, &request, order),
        };
        drop(pinned);
        if gfp.contains(Gfp::ZERO)
            && let Some(page) = page
        {
            self.zero(page);
        }
        page
    }

    /// Goes below the low watermark, as far as the request may.
    #[cold]
    fn alloc_slow(
        &self,
        pinned: &Pinned<'_, P>,
        request: &Request,
        order: Order,
    ) -> Option<RawPage> {
        let mark = Mark::last(request.gfp);
        if let Some(page) = self.take_from_zones(pinned, request, order, mark) {
            return Some(page);
        }
        if request.gfp.contains(Gfp::DIRECT_RECLAIM) && self.drain_all_pages() > 0 {
            return self.take_from_zones(pinned, request, order, mark);
        }
        if order == Order::ZERO { self.take_from_own_lists(pinned, request) } else { None }
    }

    /// Takes a block from the first zone that may give one down to `mark`.
    ///
    /// # Source
    /// `linux-6.12` `mm/page_alloc.c` `get_page_from_freelist`
    fn take_from_zones(
        &self,
        pinned: &Pinned<'_, P>,
        request: &Request,
        order: Order,
        mark: Mark,
    ) -> Option<RawPage> {
        for zone in self.eligible(request) {
            let marks = &zone.facts.watermarks;
            if !marks.ok(zone.nr_free(), order, mark, request.highest) {
                continue;
            }
            let page = if order == Order::ZERO {
                self.take_from_lists(pinned, request, zone)
            } else {
                self.take_from_zone(request, zone, order)
            };
            if page.is_some() {
                return page;
            }
        }
        None
    }

    /// Yields the zones of a request, best first.
    #[inline]
    fn eligible(&self, request: &Request) -> impl Iterator<Item = &'static Zone> + use<'_, P> {
        let only = request.gfp.contains(Gfp::THISNODE).then_some(request.node);
        let zones = request.zones.iter().map(|&index| self.zone(usize::from(index)));
        zones.filter(move |zone| only.is_none_or(|node| node == zone.facts.node))
    }

    /// Returns the node of the zone that a request would rather have than all others.
    #[inline]
    pub(crate) fn preferred(&self, request: &Request) -> Option<NodeId> {
        request.zones.first().map(|&index| self.zone(usize::from(index)).facts.node)
    }

    /// Takes a page from this CPU's list for `zone`, refilling it if it is empty.
    ///
    /// # Source
    /// `linux-6.12` `mm/page_alloc.c` `rmqueue_pcplist`
    #[inline]
    fn take_from_lists(
        &self,
        pinned: &Pinned<'_, P>,
        request: &Request,
        zone: &'static Zone,
    ) -> Option<RawPage> {
        let Some(mut lists) = pinned.cpu.try_lock() else {
            return self.take_from_zone(request, zone, Order::ZERO);
        };
        let id = zone.list(request.migratetype);
        let mut page = lists.list(id.index()).pop();
        if page.is_none() {
            self.refill(&mut lists, zone, request.migratetype);
            page = lists.list(id.index()).pop();
        }
        if page.is_some() {
            self.count_alloc(lists.events(id.zone()), request, zone, 1, 1);
        }
        page
    }

    /// Takes a block from `zone`, past the lists.
    fn take_from_zone(&self, request: &Request, zone: &Zone, order: Order) -> Option<RawPage> {
        zone.rmqueue(&self.platform, request.migratetype, order, |events| {
            self.count_alloc(events, request, zone, 0, 1);
        })
    }

    /// Takes a page that this CPU's lists hold already.
    ///
    /// Differs: Linux leaves such pages alone once their zone is at its limit, although taking
    /// them leaves the zone as it is. Here they are the last resort of who cannot wait.
    fn take_from_own_lists(&self, pinned: &Pinned<'_, P>, request: &Request) -> Option<RawPage> {
        let mut lists = pinned.cpu.try_lock()?;
        self.eligible(request).find_map(|zone| {
            let id = zone.list(request.migratetype);
            let page = lists.list(id.index()).pop()?;
            self.count_alloc(lists.events(id.zone()), request, zone, 1, 1);
            Some(page)
        })
    }

    /// Fills the empty list of a kind from `zone`, and returns the number of pages it got.
    #[cold]
    pub(crate) fn refill(
        &self,
        lists: &mut Lists<'_>,
        zone: &Zone,
        migratetype: MigrateType,
    ) -> usize {
        let id = zone.list(migratetype);
        let list = lists.list(id.index());
        let mut runs = Runs::new();
        let nr = list.next_refill();
        let taken = zone.rmqueue_bulk(&self.platform, migratetype, nr, &mut runs);
        let class = Class::new(id, Order::ZERO);
        for &run in runs.as_slice() {
            list.push_run(class, run);
        }
        taken
    }

    /// Counts an allocation of `pages` pages that is `events` for the NUMA counters.
    #[inline]
    pub(crate) fn count_alloc(
        &self,
        counters: &ZoneEvents,
        request: &Request,
        zone: &Zone,
        pages: u64,
        events: u64,
    ) {
        counters.pgalloc.add(pages);
        let node = zone.facts.node;
        if self.preferred(request) == Some(node) {
            counters.numa_hit.add(events);
        } else {
            counters.numa_miss.add(events);
            counters.numa_foreign.add(events);
        }
        if node == request.local {
            counters.numa_local.add(events);
        } else {
            counters.numa_other.add(events);
        }
    }

    /// Returns the zone that can give `nr_pages` single pages and stay above its low watermark.
    ///
    /// Only zones of the preferred node are asked.
    ///
    /// # Source
    /// `linux-6.12` `mm/page_alloc.c` `alloc_pages_bulk_noprof`
    #[inline]
    pub(crate) fn bulk_zone(&self, request: &Request, nr_pages: usize) -> Option<&'static Zone> {
        let node = self.preferred(request)?;
        if request.gfp.contains(Gfp::THISNODE) && node != request.node {
            return None;
        }
        let mut zones = request.zones.iter().map(|&index| self.zone(usize::from(index)));
        zones.by_ref().take_while(|zone| zone.facts.node == node).find(|zone| {
            zone.facts.watermarks.bulk_ok(zone.nr_free(), nr_pages as u64, request.highest)
        })
    }

    /// Fills a page with zeroes.
    pub(crate) fn zero(&self, page: RawPage) {
        let nr_pages = page.order().nr_pages();
        // SAFETY: 1. owned: the page was just allocated and nobody has been given it yet.
        unsafe { self.platform.zero_pages(page.pfn(), nr_pages) };
    }

    /// Takes back one page.
    #[inline]
    pub(crate) fn free_single(&self, page: RawPage) {
        let id = page.list();
        let pinned = self.pin();
        let Some(mut lists) = pinned.cpu.try_lock() else { return self.free_block(page) };
        let list = lists.list(id.index());
        if list.room() == 0 {
            let nr = list.next_drain();
            self.drain_list(&mut lists, id.index(), nr);
        }
        lists.list(id.index()).push(page);
        lists.events(id.zone()).pgfree.add(1);
    }

    /// Takes back one block past the lists.
    ///
    /// # Panics
    /// If a frame of it is free in its zone already.
    #[cold]
    pub(crate) fn free_block(&self, page: RawPage) {
        self.zone(page.list().zone()).free(&self.platform, page.pfn(), page.order());
    }

    /// Takes back blocks of any class; runs of one class together.
    #[inline]
    pub(crate) fn free_pages(&self, pages: &[RawPage]) {
        let mut rest = pages;
        while let Some(&first) = rest.first() {
            if first.order() != Order::ZERO {
                self.free_block(first);
                rest = &rest[1..];
                continue;
            }
            if let [_] = rest {
                return self.free_single(first);
            }
            let class = first.class();
            let same = |page: &&RawPage| class.difference(Some(**page)).is_none();
            let nr = rest.iter().take_while(same).count();
            let (mut pages, others) = rest.split_at(nr);
            let next = |room: &mut [MaybeUninit<RawPage>]| {
                let (now, later) = pages.split_at(room.len());
                room.write_copy_of_slice(now);
                pages = later;
            };
            // SAFETY: 1. `next` writes every entry. 2. of the class: the first `nr` are. 3. owned:
            // by the caller, who gives them up.
            unsafe { self.free_class(class, nr, next) };
            rest = others;
        }
    }

    /// Takes back `nr` single pages of one class, which `next` writes: as many as it is given
    /// entries, in order, until there were `nr`.
    ///
    /// # Concurrency
    /// Lets the lists go after every [`PAGES_PER_HOLD`] pages.
    ///
    /// # Safety
    /// `next` initialises every entry that it is given, with pages of `class` that it owns.
    #[inline]
    pub(crate) unsafe fn free_class(
        &self,
        class: Class,
        nr: usize,
        mut next: impl FnMut(&mut [MaybeUninit<RawPage>]),
    ) {
        let id = class.list();
        let mut left = nr;
        while left > 0 {
            let held = left.min(PAGES_PER_HOLD);
            left -= held;
            let pinned = self.pin();
            let Some(mut lists) = pinned.cpu.try_lock() else {
                // SAFETY: 1. `next` initialises: the caller's obligation.
                unsafe { self.free_to_zone(class, held, &mut next) };
                continue;
            };
            lists.events(id.zone()).pgfree.add(held as u64);
            let mut held_left = held;
            loop {
                let list = lists.list(id.index());
                let nr = list.room().min(held_left);
                // SAFETY: 1. `next` initialises: the caller's obligation.
                unsafe { list.push_with(nr, &mut next) };
                held_left -= nr;
                if held_left == 0 {
                    break;
                }
                let nr = list.next_drain();
                self.drain_list(&mut lists, id.index(), nr);
            }
        }
    }

    /// Takes back `nr` single pages of one class past the lists, a batch at a time.
    ///
    /// # Safety
    /// As for [`free_class`](Self::free_class).
    #[cold]
    unsafe fn free_to_zone(
        &self,
        class: Class,
        nr: usize,
        next: &mut impl FnMut(&mut [MaybeUninit<RawPage>]),
    ) {
        let zone = self.zone(class.list().zone());
        let mut left = nr;
        while left > 0 {
            let mut batch = Batch::new();
            let nr = left.min(Batch::CAPACITY);
            // SAFETY: 1. `next` initialises: the caller's obligation.
            unsafe { batch.fill(nr, &mut *next) };
            self.give_to_zone(zone, batch.as_slice());
            zone.count(&self.platform, |events| events.pgfree.add(nr as u64));
            left -= nr;
        }
    }

    /// Moves the `nr` oldest pages of a list to their zone.
    #[cold]
    fn drain_list(&self, lists: &mut Lists<'_>, index: usize, nr: usize) {
        let list = lists.list(index);
        let oldest = list.bottom(nr);
        if let Some(page) = oldest.first() {
            self.give_to_zone(self.zone(page.list().zone()), oldest);
        }
        lists.list(index).forget_bottom(nr);
    }

    /// Sets the frames of single pages free in their zone.
    fn give_to_zone(&self, zone: &Zone, pages: &[RawPage]) {
        let mut rest = pages;
        while !rest.is_empty() {
            let mut runs = Runs::new();
            let gathered = gather(rest, &mut runs);
            zone.free_bulk(&self.platform, &runs);
            rest = &rest[gathered..];
        }
    }

    /// Gives all pages in one CPU's lists back, if nobody is using them.
    fn drain(&self, cpu: &PerCpu) -> usize {
        let Some(mut lists) = cpu.try_lock() else {
            return 0;
        };
        let mut drained = 0;
        for index in 0..lists.len() {
            let count = lists.list(index).count();
            self.drain_list(&mut lists, index, count);
            drained += count;
        }
        drained
    }
}

impl<P: Platform> Pinned<'_, P> {
    #[inline]
    pub(crate) fn cpu(&self) -> &'static PerCpu {
        self.cpu
    }
}

impl<P: Platform> Drop for Pinned<'_, P> {
    #[inline]
    fn drop(&mut self) {
        self.allocator.platform.unpin();
    }
}

impl Request {
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

#[cold]
fn unknown_node(node: NodeId, nr_nodes: usize) -> ! {
    panic!("unknown node {node}: this allocator has nodes 0 to {}", nr_nodes - 1)
}
