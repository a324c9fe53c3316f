//! Atomics, the spinlock, counters, references and a once-cell, in two builds: the real ones and loom's.

use core::fmt;
use core::ops::{Deref, DerefMut};
use core::ptr;
use core::sync::atomic::Ordering as RealOrdering;

#[cfg(not(loom))]
mod imp {
    pub(crate) use core::sync::atomic::Ordering;
    use core::sync::atomic::fence;

    #[expect(clippy::disallowed_types, reason = "the alias that all others go through")]
    pub(crate) type AtomicBool = core::sync::atomic::AtomicBool;
    #[expect(clippy::disallowed_types, reason = "the alias that all others go through")]
    pub(crate) type AtomicU32 = core::sync::atomic::AtomicU32;
    #[expect(clippy::disallowed_types, reason = "the alias that all others go through")]
    pub(crate) type AtomicU64 = core::sync::atomic::AtomicU64;
    pub(crate) type AtomicPtr<T> = core::sync::atomic::AtomicPtr<T>;
    #[expect(clippy::disallowed_types, reason = "the cell that loom's stands in for")]
    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T>(core::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        #[inline]
        pub(crate) const fn new(value: T) -> Self {
            #[expect(clippy::disallowed_types, reason = "the cell that loom's stands in for")]
            Self(core::cell::UnsafeCell::new(value))
        }

        /// Returns a raw pointer for the duration of an access.
        #[inline]
        pub(crate) fn get_mut(&self) -> MutPtr<T> {
            MutPtr(self.0.get())
        }
    }

    /// A raw pointer with the interface of loom's tracked one.
    pub(crate) struct MutPtr<T>(*mut T);

    impl<T> MutPtr<T> {
        pub(crate) fn as_ptr(&self) -> *mut T {
            self.0
        }

        /// # Safety
        /// The value is alive, and no other reference to it exists while the result does.
        #[expect(clippy::mut_from_ref, reason = "the shape of loom's MutPtr")]
        #[inline]
        pub(crate) unsafe fn deref(&self) -> &mut T {
            // SAFETY: 1. alive, no other reference: guaranteed by the caller.
            unsafe { &mut *self.0 }
        }
    }

    /// # Safety
    /// The value is alive, and no unique reference to it exists while the result does.
    #[inline]
    pub(crate) unsafe fn shared<T>(pointer: &MutPtr<T>) -> &T {
        // SAFETY: 1. alive, no unique reference: guaranteed by the caller.
        unsafe { &*pointer.0 }
    }

    pub(crate) fn fence_acquire() {
        fence(Ordering::Acquire);
    }

    /// Sets `flag` and returns whether it was clear, with Acquire ordering in that case.
    #[inline]
    pub(crate) fn test_and_set(flag: &AtomicBool) -> bool {
        !flag.swap(true, Ordering::Acquire)
    }
}

#[cfg(loom)]
mod imp {
    pub(crate) use loom::cell::{MutPtr, UnsafeCell};
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};

    /// # Safety
    /// The value is alive, and no unique reference to it exists while the result does.
    pub(crate) unsafe fn shared<T>(pointer: &MutPtr<T>) -> &T {
        // SAFETY: 1. alive, no unique reference: guaranteed by the caller.
        unsafe { pointer.deref() }
    }

    pub(crate) fn fence_acquire() {
        loom::sync::atomic::fence(Ordering::Acquire);
    }

    /// Sets `flag` and returns whether it was clear.
    ///
    /// Not a swap, which also writes if the flag is set: loom lets such a write overtake the store that
    /// clears the flag, which no memory model does.
    pub(crate) fn test_and_set(flag: &AtomicBool) -> bool {
        flag.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }
}

use imp::AtomicPtr;
use imp::test_and_set;
pub(crate) use imp::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence_acquire};
pub(crate) use imp::{MutPtr, UnsafeCell, shared};

/// A lock that is tried first; the caller decides how to wait.
///
/// `lock-excludes`: `held` is true exactly while one [`LockGuard`] exists.
pub(crate) struct Lock<T> {
    held: AtomicBool,
    /// Guarded by `held`.
    value: UnsafeCell<T>,
}

// SAFETY: 1. one guard at a time reaches the value (`lock-excludes`), so threads pass it on and
// never share it: `T: Send` suffices.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { held: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Takes the lock if it is free.
    #[inline]
    pub(crate) fn try_lock(&self) -> Option<LockGuard<'_, T>> {
        // Its Acquire pairs with the Release store in LockGuard::drop.
        if !test_and_set(&self.held) {
            return None;
        }
        Some(LockGuard { value: self.value.get_mut(), lock: self })
    }

    /// Returns whether the lock is taken; a hint, since it may change at any time.
    pub(crate) fn is_taken(&self) -> bool {
        // Relaxed: only a hint; try_lock orders.
        self.held.load(Ordering::Relaxed)
    }

    /// Takes the lock; while it is taken, calls `relax` with the number of tries.
    #[inline]
    pub(crate) fn lock(&self, mut relax: impl FnMut(u32)) -> LockGuard<'_, T> {
        let mut spins = 0;
        loop {
            if let Some(guard) = self.try_lock() {
                return guard;
            }
            // Relaxed: a hint when to try again; try_lock orders.
            while self.held.load(Ordering::Relaxed) {
                relax(spins);
                spins = spins.saturating_add(1);
            }
        }
    }
}

impl<T> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Relaxed: a snapshot for people.
        f.debug_struct("Lock").field("held", &self.held.load(Ordering::Relaxed)).finish()
    }
}

/// The right to use the value of a [`Lock`], until dropped.
pub(crate) struct LockGuard<'a, T> {
    value: MutPtr<T>,
    lock: &'a Lock<T>,
}

impl<T> Deref for LockGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: 1. no unique reference: only this guard reaches the value (`lock-excludes`), and
        // it is borrowed. 2. alive: the guard borrows the lock.
        unsafe { shared(&self.value) }
    }
}

impl<T> DerefMut for LockGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: 1. exclusive: only this guard reaches the value (`lock-excludes`), and it is
        // borrowed uniquely. 2. alive: the guard borrows the lock.
        unsafe { self.value.deref() }
    }
}

impl<T> Drop for LockGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // Release pairs with the Acquire swap in Lock::try_lock.
        self.lock.held.store(false, Ordering::Release);
    }
}

/// A counter with one writer at a time and any number of readers.
#[derive(Debug)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds `count`; the caller holds the lock that makes it the only writer.
    #[inline]
    pub(crate) fn add(&self, count: u64) {
        // Relaxed: the writers are ordered by their lock, and readers take any recent value.
        self.set(self.get().wrapping_add(count));
    }

    /// Replaces the value; the caller holds the lock that makes it the only writer.
    #[inline]
    pub(crate) fn set(&self, value: u64) {
        // Relaxed: as in `add`.
        self.0.store(value, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn get(&self) -> u64 {
        // Relaxed: readers use the value as a statistic and order nothing by it.
        self.0.load(Ordering::Relaxed)
    }
}

/// A reference for ever, or none, that threads exchange, whether it has ended and whether it is marked.
///
/// `ref-static`: the pointer without its two lowest bits is null or was a `&'static T`.
#[derive(Debug)]
pub(crate) struct AtomicRef<T: 'static>(AtomicPtr<T>);

/// The bit of the pointer of a reference that has ended.
const ENDED: usize = 1;
/// The bit of the pointer of a reference that is marked.
const MARKED: usize = 2;

impl<T: Sync> AtomicRef<T> {
    /// Makes one without a reference.
    pub(crate) fn new() -> Self {
        const { assert!(align_of::<T>() > ENDED + MARKED) };
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    pub(crate) fn set(&self, value: &'static T) {
        // Release pairs with the Acquire in `load`: the value was made before.
        self.0.store(ptr::from_ref(value).cast_mut(), Ordering::Release);
    }

    /// Stores a reference that is marked.
    pub(crate) fn set_marked(&self, value: &'static T) {
        let value = ptr::from_ref(value).cast_mut().map_addr(|address| address | MARKED);
        // Release pairs with the Acquire in `load`, as in `set`.
        self.0.store(value, Ordering::Release);
    }

    /// Returns whether the reference that was stored last is marked.
    pub(crate) fn is_marked(&self) -> bool {
        self.load().addr() & MARKED != 0
    }

    /// Returns the reference, unless it has ended.
    pub(crate) fn get(&self) -> Option<&'static T> {
        let value = self.load();
        if value.addr() & ENDED == 0 { Self::reference(value) } else { None }
    }

    /// Returns the reference that was set last, also if it has ended.
    pub(crate) fn last(&self) -> Option<&'static T> {
        Self::reference(self.load())
    }

    /// Ends the reference, and returns whether there was one. Of two threads that end one reference,
    /// one does.
    pub(crate) fn end(&self) -> bool {
        let mut value = self.load();
        while !value.is_null() && value.addr() & ENDED == 0 {
            let ended = value.map_addr(|address| address | ENDED);
            // Relaxed: the pointer is the one that was read, and no other value is passed on.
            let order = (Ordering::Relaxed, Ordering::Relaxed);
            match self.0.compare_exchange(value, ended, order.0, order.1) {
                Ok(_) => return true,
                Err(_) => value = self.load(),
            }
        }
        false
    }

    fn load(&self) -> *mut T {
        // Acquire pairs with the Release in `set`; an exchange in `end` continues its sequence.
        self.0.load(Ordering::Acquire)
    }

    fn reference(value: *mut T) -> Option<&'static T> {
        let value = value.map_addr(|address| address & !(ENDED | MARKED));
        // SAFETY: 1. null or a reference for ever: `ref-static`.
        unsafe { value.as_ref() }
    }
}

/// Hands out each number once, in a static. Not modelled by loom: it orders nothing.
#[expect(clippy::disallowed_types, reason = "loom has no atomics that a static can hold")]
pub(crate) struct StaticCounter(core::sync::atomic::AtomicU64);

impl StaticCounter {
    pub(crate) const fn new() -> Self {
        #[expect(clippy::disallowed_types, reason = "this file makes the aliases")]
        Self(core::sync::atomic::AtomicU64::new(0))
    }

    /// Returns a number that no other call returns.
    pub(crate) fn next(&self) -> u64 {
        // Relaxed: only uniqueness matters. 2^64 calls take centuries.
        self.0.fetch_add(1, RealOrdering::Relaxed)
    }
}

/// A value of a static that is stored once, at run time, and only read afterwards.
///
/// Like `std::sync::OnceLock`, but without a standard library, and no thread waits for another: while
/// one thread stores a value, the cell is empty for all others.
///
/// `once-filled`: `state` changes to FULL once, after the value was written, and never changes
/// again. The value is not written after that.
#[cfg(not(loom))]
#[derive(Debug)]
pub struct OnceCell<T> {
    state: AtomicU32,
    value: UnsafeCell<core::mem::MaybeUninit<T>>,
}

// SAFETY: 1. one thread moves the value in (`T: Send`), and all threads can borrow it (`T: Sync`).
#[cfg(not(loom))]
unsafe impl<T: Send + Sync> Sync for OnceCell<T> {}

#[cfg(not(loom))]
impl<T> OnceCell<T> {
    /// Zero, because each access compares with it, and a comparison with zero is the shortest.
    const FULL: u32 = 0;
    const EMPTY: u32 = 1;
    const FILLING: u32 = 2;

    /// Makes an empty cell.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            state: AtomicU32::new(Self::EMPTY),
            value: UnsafeCell::new(core::mem::MaybeUninit::uninit()),
        }
    }

    /// Stores the value.
    ///
    /// # Errors
    /// Returns `value` if there is one already, or if another thread is storing one.
    pub fn set(&self, value: T) -> Result<(), T> {
        // Relaxed: nothing is read that another thread wrote.
        let claimed = self.state.compare_exchange(
            Self::EMPTY,
            Self::FILLING,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        if claimed.is_err() {
            return Err(value);
        }
        let place = self.value.get_mut();
        // SAFETY: 1. exclusive: one thread changes EMPTY to FILLING, and none reads before FULL
        // (`once-filled`).
        unsafe { place.deref() }.write(value);
        // Release pairs with the Acquire load in `get`.
        self.state.store(Self::FULL, Ordering::Release);
        Ok(())
    }

    /// Returns the value, if it has been stored.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        // Acquire pairs with the Release store in `set`.
        if self.state.load(Ordering::Acquire) != Self::FULL {
            return None;
        }
        let place = self.value.get_mut().as_ptr();
        // SAFETY: 1. no writer: the state is FULL (`once-filled`).
        let value = unsafe { &*place };
        // SAFETY: 1. initialised: `once-filled`.
        Some(unsafe { value.assume_init_ref() })
    }
}

#[cfg(not(loom))]
impl<T> Default for OnceCell<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(not(loom))]
impl<T> Drop for OnceCell<T> {
    fn drop(&mut self) {
        // Relaxed: dropping is exclusive.
        if self.state.load(Ordering::Relaxed) == Self::FULL {
            let place = self.value.get_mut();
            // SAFETY: 1. exclusive: `self` is borrowed uniquely.
            let value = unsafe { place.deref() };
            // SAFETY: 1. initialised: `once-filled`. 2. dropped once: the cell is being dropped.
            unsafe { value.assume_init_drop() };
        }
    }
}
