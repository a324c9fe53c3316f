//! Who goes on with a connection: the thread that holds it, or another, but not both.

use crate::wire::sync::{AtomicBool, Ordering};

/// A connection is held by the thread that runs its quick calls. When one of them takes long after
/// all, somebody else takes the connection away, so that what has arrived does not wait.
#[derive(Debug)]
pub(crate) struct Hold(AtomicBool);

impl Hold {
    pub(crate) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Begins to hold.
    pub(crate) fn take(&self) {
        // Release: pairs with `end`; what the holder did before is seen by who takes over.
        self.0.store(true, Ordering::Release);
    }

    /// Ends the hold. The one for whom this is true goes on with the connection.
    #[must_use]
    pub(crate) fn end(&self) -> bool {
        // AcqRel: pairs with itself and with `take`, so that who goes on sees what was done.
        self.0.swap(false, Ordering::AcqRel)
    }
}

#[cfg(test)]
#[cfg(loom)]
mod loom_tests {
    use loom::sync::Arc;

    use super::*;

    #[test]
    fn exactly_one_goes_on() {
        loom::model(|| {
            let hold = Arc::new(Hold::new());
            hold.take();
            let other = {
                let hold = Arc::clone(&hold);
                loom::thread::spawn(move || hold.end())
            };
            let own = hold.end();
            assert!(own != other.join().unwrap());
        });
    }
}
