//! Atomics and the lock of a cache, in two builds: the real ones, and loom's for model checking.

use core::fmt;
use core::ops::{Deref, DerefMut};

use pagemill::Platform;

#[cfg(not(loom))]
mod imp {
    pub(crate) use core::sync::atomic::Ordering;

    #[expect(clippy::disallowed_types, reason = "the alias that all others go through")]
    pub(crate) type AtomicU32 = core::sync::atomic::AtomicU32;
    #[expect(clippy::disallowed_types, reason = "the alias that all others go through")]
    pub(crate) type AtomicU64 = core::sync::atomic::AtomicU64;

    pub(super) type Mutex<T> = spin::Mutex<T>;
    pub(super) type MutexGuard<'a, T> = spin::MutexGuard<'a, T>;

    pub(super) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
        mutex.try_lock()
    }
}

#[cfg(loom)]
mod imp {
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};

    pub(super) use loom::sync::{Mutex, MutexGuard};

    pub(super) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
        // Waits: loom explores no useful schedule of a thread that spins.
        mutex.lock().ok()
    }
}

pub(crate) use imp::{AtomicU32, AtomicU64, Ordering};

/// A value that one thread at a time uses, with interrupts off.
///
/// No memory is allocated and nothing waits while it is held, so an interrupt handler may take it.
pub(crate) struct Lock<T>(imp::Mutex<T>);

/// The right to use the value of a [`Lock`], until dropped.
pub(crate) struct Guard<'a, T, P: Platform> {
    // Dropped in this order: unlocked before interrupts are restored.
    value: imp::MutexGuard<'a, T>,
    _irq: IrqOff<'a, P>,
}

/// Interrupts are off on this CPU, until dropped.
struct IrqOff<'a, P: Platform>(&'a P, usize);

impl<P: Platform> Drop for IrqOff<'_, P> {
    fn drop(&mut self) {
        self.0.irq_restore(self.1);
    }
}

impl<T> Lock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(imp::Mutex::new(value))
    }

    /// Waits for the lock. Returns `None` in a child of `fork`, where the thread that holds it may not
    /// exist and what it guards may not be mapped.
    pub(crate) fn lock<'a, P: Platform>(&'a self, platform: &'a P) -> Option<Guard<'a, T, P>> {
        if platform.is_abandoned() {
            return None;
        }
        let irq = IrqOff(platform, platform.irq_save());
        let mut spins = 0;
        loop {
            if let Some(value) = imp::try_lock(&self.0) {
                return Some(Guard { value, _irq: irq });
            }
            platform.relax(spins);
            spins = spins.saturating_add(1);
        }
    }
}

impl<T, P: Platform> Deref for Guard<'_, T, P> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T, P: Platform> DerefMut for Guard<'_, T, P> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").finish_non_exhaustive()
    }
}
