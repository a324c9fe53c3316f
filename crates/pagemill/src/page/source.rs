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
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no source of pages",
    label = "no source of pages",
    note = "a source is a reference to an allocator, or a value of the type that `static_allocator!` \
            declares: for `type Frames;`, call `Frames::new().alloc_page(..)`, not a method of the static"
)]
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
/// [`static_allocator`](crate::static_allocator) implements it. Implement it by hand where the static
/// is part of something else:
/// ```
/// use pagemill::source::{OnceAllocator, Static, StaticAllocator};
/// use pagemill::{Page, Platform};
/// # use pagemill::units::{CpuId, Pfn};
/// # struct Machine;
/// # impl Platform for Machine {
/// #     fn nr_cpus(&self) -> u32 { 1 }
/// #     fn pin(&self) -> CpuId { CpuId::new(0) }
/// #     unsafe fn zero_pages(&self, _: Pfn, _: usize) {}
/// # }
///
/// static ALLOCATOR: (OnceAllocator<Machine>, &str) = (OnceAllocator::new(), "frames");
///
/// enum Frames {}
/// impl StaticAllocator for Frames {
///     type Platform = Machine;
///     const ALLOCATOR: &'static OnceAllocator<Machine> = &ALLOCATOR.0;
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

/// Declares a static that receives an allocator at run time, and the source of its pages.
///
/// The first line declares a static of type [`OnceAllocator`] for an allocator on the platform named
/// there; only [`OnceAllocator::set`] and [`OnceAllocator::get`] are called on it. The second line declares
/// the type of its source: a [`Static`], which has no size, so that a page is one word. Allocate from a
/// value of that type. By convention, the three names are `ALLOCATOR`, `Frames` and, for a constant of
/// the source, `FRAMES`. A `#[cfg]` goes before the macro call: on a line, it would apply to a part of
/// the items only.
///
/// # Examples
/// ```
/// use pagemill::{AllocPages, Gfp, Page, PageAllocator, Platform};
/// # use pagemill::units::{CpuId, Pfn};
/// # pub struct Machine;
/// # impl Platform for Machine {
/// #     fn nr_cpus(&self) -> u32 { 1 }
/// #     fn pin(&self) -> CpuId { CpuId::new(0) }
/// #     unsafe fn zero_pages(&self, _: Pfn, _: usize) {}
/// # }
///
/// pagemill::static_allocator! {
///     /// The allocator of this machine.
///     static ALLOCATOR: Machine;
///     /// The source of its pages.
///     pub type Frames;
/// }
/// /// The frames of this machine.
/// pub const FRAMES: Frames = Frames::new();
///
/// fn start(allocator: PageAllocator<Machine>) {
///     assert!(ALLOCATOR.set(allocator).is_ok(), "there is one allocator");
/// }
///
/// fn one_page() -> Option<Page<Frames>> {
///     FRAMES.alloc_page(Gfp::KERNEL)
/// }
///
/// assert_eq!(size_of::<Option<Page<Frames>>>(), 8);
/// ```
/// The static itself is no source:
/// ```compile_fail,E0599
/// # use pagemill::units::{CpuId, Pfn};
/// # use pagemill::{AllocPages, Gfp, Platform};
/// # struct Machine;
/// # impl Platform for Machine {
/// #     fn nr_cpus(&self) -> u32 { 1 }
/// #     fn pin(&self) -> CpuId { CpuId::new(0) }
/// #     unsafe fn zero_pages(&self, _: Pfn, _: usize) {}
/// # }
/// pagemill::static_allocator! { static ALLOCATOR: Machine; type Frames; }
/// let page = ALLOCATOR.alloc_page(Gfp::KERNEL);
/// ```
/// A page of one static does not pass for another's:
/// ```compile_fail,E0308
/// # use pagemill::units::{CpuId, Pfn};
/// # use pagemill::{Page, Platform};
/// # struct Machine;
/// # impl Platform for Machine {
/// #     fn nr_cpus(&self) -> u32 { 1 }
/// #     fn pin(&self) -> CpuId { CpuId::new(0) }
/// #     unsafe fn zero_pages(&self, _: Pfn, _: usize) {}
/// # }
/// pagemill::static_allocator! { static ONE: Machine; type One; }
/// pagemill::static_allocator! { static OTHER: Machine; type Other; }
/// fn example(page: Page<One>) -> Page<Other> {
///     page
/// }
/// ```
/// The static takes no allocator of another platform:
/// ```compile_fail,E0308
/// # use pagemill::units::{CpuId, Pfn};
/// # use pagemill::{PageAllocator, Platform};
/// # struct Machine;
/// # impl Platform for Machine {
/// #     fn nr_cpus(&self) -> u32 { 1 }
/// #     fn pin(&self) -> CpuId { CpuId::new(0) }
/// #     unsafe fn zero_pages(&self, _: Pfn, _: usize) {}
/// # }
/// pagemill::static_allocator! { static ALLOCATOR: Machine; type Frames; }
/// fn example<P: Platform>(allocator: PageAllocator<P>) {
///     let _stored = ALLOCATOR.set(allocator);
/// }
/// ```
/// Its platform must be one that all threads may use:
/// ```compile_fail,E0277
/// # use pagemill::units::{CpuId, Pfn};
/// # use pagemill::Platform;
/// struct Machine(core::cell::Cell<u32>);
/// # impl Platform for Machine {
/// #     fn nr_cpus(&self) -> u32 { 1 }
/// #     fn pin(&self) -> CpuId { CpuId::new(self.0.get()) }
/// #     unsafe fn zero_pages(&self, _: Pfn, _: usize) {}
/// # }
/// pagemill::static_allocator! { static ALLOCATOR: Machine; type Frames; }
/// ```
#[cfg(not(loom))]
#[macro_export]
macro_rules! static_allocator {
    (
        $(#[$static_attr:meta])* $static_vis:vis static $NAME:ident: $Platform:ty;
        $(#[$type_attr:meta])* $type_vis:vis type $Name:ident;
    ) => {
        $(#[$static_attr])*
        $static_vis static $NAME: $crate::source::OnceAllocator<$Platform> = $crate::source::OnceAllocator::new();

        // In the namespace of types, where it names the static of the same name.
        #[doc(hidden)]
        #[allow(
            non_camel_case_types,
            clippy::exhaustive_enums,
            clippy::upper_case_acronyms,
            reason = "as the static is called"
        )]
        #[derive(Debug)]
        $type_vis enum $NAME {}

        impl $crate::source::StaticAllocator for $NAME {
            type Platform = $Platform;
            const ALLOCATOR: &'static $crate::source::OnceAllocator<$Platform> = &$NAME;
        }

        $(#[$type_attr])*
        $type_vis type $Name = $crate::source::Static<$NAME>;
    };
}

/// A static that receives its allocator once, at run time; see
/// [`static_allocator`](crate::static_allocator).
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
