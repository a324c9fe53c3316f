//! Receiving: reads the calls of a connection into pages, or splices them, as far as the budget allows.

use alloc::sync::Arc;
use core::mem;
use std::io::IoSliceMut;
use std::os::fd::AsFd;

use pagemill::units::PAGE_SIZE;
use rustix::io::{Errno, ioctl_fionread, retry_on_intr};

use crate::limits::memory_budget::Request;
use crate::rqst::pages::Frames;
use crate::rqst::rqst::Rqst;
use crate::transport::input::{Input, Scratch};
use crate::transport::low_water::set_receive_low_water;
use crate::transport::tcp::Connection;
use crate::wire::record::{Expect, RecordError};
use crate::wire::sync::{Ordering, lock};

/// Bytes that are read ahead of a record: dozens of small calls.
const AHEAD_BYTES: usize = 16 << 10;
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

impl<S: Frames> Connection<S> {
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
                self.hold_less(mem::take(&mut input.reserved));
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
        let result = retry_on_intr(|| {
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
}
