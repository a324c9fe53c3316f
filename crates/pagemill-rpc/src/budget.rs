//! How many bytes of pages connections may keep: calls that are not complete, replies that nobody
//! has read.

use alloc::collections::VecDeque;
use core::fmt;

use crate::sync::{AtomicUsize, Mutex, Ordering, lock};

/// A number of bytes, and those who wait for a part of it, served in their order.
pub(crate) struct Budget<T> {
    limit: usize,
    /// Guards what is used, and the queue of those who wait.
    state: Mutex<State<T>>,
    /// The length of the queue, for those who only look.
    nr_waiting: AtomicUsize,
}

struct State<T> {
    used: usize,
    waiting: VecDeque<(usize, T)>,
}

impl<T> Budget<T> {
    pub(crate) fn new(limit: usize) -> Self {
        let state = State { used: 0, waiting: VecDeque::new() };
        Self { limit, state: Mutex::new(state), nr_waiting: AtomicUsize::new(0) }
    }

    /// Takes `bytes` if they can be had and nobody waits; else `waiter` makes one who waits.
    ///
    /// What is more than the whole budget is given when nothing else is used.
    pub(crate) fn reserve(&self, bytes: usize, waiter: impl FnOnce() -> T) -> bool {
        let mut state = lock(&self.state);
        if state.waiting.is_empty() && state.fits(bytes, self.limit) {
            state.used += bytes;
            return true;
        }
        let waiter = waiter();
        state.waiting.push_back((bytes, waiter));
        // Relaxed: a look at the number decides nothing that must be exact.
        self.nr_waiting.store(state.waiting.len(), Ordering::Relaxed);
        false
    }

    /// Takes `bytes` whether they can be had or not.
    pub(crate) fn charge(&self, bytes: usize) {
        lock(&self.state).used += bytes;
    }

    /// Gives `bytes` back, and hands those who can be served now what they waited for.
    pub(crate) fn release(&self, bytes: usize, mut serve: impl FnMut(usize, T)) {
        let mut state = lock(&self.state);
        state.used -= bytes;
        while state.waiting.front().is_some_and(|&(wanted, _)| state.fits(wanted, self.limit)) {
            let Some((wanted, waiter)) = state.waiting.pop_front() else { break };
            state.used += wanted;
            serve(wanted, waiter);
        }
        self.nr_waiting.store(state.waiting.len(), Ordering::Relaxed);
    }

    /// Tells whether all is used, or more.
    pub(crate) fn is_over(&self) -> bool {
        lock(&self.state).used > self.limit
    }

    /// Returns how many wait.
    pub(crate) fn nr_waiting(&self) -> usize {
        self.nr_waiting.load(Ordering::Relaxed)
    }

    /// Returns how many bytes are used.
    pub(crate) fn used(&self) -> usize {
        lock(&self.state).used
    }

    /// Sends those away who wait.
    pub(crate) fn clear(&self) {
        let waiting = core::mem::take(&mut lock(&self.state).waiting);
        self.nr_waiting.store(0, Ordering::Relaxed);
        drop(waiting);
    }
}

impl<T> State<T> {
    fn fits(&self, bytes: usize, limit: usize) -> bool {
        self.used == 0 || self.used.saturating_add(bytes) <= limit
    }
}

impl<T> fmt::Debug for Budget<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("limit", &self.limit)
            .field("used", &self.used())
            .field("nr_waiting", &self.nr_waiting())
            .finish()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn those_who_wait_are_served_in_their_order() {
        let budget = Budget::new(10);
        assert!(budget.reserve(6, || 0));
        assert!(!budget.reserve(8, || 1));
        assert!(!budget.reserve(1, || 2), "nobody overtakes");
        let mut served = Vec::new();
        budget.release(4, |bytes, who| served.push((bytes, who)));
        assert_eq!(served, [(8, 1)], "2 in use and 8 served are the limit");
        budget.release(8, |bytes, who| served.push((bytes, who)));
        assert_eq!(served, [(8, 1), (1, 2)]);
        budget.release(3, |_, _| unreachable!("nobody waits"));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn too_much_is_given_when_nothing_else_is_used() {
        let budget = Budget::new(10);
        assert!(budget.reserve(11, || ()));
        assert!(!budget.reserve(0, || ()), "over the limit");
        let mut served = 0;
        budget.release(11, |_, ()| served += 1);
        assert_eq!((served, budget.used(), budget.nr_waiting()), (1, 0, 0));
    }
}

#[cfg(test)]
#[cfg(loom)]
mod loom_tests {
    use loom::sync::Arc;

    use super::*;

    #[test]
    fn who_waits_is_served_by_a_release() {
        loom::model(|| {
            let budget = Arc::new(Budget::new(1));
            assert!(budget.reserve(1, || 0));
            let waiter = {
                let budget = Arc::clone(&budget);
                loom::thread::spawn(move || budget.reserve(1, || 1))
            };
            let mut served = 0;
            budget.release(1, |_, _| served += 1);
            let at_once = waiter.join().unwrap();
            assert!(at_once != (served == 1));
            assert_eq!(budget.used(), 1);
        });
    }
}
