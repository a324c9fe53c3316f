//! An allocator with everything it needs, which checks at its end that all frames came back.

use alloc::alloc::{alloc_zeroed, dealloc};
use alloc::sync::Arc;
use core::alloc::Layout;
use core::ops::Deref;
use core::ptr::NonNull;

use pagemill::{
    Config, FaultConfig, MemoryRegion, NodeId, PAGE_SHIFT, PageAllocator, PageSource, Pfn,
};

use crate::machine::Machine;

/// An allocator on a [`Machine`] with memory.
#[derive(Debug)]
pub struct World {
    // Dropped in this order: the allocator lives in the metadata.
    frames: PageAllocator<Machine>,
    _metadata: Metadata,
    nr_free: u64,
}

impl World {
    /// The number of the first frame: above 4 GiB, so that all are in the zone Normal.
    pub const BASE: Pfn = Pfn::new(1 << 20);

    /// Builds an allocator of `nr_frames` frames, divided into `nr_nodes` nodes, with two CPUs on the
    /// first.
    ///
    /// # Panics
    /// If there cannot be such an allocator.
    #[must_use]
    pub fn new(nr_frames: u64, nr_nodes: u8) -> Self {
        Self::with_cpus_on(nr_frames, nr_nodes, &[NodeId::new(0); 2])
    }

    /// As [`new`](Self::new), with a CPU on each of `cpu_nodes`.
    ///
    /// # Panics
    /// If there cannot be such an allocator.
    #[must_use]
    pub fn with_cpus_on(nr_frames: u64, nr_nodes: u8, cpu_nodes: &[NodeId]) -> Self {
        let nr_cpus = u32::try_from(cpu_nodes.len()).expect("no more than a test needs");
        let share = nr_frames / u64::from(nr_nodes);
        let region = |node: u8| MemoryRegion {
            start: Self::BASE.offset(share * u64::from(node)).start(),
            len_bytes: share << PAGE_SHIFT,
            node: NodeId::new(node),
        };
        let memory: Vec<_> = (0..nr_nodes).map(region).collect();
        let config = Config { cpu_nodes, ..Config::new(&memory, nr_cpus) };
        let layout = PageAllocator::<Machine>::metadata_layout(&config).expect("a valid world");
        let metadata = Metadata::new(layout);
        let nr_frames = usize::try_from(nr_frames).expect("no more than a test needs");
        let machine = Machine::new(nr_cpus, Self::BASE, nr_frames);
        // SAFETY: 1. initialised, valid, not used otherwise: only this allocator uses `Metadata`,
        // which is dropped after it. 2. frames not used otherwise: they belong to its machine.
        let frames = unsafe { PageAllocator::new(&config, metadata.as_slice(), machine) };
        let frames = frames.expect("a valid world");
        let nr_free = frames.nr_free_pages();
        Self { frames, _metadata: metadata, nr_free }
    }

    /// Returns how many pages are out.
    #[must_use]
    pub fn nr_out(&self) -> u64 {
        self.frames.drain_all_pages();
        self.nr_free - self.frames.nr_free_pages()
    }

    /// Lets all allocations fail from now on, or none.
    pub fn fail_all(&self, fail: bool) {
        let config = if fail { FaultConfig::EVERY } else { FaultConfig::NEVER };
        self.frames.inject_faults(&config);
    }
}

impl Deref for World {
    type Target = PageAllocator<Machine>;

    fn deref(&self) -> &PageAllocator<Machine> {
        &self.frames
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.nr_out(), 0, "pages were lost");
        }
    }
}

/// A counted way to reach a [`World`], which the last one, or the last page, drops.
#[derive(Clone, Debug)]
pub struct SharedWorld(Arc<World>);

impl SharedWorld {
    /// Takes a world over.
    #[must_use]
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
        &self.0.frames
    }
}

/// Memory for an allocator's metadata.
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
        let bytes = unsafe { alloc_zeroed(layout) };
        Self { bytes: NonNull::new(bytes).expect("there is memory"), layout }
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
