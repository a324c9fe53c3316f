//! Scheduler: which connections are ready, and which wait for memory; shared by all connections.

use alloc::sync::{Arc, Weak};

use crate::limits::client::Client;
use crate::limits::memory_budget::{MemoryBudget, Ticket};
use crate::transport::poller::Poller;
use crate::transport::run_queue::{Lane, RunQueue};
use crate::wire::sync::AtomicUsize;

/// A task of a worker thread.
#[derive(Debug)]
pub(crate) enum Task<C> {
    /// Accepts connections, or receives a datagram, on the socket with this token. No other thread gets
    /// an event of the socket until this one arms it again.
    Socket(u64),
    /// Sends queued replies, and takes the right to receive unless another thread has it.
    Event(Arc<C>),
    /// Receives and carries out calls. The task holds the right to receive.
    Calls(Arc<C>),
}

/// A connection that can wait for memory, and for a thread.
pub(crate) trait Waiter {
    /// Returns the client whose turn the connection waits for.
    fn client(&self) -> Client;

    /// Grants the connection bytes of the budget that it waited for.
    fn grant(&self, bytes: usize);
}

impl<C: Waiter> Task<C> {
    fn client(&self) -> Client {
        match self {
            Self::Socket(_) => Client::SERVER,
            Self::Event(connection) | Self::Calls(connection) => connection.client(),
        }
    }
}

/// Scheduling state that all connections share: the memory budget, and the queue of ready connections.
#[derive(Debug)]
pub(crate) struct Scheduler<C> {
    pub(crate) budget: MemoryBudget<Weak<C>>,
    pub(crate) run_queue: RunQueue<Task<C>>,
    pub(crate) poller: Poller,
    /// Number of files kept open for unread replies.
    ///
    /// Relaxed: it is compared with a limit that each thread may exceed by one file.
    pub(crate) kept_files: AtomicUsize,
}

impl<C: Waiter> Scheduler<C> {
    /// Queues a connection, with the right to receive, for any thread.
    pub(crate) fn push(&self, connection: Arc<C>, lane: Lane) {
        self.wake(self.run_queue.push([(connection.client(), Task::Calls(connection))], lane));
    }

    /// Queues a connection that has an event, for any thread.
    pub(crate) fn push_event(&self, connection: Arc<C>) {
        self.push_tasks([Task::Event(connection)]);
    }

    /// Queues tasks of events, for any thread.
    pub(crate) fn push_tasks(&self, tasks: impl IntoIterator<Item = Task<C>>) {
        let tasks = tasks.into_iter().map(|task| (task.client(), task));
        self.wake(self.run_queue.push(tasks, Lane::Fresh));
    }

    /// Queues tasks of events, for any thread, and returns the next task for this thread.
    pub(crate) fn push_and_pop(&self, tasks: Vec<Task<C>>) -> Option<Task<C>> {
        let tasks = tasks.into_iter().map(|task| (task.client(), task));
        let (task, nr_asleep) = self.run_queue.push_and_pop(tasks, Lane::Fresh);
        self.wake(nr_asleep);
        task
    }

    fn wake(&self, nr_asleep: usize) {
        if nr_asleep > 0 {
            self.poller.wake(nr_asleep as u64);
        }
    }

    /// Returns bytes of `client` to the budget; connections that waited for them become ready.
    pub(super) fn release(&self, client: Client, bytes: usize) {
        let mut unclaimed = Vec::new();
        self.budget.release(client, bytes, self.server(&mut unclaimed));
        // Grants for connections that were closed in the meantime.
        while let Some((client, bytes)) = unclaimed.pop() {
            self.budget.release(client, bytes, self.server(&mut unclaimed));
        }
    }

    /// Removes a connection's request from the waiting ones.
    pub(super) fn cancel(&self, client: Client, ticket: Ticket) {
        let mut unclaimed = Vec::new();
        self.budget.cancel(client, ticket, self.server(&mut unclaimed));
        for (client, bytes) in unclaimed {
            self.release(client, bytes);
        }
    }

    /// Returns the callback that passes grants of the budget to their connections.
    fn server(&self, unclaimed: &mut Vec<(Client, usize)>) -> impl FnMut(Client, usize, Weak<C>) {
        move |client, bytes, waiter| match waiter.upgrade() {
            Some(connection) => {
                connection.grant(bytes);
                self.push(connection, Lane::Fresh);
            }
            None => unclaimed.push((client, bytes)),
        }
    }
}
