//! A connection: calls read from it into pages, replies sent on it in turn.

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
/// What is left of a record from here on is read into its pages; less goes through the bytes ahead.
const DIRECT_BYTES: usize = 2048;
/// What is left of a record from here on may be spliced: less is copied for less than the system
/// calls cost.
const MIN_ASIDE_BYTES: usize = 128 << 10;
/// Bytes of a record that are in pages before any are spliced: the header of the call, and all
/// arguments but the data.
const MIN_HEAD_BYTES: usize = PAGE_SIZE;

/// What receiving came to.
#[derive(Debug)]
pub(crate) enum Received {
    /// A call is in the request's pages; `more` if there are bytes behind it.
    Call {
        /// Whether there are bytes behind it.
        more: bool,
    },
    /// No whole call has come.
    Partly,
    /// The connection waits until others have given pages back.
    Parked,
    /// The client closed the connection, or it broke.
    Closed,
    /// The client sent what cannot be read.
    Bad(RecordError),
}

/// What became of the rest of a call.
enum SetAside {
    /// A part of it is in a pipe.
    Some,
    /// It stays in the socket until all of it has come.
    Waits,
    /// It is to be read.
    None,
}

/// Bytes that came before anybody asked for them.
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

/// What a connection knows of the call that it is receiving.
struct Input<S: Frames> {
    record: RecordReader,
    ahead: Ahead,
    /// Whether the rest of the call has been waited for, so that it can be spliced as a whole.
    has_waited: bool,
    /// Whether the socket counts as readable only when that has come.
    is_waiting: bool,
    /// The pages of a call that is not complete.
    saved: Vec<Page<S>>,
    /// Bytes of the budget that the call has.
    reserved: usize,
}

impl<S: Frames> Input<S> {
    /// Returns how many bytes of the record may be kept while the connection waits for more: those
    /// in a page that each connection has, and those reserved.
    fn room(&self) -> usize {
        PAGE_SIZE + self.reserved
    }
}

struct Output<S: Frames> {
    send_queue: SendQueue<S>,
    /// Whether the next event is the input's: nobody is receiving.
    reading: bool,
    /// Bytes of the budget that the send queue has.
    charged: usize,
    /// Files of the send queue that the scheduler counts.
    counted_files: usize,
}

/// What a thread brings along to receive with.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Room for bytes ahead: a connection has none of its own while nothing has come.
    spare: Vec<u8>,
}

/// What a worker thread does for a connection.
#[derive(Debug)]
pub(crate) enum Task<S: Frames> {
    /// Sends what waits for room, and takes the right to receive if no other thread has it.
    Event(Arc<Connection<S>>),
    /// Receives and carries out calls. The task holds the right to receive.
    Calls(Arc<Connection<S>>),
}

/// What connections share: the budget that they live on, and the queue of those that are ready.
#[derive(Debug)]
pub(crate) struct Scheduler<S: Frames> {
    pub(crate) budget: MemoryBudget<Weak<Connection<S>>>,
    pub(crate) run_queue: RunQueue<Task<S>>,
    pub(crate) poller: Poller,
    /// Files that are kept open for unread replies.
    ///
    /// Relaxed: it is compared with a limit that may be exceeded by one file for each thread.
    pub(crate) kept_files: AtomicUsize,
}

impl<S: Frames> Scheduler<S> {
    /// Queues a connection, with the right to receive, for any thread.
    pub(crate) fn push(&self, connection: Arc<Connection<S>>, lane: Lane) {
        self.queue([Task::Calls(connection)], lane);
    }

    /// Queues connections that have an event for any thread.
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
        // Grants of connections that were closed meanwhile.
        while let Some((client, bytes)) = unclaimed.pop() {
            self.budget.release(client, bytes, self.server(&mut unclaimed));
        }
    }

    /// Removes a connection's request from those that wait.
    fn cancel(&self, client: Client, ticket: Ticket) {
        let mut unclaimed = Vec::new();
        self.budget.cancel(client, ticket, self.server(&mut unclaimed));
        for (client, bytes) in unclaimed {
            self.release(client, bytes);
        }
    }

    /// Returns what passes grants of the budget to their connections.
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

/// A connection.
pub(crate) struct Connection<S: Frames> {
    pub(crate) token: u64,
    pub(crate) peer: Peer,
    /// Whose share of the server's limits the connection counts against.
    pub(crate) client: Client,
    stream: TcpStream,
    /// Guards what comes. Locked by whoever receives: one thread at a time.
    input: Mutex<Input<S>>,
    /// Guards what goes. Locked after `input`, or alone.
    output: Mutex<Output<S>>,
    pub(crate) busy: Busy,
    closed: AtomicBool,
    scheduler: Arc<Scheduler<S>>,
    /// Bytes of the budget that were handed over while the connection waited.
    granted: AtomicUsize,
    /// The ticket of the request that waits for a part of the budget, or zero.
    ///
    /// Relaxed: written with `input` locked; the supervisor only looks at it.
    ticket: AtomicU64,
    /// Bytes of the budget that the connection has, for those who only look.
    holding: AtomicUsize,
    pub(crate) times: Times,
    /// Calls that are being carried out.
    pub(crate) running: AtomicUsize,
}

/// When what began, in milliseconds of the server's clock; zero for never.
///
/// Relaxed throughout: the supervisor looks at these now and then.
#[derive(Debug)]
pub(crate) struct Times {
    /// The last call or byte, in either direction.
    pub(crate) active: AtomicU64,
    /// The last call that succeeded, other than `NULL` and those that the program marks as useless.
    pub(crate) useful: AtomicU64,
    /// The first byte of a call that is not complete, or when it got memory that it waited for.
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

    /// Receives the next call into the request's pages; data may be spliced of those calls of
    /// which `may_splice` is true when their first page has come.
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
        // Acquire: pairs with the Release of whoever granted it.
        let granted = self.granted.swap(0, Ordering::Acquire);
        if granted > 0 {
            // The server kept it waiting until now.
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
                SetAside::Some => continue,
                SetAside::Waits => return Received::Partly,
                SetAside::None => {}
            }
            let has_spliced = rqst.splice().len() > 0;
            let Some(direct) = self.nr_direct(input, has_spliced) else { return Received::Parked };
            match self.read(input, rqst, direct) {
                Ok(0) => return Received::Closed,
                Ok(_) => {}
                // All had come before a part was spliced, so there is nothing to wait for.
                Err(Errno::AGAIN) if rqst.splice().len() > 0 => return Received::Closed,
                Err(Errno::AGAIN) => return Received::Partly,
                Err(_) => return Received::Closed,
            }
        }
    }

    /// Moves bytes that are there already to the record, up to its end, which returns true. Leaves
    /// some where the budget does not allow the connection to keep them.
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
                    // What follows data that was spliced has come, and nothing of it is kept.
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

    /// Tells whether `nr` bytes of the `left` that a fragment still has may be received: either the
    /// connection may keep them while it waits for more, or the record ends with bytes that have
    /// come, so that nothing is kept.
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

    /// Charges for what the connection keeps without having reserved it: less came than the system
    /// had said.
    fn account_for(&self, input: &mut Input<S>) {
        let missing = input.record.len().saturating_sub(input.room());
        if missing > 0 {
            let missing = missing.next_multiple_of(PAGE_SIZE);
            self.scheduler.budget.charge(self.client, missing);
            self.hold_more(missing);
            input.reserved += missing;
        }
    }

    /// Returns how many bytes the socket has, as far as that is known.
    fn nr_readable(&self) -> usize {
        let nr = ioctl_fionread(self.stream.as_fd()).unwrap_or(0);
        usize::try_from(nr).unwrap_or(usize::MAX)
    }

    /// Returns how many bytes are to be read into the pages of the record; zero if what comes goes
    /// through the bytes ahead, and `None` if the connection must wait for a part of the budget.
    fn nr_direct(self: &Arc<Self>, input: &mut Input<S>, has_spliced: bool) -> Option<usize> {
        let left = match input.record.expect() {
            Expect::Data(left) if left >= DIRECT_BYTES => left,
            _ => return Some(0),
        };
        // What follows data that was spliced has come, and nothing of it is kept.
        if has_spliced || input.record.len() + left <= input.room() {
            return Some(left);
        }
        let nr = left.min(self.nr_readable());
        if nr < DIRECT_BYTES {
            return Some(0);
        }
        self.may_take(input, nr, left).then_some(nr)
    }

    /// Splices data of a call, once all that is missing of the call has come: what a pipe does
    /// not hold is read behind it, and nothing stays in a pipe while the connection waits.
    fn spliced(
        &self,
        input: &mut Input<S>,
        rqst: &mut Rqst<S>,
        may_splice: &dyn Fn(&mut Rqst<S>) -> bool,
    ) -> SetAside {
        let (at, Expect::Data(left)) = (input.record.len(), input.record.expect()) else {
            return SetAside::None;
        };
        let is_worth_it = left >= MIN_ASIDE_BYTES && at >= MIN_HEAD_BYTES && input.record.is_last();
        if !is_worth_it || rqst.splice().len() > 0 {
            return SetAside::None;
        }
        rqst.set_args_len(at);
        if !may_splice(rqst) {
            return SetAside::None;
        }
        if self.nr_readable() >= left {
            let nr = rqst.splice().receive(self.stream.as_fd(), at, left);
            input.record.take_data(nr);
            return if nr > 0 { SetAside::Some } else { SetAside::None };
        }
        // Once: who is woken and does not find all of it has a socket with less room.
        if mem::replace(&mut input.has_waited, true)
            || set_receive_low_water(self.stream.as_fd(), left).is_err()
        {
            return SetAside::None;
        }
        input.is_waiting = true;
        SetAside::Waits
    }

    /// Reads up to `direct` bytes into the pages of the record, and what follows them if they are
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

    /// Puts a call of `len` bytes back, which was received and is not to be carried out yet; the
    /// connection becomes ready when the budget allows. False if it allows now.
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

    /// Sends whole replies, and then a reply; true if all of it went out.
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

    /// Sends what was kept; true if nothing is left.
    pub(crate) fn flush(&self, now: u64) -> io::Result<(usize, bool)> {
        let mut output = lock(&self.output);
        let sent = output.send_queue.flush(self.stream.as_fd())?;
        if sent.bytes > 0 {
            self.times.active.store(now, Ordering::Relaxed);
        }
        self.settle(&mut output, now);
        Ok((sent.bytes, sent.all))
    }

    /// Notes what the send queue holds now.
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

    /// Tells whether replies wait for room in the socket.
    pub(crate) fn is_backlogged(&self) -> bool {
        !lock(&self.output).send_queue.is_empty()
    }

    /// Says whether the next event is the input's, and calls `arm` with whether replies wait.
    pub(crate) fn set_reading(&self, reading: bool, arm: impl FnOnce(bool)) {
        let mut output = lock(&self.output);
        output.reading |= reading;
        arm(!output.send_queue.is_empty());
    }

    /// Takes the right to receive, if nobody has it and no reply waits.
    pub(crate) fn take_reading(&self) -> bool {
        let mut output = lock(&self.output);
        output.send_queue.is_empty() && mem::take(&mut output.reading)
    }

    /// Tells whether nothing has begun that is not over.
    pub(crate) fn is_idle(&self) -> bool {
        let times = &self.times;
        self.running.load(Ordering::Relaxed) == 0
            && times.record.load(Ordering::Relaxed) == 0
            && times.backlog.load(Ordering::Relaxed) == 0
    }

    /// Returns what decides whether the connection is closed for another.
    pub(crate) fn standing(&self) -> Standing {
        let times = &self.times;
        let since = match (self.running.load(Ordering::Relaxed), self.began()) {
            (0, Some(since)) => Some(since),
            (0, None) => Some(times.active.load(Ordering::Relaxed)),
            _ => None,
        };
        Standing { useful: times.useful.load(Ordering::Relaxed), since }
    }

    /// Returns when what is not over began: a call that has not come whole, or replies that have
    /// not been read.
    pub(crate) fn began(&self) -> Option<u64> {
        let times = [&self.times.record, &self.times.backlog];
        times.map(|time| time.load(Ordering::Relaxed)).into_iter().filter(|&time| time != 0).min()
    }

    /// Tells whether the connection waits for a part of the budget.
    pub(crate) fn is_waiting(&self) -> bool {
        self.ticket.load(Ordering::Relaxed) != 0
    }

    /// Returns how many bytes of the budget the connection has.
    pub(crate) fn holding(&self) -> usize {
        // Acquire: who sees it hold what it waited for sees the call begin anew.
        self.holding.load(Ordering::Acquire)
    }

    pub(crate) fn is_closed(&self) -> bool {
        // Relaxed: the socket itself says no to whoever is late.
        self.closed.load(Ordering::Relaxed)
    }

    /// Marks the connection as closed and drops what it keeps; false if it was closed before.
    pub(crate) fn close(&self) -> bool {
        if self.closed.swap(true, Ordering::AcqRel) {
            return false;
        }
        // The socket wakes whoever waits for it; the number is given up with the last owner.
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
