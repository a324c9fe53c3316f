//! Busy flag: at most one worker thread processes a connection at a time.

use crate::wire::sync::{AtomicBool, Ordering};

/// Whether a worker thread processes the quick calls of a connection.
///
/// If such a call takes longer than 10 ms, the supervisor clears the flag and another thread processes
/// the connection, so that requests which have arrived do not wait.
#[derive(Debug)]
pub(crate) struct Busy(AtomicBool);

impl Busy {
    pub(crate) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Marks the connection as processed by the calling thread.
    pub(crate) fn set(&self) {
        // Release: pairs with `clear`; the thread that clears the flag sees what was done before.
        self.0.store(true, Ordering::Release);
    }

    /// Clears the flag. Returns true to one caller, which then processes the connection.
    #[must_use]
    pub(crate) fn clear(&self) -> bool {
        // AcqRel: pairs with itself and with `set`, so that the next thread sees what was done.
        self.0.swap(false, Ordering::AcqRel)
    }
}

#[cfg(test)]
#[cfg(loom)]
mod loom_tests {
    use loom::sync::Arc;

    use super::*;

    #[test]
    fn exactly_one_thread_clears_the_flag() {
        loom::model(|| {
            let busy = Arc::new(Busy::new());
            busy.set();
            let other = {
                let busy = Arc::clone(&busy);
                loom::thread::spawn(move || busy.clear())
            };
            let own = busy.clear();
            assert!(own != other.join().unwrap());
        });
    }
}
