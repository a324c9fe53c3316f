//! Static allocator of the benchmarks, so that a page is a handle of 8 bytes.

use pagemill::{OnceAllocator, Page, PageAllocator, Static, StaticAllocator};
use pagemill_host::Host;

static FRAMES: OnceAllocator<Host> = OnceAllocator::new();

/// Names the static.
#[derive(Debug)]
pub enum Frames {}

impl StaticAllocator for Frames {
    type Platform = Host;
    const ALLOCATOR: &'static OnceAllocator<Host> = &FRAMES;
}

/// Stores `allocator` in the static and returns the source of its pages.
///
/// # Panics
/// If there is one already: a process measures only once.
pub fn install(allocator: PageAllocator<Host>) -> Static<Frames> {
    FRAMES.set(allocator).expect("a process measures once");
    Static::new()
}

// The handles of the limit are as large as a slot.
const _: () = assert!(size_of::<Option<Page<Static<Frames>>>>() == size_of::<u64>());
