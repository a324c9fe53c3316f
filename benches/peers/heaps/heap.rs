//! `TestHeap`: what the measured paths need of a heap.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;

/// A heap that is measured, used by one thread.
pub(crate) trait TestHeap {
    /// Allocates an object; `None` if there is no memory.
    ///
    /// # Safety
    /// The layout's size is not zero.
    unsafe fn alloc(&mut self, layout: Layout) -> Option<NonNull<u8>>;

    /// Frees an object.
    ///
    /// # Safety
    /// The object is from this heap, was allocated with this layout, and is not used again.
    unsafe fn free(&mut self, object: NonNull<u8>, layout: Layout);
}

/// A heap that any thread may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Global<A>(pub(crate) A);

impl<A: GlobalAlloc> TestHeap for Global<A> {
    #[inline]
    unsafe fn alloc(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        // SAFETY: 1. The size is not zero: the caller's obligation.
        NonNull::new(unsafe { self.0.alloc(layout) })
    }

    #[inline]
    unsafe fn free(&mut self, object: NonNull<u8>, layout: Layout) {
        // SAFETY: 1. from this heap with this layout, not used again: the caller's obligation.
        unsafe { self.0.dealloc(object.as_ptr(), layout) };
    }
}

/// Allocates nothing: what the loop of a path costs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoHeap;

impl TestHeap for NoHeap {
    #[inline]
    unsafe fn alloc(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        Some(layout.dangling_ptr())
    }

    #[inline]
    unsafe fn free(&mut self, object: NonNull<u8>, _layout: Layout) {
        core::hint::black_box(object);
    }
}
