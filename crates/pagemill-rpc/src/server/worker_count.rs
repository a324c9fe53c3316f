//! Worker count: target and current number of worker threads.

use crate::wire::sync::{AtomicUsize, Ordering};

/// Target and current number of worker threads.
///
/// Relaxed throughout: the numbers order nothing else, and each change is one atomic operation.
#[derive(Debug)]
pub(crate) struct WorkerCount {
    target: AtomicUsize,
    alive: AtomicUsize,
}

impl WorkerCount {
    pub(crate) fn new() -> Self {
        Self { target: AtomicUsize::new(0), alive: AtomicUsize::new(0) }
    }

    pub(crate) fn set_target(&self, target: usize) {
        self.target.store(target, Ordering::Relaxed);
    }

    pub(crate) fn nr_alive(&self) -> usize {
        self.alive.load(Ordering::Relaxed)
    }

    /// Counts one more thread if there are fewer than the target; the caller then starts a thread.
    pub(crate) fn try_start(&self) -> bool {
        self.change(|alive, target| (alive < target).then_some(alive + 1))
    }

    /// Counts one thread less if there are more than the target; the calling thread then ends.
    pub(crate) fn try_stop(&self) -> bool {
        self.change(|alive, target| (alive > target).then(|| alive - 1))
    }

    /// Counts one thread less, because the calling thread ends for another reason.
    pub(crate) fn on_exit(&self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }

    /// Returns whether there are more threads than the target.
    pub(crate) fn is_above_target(&self) -> bool {
        self.alive.load(Ordering::Relaxed) > self.target.load(Ordering::Relaxed)
    }

    /// Returns whether one connection may occupy `nr` threads: three quarters of them, and at least one.
    ///
    /// A program may limit what its calls wait for in the same way. Further calls of a single connection
    /// then stay in the socket, without a thread.
    pub(crate) fn may_have(&self, nr: usize) -> bool {
        nr <= (self.target.load(Ordering::Relaxed) * 3 / 4).max(1)
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
    fn a_connection_leaves_threads_to_others() {
        let workers = WorkerCount::new();
        for (target, most) in [(1, 1), (2, 1), (3, 2), (4, 3), (8, 6), (64, 48)] {
            workers.set_target(target);
            assert!(workers.may_have(most) && !workers.may_have(most + 1), "of {target}");
        }
    }

    #[test]
    fn threads_start_and_stop_until_the_target_is_met() {
        let workers = WorkerCount::new();
        workers.set_target(2);
        assert!(workers.try_start() && workers.try_start() && !workers.try_start());
        assert!(!workers.try_stop());
        workers.set_target(1);
        assert!(workers.is_above_target());
        assert!(workers.try_stop() && !workers.try_stop());
        assert_eq!(workers.nr_alive(), 1);
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
            let workers = Arc::new(WorkerCount::new());
            workers.set_target(2);
            assert!(workers.try_start() && workers.try_start());
            workers.set_target(1);
            let other = {
                let workers = Arc::clone(&workers);
                loom::thread::spawn(move || workers.try_stop())
            };
            let own = workers.try_stop();
            assert!(own != other.join().unwrap());
            assert_eq!(workers.nr_alive(), 1);
        });
    }
}
