//! `Depot`: arrays that CPUs exchange, full ones for empty ones. Objects that one CPU frees and another needs
//! move through it.

use core::mem;

use crate::array::Array;

/// Number of arrays in a depot.
pub(crate) const DEPOT_ARRAYS: usize = 8;

/// Arrays that no CPU has, full ones first; guarded by a lock. Their number does not change: each exchange
/// is one for one.
#[derive(Debug)]
pub(crate) struct Depot {
    arrays: [Option<Array>; DEPOT_ARRAYS],
    /// Number of full arrays; all others are empty.
    nr_full: usize,
    /// Number of exchanges so far.
    pub(crate) exchanges: u64,
}

impl Depot {
    pub(crate) fn new() -> Self {
        Self { arrays: [const { None }; DEPOT_ARRAYS], nr_full: 0, exchanges: 0 }
    }

    /// Adds an empty array while the cache is made.
    pub(crate) fn add(&mut self, array: Array) {
        if let Some(place) = self.arrays.iter_mut().find(|place| place.is_none()) {
            *place = Some(array);
        }
    }

    /// Returns the number of objects in all arrays.
    pub(crate) fn nr_objects(&self) -> usize {
        self.arrays.iter().flatten().map(Array::len).sum()
    }

    /// Exchanges an empty array for a full one, if there is one.
    pub(crate) fn take_full(&mut self, array: &mut Array) -> bool {
        debug_assert!(array.is_empty());
        let Some(place) = self.nr_full.checked_sub(1) else { return false };
        self.exchange(place, array);
        self.nr_full = place;
        true
    }

    /// Exchanges a full array for an empty one, if there is one.
    pub(crate) fn take_empty(&mut self, array: &mut Array) -> bool {
        debug_assert!(array.is_full());
        if self.nr_full == DEPOT_ARRAYS || self.arrays[self.nr_full].is_none() {
            return false;
        }
        self.exchange(self.nr_full, array);
        self.nr_full += 1;
        true
    }

    /// Removes all objects of the last full array, and passes the array to `empty`, which must empty it.
    pub(crate) fn empty_one(&mut self, empty: impl FnOnce(&mut Array)) -> bool {
        let Some(place) = self.nr_full.checked_sub(1) else { return false };
        if let Some(array) = &mut self.arrays[place] {
            empty(array);
            debug_assert!(array.is_empty());
        }
        self.nr_full = place;
        true
    }

    fn exchange(&mut self, place: usize, array: &mut Array) {
        if let Some(other) = &mut self.arrays[place] {
            mem::swap(other, array);
            self.exchanges += 1;
        }
    }
}
