//! Atomics and locks: loom's under `cfg(loom)`, the standard library's otherwise.

use std::sync::{PoisonError, TryLockError};

#[cfg(not(loom))]
mod real {
    pub(crate) use core::sync::atomic::{Ordering, fence};
    pub(crate) use std::sync::{Mutex, MutexGuard};

    #[expect(clippy::disallowed_types, reason = "the alias that all others go through")]
    pub(crate) type AtomicBool = core::sync::atomic::AtomicBool;
    #[expect(clippy::disallowed_types, reason = "the alias that all others go through")]
    pub(crate) type AtomicU64 = core::sync::atomic::AtomicU64;
    #[expect(clippy::disallowed_types, reason = "the alias that all others go through")]
    pub(crate) type AtomicUsize = core::sync::atomic::AtomicUsize;
}
#[cfg(loom)]
mod real {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
    pub(crate) use loom::sync::{Mutex, MutexGuard};
}

pub(crate) use real::{AtomicBool, AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering, fence};

/// Locks `mutex`, also after a panic in a thread that held it. The value is consistent then: no foreign
/// code runs between two changes that belong together.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks `mutex` as [`lock`] does, unless another thread holds it.
pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}
