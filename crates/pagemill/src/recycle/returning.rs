//! Returning values: a handle whose drop passes its value to a pool or cache instead of dropping it.

use core::fmt;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::ptr;

/// The destination of returned values of `T`.
pub trait TakeBack<T> {
    /// Takes ownership of a value whose handle was dropped.
    fn take_back(&self, value: T);
}

/// A value that returns to its home when it is dropped.
///
/// For pages that a cache hands out: the handle owns the page, and dropping it returns the page to the
/// cache rather than to the allocator. Where the value has a niche for `None`, so has this, and a home
/// without a size costs no memory.
///
/// # Examples
/// ```
/// # use core::cell::RefCell;
/// # use pagemill::recycling::{Returning, TakeBack};
/// struct Shelf(RefCell<Vec<String>>);
/// impl TakeBack<String> for &Shelf {
///     fn take_back(&self, value: String) {
///         self.0.borrow_mut().push(value);
///     }
/// }
/// let shelf = Shelf(RefCell::new(Vec::new()));
/// drop(Returning::new("book".to_owned(), &shelf));
/// assert_eq!(*shelf.0.borrow(), ["book"]);
/// ```
pub struct Returning<T, H: TakeBack<T>> {
    /// Taken out once: by `into_parts` or by `drop`.
    value: ManuallyDrop<T>,
    home: H,
}

impl<T, H: TakeBack<T>> Returning<T, H> {
    /// Makes a handle that returns `value` to `home`.
    #[inline]
    pub const fn new(value: T, home: H) -> Self {
        Self { value: ManuallyDrop::new(value), home }
    }

    /// Returns the home.
    #[inline]
    pub const fn home(&self) -> &H {
        &self.home
    }

    /// Takes the value out, so that it no longer returns to its home.
    #[inline]
    pub fn into_parts(self) -> (T, H) {
        let this = ManuallyDrop::new(self);
        // SAFETY: 1. valid to read: it is behind a reference. 2. not used twice: `this` is never
        // dropped.
        let value = unsafe { ptr::read(&raw const *this.value) };
        // SAFETY: 1. valid to read: it is behind a reference. 2. not used twice: `this` is never
        // dropped.
        let home = unsafe { ptr::read(&raw const this.home) };
        (value, home)
    }
}

impl<T, H: TakeBack<T>> Deref for Returning<T, H> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T, H: TakeBack<T>> DerefMut for Returning<T, H> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T, H: TakeBack<T>> Drop for Returning<T, H> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: 1. not used afterwards: `drop` runs once, and not after `into_parts`.
        let value = unsafe { ManuallyDrop::take(&mut self.value) };
        self.home.take_back(value);
    }
}

impl<T: fmt::Debug, H: TakeBack<T>> fmt::Debug for Returning<T, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Returning").field(&*self.value).finish()
    }
}

#[cfg(test)]
mod tests {
    use alloc::boxed::Box;
    use alloc::vec::Vec;
    use core::cell::RefCell;
    use core::num::NonZeroU64;

    use super::*;

    #[derive(Default)]
    struct Home(RefCell<Vec<u64>>);

    impl TakeBack<Box<u64>> for &Home {
        fn take_back(&self, value: Box<u64>) {
            self.0.borrow_mut().push(*value);
        }
    }

    #[test]
    fn a_value_returns_once_or_is_taken() {
        let home = Home::default();
        drop(Returning::new(Box::new(1), &home));
        let mut two = Returning::new(Box::new(2), &home);
        **two += 1;
        let (taken, to) = two.into_parts();
        assert!(ptr::eq(to, &raw const home));
        assert_eq!((*taken, home.0.borrow().as_slice()), (3, [1].as_slice()));
    }

    struct Nowhere;

    impl TakeBack<NonZeroU64> for Nowhere {
        fn take_back(&self, _value: NonZeroU64) {}
    }

    #[test]
    fn a_home_without_size_costs_nothing() {
        assert_eq!(size_of::<Option<Returning<NonZeroU64, Nowhere>>>(), 8);
    }
}
