//! Page source: how a page handle reaches its allocator, by reference or through a static.

#[cfg(not(loom))]
use core::fmt;
#[cfg(not(loom))]
use core::marker::PhantomData;

#[cfg(not(loom))]
use crate::base::sync::OnceCell;
use crate::page_alloc::allocator::PageAllocator;
use crate::platform::platform::Platform;

/// A way to reach one allocator: a reference, or the name of a static.
///
/// Each page carries its source. With a reference, a page is two words; a [`Static`] is empty, so a
/// page is one word.
///
/// # Safety
/// `allocator` returns the same allocator in each call, on this value and on its clones. An
/// overridden `is_same` returns true only for sources of the same allocator.
pub unsafe trait PageSource: Clone {
    /// The platform of the allocator.
    type Platform: Platform;

    /// Returns the allocator.
    fn allocator(&self) -> &PageAllocator<Self::Platform>;

    /// Returns whether `other` reaches the same allocator.
    #[inline]
    fn is_same(&self, other: &Self) -> bool {
        core::ptr::eq(self.allocator(), other.allocator())
    }
}

// SAFETY: 1. same allocator in each call: copies of a reference refer to the same value.
unsafe impl<P: Platform> PageSource for &PageAllocator<P> {
    type Platform = P;

    #[inline]
    fn allocator(&self) -> &PageAllocator<P> {
        self
    }
}

/// Names a static that holds an allocator, as the parameter of [`Static`].
///
/// ```
/// use pagemill::{OnceAllocator, Page, Platform, Pfn, CpuId, Static, StaticAllocator};
///
/// struct Machine;
/// impl Platform for Machine {
///     fn nr_cpus(&self) -> u32 { 1 }
///     fn pin(&self) -> CpuId { CpuId::new(0) }
///     unsafe fn zero_pages(&self, _: Pfn, _: usize) {}
/// }
///
/// static FRAMES: OnceAllocator<Machine> = OnceAllocator::new();
///
/// enum Frames {}
/// impl StaticAllocator for Frames {
///     type Platform = Machine;
///     const ALLOCATOR: &'static OnceAllocator<Machine> = &FRAMES;
/// }
///
/// assert_eq!(size_of::<Option<Page<Static<Frames>>>>(), 8);
/// ```
#[cfg(not(loom))]
pub trait StaticAllocator: 'static {
    /// The platform of the allocator.
    type Platform: Platform + 'static;

    /// The static itself.
    const ALLOCATOR: &'static OnceAllocator<Self::Platform>;
}

/// A static that receives its allocator once, at run time.
#[cfg(not(loom))]
#[derive(Debug)]
pub struct OnceAllocator<P: Platform>(OnceCell<PageAllocator<P>>);

#[cfg(not(loom))]
impl<P: Platform> OnceAllocator<P> {
    /// Makes a static without an allocator.
    #[must_use]
    pub const fn new() -> Self {
        Self(OnceCell::new())
    }

    /// Stores the allocator.
    ///
    /// # Errors
    /// Returns `allocator` if there is one already, or if another thread is storing one.
    #[expect(clippy::result_large_err, reason = "called once; the caller keeps what it owns")]
    pub fn set(&self, allocator: PageAllocator<P>) -> Result<(), PageAllocator<P>> {
        self.0.set(allocator)
    }

    /// Returns the allocator, if it has been stored.
    #[inline]
    pub fn get(&self) -> Option<&PageAllocator<P>> {
        self.0.get()
    }
}

#[cfg(not(loom))]
impl<P: Platform> Default for OnceAllocator<P> {
    fn default() -> Self {
        Self::new()
    }
}

/// The source for the static that `T` names; it has no size.
///
/// # Panics
/// Allocating panics until the allocator is stored.
#[cfg(not(loom))]
///
/// Invariant in `T`, so that subtyping cannot turn the name of one static into that of another.
pub struct Static<T>(PhantomData<fn(T) -> T>);

#[cfg(not(loom))]
impl<T> Static<T> {
    /// Names the static.
    #[must_use]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

// SAFETY: 1. same allocator in each call: `ALLOCATOR` refers to one static, whose allocator never
// changes (`once-filled`). 2. `is_same`: all values of one type refer to the same static.
#[cfg(not(loom))]
unsafe impl<T: StaticAllocator> PageSource for Static<T> {
    type Platform = T::Platform;

    #[inline]
    #[track_caller]
    fn allocator(&self) -> &PageAllocator<T::Platform> {
        match T::ALLOCATOR.get() {
            Some(allocator) => allocator,
            None => no_allocator(),
        }
    }

    #[inline]
    fn is_same(&self, _other: &Self) -> bool {
        true
    }
}

#[cfg(not(loom))]
#[cold]
#[track_caller]
fn no_allocator() -> ! {
    panic!("the static has no allocator yet: call OnceAllocator::set before allocating")
}

#[cfg(not(loom))]
impl<T> Clone for Static<T> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

#[cfg(not(loom))]
impl<T> Copy for Static<T> {}

#[cfg(not(loom))]
impl<T> Default for Static<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(not(loom))]
impl<T> fmt::Debug for Static<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Static")
    }
}
