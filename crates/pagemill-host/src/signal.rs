//! Waking threads that wait, without losing a signal that comes just before they do.

use core::time::Duration;
use std::sync::{Condvar, Mutex, PoisonError};

/// A place to wait at.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    /// How often it was given; guards nothing else.
    given: Mutex<u64>,
    changed: Condvar,
}

impl Signal {
    /// Gives the signal to all who wait.
    pub(crate) fn give(&self) {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        *given = given.wrapping_add(1);
        drop(given);
        self.changed.notify_all();
    }

    /// Waits for the signal, at most `timeout`, unless `still` is false.
    ///
    /// `still` is asked while a signal cannot be given, so none is lost between the two.
    pub(crate) fn wait(&self, timeout: Duration, still: impl Fn() -> bool) {
        let given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if !still() {
            return;
        }
        let before = *given;
        let unchanged = |given: &mut u64| *given == before;
        let waited = self.changed.wait_timeout_while(given, timeout, unchanged);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}
