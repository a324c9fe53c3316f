//! An allocator with everything it needs, which checks at its end that all frames came back.

use alloc::alloc::{alloc, dealloc};
use alloc::sync::Arc;
use core::alloc::Layout;
use core::mem::ManuallyDrop;
use core::ops::Deref;
use core::ptr::NonNull;
use std::sync::Mutex;

use pagemill::debug::FaultConfig;
use pagemill::gfp::ZoneKind;
use pagemill::setup::{MemoryRegion, ReservedRange};
use pagemill::source::PageSource;
use pagemill::stats::ZoneInfo;
use pagemill::units::{NodeId, PAGE_SHIFT, Pfn, PhysAddr};
use pagemill::{Config, Order, Page, PageAllocator};

use crate::machine::{Machine, check_balance, set_cpu, take_zeroed};

/// First frame above 4 GiB.
pub const NORMAL: u64 = 1 << 20;

/// How the tests reach an allocator.
pub type Frames<'w> = &'w PageAllocator<Machine>;

/// Room for pages of a bulk request.
pub type Slots<'w> = Vec<Option<Page<Frames<'w>>>>;

/// Returns `nr` empty slots.
pub fn holes<'w>(nr: usize) -> Slots<'w> {
    (0..nr).map(|_| None).collect()
}

/// An allocator on a [`Machine`].
#[derive(Debug)]
pub struct World {
    // Dropped in this order: the allocator lives in the metadata.
    allocator: PageAllocator<Machine>,
    _metadata: Metadata,
    at_start: Vec<ZoneInfo>,
    /// Reserved frames that were given to the allocator since.
    handed_in: Mutex<u64>,
}

impl World {
    /// The number of the first frame where a test does not choose: all are in the zone Normal.
    pub const BASE: Pfn = Pfn::new(NORMAL);

    /// Builds an allocator whose frames have no bytes.
    ///
    /// # Panics
    /// If there cannot be such an allocator.
    pub fn new(config: &Config<'_>) -> Self {
        Self::on(Machine::new(config.nr_cpus), config)
    }

    /// Builds an allocator of `nr_frames` frames with bytes, divided into `nr_nodes` nodes, with two CPUs
    /// on the first.
    ///
    /// # Panics
    /// If there cannot be such an allocator.
    pub fn with_memory(nr_frames: u64, nr_nodes: u8) -> Self {
        Self::with_cpus_on(nr_frames, nr_nodes, &[NodeId::new(0); 2])
    }

    /// As [`with_memory`](Self::with_memory), with a CPU on each of `cpu_nodes`.
    ///
    /// # Panics
    /// If there cannot be such an allocator.
    pub fn with_cpus_on(nr_frames: u64, nr_nodes: u8, cpu_nodes: &[NodeId]) -> Self {
        let nr_cpus = u32::try_from(cpu_nodes.len()).expect("no more than a test needs");
        let share = nr_frames / u64::from(nr_nodes);
        let node = |node: u8| region(NORMAL + share * u64::from(node), share, node);
        let memory: Vec<_> = (0..nr_nodes).map(node).collect();
        let nr_frames = usize::try_from(nr_frames).expect("no more than a test needs");
        let machine = Machine::with_memory(nr_cpus, NORMAL, nr_frames);
        Self::on(machine, &Config { cpu_nodes, ..Config::new(&memory, nr_cpus) })
    }

    /// Builds one zone of 256 frames that keeps 100 pages, in which a list holds one page: the place of
    /// every frame is known.
    ///
    /// # Panics
    /// If there is no memory for the metadata.
    pub fn exact() -> Self {
        let memory = [region(NORMAL, 256, 0)];
        let (pcp_high, min_free_bytes) = (Some(1), Some(pages(100)));
        Self::new(&Config { pcp_high, min_free_bytes, ..Config::new(&memory, 2) })
    }

    /// Builds one zone in which a list holds one page and nothing is kept back.
    ///
    /// # Panics
    /// If there cannot be such an allocator.
    pub fn bare(nr_frames: u64) -> Self {
        let memory = [region(NORMAL, nr_frames, 0)];
        Self::new(&Config {
            pcp_high: Some(1),
            min_free_bytes: Some(0),
            watermark_scale_factor: 0,
            nr_accounts: 4,
            ..Config::new(&memory, 2)
        })
    }

    /// Builds an allocator on a machine of the caller's making.
    ///
    /// # Panics
    /// If there cannot be such an allocator.
    pub fn on(machine: Machine, config: &Config<'_>) -> Self {
        set_cpu(0);
        take_zeroed();
        let layout = PageAllocator::<Machine>::metadata_layout(config).expect("a valid world");
        let metadata = Metadata::new(layout);
        // SAFETY: 1. initialised, valid, not used otherwise: `Metadata` wrote it, and outlives the
        // allocator. 2. frames not used otherwise: only this world's machine has them.
        let allocator = unsafe { PageAllocator::new(config, metadata.as_slice(), machine) };
        let allocator = allocator.expect("a valid world");
        let at_start = allocator.zone_info().collect();
        Self { allocator, _metadata: metadata, at_start, handed_in: Mutex::new(0) }
    }

    /// Builds an allocator for a static: its metadata is leaked, and nothing checks it at its end.
    ///
    /// # Panics
    /// If there cannot be such an allocator.
    pub fn leaked(config: &Config<'_>) -> PageAllocator<Machine> {
        let layout = PageAllocator::<Machine>::metadata_layout(config).expect("a valid world");
        let metadata = ManuallyDrop::new(Metadata::new(layout));
        let machine = Machine::new(config.nr_cpus);
        // SAFETY: 1. initialised, valid, not used otherwise: `Metadata` wrote it, and is never dropped.
        // 2. frames not used otherwise: only this machine has them.
        let allocator = unsafe { PageAllocator::new(config, metadata.as_slice(), machine) };
        allocator.expect("a valid world")
    }

    /// Returns the allocator.
    pub fn frames(&self) -> Frames<'_> {
        &self.allocator
    }

    /// Counts a reserved frame that now belongs to the allocator.
    ///
    /// # Panics
    /// If a thread has panicked in this call.
    pub fn hand_in(&self) {
        *self.handed_in.lock().expect("no test panicked meanwhile") += 1;
    }

    /// Returns the state of a zone.
    ///
    /// # Panics
    /// If there is no such zone.
    pub fn zone(&self, node: u8, kind: ZoneKind) -> ZoneInfo {
        let mut zones = self.allocator.zone_info();
        zones
            .find(|zone| zone.node == NodeId::new(node) && zone.kind == kind)
            .expect("the world has such a zone")
    }

    /// Returns how many pages are out.
    ///
    /// # Panics
    /// If a thread has panicked in [`hand_in`](Self::hand_in).
    pub fn nr_out(&self) -> u64 {
        self.allocator.drain_all_pages();
        let managed: u64 = self.at_start.iter().map(|zone| zone.managed).sum();
        managed + self.nr_handed_in() - self.allocator.nr_free_pages()
    }

    /// Lets all allocations fail from now on, or none.
    pub fn fail_all(&self, fail: bool) {
        let config = if fail { FaultConfig::EVERY } else { FaultConfig::NEVER };
        self.allocator.inject_faults(&config);
    }

    fn nr_handed_in(&self) -> u64 {
        *self.handed_in.lock().expect("no test panicked meanwhile")
    }

    fn check(&self) {
        check_balance();
        assert_eq!(self.allocator.validate(), Ok(()));
        assert_eq!(self.nr_out(), 0, "frames were lost");
        assert_eq!(self.allocator.validate(), Ok(()));
        if self.nr_handed_in() == 0 {
            for (start, end) in self.at_start.iter().zip(self.allocator.zone_info()) {
                assert_eq!(start.buddyinfo(), end.buddyinfo(), "blocks did not merge again");
            }
        }
    }
}

impl Deref for World {
    type Target = PageAllocator<Machine>;

    fn deref(&self) -> &PageAllocator<Machine> {
        &self.allocator
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.check();
        }
    }
}

/// A counted way to reach a [`World`], which the last one, or the last page, drops.
#[derive(Clone, Debug)]
pub struct SharedWorld(Arc<World>);

impl SharedWorld {
    /// Takes a world over.
    pub fn new(world: World) -> Self {
        Self(Arc::new(world))
    }
}

impl Deref for SharedWorld {
    type Target = World;

    fn deref(&self) -> &World {
        &self.0
    }
}

// SAFETY: 1. same allocator in each call: an `Arc` and its clones refer to one value.
unsafe impl PageSource for SharedWorld {
    type Platform = Machine;

    fn allocator(&self) -> &PageAllocator<Machine> {
        &self.0.allocator
    }
}

/// Returns a region of `nr_frames` frames.
pub fn region(start_pfn: u64, nr_frames: u64, node: u8) -> MemoryRegion {
    MemoryRegion {
        start: Pfn::new(start_pfn).start(),
        len_bytes: nr_frames << PAGE_SHIFT,
        node: NodeId::new(node),
    }
}

/// Returns a reserved range of whole frames.
pub fn reserved(start_pfn: u64, nr_frames: u64) -> ReservedRange {
    let start = PhysAddr::new(start_pfn << PAGE_SHIFT);
    ReservedRange { start, len_bytes: nr_frames << PAGE_SHIFT }
}

/// Returns the number of bytes in `nr_frames` frames.
pub fn pages(nr_frames: u64) -> u64 {
    nr_frames << PAGE_SHIFT
}

/// Returns the order of this number.
///
/// # Panics
/// If there is no such order.
pub fn order(order: u8) -> Order {
    Order::new(order).expect("an order that there is")
}

/// Memory for an allocator's metadata, filled with odd bytes.
#[derive(Debug)]
struct Metadata {
    bytes: NonNull<u8>,
    layout: Layout,
}

// SAFETY: 1. only the allocator uses the bytes, and all threads may use the allocator.
unsafe impl Send for Metadata {}
// SAFETY: 1. the same fact as for `Send`.
unsafe impl Sync for Metadata {}

impl Metadata {
    fn new(layout: Layout) -> Self {
        // SAFETY: 1. size above zero: every allocator has metadata.
        let bytes = unsafe { alloc(layout) };
        let bytes = NonNull::new(bytes).expect("there is memory");
        // SAFETY: 1. valid for writes: just allocated with this size.
        unsafe { bytes.write_bytes(0xa5, layout.size()) };
        Self { bytes, layout }
    }

    fn as_slice(&self) -> NonNull<[u8]> {
        NonNull::slice_from_raw_parts(self.bytes, self.layout.size())
    }
}

impl Drop for Metadata {
    fn drop(&mut self) {
        // SAFETY: 1. allocated by `new` with this layout. 2. not used any more: the allocator was
        // dropped before.
        unsafe { dealloc(self.bytes.as_ptr(), self.layout) };
    }
}
