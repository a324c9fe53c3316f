//! Static allocator of the benchmarks, so that a page is a handle of 8 bytes.

use pagemill::{Page, PageAllocator};
use pagemill_host::Host;

pagemill::static_allocator! {
    static ALLOCATOR: Host;
    /// How pages reach the static.
    pub type Frames;
}

/// Stores `allocator` in the static and returns the source of its pages.
///
/// # Panics
/// If there is one already: a process measures only once.
pub fn install(allocator: PageAllocator<Host>) -> Frames {
    ALLOCATOR.set(allocator).expect("a process measures once");
    Frames::new()
}

// The handles of the limit are as large as a slot.
const _: () = assert!(size_of::<Option<Page<Frames>>>() == size_of::<u64>());
