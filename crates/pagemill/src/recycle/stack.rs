//! Stack: up to N values in place, last in, first out.

use core::fmt;
use core::mem::{self, MaybeUninit};
use core::ptr;

/// Up to `N` values, without heap memory.
///
/// `stack-init`: the first `len` entries of `values` are initialised.
///
/// # Examples
/// ```
/// # use pagemill::recycling::Stack;
/// let mut stack = Stack::<_, 2>::new();
/// assert_eq!((stack.push("a"), stack.push("b")), (Ok(()), Ok(())));
/// assert_eq!(stack.push("c"), Err("c"));
/// assert_eq!((stack.pop(), stack.len()), (Some("b"), 1));
/// ```
pub struct Stack<T, const N: usize> {
    values: [MaybeUninit<T>; N],
    len: usize,
}

impl<T, const N: usize> Stack<T, N> {
    pub(crate) const CAPACITY: usize = N;

    /// Makes an empty stack.
    #[must_use]
    pub const fn new() -> Self {
        Self { values: [const { MaybeUninit::uninit() }; N], len: 0 }
    }

    /// Returns the number of values.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there is no value.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns whether there is no room.
    #[inline]
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.len >= N
    }

    /// Pushes a value.
    ///
    /// # Errors
    /// Returns the value if there is no room.
    #[inline]
    pub const fn push(&mut self, value: T) -> Result<(), T> {
        if self.is_full() {
            return Err(value);
        }
        // No overflow: the length is below N.
        let len = self.len;
        self.values[len] = MaybeUninit::new(value);
        self.len = len.wrapping_add(1);
        Ok(())
    }

    /// Pushes values, the last one on top.
    ///
    /// # Panics
    /// If there is no room for one of them.
    #[inline]
    pub(crate) fn push_all(&mut self, values: impl IntoIterator<Item = T>) {
        for value in values {
            assert!(self.push(value).is_ok(), "no room among {N} values");
        }
    }

    /// Pushes `nr` values, which `write` writes, as for [`fill`].
    ///
    /// # Panics
    /// If there is no room for them.
    pub(crate) fn push_with(
        &mut self,
        nr: usize,
        write: impl FnOnce(&mut [MaybeUninit<T>]) -> &mut [T],
    ) {
        fill(&mut self.values[self.len..][..nr], write);
        self.len += nr;
    }

    /// Removes and returns the top value.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        let len = self.len.checked_sub(1)?;
        self.len = len;
        // SAFETY: 1. in bounds: `len` is one less than a length of at most `N`.
        let entry = unsafe { self.values.get_unchecked(len) };
        // SAFETY: 1. initialised: `stack-init`. 2. read once: `self.len` no longer includes it.
        Some(unsafe { entry.assume_init_read() })
    }

    /// Returns the values, the oldest first.
    #[inline]
    #[must_use]
    pub const fn as_slice(&self) -> &[T] {
        let (values, _) = self.values.split_at(self.len);
        // SAFETY: 1. initialised: `stack-init`.
        unsafe { values.assume_init_ref() }
    }

    /// Returns the uninitialised entries.
    #[cfg(feature = "alloc")]
    #[inline]
    pub(crate) fn room(&mut self) -> &mut [MaybeUninit<T>] {
        // SAFETY: 1. in bounds: `len` is at most `N`.
        unsafe { self.values.get_unchecked_mut(self.len..) }
    }

    /// Extends the length by `nr` values.
    ///
    /// # Safety
    /// The first `nr` entries of [`room`](Self::room) are initialised.
    #[cfg(feature = "alloc")]
    #[inline]
    pub(crate) unsafe fn grow(&mut self, nr: usize) {
        self.len += nr;
    }
}

/// Initialises every entry of `room` by `write`, which returns the slice that it was given.
///
/// # Panics
/// If it returns another one.
#[inline]
pub(crate) fn fill<T>(
    room: &mut [MaybeUninit<T>],
    write: impl FnOnce(&mut [MaybeUninit<T>]) -> &mut [T],
) {
    let expected = ptr::from_ref(room) as *const [T];
    let written = write(room);
    assert!(ptr::eq(expected, written), "other values were written than asked for");
}

impl<T, const N: usize> Iterator for Stack<T, N> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        self.pop()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len, Some(self.len))
    }
}

impl<T, const N: usize> ExactSizeIterator for Stack<T, N> {
    fn len(&self) -> usize {
        self.len
    }
}

impl<T, const N: usize> Drop for Stack<T, N> {
    fn drop(&mut self) {
        if const { mem::needs_drop::<T>() } {
            self.for_each(drop);
        }
    }
}

impl<T, const N: usize> Default for Stack<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const N: usize> fmt::Debug for Stack<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use alloc::rc::Rc;

    use super::*;

    #[test]
    fn it_holds_what_it_was_given_and_drops_the_rest() {
        let value = Rc::new(());
        let mut stack = Stack::<_, 3>::new();
        for nr in 1..=3 {
            assert!(stack.push(Rc::clone(&value)).is_ok());
            assert_eq!((stack.len(), stack.is_full(), stack.is_empty()), (nr, nr == 3, false));
        }
        assert!(stack.push(Rc::clone(&value)).is_err());
        drop(stack.pop());
        assert_eq!(Rc::strong_count(&value), 3);
        drop(stack);
        assert_eq!(Rc::strong_count(&value), 1);
    }

    #[test]
    #[should_panic(expected = "other values were written")]
    fn values_that_were_not_written_are_refused() {
        let mut stack = Stack::<u32, 4>::new();
        stack.push_with(2, |room| room[..1].write_copy_of_slice(&[7]));
    }

    #[test]
    fn it_is_an_iterator_from_the_top_down() {
        let mut stack = Stack::<_, 4>::new();
        for value in 0..3 {
            stack.push(value).unwrap();
        }
        assert_eq!(stack.size_hint(), (3, Some(3)));
        assert!(stack.by_ref().eq([2, 1, 0]));
        assert_eq!((stack.pop(), stack.is_empty()), (None, true));
    }
}
