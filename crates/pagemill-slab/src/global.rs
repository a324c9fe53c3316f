//! `GlobalHeap`: a heap in a static, as the global allocator of a kernel or a process.

use core::alloc::{GlobalAlloc, Layout};
use core::fmt;
use core::ptr::{self, NonNull};

use pagemill::machine::DirectMap;
use pagemill::source::{Static, StaticAllocator};
use pagemill::sync::OnceCell;
use pagemill::{Gfp, Platform};

use crate::config::CacheError;
use crate::heap::{Heap, HeapConfig};
use crate::slabs::{Slabs, SlabsError};

/// A heap for a static that is the global allocator.
///
/// Until [`start`](Self::start) has made the heap, allocations go to `F`: so do those that are made while it
/// is made. Without a fallback, they fail.
///
/// # Fork
/// In a child of `fork`, allocations go to `F`. Objects of the heap that are freed stay where they are.
///
/// # Threads
/// The heap has no state of threads: destructors of thread-local variables may allocate and free, and a thread
/// that exits leaves nothing behind.
///
/// # Errors
/// A request that the allocator cannot serve returns null, which `alloc`'s collections report. A wrong free,
/// such as one of an address that is not an object's, stops the program: a panic must not leave a global
/// allocator.
///
/// # Examples
/// ```
/// use std::alloc::System;
///
/// use pagemill_host::Host;
/// use pagemill_slab::{GlobalHeap, HeapConfig};
///
/// pagemill::static_allocator! {
///     static ALLOCATOR: Host;
///     type Frames;
/// }
/// #[global_allocator]
/// static HEAP: GlobalHeap<ALLOCATOR, System> = GlobalHeap::with_fallback(System);
///
/// let allocator = pagemill_host::HostAllocator::new(64 << 20)?.into_inner();
/// assert!(ALLOCATOR.set(allocator).is_ok());
/// HEAP.start(&HeapConfig::new())?;
/// let numbers: Vec<u32> = (0..1000).collect();
/// assert!(HEAP.owns(numbers.as_ptr().cast()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct GlobalHeap<T: StaticAllocator<Platform: DirectMap>, F = NoFallback> {
    slabs: OnceCell<Slabs<Static<T>>>,
    heap: OnceCell<Heap<'static, Static<T>>>,
    fallback: F,
}

/// Serves no allocation: what kernels have before there is a heap.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct NoFallback;

/// Why a global heap was not made.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum GlobalHeapError {
    /// It was started before, or another thread is starting it.
    Started,
    /// There is no table of frames.
    Slabs(SlabsError),
    /// A cache cannot be made.
    Cache(CacheError),
}

impl fmt::Display for GlobalHeapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => f.write_str("the heap was started before: start it once"),
            Self::Slabs(error) => error.fmt(f),
            Self::Cache(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for GlobalHeapError {}

/// Flags of all requests.
const GFP: Gfp = Gfp::KERNEL;

impl<T: StaticAllocator<Platform: DirectMap>> GlobalHeap<T> {
    /// Makes a static without a heap and without a fallback.
    #[must_use]
    pub const fn new() -> Self {
        Self::with_fallback(NoFallback)
    }
}

impl<T: StaticAllocator<Platform: DirectMap>> Default for GlobalHeap<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: StaticAllocator<Platform: DirectMap>, F> GlobalHeap<T, F> {
    /// Makes a static without a heap, whose allocations go to `fallback`.
    #[must_use]
    pub const fn with_fallback(fallback: F) -> Self {
        Self { slabs: OnceCell::new(), heap: OnceCell::new(), fallback }
    }

    /// Makes the heap, on the allocator that the static `T` has by now.
    ///
    /// # Errors
    /// If it was made before, or there is no memory for it. After an error other than
    /// [`GlobalHeapError::Started`], it can be tried again.
    ///
    /// # Panics
    /// If the static `T` has no allocator.
    pub fn start(&'static self, config: &HeapConfig) -> Result<(), GlobalHeapError> {
        if self.heap.get().is_some() {
            return Err(GlobalHeapError::Started);
        }
        let slabs = match self.slabs.get() {
            Some(slabs) => slabs,
            None => {
                let made = Slabs::new(Static::new()).map_err(GlobalHeapError::Slabs)?;
                self.slabs.set(made).map_err(|_made| GlobalHeapError::Started)?;
                self.slabs.get().ok_or(GlobalHeapError::Started)?
            }
        };
        let heap = Heap::new(slabs, config).map_err(GlobalHeapError::Cache)?;
        self.heap.set(heap).map_err(|_heap| GlobalHeapError::Started)
    }

    /// Returns the heap, if it was made.
    #[inline]
    pub fn heap(&self) -> Option<&Heap<'static, Static<T>>> {
        self.heap.get()
    }

    /// Returns whether an address is in a frame of the heap's allocator.
    #[must_use]
    pub fn owns(&self, address: *const u8) -> bool {
        self.heap().is_some_and(|heap| heap.slabs().frame_of(address.addr()).is_some())
    }
}

/// Stops the program if a panic would leave the global allocator, which must not unwind.
struct NoUnwind;

impl Drop for NoUnwind {
    fn drop(&mut self) {
        // A second panic aborts.
        panic!("a panic in the global allocator");
    }
}

impl NoUnwind {
    fn run<R>(body: impl FnOnce() -> R) -> R {
        let guard = Self;
        let result = body();
        let _defused = core::mem::ManuallyDrop::new(guard);
        result
    }
}

impl<T: StaticAllocator<Platform: DirectMap>, F: GlobalAlloc> GlobalHeap<T, F> {
    #[cold]
    #[inline(never)]
    unsafe fn alloc_without_heap(&self, layout: Layout) -> *mut u8 {
        let is_usable = self.heap().is_some_and(|heap| !heap.slabs().platform().is_abandoned());
        if is_usable {
            return ptr::null_mut();
        }
        // SAFETY: 1. a layout with a size: the caller's obligation.
        unsafe { self.fallback.alloc(layout) }
    }

    #[cold]
    #[inline(never)]
    unsafe fn dealloc_slowly(&self, object: *mut u8, layout: Layout) {
        let heap = self.heap().filter(|_| self.owns(object));
        let (Some(heap), Some(object)) = (heap, NonNull::new(object)) else {
            // SAFETY: 1. not from the heap, so from the fallback with this layout, and given up: the caller's
            // obligation.
            return unsafe { self.fallback.dealloc(object, layout) };
        };
        // SAFETY: 1. from this heap with this layout, given up: the caller's obligation.
        NoUnwind::run(|| unsafe { heap.free_sized(object, layout) });
    }

    fn alloc_with(&self, gfp: Gfp, layout: Layout) -> *mut u8 {
        let object = self.heap().and_then(|heap| NoUnwind::run(|| heap.alloc(gfp, layout)));
        object.map_or(ptr::null_mut(), NonNull::as_ptr)
    }
}

// SAFETY: 1. objects are in use once: `Heap`, or the fallback. 2. of the size and alignment asked for: `Heap`,
// or the fallback. 3. nothing unwinds: panics in the heap abort. 4. an object returns to where it came from:
// the heap's are in frames of its allocator, which no other allocator has.
unsafe impl<T: StaticAllocator<Platform: DirectMap>, F: GlobalAlloc> GlobalAlloc
    for GlobalHeap<T, F>
{
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let object = self.alloc_with(GFP, layout);
        if object.is_null() {
            // SAFETY: 1. the caller's obligation.
            return unsafe { self.alloc_without_heap(layout) };
        }
        object
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let object = self.alloc_with(GFP | Gfp::ZERO, layout);
        if !object.is_null() {
            return object;
        }
        // SAFETY: 1. the caller's obligation.
        let object = unsafe { self.alloc_without_heap(layout) };
        if !object.is_null() {
            // SAFETY: 1. valid for writes: just allocated with this size.
            unsafe { object.write_bytes(0, layout.size()) };
        }
        object
    }

    #[inline]
    unsafe fn dealloc(&self, object: *mut u8, layout: Layout) {
        let is_freed = match (self.heap(), NonNull::new(object)) {
            // SAFETY: 1. given up if it is an object of the heap: the caller's obligation.
            (Some(heap), Some(object)) => unsafe { heap.try_free(object, layout) },
            _ => false,
        };
        if !is_freed {
            // SAFETY: 1. the caller's obligation.
            unsafe { self.dealloc_slowly(object, layout) };
        }
    }

    unsafe fn realloc(&self, object: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let heap = self.heap().filter(|_| self.owns(object));
        let (Some(heap), Some(old)) = (heap, NonNull::new(object)) else {
            // SAFETY: 1. not from the heap, so from the fallback with this layout: the caller's obligation.
            return unsafe { self.fallback.realloc(object, layout, new_size) };
        };
        if !heap.slabs().platform().is_abandoned() {
            // SAFETY: 1. from this heap with this layout, given up unless it fails: the caller's obligation.
            let moved = NoUnwind::run(|| unsafe { heap.realloc(GFP, old, layout, new_size) });
            return moved.map_or(ptr::null_mut(), NonNull::as_ptr);
        }
        // In a child of `fork`, where the object stays.
        // SAFETY: 1. valid: the caller's obligation.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        // SAFETY: 1. with a size: the caller's obligation.
        let moved = unsafe { self.fallback.alloc(new_layout) };
        if !moved.is_null() {
            // SAFETY: 1. valid: both have as many bytes; apart: just allocated.
            unsafe { moved.copy_from_nonoverlapping(object, layout.size().min(new_size)) };
        }
        moved
    }
}

// SAFETY: 1. hands out nothing.
unsafe impl GlobalAlloc for NoFallback {
    unsafe fn alloc(&self, _layout: Layout) -> *mut u8 {
        ptr::null_mut()
    }

    unsafe fn dealloc(&self, object: *mut u8, layout: Layout) {
        NoUnwind::run(|| {
            panic!(
                "{object:p} ({} bytes) is freed to a heap that does not have it: it is not in a frame of the \
                 allocator",
                layout.size()
            )
        });
    }
}

impl<T: StaticAllocator<Platform: DirectMap>, F> fmt::Debug for GlobalHeap<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GlobalHeap").field("heap", &self.heap()).finish_non_exhaustive()
    }
}
