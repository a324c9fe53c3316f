//! `Array`: a stack of free objects, of which each CPU has two; Linux calls it a sheaf.

use core::mem::MaybeUninit;
use core::ptr::NonNull;

/// A place for an object.
type Place = MaybeUninit<NonNull<u8>>;

/// Free objects of a cache, the one freed last on top.
///
/// `array-init`: `bottom` to `end` are adjacent places that only this array uses. `top` is one of them, or
/// `end`; the places below it hold objects.
#[derive(Debug)]
pub(crate) struct Array {
    top: NonNull<Place>,
    bottom: NonNull<Place>,
    end: NonNull<Place>,
}

// SAFETY: 1. the places are the array's own (`array-init`). 2. objects are memory that any thread may use.
unsafe impl Send for Array {}

impl Array {
    /// Makes an empty array.
    ///
    /// # Safety
    /// `bottom` points to memory for `capacity` objects, which nothing else uses for as long as the array is
    /// used.
    pub(crate) unsafe fn new(bottom: NonNull<Place>, capacity: usize) -> Self {
        // SAFETY: 1. in bounds: the caller's obligation.
        let end = unsafe { bottom.add(capacity) };
        Self { top: bottom, bottom, end }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        // SAFETY: 1. of one allocation, `top` not below `bottom`: `array-init`.
        unsafe { self.top.offset_from_unsigned(self.bottom) }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.top == self.bottom
    }

    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.top == self.end
    }

    #[inline]
    pub(crate) fn room(&self) -> usize {
        // SAFETY: 1. of one allocation, `end` not below `top`: `array-init`.
        unsafe { self.end.offset_from_unsigned(self.top) }
    }

    /// Removes the object on top.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<NonNull<u8>> {
        let top = self.top;
        if top == self.bottom {
            return None;
        }
        // SAFETY: 1. in bounds: above `bottom`.
        let place = unsafe { top.sub(1) };
        self.top = place;
        // SAFETY: 1. valid, nobody else's: `array-init`.
        let object = unsafe { place.read() };
        // SAFETY: 1. an object: below `top` (`array-init`).
        Some(unsafe { object.assume_init() })
    }

    /// Puts an object on top if there is room, and returns whether there was.
    #[inline]
    pub(crate) fn try_push(&mut self, object: NonNull<u8>) -> bool {
        let top = self.top;
        if top == self.end {
            return false;
        }
        // SAFETY: 1. valid, nobody else's: a place below `end` (`array-init`).
        unsafe { top.write(MaybeUninit::new(object)) };
        // SAFETY: 1. in bounds: below `end`.
        self.top = unsafe { top.add(1) };
        true
    }

    /// Moves the objects on top to the first entries of `room`, and returns their number.
    pub(crate) fn pop_into(&mut self, room: &mut [Option<NonNull<u8>>]) -> usize {
        let nr = self.len().min(room.len());
        for slot in &mut room[..nr] {
            *slot = self.pop();
        }
        nr
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_pushed_last_comes_first_and_a_full_array_takes_no_more() {
        let mut places = [const { Place::uninit() }; 3];
        // SAFETY: 1. room for three objects, used by nothing else below.
        let mut array = unsafe { Array::new(NonNull::from(&mut places).cast(), 3) };
        let objects = [1_u8, 2, 3, 4].map(|at| {
            NonNull::without_provenance(core::num::NonZero::new(usize::from(at)).expect("not zero"))
        });
        assert!(array.is_empty() && array.pop().is_none());
        for (nr, &object) in objects[..3].iter().enumerate() {
            assert_eq!((array.len(), array.room()), (nr, 3 - nr));
            assert!(!array.is_full() && array.try_push(object));
        }
        assert!(array.is_full() && !array.try_push(objects[3]));
        assert_eq!(array.pop(), Some(objects[2]));
        let mut room = [None; 3];
        assert_eq!(array.pop_into(&mut room), 2);
        assert_eq!(room, [Some(objects[1]), Some(objects[0]), None]);
    }
}
