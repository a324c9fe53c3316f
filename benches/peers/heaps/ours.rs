//! pagemill's heap, and its claims alone.

use core::alloc::{GlobalAlloc, Layout};
use core::hint::black_box;
use core::ptr::NonNull;

use anyhow::Context as _;
use pagemill::source::PageSource as _;
use pagemill_host::{AllocatorConfig, ArenaConfig, Host, allocator};
use pagemill_slab::{GlobalHeap, HeapConfig};

use crate::heap::{NoHeap, TestHeap};

pagemill::static_allocator! {
    static ALLOCATOR: Host;
    type Frames;
}

static HEAP: GlobalHeap<ALLOCATOR> = GlobalHeap::new();

/// Makes the allocator of this process.
fn start_allocator(arena_bytes: u64) -> anyhow::Result<()> {
    let made = allocator(&AllocatorConfig::new(ArenaConfig::new(arena_bytes)))?;
    ALLOCATOR.set(made).ok().context("the allocator was made before")
}

/// The heap of this process, called through `GlobalAlloc`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub(crate) struct Pagemill;

impl Pagemill {
    /// Makes the heap of this process.
    ///
    /// # Errors
    /// If it was made before, or there is no memory for it.
    pub(crate) fn start(arena_bytes: u64, config: &HeapConfig) -> anyhow::Result<Self> {
        start_allocator(arena_bytes)?;
        HEAP.start(config)?;
        Ok(Self)
    }
}

// SAFETY: 1. every call goes to `HEAP`, a global allocator.
unsafe impl GlobalAlloc for Pagemill {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: 1. the caller's obligation.
        unsafe { HEAP.alloc(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, object: *mut u8, layout: Layout) {
        // SAFETY: 1. the caller's obligation.
        unsafe { HEAP.dealloc(object, layout) };
    }
}

/// Claims the CPU where a heap would allocate or free, and does nothing else.
#[derive(Debug)]
pub(crate) struct Claims(Frames);

impl Claims {
    /// Makes the allocator whose CPUs are claimed.
    ///
    /// # Errors
    /// If there was one before.
    pub(crate) fn start(arena_bytes: u64) -> anyhow::Result<Self> {
        start_allocator(arena_bytes)?;
        Ok(Self(Frames::new()))
    }

    #[inline]
    fn claim(&self) {
        black_box(self.0.allocator().try_claim_cpu_at_once().map(|claim| claim.index()));
    }
}

impl TestHeap for Claims {
    #[inline]
    unsafe fn alloc(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        self.claim();
        // SAFETY: 1. the caller's obligation.
        unsafe { NoHeap.alloc(layout) }
    }

    #[inline]
    unsafe fn free(&mut self, object: NonNull<u8>, layout: Layout) {
        self.claim();
        // SAFETY: 1. the caller's obligation.
        unsafe { NoHeap.free(object, layout) };
    }
}
