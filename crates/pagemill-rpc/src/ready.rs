//! What is ready to be worked on, and whether somebody must be woken for it.

use alloc::collections::VecDeque;
use core::fmt;

use crate::sync::{AtomicUsize, Mutex, Ordering, fence, lock};

/// A queue that those who sleep elsewhere, as in the kernel, are told about.
///
/// A thread announces its sleep, and looks at the queue once more, before it sleeps; whoever
/// pushes looks for sleepers after that. One of the two sees the other: a fence stands between the
/// write and the read of each.
pub(crate) struct Ready<T> {
    /// Guards the queue.
    queue: Mutex<VecDeque<T>>,
    /// The length of the queue, for those who only look.
    len: AtomicUsize,
    /// Threads that sleep or are about to.
    sleepers: AtomicUsize,
}

impl<T> Ready<T> {
    pub(crate) fn new() -> Self {
        Self {
            queue: Mutex::new(VecDeque::new()),
            len: AtomicUsize::new(0),
            sleepers: AtomicUsize::new(0),
        }
    }

    /// Appends `item`; true if a sleeper must be woken.
    pub(crate) fn push(&self, item: T) -> bool {
        let mut queue = lock(&self.queue);
        queue.push_back(item);
        // Relaxed: the lock orders it for others who push and pop, the fence for who sleeps.
        self.len.store(queue.len(), Ordering::Relaxed);
        drop(queue);
        // SeqCst: pairs with the fence in `sleep`.
        fence(Ordering::SeqCst);
        self.sleepers.load(Ordering::Relaxed) > 0
    }

    /// Takes the first item.
    pub(crate) fn pop(&self) -> Option<T> {
        // Relaxed: who misses an item here finds it, or is woken, before it sleeps.
        if self.len.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut queue = lock(&self.queue);
        let item = queue.pop_front();
        self.len.store(queue.len(), Ordering::Relaxed);
        item
    }

    /// Announces that the caller sleeps, unless there is an item; then it must not.
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

    /// Takes the announcement back.
    pub(crate) fn awake(&self) {
        // Relaxed: who counts it too long wakes somebody in vain.
        self.sleepers.fetch_sub(1, Ordering::Relaxed);
    }

    /// Empties the queue.
    pub(crate) fn clear(&self) {
        let mut queue = lock(&self.queue);
        let items = core::mem::take(&mut *queue);
        self.len.store(0, Ordering::Relaxed);
        drop(queue);
        drop(items);
    }
}

impl<T> fmt::Debug for Ready<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Relaxed: for people.
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
    fn nobody_sleeps_while_there_is_an_item() {
        let ready = Ready::new();
        assert!(ready.sleep());
        assert!(ready.push(1), "a sleeper must be woken");
        ready.awake();
        assert!(!ready.sleep());
        assert!(!ready.push(2), "nobody sleeps");
        assert_eq!([ready.pop(), ready.pop(), ready.pop()], [Some(1), Some(2), None]);
        assert!(ready.sleep());
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
            let ready = Arc::new(Ready::new());
            let pusher = {
                let ready = Arc::clone(&ready);
                loom::thread::spawn(move || ready.push(7))
            };
            let slept = ready.sleep();
            let woken = pusher.join().unwrap();
            if slept {
                // Asleep with an item in the queue: the pusher knows of it.
                assert!(woken);
                ready.awake();
            }
            assert_eq!(ready.pop(), Some(7));
        });
    }
}
