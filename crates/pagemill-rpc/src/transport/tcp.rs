//! TCP connection: reads calls into pages, sends replies, and waits for its part of the memory budget.

use alloc::sync::{Arc, Weak};
use core::mem;
use std::io::{self, IoSliceMut};
use std::net::TcpStream;
use std::os::fd::AsFd;

use pagemill::{PAGE_SIZE, Page};
use rustix::io::{Errno, ioctl_fionread};

use crate::dispatch::program::Peer;
use crate::limits::client::Client;
use crate::limits::connection_table::Standing;
use crate::limits::memory_budget::{MemoryBudget, Request, Ticket};
use crate::rqst::pages::Frames;
use crate::rqst::reply::Reply;
use crate::rqst::rqst::Rqst;
use crate::transport::busy::Busy;
use crate::transport::run_queue::{Lane, RunQueue};
use crate::transport::send_queue::SendQueue;
use crate::wire::record::{Expect, RecordError, RecordReader};
use crate::wire::sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering, lock};

use super::poller::Poller;
use crate::transport::low_water::set_receive_low_water;

/// Bytes that are read ahead of a record: dozens of small calls.
pub(crate) const AHEAD_BYTES: usize = 16 << 10;
/// If at least this much of a record is missing, it is read directly into pages; less goes through the
/// read-ahead buffer.
const DIRECT_BYTES: usize = 2048;
/// If at least this much of a record is missing, it may be spliced; copying less than this costs less
/// than the system calls of a splice.
const MIN_SPLICE_BYTES: usize = 128 << 10;
/// Bytes of a record in pages before any are spliced: the header of the call, and all arguments except
/// the data.
const MIN_HEAD_BYTES: usize = PAGE_SIZE;

/// The result of receiving.
#[derive(Debug)]
pub(crate) enum Received {
    /// A complete call is in the request's pages.
    Call {
        /// Whether more bytes follow the call.
        more: bool,
    },
    /// No complete call has arrived.
    Partly,
    /// The connection waits for memory.
    Parked,
    /// The client closed the connection, or the connection broke.
    Closed,
    /// The client sent invalid data.
    Bad(RecordError),
}

/// How the rest of a call is received.
enum Spliced {
    /// A part of it is in the pipe.
    Some,
    /// It stays in the socket until all of it has arrived.
    Waits,
    /// It must be read into pages.
    None,
}

/// The read-ahead buffer: bytes received before they were needed.
#[derive(Debug, Default)]
struct Ahead {
    bytes: Vec<u8>,
    at: usize,
}

impl Ahead {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }
}

/// The state of the call that a connection is receiving.
struct Input<S: Frames> {
    record: RecordReader,
    ahead: Ahead,
    /// Whether the connection has already waited for the rest of the call, to splice it as a whole.
    has_waited: bool,
    /// Whether the socket counts as readable only when the rest has arrived.
    is_waiting: bool,
    /// The pages of an incomplete call.
    saved: Vec<Page<S>>,
    /// Bytes of the budget that the call has reserved.
    reserved: usize,
}

impl<S: Frames> Input<S> {
    /// Returns how many bytes of the record may be kept while the connection waits for more: one page
    /// that each connection has, plus the reserved bytes.
    fn room(&self) -> usize {
        PAGE_SIZE + self.reserved
    }
}

struct Output<S: Frames> {
    send_queue: SendQueue<S>,
    /// Whether the next event is for input: no thread is receiving.
    reading: bool,
    /// Bytes of the budget that the send queue is charged for.
    charged: usize,
    /// Files of the send queue that the scheduler has counted.
    counted_files: usize,
}

/// Buffers of a worker thread for receiving.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// A spare read-ahead buffer: a connection has none while it has no input.
    spare: Vec<u8>,
}

/// A task of a worker thread for a connection.
#[derive(Debug)]
pub(crate) enum Task<S: Frames> {
    /// Sends queued replies, and takes the right to receive unless another thread has it.
    Event(Arc<Connection<S>>),
    /// Receives and carries out calls. The task holds the right to receive.
    Calls(Arc<Connection<S>>),
}

/// Scheduling state that all connections share: the memory budget, and the queue of ready connections.
#[derive(Debug)]
pub(crate) struct Scheduler<S: Frames> {
    pub(crate) budget: MemoryBudget<Weak<Connection<S>>>,
    pub(crate) run_queue: RunQueue<Task<S>>,
    pub(crate) poller: Poller,
    /// Number of files kept open for unread replies.
    ///
    /// Relaxed: it is compared with a limit that each thread may exceed by one file.
    pub(crate) kept_files: AtomicUsize,
}

impl<S: Frames> Scheduler<S> {
    /// Queues a connection, with the right to receive, for any thread.
    pub(crate) fn push(&self, connection: Arc<Connection<S>>, lane: Lane) {
        self.queue([Task::Calls(connection)], lane);
    }

    /// Queues connections that have an event, for any thread.
    pub(crate) fn push_events(&self, connections: impl IntoIterator<Item = Arc<Connection<S>>>) {
        self.queue(connections.into_iter().map(Task::Event), Lane::Fresh);
    }

    fn queue(&self, tasks: impl IntoIterator<Item = Task<S>>, lane: Lane) {
        let nr_awake = self.run_queue.push(tasks, lane);
        if nr_awake > 0 {
            self.poller.wake(nr_awake as u64);
        }
    }

    /// Returns bytes of `client` to the budget; connections that waited for them become ready.
    fn release(&self, client: Client, bytes: usize) {
        let mut unclaimed = Vec::new();
        self.budget.release(client, bytes, self.server(&mut unclaimed));
        // Grants for connections that were closed in the meantime.
        while let Some((client, bytes)) = unclaimed.pop() {
            self.budget.release(client, bytes, self.server(&mut unclaimed));
        }
    }

    /// Removes a connection's request from the waiting ones.
    fn cancel(&self, client: Client, ticket: Ticket) {
        let mut unclaimed = Vec::new();
        self.budget.cancel(client, ticket, self.server(&mut unclaimed));
        for (client, bytes) in unclaimed {
            self.release(client, bytes);
        }
    }

    /// Returns the callback that passes grants of the budget to their connections.
    fn server(
        &self,
        unclaimed: &mut Vec<(Client, usize)>,
    ) -> impl FnMut(Client, usize, Weak<Connection<S>>) {
        move |client, bytes, waiter| match waiter.upgrade() {
            Some(connection) => {
                // Release: pairs with the Acquire in `receive`.
                connection.granted.fetch_add(bytes, Ordering::Release);
                self.push(connection, Lane::Fresh);
            }
            None => unclaimed.push((client, bytes)),
        }
    }
}

/// A TCP connection.
pub(crate) struct Connection<S: Frames> {
    pub(crate) token: u64,
    pub(crate) peer: Peer,
    /// The client whose share of the server's limits the connection counts against.
    pub(crate) client: Client,
    stream: TcpStream,
    /// Guards the receiving side. Locked by the receiving thread: one at a time.
    input: Mutex<Input<S>>,
    /// Guards the sending side. Locked after `input`, or alone.
    output: Mutex<Output<S>>,
    pub(crate) busy: Busy,
    closed: AtomicBool,
    scheduler: Arc<Scheduler<S>>,
    /// Bytes of the budget that were granted while the connection waited.
    granted: AtomicUsize,
    /// The ticket of the request that waits for memory, or zero.
    ///
    /// Relaxed: written with `input` locked; the supervisor only reads it.
    ticket: AtomicU64,
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
        scheduler: Arc<Scheduler<S>>,
        now: u64,
    ) -> Self {
        Self {
            token,
            peer,
            client,
            stream,
            input: Mutex::new(Input {
                record: RecordReader::new(max_record_bytes),
                ahead: Ahead::default(),
                has_waited: false,
                is_waiting: false,
                saved: Vec::new(),
                reserved: 0,
            }),
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

    /// Receives the next call into the request's pages. Data may be spliced if `may_splice` returns
    /// true for the call once its first page has arrived.
    pub(crate) fn receive(
        self: &Arc<Self>,
        rqst: &mut Rqst<S>,
        scratch: &mut Scratch,
        now: u64,
        may_splice: &dyn Fn(&mut Rqst<S>) -> bool,
    ) -> Received {
        if self.is_closed() {
            return Received::Closed;
        }
        let mut input = lock(&self.input);
        let input = &mut *input;
        if mem::take(&mut input.is_waiting)
            && set_receive_low_water(self.stream.as_fd(), 1).is_err()
        {
            return Received::Closed;
        }
        self.ticket.store(0, Ordering::Relaxed);
        // Acquire: pairs with the Release of the thread that granted it.
        let granted = self.granted.swap(0, Ordering::Acquire);
        if granted > 0 {
            // The server itself kept the call waiting until now.
            self.times.record.store(now, Ordering::Relaxed);
        }
        self.hold_more(granted);
        input.reserved += granted;
        if !input.saved.is_empty() {
            rqst.restore_args(&mut input.saved);
        }
        if input.ahead.bytes.capacity() == 0 {
            input.ahead.bytes = mem::take(&mut scratch.spare);
        }
        let received = self.receive_into(input, rqst, may_splice);
        let idle = input.record.is_idle();
        match received {
            Received::Call { .. } => {
                let nr_spliced = rqst.splice().len();
                rqst.set_args_len(input.record.len() - nr_spliced);
                input.has_waited = false;
                input.record.restart();
                self.give_back(input);
                self.times.record.store(0, Ordering::Relaxed);
            }
            Received::Partly | Received::Parked => {
                self.account_for(input);
                rqst.save_args(input.record.len(), &mut input.saved);
                if !idle && self.times.record.load(Ordering::Relaxed) == 0 {
                    self.times.record.store(now, Ordering::Relaxed);
                }
            }
            Received::Closed | Received::Bad(_) => {}
        }
        self.times.active.store(now, Ordering::Relaxed);
        if input.ahead.is_empty() {
            input.ahead.at = 0;
            input.ahead.bytes.clear();
            scratch.spare = mem::take(&mut input.ahead.bytes);
        }
        received
    }

    fn receive_into(
        self: &Arc<Self>,
        input: &mut Input<S>,
        rqst: &mut Rqst<S>,
        may_splice: &dyn Fn(&mut Rqst<S>) -> bool,
    ) -> Received {
        loop {
            match self.take_ahead(input, rqst) {
                Ok(true) => return Received::Call { more: !input.ahead.is_empty() },
                Ok(false) if !input.ahead.is_empty() => return Received::Parked,
                Ok(false) => {}
                Err(error) => return Received::Bad(error),
            }
            match self.spliced(input, rqst, may_splice) {
                Spliced::Some => continue,
                Spliced::Waits => return Received::Partly,
                Spliced::None => {}
            }
            let has_spliced = rqst.splice().len() > 0;
            let Some(direct) = self.nr_direct(input, has_spliced) else { return Received::Parked };
            match self.read(input, rqst, direct) {
                Ok(0) => return Received::Closed,
                Ok(_) => {}
                // Everything had arrived before a part was spliced, so there is nothing to wait for.
                Err(Errno::AGAIN) if rqst.splice().len() > 0 => return Received::Closed,
                Err(Errno::AGAIN) => return Received::Partly,
                Err(_) => return Received::Closed,
            }
        }
    }

    /// Moves bytes from the read-ahead buffer to the record, up to the record's end, and then returns
    /// true. Leaves bytes that the budget does not allow the connection to keep.
    fn take_ahead(
        self: &Arc<Self>,
        input: &mut Input<S>,
        rqst: &mut Rqst<S>,
    ) -> Result<bool, RecordError> {
        loop {
            match input.record.expect() {
                Expect::Nothing => return Ok(true),
                Expect::Mark(_) if input.ahead.is_empty() => return Ok(false),
                Expect::Mark(_) => {
                    input.ahead.at += input.record.take_mark(input.ahead.rest())?;
                }
                Expect::Data(left) => {
                    let nr = left.min(input.ahead.rest().len());
                    // The data after the spliced part has arrived, so none of it is kept.
                    let may_take =
                        nr > 0 && (rqst.splice().len() > 0 || self.may_take(input, nr, left));
                    if !may_take {
                        return Ok(false);
                    }
                    let from = &input.ahead.rest()[..nr];
                    let at = input.record.len() - rqst.splice().len();
                    let mut copied = 0;
                    for room in rqst.arg_pages().slices_mut(at, at + from.len()) {
                        room.copy_from_slice(&from[copied..copied + room.len()]);
                        copied += room.len();
                    }
                    input.ahead.at += copied;
                    input.record.take_data(copied);
                }
            }
        }
    }

    /// Returns whether `nr` of the `left` bytes that a fragment still lacks may be received. That is so
    /// if the connection may keep them while it waits for more, or if the record ends with bytes that
    /// have arrived, so that nothing is kept.
    fn may_take(self: &Arc<Self>, input: &mut Input<S>, nr: usize, left: usize) -> bool {
        let kept = input.record.len() + nr;
        if kept <= input.room() {
            return true;
        }
        if input.record.is_last() && self.nr_readable() + input.ahead.rest().len() >= left {
            return true;
        }
        let missing = |kept: usize| (kept - input.room()).next_multiple_of(PAGE_SIZE);
        let request = Request {
            client: self.client,
            is_proven: self.times.useful.load(Ordering::Relaxed) != 0,
            bytes: missing(kept),
            rest: missing(input.record.known_len()),
            held: input.reserved,
        };
        if let Some(ticket) = self.scheduler.budget.reserve(&request, || Arc::downgrade(self)) {
            self.ticket.store(ticket, Ordering::Relaxed);
            return false;
        }
        self.hold_more(request.bytes);
        input.reserved += request.bytes;
        true
    }

    /// Charges for bytes that the connection keeps without a reservation, because fewer bytes came than
    /// the system had reported.
    fn account_for(&self, input: &mut Input<S>) {
        let missing = input.record.len().saturating_sub(input.room());
        if missing > 0 {
            let missing = missing.next_multiple_of(PAGE_SIZE);
            self.scheduler.budget.charge(self.client, missing);
            self.hold_more(missing);
            input.reserved += missing;
        }
    }

    /// Returns how many bytes the socket has, as far as known.
    fn nr_readable(&self) -> usize {
        let nr = ioctl_fionread(self.stream.as_fd()).unwrap_or(0);
        usize::try_from(nr).unwrap_or(usize::MAX)
    }

    /// Returns how many bytes to read into the pages of the record. Returns zero if the input goes
    /// through the read-ahead buffer, and `None` if the connection must wait for memory.
    fn nr_direct(self: &Arc<Self>, input: &mut Input<S>, has_spliced: bool) -> Option<usize> {
        let left = match input.record.expect() {
            Expect::Data(left) if left >= DIRECT_BYTES => left,
            _ => return Some(0),
        };
        // The data after the spliced part has arrived, so none of it is kept.
        if has_spliced || input.record.len() + left <= input.room() {
            return Some(left);
        }
        let nr = left.min(self.nr_readable());
        if nr < DIRECT_BYTES {
            return Some(0);
        }
        self.may_take(input, nr, left).then_some(nr)
    }

    /// Splices data of a call, once the whole call has arrived. Data that the pipe cannot hold is read
    /// after it, and nothing stays in the pipe while the connection waits.
    fn spliced(
        &self,
        input: &mut Input<S>,
        rqst: &mut Rqst<S>,
        may_splice: &dyn Fn(&mut Rqst<S>) -> bool,
    ) -> Spliced {
        let (at, Expect::Data(left)) = (input.record.len(), input.record.expect()) else {
            return Spliced::None;
        };
        let is_worth_it =
            left >= MIN_SPLICE_BYTES && at >= MIN_HEAD_BYTES && input.record.is_last();
        if !is_worth_it || rqst.splice().len() > 0 {
            return Spliced::None;
        }
        rqst.set_args_len(at);
        if !may_splice(rqst) {
            return Spliced::None;
        }
        if self.nr_readable() >= left {
            let nr = rqst.splice().receive(self.stream.as_fd(), at, left);
            input.record.take_data(nr);
            return if nr > 0 { Spliced::Some } else { Spliced::None };
        }
        // Only once: a thread that was woken and does not find all of it has a socket with less room.
        if mem::replace(&mut input.has_waited, true)
            || set_receive_low_water(self.stream.as_fd(), left).is_err()
        {
            return Spliced::None;
        }
        input.is_waiting = true;
        Spliced::Waits
    }

    /// Reads up to `direct` bytes into the pages of the record, and the bytes after them if these are
    /// the rest of a fragment.
    fn read(
        &self,
        input: &mut Input<S>,
        rqst: &mut Rqst<S>,
        direct: usize,
    ) -> Result<usize, Errno> {
        let is_all = input.record.expect() == Expect::Data(direct);
        let ahead = &mut input.ahead;
        ahead.at = 0;
        ahead.bytes.resize(AHEAD_BYTES, 0);
        let at = input.record.len() - rqst.splice().len();
        let result = retry(|| {
            if direct == 0 {
                return rustix::io::read(&self.stream, &mut ahead.bytes[..]);
            }
            let pages = rqst.arg_pages().slices_mut(at, at + direct).map(IoSliceMut::new);
            let mut room: Vec<_> = pages.collect();
            if is_all {
                room.push(IoSliceMut::new(&mut ahead.bytes));
            }
            rustix::io::readv(&self.stream, &mut room)
        });
        let nr = *result.as_ref().unwrap_or(&0);
        input.record.take_data(nr.min(direct));
        ahead.bytes.truncate(nr.saturating_sub(direct));
        result
    }

    fn give_back(&self, input: &mut Input<S>) {
        let reserved = mem::take(&mut input.reserved);
        self.hold_less(reserved);
    }

    fn hold_more(&self, bytes: usize) {
        if bytes > 0 {
            // Release: pairs with the Acquire in `holding`.
            self.holding.fetch_add(bytes, Ordering::Release);
        }
    }

    fn hold_less(&self, bytes: usize) {
        if bytes > 0 {
            self.holding.fetch_sub(bytes, Ordering::Relaxed);
            self.scheduler.release(self.client, bytes);
        }
    }

    /// Puts a received call of `len` bytes back, which is not to be carried out yet. The connection
    /// becomes ready when the budget allows it; returns false if the budget allows it now.
    pub(crate) fn postpone(self: &Arc<Self>, rqst: &mut Rqst<S>, len: usize) -> bool {
        let mut input = lock(&self.input);
        rqst.save_args(len, &mut input.saved);
        input.record.recall(len);
        let is_proven = self.times.useful.load(Ordering::Relaxed) != 0;
        let request = Request { client: self.client, is_proven, bytes: 0, rest: 0, held: 0 };
        let ticket = self.scheduler.budget.reserve(&request, || Arc::downgrade(self));
        // With the input locked: the next thread that receives from the connection clears it.
        self.ticket.store(ticket.unwrap_or(0), Ordering::Relaxed);
        ticket.is_some()
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

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}
