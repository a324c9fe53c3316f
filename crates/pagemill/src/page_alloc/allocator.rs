//! The allocator type: its parts, how it is made, and the frames and lists behind its page words.
//!
//! This module works on [`RawPage`]s; the owning handles are built on top. Calls go down only: it calls
//! lists and zones, which never call back.

use core::alloc::Layout;
use core::fmt;
use core::panic::Location;
use core::ptr::NonNull;

use crate::account::table::Accounts;
use crate::base::raw_page::{Class, RawPage, Words};
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
use crate::percpu::percpu::PerCpu;
use crate::platform::platform::{IrqOff, Platform};
use crate::wait::queue::WaitQueue;
use crate::zone::located::Located;
use crate::zone::span::Span;
use crate::zone::watermark::MarkPolicy;
use crate::zone::zone::Zone;

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
    pub(super) tables: Tables,
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
    /// - No other thread uses it. The caller may be inside one of its methods, as after a fork in a
    ///   tracer: that method keeps the lists that it has until it returns.
    pub unsafe fn close(&self) {
        self.0.iter().for_each(PerCpu::seize);
    }
}

/// The source location that made the allocation call.
pub(crate) type Site = &'static Location<'static>;

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
    /// 12 bytes per frame and 152 per pageblock that a region touches, 216 with
    /// [`nr_accounts`](Config::nr_accounts) above zero, so at most 13 bytes per frame if regions are
    /// large; 24 per region; 384 per shard of a zone; and for each CPU and zone, three lists of
    /// [`pcp_high`](Config::pcp_high) x 8 bytes, rounded up to cache lines, and up to 4 KiB for the lists
    /// of larger blocks.
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
        // `validate` refuses zero.
        if nr_cpus > max {
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

    /// Fills frames with zeroes. As for `poison` and `find_unpoisoned`, nobody else owns them: they are
    /// free, or on their way from or to their owner.
    pub(crate) fn zero(&self, first: Pfn, nr_pages: usize) {
        // SAFETY: 1. owned: see above.
        unsafe { self.platform.zero_pages(first, nr_pages) };
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
    #[must_use]
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
    #[track_caller]
    pub fn drain_all_pages(&self) -> usize {
        let mut drained = 0;
        // No closure: the caller's line is passed on.
        for cpu in self.tables.cpus {
            drained += self.drain(cpu);
        }
        drained
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
    #[track_caller]
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

    /// Returns the largest span of the memory map.
    #[inline]
    pub(crate) fn largest_span(&self) -> &Located {
        &self.tables.largest_span
    }

    /// Returns the words of the pages that could be freed with pages of `class` by one copy, if `class` is
    /// that of single pages, not charged: those in the largest span of the zone. Of another class, none is
    /// among the words.
    #[inline]
    pub(crate) fn plain_words(&self, class: Class) -> Option<Words> {
        self.tables.plain_words.get(class.list().index()).copied()
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

    /// Counts `nr` reserved frames of a zone as managed, and updates the watermarks.
    pub(crate) fn add_managed(&self, zone: &Zone, nr: u64) {
        self.with_mark_policy(|policy| {
            zone.managed.add(nr);
            if setup::set_watermarks(policy, self.zones()) {
                self.cpus().iter().for_each(PerCpu::renew_hot_zones);
            }
        });
    }

    /// Calls `f` while no other thread writes watermarks.
    pub(crate) fn with_mark_policy<R>(&self, f: impl FnOnce(&MarkPolicy) -> R) -> R {
        // Dropped in the reverse order: unlocked before interrupts are restored.
        let _irq = IrqOff::new(&self.platform);
        let policy = self.mark_policy.lock(|spins| self.platform.relax(spins));
        f(&policy)
    }

    /// Returns one more than the largest node of the memory map and the CPUs.
    #[must_use]
    pub fn nr_nodes(&self) -> usize {
        self.tables.zonelists.len() / crate::base::gfp::NR_ZONE_KINDS
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
