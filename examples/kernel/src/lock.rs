//! The kernel's lock: spins, with interrupts off.

use core::cell::UnsafeCell;
use core::fmt;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};

use crate::cpu::{self, IrqState};

/// A lock for threads and interrupt handlers alike.
///
/// `lock-excludes`: `held` is true exactly while one [`Guard`] exists.
pub(crate) struct SpinLock<T> {
    held: AtomicBool,
    /// Guarded by `held`.
    value: UnsafeCell<T>,
}

// SAFETY: 1. a shared lock hands out the value to one guard at a time (`lock-excludes`), so it is
// sent between CPUs, never shared: T: Send is enough.
unsafe impl<T: Send> Sync for SpinLock<T> {}

/// The right to use the value of a [`SpinLock`], until dropped.
pub(crate) struct Guard<'a, T> {
    lock: &'a SpinLock<T>,
    irq_state: IrqState,
}

impl<T> SpinLock<T> {
    /// Makes a lock that nobody holds.
    pub(crate) const fn new(value: T) -> Self {
        Self { held: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Takes the lock, waiting for it if need be.
    pub(crate) fn lock(&self) -> Guard<'_, T> {
        let irq_state = cpu::irq_save();
        // Acquire pairs with the Release store in Guard::drop.
        while self.held.swap(true, Ordering::Acquire) {
            core::hint::spin_loop();
        }
        Guard { lock: self, irq_state }
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: 1. exclusive: `lock-excludes`, and the borrow of the guard. 2. alive: the guard
        // borrows the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: 1. exclusive: `lock-excludes`, and the unique borrow of the guard. 2. alive: the
        // guard borrows the lock.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        // Release pairs with the Acquire swap in SpinLock::lock.
        self.lock.held.store(false, Ordering::Release);
        cpu::irq_restore(self.irq_state);
    }
}

impl<T> fmt::Debug for SpinLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpinLock").finish_non_exhaustive()
    }
}
