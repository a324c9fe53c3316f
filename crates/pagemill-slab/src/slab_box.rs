//! `TypedCache` and `SlabBox`: a cache of values of one type, and the handle that owns a value.

use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::pin::Pin;
use core::ptr::{self, NonNull};

use pagemill::Gfp;
use pagemill::machine::DirectMap;
use pagemill::source::PageSource;

use crate::cache::Cache;
use crate::config::{CacheConfig, CacheError};
use crate::geometry::BadGeometry;
use crate::info::SlabInfo;
use crate::slabs::Slabs;

/// A cache of values of type `T`, which [`SlabBox`]es own.
///
/// # Examples
/// ```
/// use pagemill::Gfp;
/// use pagemill_slab::{Slabs, TypedCache};
///
/// # let frames = pagemill_host::HostAllocator::new(64 << 20)?;
/// let slabs = Slabs::new(&*frames)?;
/// let names = TypedCache::<String, _>::new(&slabs, "name")?;
/// let mut name = names.alloc(Gfp::KERNEL, String::from("pagemill")).expect("there is memory");
/// name.push_str("-slab");
/// assert_eq!((&**name, names.info().active_objs), ("pagemill-slab", 1));
/// drop(name); // drops the string, and returns its place to the cache
/// assert_eq!(names.info().active_objs, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
/// A box cannot outlive its cache:
/// ```compile_fail,E0505
/// # use pagemill::Gfp;
/// # use pagemill_slab::{Slabs, TypedCache};
/// # let frames = pagemill_host::HostAllocator::new(64 << 20).unwrap();
/// let slabs = Slabs::new(&*frames).unwrap();
/// let cache = TypedCache::<u64, _>::new(&slabs, "number").unwrap();
/// let number = cache.alloc(Gfp::KERNEL, 1);
/// drop(cache);
/// drop(number);
/// ```
/// Nor be used after it was dropped:
/// ```compile_fail,E0382
/// # use pagemill::Gfp;
/// # use pagemill_slab::{Slabs, TypedCache};
/// # let frames = pagemill_host::HostAllocator::new(64 << 20).unwrap();
/// # let slabs = Slabs::new(&*frames).unwrap();
/// # let cache = TypedCache::<u64, _>::new(&slabs, "number").unwrap();
/// let number = cache.alloc(Gfp::KERNEL, 1).unwrap();
/// drop(number);
/// assert_eq!(*number, 1);
/// ```
pub struct TypedCache<'s, T, S: PageSource<Platform: DirectMap>> {
    /// `typed-cache`: its objects have at least the size and the alignment of `T`.
    cache: Cache<'s, S>,
    /// Of values, which it does not own.
    values: PhantomData<fn(T) -> T>,
}

/// A value in a cache, and the right to use it; dropping it drops the value and frees the object.
///
/// `box-value`: `value` is an object of the cache, which only this box uses, and holds a `T`.
pub struct SlabBox<'c, T, S: PageSource<Platform: DirectMap>> {
    value: NonNull<T>,
    cache: &'c Cache<'c, S>,
    owned: PhantomData<T>,
}

// SAFETY: 1. the box owns its value (`box-value`), and frees it through a cache that threads may share.
unsafe impl<'c, T: Send, S: PageSource<Platform: DirectMap>> Send for SlabBox<'c, T, S> where
    Cache<'c, S>: Sync
{
}
// SAFETY: 1. a shared box gives only shared access to its value.
unsafe impl<'c, T: Sync, S: PageSource<Platform: DirectMap>> Sync for SlabBox<'c, T, S> where
    Cache<'c, S>: Sync
{
}

impl<'s, T, S: PageSource<Platform: DirectMap>> TypedCache<'s, T, S> {
    /// Makes a cache for values of type `T`.
    ///
    /// # Errors
    /// As for [`Cache::new`]: also if `T` has more than 32 KiB or is aligned to more than a page.
    pub fn new(slabs: &'s Slabs<S>, name: &'static str) -> Result<Self, CacheError> {
        Self::with_config(slabs, &CacheConfig::of::<T>(name))
    }

    /// Makes a cache with more options. The size and the alignment are those of `T`, unless `config` has
    /// larger ones.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn with_config(slabs: &'s Slabs<S>, config: &CacheConfig) -> Result<Self, CacheError> {
        if !config.align.is_power_of_two() {
            let error = BadGeometry::Align { align: config.align };
            return Err(CacheError::Geometry { name: config.name, error });
        }
        let (size, align) = (config.size.max(size_of::<T>()), config.align.max(align_of::<T>()));
        let cache = Cache::new(slabs, &CacheConfig { size, align, ..*config })?;
        Ok(Self { cache, values: PhantomData })
    }

    /// Moves a value into an object of the cache.
    ///
    /// # Errors
    /// The value, if [`Cache::alloc`] fails.
    #[inline]
    pub fn alloc(&self, gfp: Gfp, value: T) -> Result<SlabBox<'_, T, S>, T> {
        match self.cache.alloc(gfp.difference(Gfp::ZERO)) {
            Some(object) => {
                let object = object.cast::<T>();
                // SAFETY: 1. valid and aligned: `typed-cache`. 2. nobody else's: just allocated.
                unsafe { object.write(value) };
                Ok(SlabBox { value: object, cache: &self.cache, owned: PhantomData })
            }
            None => Err(value),
        }
    }

    /// Moves a value into an object of the cache, where it stays until it is dropped.
    ///
    /// # Errors
    /// The value, if [`Cache::alloc`] fails.
    pub fn alloc_pinned(&self, gfp: Gfp, value: T) -> Result<Pin<SlabBox<'_, T, S>>, T> {
        self.alloc(gfp, value).map(SlabBox::into_pin)
    }

    /// Does what [`Cache::shrink`] does.
    pub fn shrink(&self) -> usize {
        self.cache.shrink()
    }

    /// Returns the state of the cache.
    #[must_use]
    pub fn info(&self) -> SlabInfo {
        self.cache.info()
    }
}

impl<T, S: PageSource<Platform: DirectMap>> SlabBox<'_, T, S> {
    /// Takes the value out, and frees the object.
    #[must_use = "dropping the box drops the value, too"]
    pub fn into_inner(self) -> T {
        let this = ManuallyDrop::new(self);
        // SAFETY: 1. holds a value: `box-value`. 2. not used again: the object is freed below.
        let value = unsafe { this.value.read() };
        // SAFETY: 1. of this cache, and the box's own: `box-value`. 2. not used again: `this` is not
        // dropped.
        unsafe { this.cache.free(this.value.cast()) };
        value
    }

    /// Gives up the right to use the value without dropping it; the place leaks.
    #[must_use = "the object leaks unless a box is made of it again"]
    pub fn into_raw(self) -> NonNull<T> {
        ManuallyDrop::new(self).value
    }

    /// Pins the value: it does not move until it is dropped.
    #[must_use]
    pub fn into_pin(self) -> Pin<Self> {
        // SAFETY: 1. the value stays where it is until the box drops it, as that of a `Box` does.
        unsafe { Pin::new_unchecked(self) }
    }
}

impl<T, S: PageSource<Platform: DirectMap>> TypedCache<'_, T, S> {
    /// Makes the owner of a value that [`SlabBox::into_raw`] gave up.
    ///
    /// # Safety
    /// `value` was returned by [`SlabBox::into_raw`] of a box of this cache, and only one box is made of it.
    #[must_use = "dropping it drops the value"]
    pub unsafe fn from_raw(&self, value: NonNull<T>) -> SlabBox<'_, T, S> {
        SlabBox { value, cache: &self.cache, owned: PhantomData }
    }
}

impl<T, S: PageSource<Platform: DirectMap>> Deref for SlabBox<'_, T, S> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: 1. holds a value, which only this box uses: `box-value`; the box is borrowed.
        unsafe { self.value.as_ref() }
    }
}

impl<T, S: PageSource<Platform: DirectMap>> DerefMut for SlabBox<'_, T, S> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: 1. as in `deref`; the box is borrowed uniquely.
        unsafe { self.value.as_mut() }
    }
}

impl<T, S: PageSource<Platform: DirectMap>> Drop for SlabBox<'_, T, S> {
    #[inline]
    fn drop(&mut self) {
        /// Frees the object, also if the value's drop panics.
        struct Free<'a, S: PageSource<Platform: DirectMap>>(&'a Cache<'a, S>, NonNull<u8>);

        impl<S: PageSource<Platform: DirectMap>> Drop for Free<'_, S> {
            #[inline]
            fn drop(&mut self) {
                // SAFETY: 1. of this cache, the box's own, and not used again: its value is dropped.
                unsafe { self.0.free(self.1) };
            }
        }

        let _free = Free(self.cache, self.value.cast());
        // SAFETY: 1. holds a value, which only this box uses, and which is not used again: `box-value`.
        unsafe { ptr::drop_in_place(self.value.as_ptr()) };
    }
}

impl<T: fmt::Debug, S: PageSource<Platform: DirectMap>> fmt::Debug for SlabBox<'_, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: fmt::Display, S: PageSource<Platform: DirectMap>> fmt::Display for SlabBox<'_, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T, S: PageSource<Platform: DirectMap>> fmt::Debug for TypedCache<'_, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedCache").field("cache", &self.cache).finish()
    }
}
