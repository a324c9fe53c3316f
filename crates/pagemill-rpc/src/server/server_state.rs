//! Server state shared by all threads: sockets, connections, worker slots, scheduler and limits.

use alloc::sync::Arc;
use core::cmp::Reverse;
use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::dispatch::dispatch::Dispatcher;
use crate::dispatch::program::{Peer, Transport};
use crate::limits::client::Client;
use crate::limits::connection_table::{ConnectionTable, MIN_USELESS_MS};
use crate::limits::memory_budget::MemoryBudget;
use crate::rqst::pages::Frames;
use crate::server::config::ServerConfig;
use crate::server::idle_pages::IdlePages;
use crate::server::worker_count::WorkerCount;
use crate::stats::ClientInfo;
use crate::transport::listener::{Accepted, Room, Socket, accept_batch};
use crate::transport::poller::{Interest, Poller};
use crate::transport::run_queue::RunQueue;
use crate::transport::scheduler::{Scheduler, Task};
use crate::transport::tcp::Connection;
use crate::wire::sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering, lock};

/// The token of the first socket; tokens of connections follow those of sockets.
const FIRST_TOKEN: u64 = 1;

/// What others see of a worker: the connection that it processes, and since when; see [`Busy`](crate::transport::busy::Busy).
///
/// Relaxed throughout: a thread that acts on it checks the connection itself.
#[derive(Debug)]
pub(crate) struct WorkerSlot<S: Frames> {
    pub(crate) token: AtomicU64,
    pub(crate) since: AtomicU64,
    /// The worker's pages while it sleeps.
    pub(crate) idle: IdlePages<S>,
}

impl<S: Frames> WorkerSlot<S> {
    pub(crate) fn new() -> Self {
        Self { token: AtomicU64::new(0), since: AtomicU64::new(0), idle: IdlePages::new() }
    }
}

/// The state that the threads of a server share.
pub(crate) struct ServerState<S: Frames> {
    pub(crate) config: ServerConfig,
    pub(crate) source: S,
    pub(crate) dispatcher: Dispatcher<S>,
    pub(crate) scheduler: Arc<Scheduler<Connection<S>>>,
    pub(crate) workers: WorkerCount,
    sockets: Vec<Socket>,
    /// Guards the table of connections.
    table: Mutex<ConnectionTable<Arc<Connection<S>>>>,
    next_token: AtomicU64,
    /// Guards the list of worker slots.
    pub(crate) slots: Mutex<Vec<Arc<WorkerSlot<S>>>>,
    stopping: AtomicBool,
    start: Instant,
}

impl<S: Frames> ServerState<S> {
    pub(crate) fn new(
        config: ServerConfig,
        source: S,
        dispatcher: Dispatcher<S>,
        sockets: Vec<Socket>,
    ) -> io::Result<Self> {
        let poller = Poller::new()?;
        let mut token = FIRST_TOKEN;
        for socket in &sockets {
            poller.add(socket, token)?;
            token += 1;
        }
        let (budget, run_queue) = (MemoryBudget::new(config.parked_bytes), RunQueue::new());
        Ok(Self {
            config,
            source,
            dispatcher,
            scheduler: Arc::new(Scheduler {
                budget,
                run_queue,
                poller,
                kept_files: AtomicUsize::new(0),
            }),
            workers: WorkerCount::new(),
            sockets,
            table: Mutex::new(ConnectionTable::new()),
            next_token: AtomicU64::new(token),
            slots: Mutex::new(Vec::new()),
            stopping: AtomicBool::new(false),
            // One millisecond ago, because time zero stands for never.
            start: Instant::now()
                .checked_sub(Duration::from_millis(1))
                .unwrap_or_else(Instant::now),
        })
    }

    /// Returns the milliseconds since the server started.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        // Acquire: pairs with the Release in `stop`.
        self.stopping.load(Ordering::Acquire)
    }

    pub(crate) fn nr_connections(&self) -> usize {
        lock(&self.table).len()
    }

    /// Returns the addresses that have connections.
    pub(crate) fn clients(&self) -> Vec<ClientInfo> {
        let table = lock(&self.table);
        let info = |(client, nr_connections): (Client, usize)| ClientInfo {
            addr: client.addr,
            nr_connections,
            is_stranger: client.is_stranger(),
        };
        table.addresses().map(info).collect()
    }

    /// Returns whether an unread reply may keep another file open.
    pub(crate) fn may_keep_file(&self) -> bool {
        self.scheduler.kept_files.load(Ordering::Relaxed) < self.config.max_kept_files
    }

    /// Returns the current connections.
    pub(crate) fn connections(&self) -> Vec<Arc<Connection<S>>> {
        lock(&self.table).iter().cloned().collect()
    }

    /// Returns the connection of `token`, if it still exists.
    pub(crate) fn connection(&self, token: u64) -> Option<Arc<Connection<S>>> {
        lock(&self.table).get(token).cloned()
    }

    /// Waits for an event.
    pub(crate) fn wait(&self) -> Option<Task<Connection<S>>> {
        let token = self.scheduler.poller.wait(|| self.is_stopping())?;
        self.task(&lock(&self.table), token)
    }

    /// Queues a task for each event, and returns the next task. Does not wait.
    pub(crate) fn poll(&self) -> Option<Task<Connection<S>>> {
        let tokens = self.scheduler.poller.poll();
        if tokens.is_empty() {
            return self.scheduler.run_queue.pop();
        }
        let table = lock(&self.table);
        let tasks: Vec<_> =
            tokens.into_iter().filter_map(|token| self.task(&table, token)).collect();
        drop(table);
        self.scheduler.push_and_pop(tasks)
    }

    /// Returns the task of an event; `None` if its connection was closed.
    fn task(
        &self,
        table: &ConnectionTable<Arc<Connection<S>>>,
        token: u64,
    ) -> Option<Task<Connection<S>>> {
        if self.socket(token).is_some() {
            return Some(Task::Socket(token));
        }
        table.get(token).cloned().map(Task::Event)
    }

    pub(crate) fn socket(&self, token: u64) -> Option<&Socket> {
        self.sockets.get(usize::try_from(token.checked_sub(FIRST_TOKEN)?).ok()?)
    }

    /// Arms a socket: asks for its next event.
    pub(crate) fn arm_socket(&self, token: u64) {
        if let Some(socket) = self.socket(token)
            && let Err(error) = self.scheduler.poller.arm(socket, token, Interest::Read)
        {
            tracing::error!(%error, "a socket cannot be waited for");
        }
    }

    /// Arms a connection: asks for room to write if replies wait, else for input. `reading` is true if
    /// no thread receives from the connection any more.
    pub(crate) fn arm(&self, connection: &Connection<S>, reading: bool) {
        connection.set_reading(reading, |backlogged| {
            let what = if backlogged { Interest::Write } else { Interest::Read };
            // A connection that another thread closed is no longer in the set.
            let _armed = self.scheduler.poller.arm(connection.stream(), connection.token, what);
        });
    }

    /// Accepts waiting connections, up to the limit of one thread.
    pub(crate) fn accept(&self, token: u64, listener: &TcpListener, parked: &AtomicBool) {
        let make_room = |error: &io::Error, room: Room| {
            self.dispatcher.stats().accept_failures.bump();
            tracing::debug!(%error, "no connection can be accepted");
            room == Room::Descriptors && self.close_useless()
        };
        let admit = |(stream, addr)| self.admit(stream, addr);
        match accept_batch(|| listener.accept(), admit, make_room) {
            Accepted::All => self.arm_socket(token),
            // The supervisor retries later: the event would come again at once.
            Accepted::UpToAFailure => parked.store(true, Ordering::Release),
        }
    }

    /// Accepts again on sockets where accepting failed.
    pub(crate) fn retry_accept(&self) {
        for (socket, token) in self.sockets.iter().zip(FIRST_TOKEN..) {
            if let Socket::Tcp(_, parked) = socket
                && parked.swap(false, Ordering::AcqRel)
            {
                self.arm_socket(token);
            }
        }
    }

    fn admit(&self, stream: TcpStream, addr: SocketAddr) {
        let stats = self.dispatcher.stats();
        let client = Client::of(addr.ip(), self.dispatcher.knows(addr.ip()));
        if self.nr_connections() >= self.config.max_connections && !self.evict_for(client) {
            stats.turned_away.bump();
            tracing::debug!(%addr, "turned away: there are too many connections");
            return;
        }
        // Without the latter, a reply in several segments waits for the client's acknowledgement.
        if stream.set_nonblocking(true).is_err() || stream.set_nodelay(true).is_err() {
            return;
        }
        let token = self.next_token.fetch_add(1, Ordering::Relaxed);
        let peer = Peer { addr, transport: Transport::Tcp };
        let max = self.config.max_record_bytes();
        let scheduler = Arc::clone(&self.scheduler);
        let connection = Connection::new(stream, (peer, client), token, max, scheduler, self.now());
        let connection = Arc::new(connection);
        let mut table = lock(&self.table);
        if self.scheduler.poller.add_unarmed(connection.stream(), token).is_err() {
            return;
        }
        table.insert(token, client, Arc::clone(&connection));
        drop(table);
        stats.accepted.bump();
        // Its first call has usually arrived. An event would queue behind those of other connections.
        self.scheduler.push_event(connection);
    }

    /// Closes the least useful connection to accept one of `client`; returns false if all are more
    /// useful.
    fn evict_for(&self, client: Client) -> bool {
        let now = self.now();
        let table = lock(&self.table);
        let victim = table.least_useful(client, now, |connection| connection.standing()).cloned();
        drop(table);
        // Another thread may close it concurrently, which frees its place as well.
        let evict = |connection: Arc<Connection<S>>| {
            self.evict(&connection, "a new connection needs its place")
        };
        victim.map(evict).is_some()
    }

    /// Closes a useless connection, to free its descriptor for one whose client is not known before it
    /// is accepted; returns false if there is none.
    fn close_useless(&self) -> bool {
        let now = self.now();
        let standing = |connection: &Arc<Connection<S>>| connection.standing();
        let is_useless = |connection: &&Arc<Connection<S>>| {
            connection.standing().since.is_some_and(|since| {
                connection.client.is_stranger() || now.saturating_sub(since) >= MIN_USELESS_MS
            })
        };
        let table = lock(&self.table);
        let rank = |connection: &&Arc<Connection<S>>| {
            let is_known = !connection.client.is_stranger();
            (is_known, Reverse(table.nr_of(connection.client)), standing(connection).useful)
        };
        let victim = table.iter().filter(is_useless).min_by_key(rank).cloned();
        drop(table);
        victim.is_some_and(|connection| self.evict(&connection, "a descriptor is needed"))
    }

    /// Closes a connection for the benefit of others; returns false if it was closed before.
    pub(crate) fn evict(&self, connection: &Connection<S>, why: &'static str) -> bool {
        let is_first = self.close(connection);
        if is_first {
            self.dispatcher.stats().evicted.bump();
            tracing::debug!(peer = %connection.peer.addr, why, "closed a connection for another");
        }
        is_first
    }

    /// Closes a connection; returns false if it was closed before.
    pub(crate) fn close(&self, connection: &Connection<S>) -> bool {
        if !connection.close() {
            return false;
        }
        self.scheduler.poller.remove(connection.stream());
        let gone = lock(&self.table).remove(connection.token);
        drop(gone);
        true
    }

    /// Requests all threads to end.
    pub(crate) fn stop(&self) {
        // Release: pairs with the Acquire in `is_stopping`.
        self.stopping.store(true, Ordering::Release);
        for socket in &self.sockets {
            self.scheduler.poller.remove(socket);
        }
        // Wakes all threads. None of them takes another call, except those about to; the count exceeds
        // any possible number of threads.
        self.scheduler.poller.wake(u64::from(u32::MAX));
    }

    /// Sends queued replies until `deadline`, and closes all connections; returns true if all were
    /// sent.
    pub(crate) fn drain(&self, deadline: Instant) -> bool {
        let mut all = true;
        for connection in self.connections() {
            all &= self.drain_one(&connection, deadline);
            self.close(&connection);
        }
        self.scheduler.run_queue.clear();
        self.scheduler.budget.clear();
        all
    }

    fn drain_one(&self, connection: &Connection<S>, deadline: Instant) -> bool {
        loop {
            match connection.flush(self.now()) {
                Ok((_, true)) => return true,
                Ok((_, false)) => {}
                Err(_) => return false,
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let timeout = Timespec::try_from(left).ok();
            let mut fds = [PollFd::new(connection.stream(), PollFlags::OUT)];
            let _ready = poll(&mut fds, timeout.as_ref());
        }
    }
}

impl<S: Frames> fmt::Debug for ServerState<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerState").field("sockets", &self.sockets).finish_non_exhaustive()
    }
}
