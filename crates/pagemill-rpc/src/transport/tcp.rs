//! TCP connection: its sending side, its part of the memory budget, and how useful it is.

use alloc::sync::Arc;
use core::mem;
use std::io;
use std::net::TcpStream;
use std::os::fd::AsFd;

use pagemill::units::PAGE_SIZE;

use crate::dispatch::program::Peer;
use crate::limits::client::Client;
use crate::limits::connection_table::Standing;
use crate::rqst::pages::Frames;
use crate::rqst::reply::Reply;
use crate::transport::busy::Busy;
use crate::transport::input::Input;
use crate::transport::scheduler::{Scheduler, Waiter};
use crate::transport::send_queue::SendQueue;
use crate::wire::sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering, lock};

struct Output<S: Frames> {
    send_queue: SendQueue<S>,
    /// Whether the next event is for input: no thread is receiving.
    reading: bool,
    /// Bytes of the budget that the send queue is charged for.
    charged: usize,
    /// Files of the send queue that the scheduler has counted.
    counted_files: usize,
}

/// A TCP connection.
pub(crate) struct Connection<S: Frames> {
    pub(crate) token: u64,
    pub(crate) peer: Peer,
    /// The client whose share of the server's limits the connection counts against.
    pub(crate) client: Client,
    pub(super) stream: TcpStream,
    /// Guards the receiving side. Locked by the receiving thread: one at a time.
    pub(super) input: Mutex<Input<S>>,
    /// Guards the sending side. Locked after `input`, or alone.
    output: Mutex<Output<S>>,
    pub(crate) busy: Busy,
    closed: AtomicBool,
    pub(super) scheduler: Arc<Scheduler<Connection<S>>>,
    /// Bytes of the budget that were granted while the connection waited.
    pub(super) granted: AtomicUsize,
    /// The ticket of the request that waits for memory, or zero.
    ///
    /// Relaxed: written with `input` locked; the supervisor only reads it.
    pub(super) ticket: AtomicU64,
    /// Bytes of the budget that the connection has, for readers without the lock.
    holding: AtomicUsize,
    pub(crate) times: Times,
    /// Number of calls in progress.
    pub(crate) running: AtomicUsize,
}

/// Start times, in milliseconds of the server's clock; zero for never.
///
/// Relaxed throughout: the supervisor reads them from time to time.
#[derive(Debug)]
pub(crate) struct Times {
    /// The last call or byte, in either direction.
    pub(crate) active: AtomicU64,
    /// The last call that succeeded, except `NULL` and calls that the program marks as useless.
    pub(crate) useful: AtomicU64,
    /// The first byte of an incomplete call, or the time when it received memory that it waited for.
    pub(crate) record: AtomicU64,
    /// The first byte of a reply that did not fit into the socket.
    pub(crate) backlog: AtomicU64,
}

impl<S: Frames> Connection<S> {
    pub(crate) fn new(
        stream: TcpStream,
        (peer, client): (Peer, Client),
        token: u64,
        max_record_bytes: usize,
        scheduler: Arc<Scheduler<Self>>,
        now: u64,
    ) -> Self {
        Self {
            token,
            peer,
            client,
            stream,
            input: Mutex::new(Input::new(max_record_bytes)),
            output: Mutex::new(Output {
                send_queue: SendQueue::new(),
                reading: true,
                charged: 0,
                counted_files: 0,
            }),
            busy: Busy::new(),
            closed: AtomicBool::new(false),
            scheduler,
            granted: AtomicUsize::new(0),
            ticket: AtomicU64::new(0),
            holding: AtomicUsize::new(0),
            times: Times {
                active: AtomicU64::new(now),
                useful: AtomicU64::new(0),
                record: AtomicU64::new(0),
                backlog: AtomicU64::new(0),
            },
            running: AtomicUsize::new(0),
        }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(super) fn hold_more(&self, bytes: usize) {
        if bytes > 0 {
            // Release: pairs with the Acquire in `holding`.
            self.holding.fetch_add(bytes, Ordering::Release);
        }
    }

    pub(super) fn hold_less(&self, bytes: usize) {
        if bytes > 0 {
            self.holding.fetch_sub(bytes, Ordering::Relaxed);
            self.scheduler.release(self.client, bytes);
        }
    }

    /// Sends complete replies, and then a reply; returns true if all of it was sent.
    pub(crate) fn send(
        &self,
        batch: &[u8],
        reply: Option<&mut Reply<S>>,
        now: u64,
    ) -> io::Result<(usize, bool)> {
        let mut output = lock(&self.output);
        let sent = output.send_queue.send(self.stream.as_fd(), batch, reply)?;
        self.settle(&mut output, now);
        Ok((sent.bytes, sent.all))
    }

    /// Sends the queued parts; returns true if nothing is left.
    pub(crate) fn flush(&self, now: u64) -> io::Result<(usize, bool)> {
        let mut output = lock(&self.output);
        let sent = output.send_queue.flush(self.stream.as_fd())?;
        if sent.bytes > 0 {
            self.times.active.store(now, Ordering::Relaxed);
        }
        self.settle(&mut output, now);
        Ok((sent.bytes, sent.all))
    }

    /// Updates the charges for the contents of the send queue.
    fn settle(&self, output: &mut Output<S>, now: u64) {
        let holds = output.send_queue.nr_pages() * PAGE_SIZE;
        if holds > output.charged {
            self.scheduler.budget.charge(self.client, holds - output.charged);
            self.hold_more(holds - output.charged);
        } else {
            self.hold_less(output.charged - holds);
        }
        output.charged = holds;
        let files = output.send_queue.nr_files();
        if files != output.counted_files {
            self.scheduler.kept_files.fetch_add(files, Ordering::Relaxed);
            self.scheduler.kept_files.fetch_sub(output.counted_files, Ordering::Relaxed);
            output.counted_files = files;
        }
        let before = self.times.backlog.load(Ordering::Relaxed);
        let since = match before {
            _ if output.send_queue.is_empty() => 0,
            0 => now.max(1),
            since => since,
        };
        self.times.backlog.store(since, Ordering::Relaxed);
        if before == 0 && since != 0 {
            tracing::trace!(peer = %self.peer.addr, "replies wait for room in the socket");
        }
    }

    /// Returns whether replies wait for room in the socket.
    pub(crate) fn is_backlogged(&self) -> bool {
        !lock(&self.output).send_queue.is_empty()
    }

    /// Sets whether the next event is for input, and calls `arm` with whether replies wait.
    pub(crate) fn set_reading(&self, reading: bool, arm: impl FnOnce(bool)) {
        let mut output = lock(&self.output);
        output.reading |= reading;
        arm(!output.send_queue.is_empty());
    }

    /// Takes the right to receive, unless another thread has it or replies wait.
    pub(crate) fn take_reading(&self) -> bool {
        let mut output = lock(&self.output);
        output.send_queue.is_empty() && mem::take(&mut output.reading)
    }

    /// Returns whether the connection has no call and no reply in progress.
    pub(crate) fn is_idle(&self) -> bool {
        let times = &self.times;
        self.running.load(Ordering::Relaxed) == 0
            && times.record.load(Ordering::Relaxed) == 0
            && times.backlog.load(Ordering::Relaxed) == 0
    }

    /// Returns the facts that decide whether the connection is closed for another one.
    pub(crate) fn standing(&self) -> Standing {
        let times = &self.times;
        let since = match (self.running.load(Ordering::Relaxed), self.began()) {
            (0, Some(since)) => Some(since),
            (0, None) => Some(times.active.load(Ordering::Relaxed)),
            _ => None,
        };
        Standing { useful: times.useful.load(Ordering::Relaxed), since }
    }

    /// Returns the start time of an incomplete call, or of replies that the client has not read.
    pub(crate) fn began(&self) -> Option<u64> {
        let times = [&self.times.record, &self.times.backlog];
        times.map(|time| time.load(Ordering::Relaxed)).into_iter().filter(|&time| time != 0).min()
    }

    /// Returns whether the connection waits for memory.
    pub(crate) fn is_waiting(&self) -> bool {
        self.ticket.load(Ordering::Relaxed) != 0
    }

    /// Returns how many bytes of the budget the connection has.
    pub(crate) fn holding(&self) -> usize {
        // Acquire: a thread that sees the granted bytes also sees the restarted time of the call.
        self.holding.load(Ordering::Acquire)
    }

    pub(crate) fn is_closed(&self) -> bool {
        // Relaxed: the socket itself refuses threads that see the flag late.
        self.closed.load(Ordering::Relaxed)
    }

    /// Marks the connection as closed and frees its memory; returns false if it was closed before.
    pub(crate) fn close(&self) -> bool {
        if self.closed.swap(true, Ordering::AcqRel) {
            return false;
        }
        // Shutdown wakes threads that wait for the socket; the descriptor is closed with the last
        // reference.
        let _gone = self.stream.shutdown(std::net::Shutdown::Both);
        let mut output = lock(&self.output);
        output.send_queue.clear();
        self.settle(&mut output, 0);
        true
    }
}

impl<S: Frames> Waiter for Connection<S> {
    fn client(&self) -> Client {
        self.client
    }

    fn grant(&self, bytes: usize) {
        // Release: pairs with the Acquire in `receive`.
        self.granted.fetch_add(bytes, Ordering::Release);
    }
}

impl<S: Frames> Drop for Connection<S> {
    fn drop(&mut self) {
        let ticket = self.ticket.swap(0, Ordering::Relaxed);
        if ticket != 0 {
            self.scheduler.cancel(self.client, ticket);
        }
        let granted = self.granted.swap(0, Ordering::Acquire);
        let reserved = mem::take(&mut lock(&self.input).reserved);
        let mut output = lock(&self.output);
        let charged = mem::take(&mut output.charged);
        let files = mem::take(&mut output.counted_files);
        drop(output);
        self.scheduler.kept_files.fetch_sub(files, Ordering::Relaxed);
        self.scheduler.release(self.client, granted + reserved + charged);
    }
}

impl<S: Frames> core::fmt::Debug for Connection<S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Connection")
            .field("token", &self.token)
            .field("peer", &self.peer)
            .field("times", &self.times)
            .finish_non_exhaustive()
    }
}
