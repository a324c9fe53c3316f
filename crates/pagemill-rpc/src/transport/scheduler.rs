//! Scheduler: which connections are ready, and which wait for memory; shared by all connections.

use alloc::sync::{Arc, Weak};

use crate::limits::client::Client;
use crate::limits::memory_budget::{MemoryBudget, Ticket};
use crate::transport::poller::Poller;
use crate::transport::run_queue::{Lane, RunQueue};
use crate::wire::sync::AtomicUsize;

/// A task of a worker thread for a connection.
#[derive(Debug)]
pub(crate) enum Task<C> {
    /// Sends queued replies, and takes the right to receive unless another thread has it.
    Event(Arc<C>),
    /// Receives and carries out calls. The task holds the right to receive.
    Calls(Arc<C>),
}

/// A connection that can wait for memory.
pub(crate) trait Waiter {
    /// Grants the connection bytes of the budget that it waited for.
    fn grant(&self, bytes: usize);
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
        self.queue([Task::Calls(connection)], lane);
    }

    /// Queues connections that have an event, for any thread.
    pub(crate) fn push_events(&self, connections: impl IntoIterator<Item = Arc<C>>) {
        self.queue(connections.into_iter().map(Task::Event), Lane::Fresh);
    }

    fn queue(&self, tasks: impl IntoIterator<Item = Task<C>>, lane: Lane) {
        let nr_awake = self.run_queue.push(tasks, lane);
        if nr_awake > 0 {
            self.poller.wake(nr_awake as u64);
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
