//! An allocator with everything it needs, which checks at its end that all frames came back.

use alloc::alloc::{alloc, dealloc};
use core::alloc::Layout;
use core::ptr::NonNull;
use std::sync::Mutex;

use pagemill::{
    Config, MemoryRegion, NodeId, Order, PAGE_SHIFT, Page, PageAllocator, Pfn, PhysAddr,
    ReservedRange, ZoneInfo, ZoneKind,
};

use super::machine::{Machine, check_balance, set_cpu, take_zeroed};

/// First frame above 4 GiB.
pub(crate) const NORMAL: u64 = 1 << 20;

/// How the tests reach an allocator.
pub(crate) type Frames<'w> = &'w PageAllocator<Machine>;

/// Room for pages of a bulk request.
pub(crate) type Slots<'w> = Vec<Option<Page<Frames<'w>>>>;

/// Returns `nr` empty slots.
pub(crate) fn holes<'w>(nr: usize) -> Slots<'w> {
    (0..nr).map(|_| None).collect()
}

/// An allocator on a [`Machine`].
#[derive(Debug)]
pub(crate) struct World {
    // Dropped in this order: the allocator lives in the metadata.
    allocator: PageAllocator<Machine>,
    _metadata: Metadata,
    at_start: Vec<ZoneInfo>,
    /// Reserved frames that were given to the allocator since.
    handed_in: Mutex<u64>,
}

impl World {
    /// Builds an allocator whose frames have no bytes.
    pub(crate) fn new(config: &Config<'_>) -> Self {
        Self::on(Machine::new(config.nr_cpus), config)
    }

    /// Builds an allocator on a machine of the caller's making.
    pub(crate) fn on(machine: Machine, config: &Config<'_>) -> Self {
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

    pub(crate) fn frames(&self) -> Frames<'_> {
        &self.allocator
    }

    /// Says that a reserved frame now belongs to the allocator.
    pub(crate) fn hand_in(&self) {
        *self.handed_in.lock().expect("no test panicked meanwhile") += 1;
    }

    /// Returns the state of a zone.
    pub(crate) fn zone(&self, node: u8, kind: ZoneKind) -> ZoneInfo {
        let mut zones = self.allocator.zone_info();
        zones
            .find(|zone| zone.node == NodeId::new(node) && zone.kind == kind)
            .expect("the world has such a zone")
    }

    fn check(&self) {
        check_balance();
        self.allocator.drain_all_pages();
        let managed: u64 = self.at_start.iter().map(|zone| zone.managed).sum();
        let handed_in = *self.handed_in.lock().expect("no test panicked meanwhile");
        assert_eq!(self.allocator.nr_free_pages(), managed + handed_in, "frames were lost");
        if handed_in == 0 {
            for (start, end) in self.at_start.iter().zip(self.allocator.zone_info()) {
                assert_eq!(start.buddyinfo(), end.buddyinfo(), "blocks did not merge again");
            }
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.check();
        }
    }
}

/// Returns a region of `nr_frames` frames.
pub(crate) fn region(start_pfn: u64, nr_frames: u64, node: u8) -> MemoryRegion {
    MemoryRegion {
        start: Pfn::new(start_pfn).start(),
        len_bytes: nr_frames << PAGE_SHIFT,
        node: NodeId::new(node),
    }
}

/// Returns a reserved range of whole frames.
pub(crate) fn reserved(start_pfn: u64, nr_frames: u64) -> ReservedRange {
    let start = PhysAddr::new(start_pfn << PAGE_SHIFT);
    ReservedRange { start, len_bytes: nr_frames << PAGE_SHIFT }
}

/// Returns the number of bytes in `nr_frames` frames.
pub(crate) fn pages(nr_frames: u64) -> u64 {
    nr_frames << PAGE_SHIFT
}

pub(crate) fn order(order: u8) -> Order {
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
