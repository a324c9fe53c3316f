//! How many threads there are, and how many there are to be.

use crate::wire::sync::{AtomicUsize, Ordering};

/// The number of a server's threads.
///
/// Relaxed throughout: the numbers order nothing else, and each change is one atomic operation.
#[derive(Debug)]
pub(crate) struct Crew {
    target: AtomicUsize,
    alive: AtomicUsize,
}

impl Crew {
    pub(crate) fn new() -> Self {
        Self { target: AtomicUsize::new(0), alive: AtomicUsize::new(0) }
    }

    pub(crate) fn set_target(&self, target: usize) {
        self.target.store(target, Ordering::Relaxed);
    }

    pub(crate) fn nr_alive(&self) -> usize {
        self.alive.load(Ordering::Relaxed)
    }

    /// Counts one more, if there are too few.
    pub(crate) fn join(&self) -> bool {
        self.change(|alive, target| (alive < target).then_some(alive + 1))
    }

    /// Counts one less, if there are too many: the caller leaves.
    pub(crate) fn leave(&self) -> bool {
        self.change(|alive, target| (alive > target).then(|| alive - 1))
    }

    /// Counts one less: the caller is gone.
    pub(crate) fn left(&self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }

    /// Tells whether there are too many.
    pub(crate) fn is_too_large(&self) -> bool {
        self.alive.load(Ordering::Relaxed) > self.target.load(Ordering::Relaxed)
    }

    /// Tells whether one connection may have `nr` threads: all but one, which is for others.
    pub(crate) fn may_have(&self, nr: usize) -> bool {
        nr < self.target.load(Ordering::Relaxed)
    }

    fn change(&self, next: impl Fn(usize, usize) -> Option<usize>) -> bool {
        let target = self.target.load(Ordering::Relaxed);
        let change = |alive| next(alive, target);
        self.alive.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change).is_ok()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn a_crew_grows_and_shrinks_to_its_target() {
        let crew = Crew::new();
        crew.set_target(2);
        assert!(crew.join() && crew.join() && !crew.join());
        assert!(!crew.leave());
        crew.set_target(1);
        assert!(crew.is_too_large());
        assert!(crew.leave() && !crew.leave());
        assert_eq!(crew.nr_alive(), 1);
    }
}

#[cfg(test)]
#[cfg(loom)]
mod loom_tests {
    use loom::sync::Arc;

    use super::*;

    #[test]
    fn no_more_leave_than_are_too_many() {
        loom::model(|| {
            let crew = Arc::new(Crew::new());
            crew.set_target(2);
            assert!(crew.join() && crew.join());
            crew.set_target(1);
            let other = {
                let crew = Arc::clone(&crew);
                loom::thread::spawn(move || crew.leave())
            };
            let own = crew.leave();
            assert!(own != other.join().unwrap());
            assert_eq!(crew.nr_alive(), 1);
        });
    }
}
