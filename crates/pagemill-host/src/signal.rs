//! Signal: wakes waiting threads, without losing a signal that comes just before a wait.

use core::time::Duration;
use std::sync::{Condvar, Mutex, PoisonError};

/// A condition that threads can wait for.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    /// Number of signals so far; guards nothing else.
    given: Mutex<u64>,
    changed: Condvar,
}

impl Signal {
    /// Wakes all waiting threads.
    pub(crate) fn give(&self) {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        *given = given.wrapping_add(1);
        drop(given);
        self.changed.notify_all();
    }

    /// Waits for the signal, at most for `timeout`, unless `still` returns false.
    ///
    /// No signal can be given while `still` runs, so none is lost between that check and the wait.
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
