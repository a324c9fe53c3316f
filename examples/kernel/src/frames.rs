//! The allocator: one static that everything else allocates from.

use core::ptr::NonNull;

use pagemill::{Page, PageAllocator};

use crate::direct_map;
use crate::memory::Map;
use crate::platform::Machine;

pagemill::static_allocator! {
    /// The allocator of the kernel's frames.
    pub(crate) static ALLOCATOR: Machine;
    /// The source of its pages; it has no size, so that a page is one word.
    pub(crate) type Frames;
}
/// A frame of the kernel's.
pub(crate) type Frame = Page<Frames>;

/// The kernel's frames.
pub(crate) const FRAMES: Frames = Frames::new();

/// Builds the allocator of all memory that `map` does not reserve, including its own metadata.
pub(crate) fn build(map: &mut Map, nr_cpus: u32) {
    // The place of the metadata is reserved later, but reserved memory does not change its size.
    let layout = PageAllocator::<Machine>::metadata_layout(&map.config(nr_cpus))
        .unwrap_or_else(|error| panic!("{error}"));
    let place = map.carve(layout.size() as u64, u64::MAX);
    let metadata = direct_map::pointer(place.value());
    let metadata = NonNull::slice_from_raw_parts(metadata, layout.size());
    let nr_frames: u64 = map.nr_frames();
    println!("metadata: {} bytes for {nr_frames} frames", layout.size());
    // SAFETY: 1. the metadata memory stays mapped (`direct-map`) and is carved out for this use;
    // memory always has some value. 2. no frame that is not reserved is in use (`reserved-early`): the
    // page tables, the stack and all statics are in the image or carved out.
    let allocator =
        unsafe { PageAllocator::new(&map.config(nr_cpus), metadata, Machine::new(nr_cpus)) }
            .unwrap_or_else(|error| panic!("{error}"));
    assert!(ALLOCATOR.set(allocator).is_ok(), "there is one allocator");
}

/// Returns the allocator itself.
pub(crate) fn allocator() -> &'static PageAllocator<Machine> {
    ALLOCATOR.get().expect("built before its first use")
}
