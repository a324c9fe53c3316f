//! The heap: `pagemill-slab` on the kernel's frames, as the global allocator.

use core::mem::ManuallyDrop;

use pagemill_slab::{GlobalHeap, HeapConfig};

use crate::frames::{ALLOCATOR, allocator};

/// What `alloc`'s collections allocate from. Before [`start`], allocations fail.
#[global_allocator]
static HEAP: GlobalHeap<ALLOCATOR> = GlobalHeap::new();

/// Makes the heap, and lets the allocator ask it for pages when memory is short.
pub(crate) fn start() {
    HEAP.start(&HeapConfig::new()).unwrap_or_else(|error| panic!("{error}"));
    let heap = HEAP.heap().expect("just made");
    let registered = allocator().register_shrinker(heap).expect("the only shrinker");
    let _for_ever = ManuallyDrop::new(registered);
}

/// Frees the pages of slabs without objects in use.
pub(crate) fn shrink() {
    if let Some(heap) = HEAP.heap() {
        heap.shrink();
    }
}
