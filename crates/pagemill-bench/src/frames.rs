//! The allocators that are measured: in statics, so that a page is a handle of 8 bytes.

use pagemill::{OnceAllocator, Page, PageAllocator, Static, StaticAllocator};
use pagemill_host::Host;

static FRAMES: OnceAllocator<Host> = OnceAllocator::new();

/// The name of the static.
#[derive(Debug)]
pub enum Frames {}

impl StaticAllocator for Frames {
    type Platform = Host;
    const ALLOCATOR: &'static OnceAllocator<Host> = &FRAMES;
}

/// Puts `allocator` into the static and returns the source of its pages.
///
/// # Panics
/// If there is one already: a process measures once.
pub fn install(allocator: PageAllocator<Host>) -> Static<Frames> {
    FRAMES.set(allocator).expect("a process measures once");
    Static::new()
}

// What the limit copies is as large as a slot.
const _: () = assert!(size_of::<Option<Page<Static<Frames>>>>() == size_of::<u64>());
