//! Handles: names of allocators and pools that are recognised after the object is gone.
//!
//! A handle is not an address. It has the number of an entry in a table that is never freed, and the
//! generation of the entry, so that a handle of a destroyed object differs from that of any later one.
//!
//! `handle-live`: an entry's handle is `vacant` unless its object exists. It is written after the object's
//! address and cleared before the object is dropped.

use core::ffi::c_void;
use core::mem::ManuallyDrop;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

#[expect(clippy::disallowed_types, reason = "not part of the core: loom has no business here")]
type AtomicUsize = core::sync::atomic::AtomicUsize;

/// Most objects of one kind that exist at the same time.
pub(crate) const NR_HANDLES: usize = 64;

/// The upper bits of a handle: no address on a machine with 48 bits of virtual addresses, so that an
/// access through a handle ends the program at once.
const MARK: usize = 0x7067 << 48;

/// Bit 0 is one, so that no aligned address is a handle.
const INDEX_SHIFT: u32 = 4;
const GENERATION_SHIFT: u32 = 16;
const GENERATION_MASK: usize = (1 << 32) - 1;

/// The table of the objects of one kind.
pub(crate) struct Handles<T: 'static, const KIND: usize> {
    entries: [Entry<T>; NR_HANDLES],
    /// Generations of each entry so far. Odd while the entry is being changed or in use.
    generations: [AtomicUsize; NR_HANDLES],
    /// Of each entry, the requests that may call C code at the moment.
    holds: [AtomicUsize; NR_HANDLES],
}

/// Keeps an object from being destroyed; see [`Handles::hold`].
pub(crate) struct Hold<'a>(&'a AtomicUsize);

/// What every call reads.
struct Entry<T> {
    /// [`vacant`] if there is no object.
    handle: AtomicUsize,
    object: AtomicPtr<T>,
}

// The index in a handle is then the entry's offset in bytes, which takes no arithmetic.
const _: () = assert!(size_of::<Entry<u8>>() == 1 << INDEX_SHIFT);

/// An entry without an object, which no other object gets; dropped without one, the entry is free again.
pub(crate) struct Claim<'a, T: 'static, const KIND: usize> {
    entry: &'a Entry<T>,
    generations: &'a AtomicUsize,
    handle: usize,
}

impl<T, const KIND: usize> Claim<'_, T, KIND> {
    /// Enters the object and returns its handle.
    pub(crate) fn enter(self, object: *mut T) -> *mut c_void {
        let claim = ManuallyDrop::new(self);
        // Relaxed: ordered by the store below.
        claim.entry.object.store(object, Ordering::Relaxed);
        // Release pairs with the Acquire in `find`.
        claim.entry.handle.store(claim.handle, Ordering::Release);
        ptr::without_provenance_mut(claim.handle)
    }
}

impl<T, const KIND: usize> Drop for Claim<'_, T, KIND> {
    fn drop(&mut self) {
        // Release pairs with the Acquire in `claim`.
        self.generations.fetch_add(1, Ordering::Release);
    }
}

/// Why a handle is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Null,
    /// The object was destroyed.
    Gone,
    /// No call returned it.
    Unknown,
}

impl<T, const KIND: usize> Handles<T, KIND> {
    pub(crate) const fn new() -> Self {
        let mut entries = [const { Entry::new(0) }; NR_HANDLES];
        let generations = [const { AtomicUsize::new(0) }; NR_HANDLES];
        let mut index = 0;
        while index < NR_HANDLES {
            entries[index] = Entry::new(vacant(index));
            index += 1;
        }
        Self { entries, generations, holds: [const { AtomicUsize::new(0) }; NR_HANDLES] }
    }

    /// Makes [`is_held`](Self::is_held) true for the object of a handle until the result is dropped.
    pub(crate) fn hold(&self, handle: *mut c_void) -> Hold<'_> {
        let holds = &self.holds[index(handle)];
        // Relaxed: for a destruction by the same thread, in a callback. Those by others are ordered by C code.
        holds.fetch_add(1, Ordering::Relaxed);
        Hold(holds)
    }

    /// Returns whether a caller of [`hold`](Self::hold) uses the object of a handle.
    pub(crate) fn is_held(&self, handle: *mut c_void) -> bool {
        // Relaxed: as in `hold`.
        self.holds[index(handle)].load(Ordering::Relaxed) != 0
    }

    /// Returns the object of a handle.
    #[inline]
    pub(crate) fn find(&self, handle: *mut c_void) -> Option<*mut T> {
        let entry = self.entry(handle);
        // Acquire pairs with the Release in `enter`.
        let is_live = entry.handle.load(Ordering::Acquire) == handle.addr();
        // Relaxed: ordered by the load above.
        is_live.then(|| entry.object.load(Ordering::Relaxed))
    }

    #[inline]
    fn entry(&self, handle: *mut c_void) -> &Entry<T> {
        &self.entries[index(handle)]
    }

    /// Returns why [`find`](Self::find) found nothing.
    pub(crate) fn refused(&self, handle: *mut c_void) -> Refused {
        let generation = handle.addr() >> GENERATION_SHIFT & GENERATION_MASK;
        if handle.is_null() {
            Refused::Null
        } else if name::<KIND>(index(handle), generation) == handle.addr()
            // Relaxed: for a message.
            && generation <= self.generations[index(handle)].load(Ordering::Relaxed)
        {
            Refused::Gone
        } else {
            Refused::Unknown
        }
    }

    /// Enters an object and returns its handle, or `None` if there are [`NR_HANDLES`].
    #[cfg(any(test, feature = "host"))]
    pub(crate) fn add(&self, object: *mut T) -> Option<*mut c_void> {
        self.claim().map(|claim| claim.enter(object))
    }

    /// Claims an entry for an object that is created next, or returns `None` if there are [`NR_HANDLES`].
    pub(crate) fn claim(&self) -> Option<Claim<'_, T, KIND>> {
        let mut entries = self.entries.iter().zip(&self.generations).enumerate();
        entries.find_map(|(index, (entry, generations))| {
            // Relaxed: the claim below orders.
            let generation = generations.load(Ordering::Relaxed);
            let (next, acquire) = (generation + 1, Ordering::Acquire);
            let is_free = generation % 2 == 0;
            // Acquire pairs with the Release in `remove` and in the drop of a `Claim`.
            let claim =
                || generations.compare_exchange(generation, next, acquire, Ordering::Relaxed);
            let handle = || name::<KIND>(index, next & GENERATION_MASK);
            (is_free && claim().is_ok()).then(|| Claim { entry, generations, handle: handle() })
        })
    }

    /// Removes an object and returns it; `None` if the handle is not that of one.
    ///
    /// Of several calls with one handle, one gets the object.
    pub(crate) fn remove(&self, handle: *mut c_void) -> Option<*mut T> {
        let object = self.find(handle)?;
        let entry = self.entry(handle);
        let (acquire, relaxed) = (Ordering::Acquire, Ordering::Relaxed);
        // Acquire pairs with the Release in `enter`.
        entry
            .handle
            .compare_exchange(handle.addr(), vacant(index(handle)), acquire, relaxed)
            .ok()?;
        // Release pairs with the Acquire in `claim`.
        self.generations[index(handle)].fetch_add(1, Ordering::Release);
        Some(object)
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        // Relaxed: as in `hold`.
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<T> Entry<T> {
    const fn new(handle: usize) -> Self {
        let object = AtomicPtr::new(ptr::null_mut());
        Self { handle: AtomicUsize::new(handle), object }
    }
}

/// Returns the index of the entry that a handle names.
#[inline]
fn index(handle: *mut c_void) -> usize {
    handle.addr() >> INDEX_SHIFT & (NR_HANDLES - 1)
}

/// Returns what entry `index` has in place of a handle if there is no object: a value that names the next
/// entry, so that no pointer finds it, not even null.
const fn vacant(index: usize) -> usize {
    ((index + 1) % NR_HANDLES) << INDEX_SHIFT
}

/// Returns the handle of an entry in a generation.
fn name<const KIND: usize>(index: usize, generation: usize) -> usize {
    MARK | generation << GENERATION_SHIFT | index << INDEX_SHIFT | KIND << 1 | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    type Numbers = Handles<u32, 1>;

    #[test]
    fn a_handle_finds_its_object_until_it_is_removed() {
        let handles = Numbers::new();
        let (mut one, mut two) = (1, 2);
        let first = handles.add(&raw mut one).unwrap();
        let second = handles.add(&raw mut two).unwrap();
        assert_eq!(handles.find(first), Some(&raw mut one));
        assert_eq!(handles.find(second), Some(&raw mut two));
        assert_eq!(handles.remove(first), Some(&raw mut one));
        assert_eq!(handles.remove(first), None);
        assert_eq!((handles.find(first), handles.refused(first)), (None, Refused::Gone));
        let third = handles.add(&raw mut one).unwrap();
        assert_ne!(third, first);
        assert_eq!((handles.find(first), handles.refused(first)), (None, Refused::Gone));
    }

    #[test]
    fn what_no_call_returned_is_unknown() {
        let (handles, others) = (Numbers::new(), Handles::<u32, 2>::new());
        let mut one = 1;
        let handle = handles.add(&raw mut one).unwrap();
        let other = others.add(&raw mut one).unwrap();
        assert_eq!(handles.refused(ptr::null_mut()), Refused::Null);
        assert_eq!((handles.find(other), handles.refused(other)), (None, Refused::Unknown));
        for address in
            [1, 4096, (&raw const one).addr(), handle.addr() + 1, handle.addr() + (1 << 20)]
        {
            let foreign = ptr::without_provenance_mut(address);
            assert_eq!((handles.find(foreign), handles.refused(foreign)), (None, Refused::Unknown));
        }
    }

    #[test]
    fn an_object_is_held_until_the_last_hold_ends() {
        let handles = Numbers::new();
        let (mut one, mut two) = (1, 2);
        let (first, second) =
            (handles.add(&raw mut one).unwrap(), handles.add(&raw mut two).unwrap());
        let (outer, inner) = (handles.hold(first), handles.hold(first));
        drop(inner);
        assert_eq!((handles.is_held(first), handles.is_held(second)), (true, false));
        drop(outer);
        assert!(!handles.is_held(first));
    }

    #[test]
    fn a_full_table_refuses_and_takes_again_after_a_removal() {
        let handles = Numbers::new();
        let mut one = 1;
        let all: Vec<_> = (0..NR_HANDLES).map(|_| handles.add(&raw mut one).unwrap()).collect();
        assert_eq!(handles.add(&raw mut one), None);
        handles.remove(all[17]).unwrap();
        let claim = handles.claim().unwrap();
        assert_eq!(handles.add(&raw mut one), None);
        drop(claim);
        assert!(handles.add(&raw mut one).is_some());
        assert_eq!(handles.add(&raw mut one), None);
    }
}
