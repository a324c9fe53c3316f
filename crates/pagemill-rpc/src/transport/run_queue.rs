//! Run queue: tasks that are ready for any worker thread, taken in turn by client; decides whether to
//! wake a sleeping thread.

use alloc::collections::VecDeque;
use alloc::collections::btree_map::{BTreeMap, Entry};
use core::fmt;
use core::net::IpAddr;

use crate::limits::client::{Client, ClientKey};
use crate::wire::sync::{AtomicUsize, Mutex, Ordering, fence, lock};

/// Number of tasks of a client taken from the fresh lane before one is taken from the busy lane.
///
/// A task of the busy lane usually takes a whole turn, and one of the fresh lane a call or two. Both
/// lanes make progress whatever the other one holds.
pub(crate) const FRESH_TURNS: u32 = 8;
/// The same for clients.
///
/// A client whose tasks arrive one at a time is always fresh, so this number limits how much of the
/// threads it can take from a client with many tasks.
const FRESH_CLIENTS: u32 = 1;

/// The lane that a task waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// For those that had nothing to do until now.
    Fresh,
    /// For those that have used up a turn and have more to do.
    Busy,
}

/// A queue of tasks by client. Threads that find it empty sleep elsewhere, in the kernel.
///
/// Clients with tasks take turns, and so do the addresses of a client. One turn is one task. So a
/// client delays others by one task for each of theirs, however many connections it has. A client that
/// is alone has all turns.
///
/// Two lanes keep those with many tasks from delaying those with few: one pair of lanes orders clients,
/// one the addresses of each client, and one the connections of each address.
///
/// A thread announces its sleep, and then checks the queue once more before it sleeps. A thread that
/// pushes checks for sleepers afterwards. One of the two sees the other, because each has a fence
/// between its write and its read.
///
/// # Cost
/// Logarithmic in the number of clients that have tasks. Clients without tasks use no memory, except
/// that the last queue to become empty is kept for the next client.
///
/// # Source
/// `rfc8290` section 4.2: new flows are served before old flows. Differs: old flows cannot starve.
pub(crate) struct RunQueue<T> {
    /// Guards the queue.
    tasks: Mutex<Tasks<T>>,
    /// Number of tasks, for readers without the lock.
    len: AtomicUsize,
    /// Number of threads that sleep or are about to.
    sleepers: AtomicUsize,
}

struct Tasks<T> {
    clients: Turns<ClientKey, Turns<IpAddr, Lanes<T, FRESH_TURNS>>>,
    len: usize,
}

/// A queue of tasks.
trait Queue: Default {
    type Task;

    fn pop(&mut self) -> Option<Self::Task>;

    fn is_empty(&self) -> bool;
}

/// A queue in two lanes. Of the fresh lane, at most `NR_FRESH` in succession are taken while the busy
/// lane is not empty.
struct Lanes<T, const NR_FRESH: u32> {
    fresh: VecDeque<T>,
    busy: VecDeque<T>,
    /// Number of those taken from the fresh lane since the last one of the busy lane.
    nr_fresh_taken: u32,
}

/// Queues by key, of which each gives one task in its turn.
struct Turns<K, Q> {
    /// No queue is empty.
    queues: BTreeMap<K, Q>,
    /// The keys, each once. A key becomes busy when its queue has given a task and has more.
    order: Lanes<K, FRESH_CLIENTS>,
    /// The last queue that became empty: with a single client, no task allocates memory.
    spare: Option<Q>,
}

impl<T, const NR_FRESH: u32> Default for Lanes<T, NR_FRESH> {
    fn default() -> Self {
        Self { fresh: VecDeque::new(), busy: VecDeque::new(), nr_fresh_taken: 0 }
    }
}

impl<T, const NR_FRESH: u32> Lanes<T, NR_FRESH> {
    fn push(&mut self, task: T, lane: Lane) {
        match lane {
            Lane::Fresh => self.fresh.push_back(task),
            Lane::Busy => self.busy.push_back(task),
        }
    }
}

impl<T, const NR_FRESH: u32> Queue for Lanes<T, NR_FRESH> {
    type Task = T;

    fn pop(&mut self) -> Option<T> {
        if self.busy.is_empty() || (self.nr_fresh_taken < NR_FRESH && !self.fresh.is_empty()) {
            self.nr_fresh_taken = if self.busy.is_empty() { 0 } else { self.nr_fresh_taken + 1 };
            return self.fresh.pop_front();
        }
        self.nr_fresh_taken = 0;
        self.busy.pop_front()
    }

    fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.busy.is_empty()
    }
}

impl<K, Q> Default for Turns<K, Q> {
    fn default() -> Self {
        Self { queues: BTreeMap::new(), order: Lanes::default(), spare: None }
    }
}

impl<K: Copy + Ord, Q: Queue> Turns<K, Q> {
    /// Returns the queue of `key`, to which the caller adds a task.
    fn queue(&mut self, key: K) -> &mut Q {
        self.queues.entry(key).or_insert_with(|| {
            self.order.push(key, Lane::Fresh);
            self.spare.take().unwrap_or_default()
        })
    }
}

impl<K: Copy + Ord, Q: Queue> Queue for Turns<K, Q> {
    type Task = Q::Task;

    fn pop(&mut self) -> Option<Q::Task> {
        let key = self.order.pop()?;
        let Entry::Occupied(mut entry) = self.queues.entry(key) else { return None };
        let task = entry.get_mut().pop();
        if entry.get().is_empty() {
            self.spare = Some(entry.remove());
        } else {
            self.order.push(key, Lane::Busy);
        }
        task
    }

    fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }
}

impl<T> Tasks<T> {
    fn push(&mut self, (client, task): (Client, T), lane: Lane) {
        self.clients.queue(client.key).queue(client.addr).push(task, lane);
        self.len += 1;
    }

    fn pop(&mut self) -> Option<T> {
        let task = self.clients.pop()?;
        self.len -= 1;
        Some(task)
    }
}

impl<T> RunQueue<T> {
    pub(crate) fn new() -> Self {
        let tasks = Tasks { clients: Turns::default(), len: 0 };
        Self { tasks: Mutex::new(tasks), len: AtomicUsize::new(0), sleepers: AtomicUsize::new(0) }
    }

    /// Appends tasks of clients to their lanes, and returns how many sleeping threads must be woken.
    #[must_use]
    pub(crate) fn push(&self, tasks: impl IntoIterator<Item = (Client, T)>, lane: Lane) -> usize {
        self.add(tasks, lane, |_| ()).1
    }

    /// Does the same, and then removes and returns the next task, which the caller carries out itself.
    pub(crate) fn push_and_pop(
        &self,
        tasks: impl IntoIterator<Item = (Client, T)>,
        lane: Lane,
    ) -> (Option<T>, usize) {
        self.add(tasks, lane, Tasks::pop)
    }

    fn add<R>(
        &self,
        new: impl IntoIterator<Item = (Client, T)>,
        lane: Lane,
        then: impl FnOnce(&mut Tasks<T>) -> R,
    ) -> (R, usize) {
        let mut tasks = lock(&self.tasks);
        let before = tasks.len;
        new.into_iter().for_each(|task| tasks.push(task, lane));
        let nr_new = tasks.len - before;
        let result = then(&mut tasks);
        let len = tasks.len;
        // Relaxed: the lock orders it for threads that push and pop, the fence for those that sleep.
        self.len.store(len, Ordering::Relaxed);
        drop(tasks);
        // SeqCst: pairs with the fence in `sleep`.
        fence(Ordering::SeqCst);
        // For each task that was there before, a thread is awake: maybe the caller, so one that it takes
        // stands for none of the new ones.
        (result, self.sleepers.load(Ordering::Relaxed).min(nr_new).min(len))
    }

    /// Removes and returns the next task.
    pub(crate) fn pop(&self) -> Option<T> {
        // Relaxed: a thread that misses a task here finds it, or is woken, before it sleeps.
        if self.len.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut tasks = lock(&self.tasks);
        let task = tasks.pop();
        self.len.store(tasks.len, Ordering::Relaxed);
        task
    }

    /// Announces that the caller will sleep. Returns false if there is a task: then the caller must not
    /// sleep.
    #[must_use]
    pub(crate) fn sleep(&self) -> bool {
        self.sleepers.fetch_add(1, Ordering::Relaxed);
        // SeqCst: pairs with the fence in `add`.
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
        let mut tasks = lock(&self.tasks);
        let clients = core::mem::take(&mut tasks.clients);
        tasks.len = 0;
        self.len.store(0, Ordering::Relaxed);
        drop(tasks);
        // Outside the lock: dropping a connection may make others ready.
        drop(clients);
    }
}

impl<T> fmt::Debug for RunQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Relaxed: only for debug output.
        let (len, sleepers) = (&self.len, &self.sleepers);
        f.debug_struct("RunQueue")
            .field("len", &len.load(Ordering::Relaxed))
            .field("sleepers", &sleepers.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;

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
                loom::thread::spawn(move || ready.push([(Client::SERVER, 7)], Lane::Fresh))
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

    #[test]
    fn of_two_items_the_pusher_takes_one_and_the_sleeper_finds_or_is_woken_for_the_other() {
        loom::model(|| {
            let ready = Arc::new(RunQueue::new());
            let pusher = {
                let ready = Arc::clone(&ready);
                let items = [(Client::SERVER, 7), (Client::SERVER, 8)];
                loom::thread::spawn(move || ready.push_and_pop(items, Lane::Fresh))
            };
            let slept = ready.sleep();
            let (taken, woken) = pusher.join().unwrap();
            assert_eq!(taken, Some(7));
            if slept {
                assert_eq!(woken, 1);
                ready.awake();
            }
            assert_eq!(ready.pop(), Some(8));
        });
    }
}
