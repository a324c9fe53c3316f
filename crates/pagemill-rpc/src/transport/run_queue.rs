//! Run queue: connections that are ready for any worker thread; decides whether to wake a sleeping
//! thread.

use alloc::collections::VecDeque;
use core::fmt;

use crate::wire::sync::{AtomicUsize, Mutex, Ordering, fence, lock};

/// Number of tasks taken from the fresh lane before one is taken from the busy lane.
///
/// A task of the busy lane usually takes a whole turn, and one of the fresh lane a call or two. Both
/// lanes make progress whatever the other one holds.
pub(crate) const FRESH_TURNS: u32 = 8;

/// The lane that a task waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// For connections that had nothing to do until now.
    Fresh,
    /// For connections that have used up a turn and have more to do.
    Busy,
}

/// A queue of tasks in two lanes. Threads that find it empty sleep elsewhere, in the kernel.
///
/// The lanes keep connections with many outstanding calls from delaying those with few.
///
/// A thread announces its sleep, and then checks the queue once more before it sleeps. A thread that
/// pushes checks for sleepers afterwards. One of the two sees the other, because each has a fence
/// between its write and its read.
///
/// # Source
/// `rfc8290` section 4.2: new flows are served before old flows. Differs: old flows cannot starve.
pub(crate) struct RunQueue<T> {
    /// Guards the queue.
    lanes: Mutex<Lanes<T>>,
    /// Number of tasks, for readers without the lock.
    len: AtomicUsize,
    /// Number of threads that sleep or are about to.
    sleepers: AtomicUsize,
}

struct Lanes<T> {
    fresh: VecDeque<T>,
    busy: VecDeque<T>,
    /// Number of tasks taken from the fresh lane since the last one of the busy lane.
    nr_fresh_taken: u32,
}

impl<T> Lanes<T> {
    fn len(&self) -> usize {
        self.fresh.len() + self.busy.len()
    }

    fn pop(&mut self) -> Option<T> {
        if self.nr_fresh_taken < FRESH_TURNS
            && let Some(task) = self.fresh.pop_front()
        {
            self.nr_fresh_taken += 1;
            return Some(task);
        }
        self.nr_fresh_taken = 0;
        self.busy.pop_front().or_else(|| self.fresh.pop_front())
    }
}

impl<T> RunQueue<T> {
    pub(crate) fn new() -> Self {
        let lanes = Lanes { fresh: VecDeque::new(), busy: VecDeque::new(), nr_fresh_taken: 0 };
        Self { lanes: Mutex::new(lanes), len: AtomicUsize::new(0), sleepers: AtomicUsize::new(0) }
    }

    /// Appends tasks to a lane, and returns how many sleeping threads must be woken.
    pub(crate) fn push(&self, tasks: impl IntoIterator<Item = T>, lane: Lane) -> usize {
        let mut lanes = lock(&self.lanes);
        let before = lanes.len();
        match lane {
            Lane::Fresh => lanes.fresh.extend(tasks),
            Lane::Busy => lanes.busy.extend(tasks),
        }
        let len = lanes.len();
        // Relaxed: the lock orders it for threads that push and pop, the fence for those that sleep.
        self.len.store(len, Ordering::Relaxed);
        drop(lanes);
        // SeqCst: pairs with the fence in `sleep`.
        fence(Ordering::SeqCst);
        self.sleepers.load(Ordering::Relaxed).min(len - before)
    }

    /// Removes and returns the next task.
    pub(crate) fn pop(&self) -> Option<T> {
        // Relaxed: a thread that misses a task here finds it, or is woken, before it sleeps.
        if self.len.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut lanes = lock(&self.lanes);
        let task = lanes.pop();
        self.len.store(lanes.len(), Ordering::Relaxed);
        task
    }

    /// Announces that the caller will sleep. Returns false if there is a task: then the caller must not
    /// sleep.
    #[must_use]
    pub(crate) fn sleep(&self) -> bool {
        self.sleepers.fetch_add(1, Ordering::Relaxed);
        // SeqCst: pairs with the fence in `push`.
        fence(Ordering::SeqCst);
        if self.len.load(Ordering::Relaxed) == 0 {
            return true;
        }
        self.awake();
        false
    }

    /// Cancels the announcement.
    pub(crate) fn awake(&self) {
        // Relaxed: a thread that still counts this one as asleep makes one needless wake-up.
        self.sleepers.fetch_sub(1, Ordering::Relaxed);
    }

    /// Empties the queue.
    pub(crate) fn clear(&self) {
        let mut lanes = lock(&self.lanes);
        let fresh = core::mem::take(&mut lanes.fresh);
        let busy = core::mem::take(&mut lanes.busy);
        self.len.store(0, Ordering::Relaxed);
        drop(lanes);
        // Outside the lock: dropping a connection may make others ready.
        drop((fresh, busy));
    }
}

impl<T> fmt::Debug for RunQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Relaxed: only for debug output.
        let (len, sleepers) = (&self.len, &self.sleepers);
        f.debug_struct("Ready")
            .field("len", &len.load(Ordering::Relaxed))
            .field("sleepers", &sleepers.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn no_thread_sleeps_while_there_is_a_task() {
        let ready = RunQueue::new();
        assert!(ready.sleep());
        assert_eq!(ready.push([1], Lane::Fresh), 1, "a sleeper must be woken");
        assert_eq!(ready.push([2, 3], Lane::Fresh), 1, "there is one sleeper");
        ready.awake();
        assert!(!ready.sleep());
        assert_eq!(ready.push([4], Lane::Busy), 0, "no thread sleeps");
        let popped: Vec<_> = core::iter::from_fn(|| ready.pop()).collect();
        assert_eq!(popped, [1, 2, 3, 4]);
        assert!(ready.sleep());
    }

    #[test]
    fn neither_lane_starves_the_other() {
        let ready = RunQueue::new();
        ready.push((0..100).map(|task| (Lane::Busy, task)), Lane::Busy);
        ready.push((0..100).map(|task| (Lane::Fresh, task)), Lane::Fresh);
        let mut waited = [0; 2];
        let mut next = [0; 2];
        while let Some((lane, task)) = ready.pop() {
            let [own, other] = if lane == Lane::Fresh { [0, 1] } else { [1, 0] };
            assert_eq!(task, next[own], "each lane is in order");
            next[own] += 1;
            waited[own] = 0;
            waited[other] += u32::from(next[other] < 100);
            assert!(waited[0] <= 1 && waited[1] <= FRESH_TURNS, "{waited:?}");
        }
        assert_eq!(next, [100, 100]);
    }
}

#[cfg(test)]
#[cfg(loom)]
mod loom_tests {
    use loom::sync::Arc;

    use super::*;

    #[test]
    fn an_item_is_found_or_its_sleeper_woken() {
        loom::model(|| {
            let ready = Arc::new(RunQueue::new());
            let pusher = {
                let ready = Arc::clone(&ready);
                loom::thread::spawn(move || ready.push([7], Lane::Fresh))
            };
            let slept = ready.sleep();
            let woken = pusher.join().unwrap();
            if slept {
                // Asleep with an item in the queue: the pusher knows of it.
                assert_eq!(woken, 1);
                ready.awake();
            }
            assert_eq!(ready.pop(), Some(7));
        });
    }
}
