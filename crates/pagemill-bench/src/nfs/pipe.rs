//! Pipelined connection: keeps several calls outstanding, and never blocks.

use core::net::SocketAddr;
use core::time::Duration;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use hdrhistogram::Histogram;
use rustix::fs::sendfile;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::client::{BenchFile, connect, wire};
use super::pattern;
use super::proto::{
    Credential, MARK_LEN, NFS, accepted, call, post_op_attributes, record_len, status, wcc_data,
};
use super::workload::{Operation, Order, Workload};
use super::xdr::{Reader, Writer};
use crate::rng::Rng;

/// The results of a connection so far.
#[derive(Debug)]
pub struct Done {
    /// Number of correct replies.
    pub calls: u64,
    /// Latency of the calls, in ns.
    pub latency: Histogram<u64>,
}

/// One connection of a load.
#[derive(Debug)]
pub struct Pipe<'a> {
    socket: TcpStream,
    workload: Workload,
    file: BenchFile,
    credential: Credential,
    /// The pattern, as a source for sending without copies.
    source: &'a OwnedFd,
    verify: bool,
    rng: Rng,
    next_block: u64,
    sequence: u32,
    flights: Vec<Flight>,
    idle: Vec<usize>,
    outgoing: Outgoing,
    incoming: Incoming,
    /// The results.
    pub done: Done,
}

/// An outstanding call, or the last call that used this place.
#[derive(Clone, Copy, Debug)]
struct Flight {
    xid: u32,
    offset: u64,
    sent: Instant,
}

/// Data to send: calls, and then data of the pattern.
#[derive(Debug, Default)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    data_offset: u64,
    data_left: usize,
}

/// Received data: the beginning of a record, and data bytes that are dropped.
#[derive(Debug)]
struct Incoming {
    bytes: Vec<u8>,
    len: usize,
    drop: usize,
    /// The place of the call whose reply these bytes complete.
    ends: Option<usize>,
}

/// The result of a receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Received {
    /// No data had arrived.
    Nothing,
    /// As much as requested; there may be more.
    Some,
    /// Everything that had arrived: another receive would return nothing.
    All,
}

/// From this size on, data is sent or dropped without a copy; below, a copy is cheaper.
const LARGE: usize = 16 << 10;
/// Bytes that cover everything in a reply except its data.
const HEAD: usize = 256;
/// Bytes that are received, or dropped, at once.
const CHUNK: usize = 1 << 20;
/// Bits of a transaction id that hold the place of its call.
const PLACE_BITS: u32 = 8;
/// Number of receives before the other connections have their turn.
const TURN: usize = 16;
/// The longest latency that is recorded exactly.
const NS_MAX: u64 = 60_000_000_000;

impl<'a> Pipe<'a> {
    /// Opens a connection for `workload` on `file`; `number` distinguishes it from others.
    ///
    /// # Errors
    /// If no server listens there.
    pub fn open(
        address: SocketAddr,
        (workload, verify): (Workload, bool),
        file: BenchFile,
        credential: &Credential,
        source: &'a OwnedFd,
        number: usize,
    ) -> anyhow::Result<Self> {
        let socket = connect(address)?;
        socket.set_nonblocking(true)?;
        let now = Instant::now();
        let room = if verify { workload.block } else { 0 };
        Ok(Self {
            socket,
            workload,
            file,
            credential: credential.clone(),
            source,
            verify,
            rng: Rng::new(number as u64),
            next_block: 0,
            sequence: 0,
            flights: vec![Flight { xid: 0, offset: 0, sent: now }; workload.depth],
            idle: (0..workload.depth).collect(),
            outgoing: Outgoing::default(),
            incoming: Incoming { bytes: vec![0; CHUNK + room], len: 0, drop: 0, ends: None },
            done: Done { calls: 0, latency: empty_histogram() },
        })
    }

    /// Sends without blocking, including new calls as long as `more` are wanted.
    ///
    /// Returns whether the socket is full.
    ///
    /// # Errors
    /// If the server has closed the connection.
    pub fn send(&mut self, more: bool) -> anyhow::Result<bool> {
        loop {
            if !self.flush()? {
                return Ok(true);
            }
            if !more || self.idle.is_empty() {
                return Ok(false);
            }
            self.outgoing.bytes.clear();
            self.outgoing.sent = 0;
            // Data that is sent without a copy ends what can be sent in one piece.
            while self.outgoing.data_left == 0
                && let Some(place) = self.idle.pop()
            {
                self.next_call(place);
            }
        }
    }

    /// Receives without blocking, and counts the replies.
    ///
    /// # Errors
    /// If a reply is wrong or the connection is closed.
    pub fn receive(&mut self) -> anyhow::Result<()> {
        for _ in 0..TURN {
            let received = self.receive_once()?;
            if received == Received::Nothing {
                break;
            }
            if self.incoming.drop == 0
                && let Some(place) = self.incoming.ends.take()
            {
                self.finish(place);
            }
            self.take_records()?;
            if received == Received::All {
                break;
            }
        }
        Ok(())
    }

    /// Returns whether no call is outstanding.
    pub fn is_idle(&self) -> bool {
        self.idle.len() == self.flights.len()
    }

    /// Returns how much of the file, from its beginning, was written or read; `None` if the order was
    /// random.
    pub fn covered(&self) -> Option<u64> {
        let in_order = self.workload.order == Order::Sequential;
        in_order
            .then_some(self.done.calls * self.workload.block as u64)
            .map(|covered| covered.min(self.file.len))
    }

    /// Returns the file.
    pub fn file(&self) -> &BenchFile {
        &self.file
    }

    /// Sends the remaining data; returns whether all of it was sent.
    fn flush(&mut self) -> anyhow::Result<bool> {
        let Outgoing { bytes, sent, data_offset, data_left } = &mut self.outgoing;
        while *sent < bytes.len() {
            let more = if *data_left > 0 { SendFlags::MORE } else { SendFlags::empty() };
            match send(&self.socket, &bytes[*sent..], SendFlags::NOSIGNAL | more) {
                Ok(len) => *sent += len,
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("cannot send a call"),
            }
        }
        while *data_left > 0 {
            match sendfile(&self.socket, self.source, Some(data_offset), *data_left) {
                Ok(0) => bail!("the pattern is shorter than the file"),
                Ok(len) => *data_left -= len,
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("cannot send data"),
            }
        }
        Ok(true)
    }

    fn next_call(&mut self, place: usize) {
        self.sequence = self.sequence.wrapping_add(1);
        let xid = self.sequence << PLACE_BITS | u32::try_from(place).expect("places are few");
        let Workload { operation, block, .. } = self.workload;
        let offset = self.next_offset();
        let large = block >= LARGE;
        let data = if operation == Operation::Write { block } else { 0 };
        let Outgoing { bytes, data_offset, data_left, .. } = &mut self.outgoing;
        let procedure = (NFS, operation.procedure() as u32);
        let later = if large { data } else { 0 };
        call(bytes, xid, procedure, &self.credential, later, |writer| {
            if operation == Operation::Null {
                return;
            }
            writer.opaque(self.file.handle.bytes());
            match operation {
                Operation::Null | Operation::Getattr => {}
                Operation::Read => _ = writer.long(offset).word(wire(block)),
                Operation::Write => {
                    // Unstable, and the number of bytes that follow.
                    writer.long(offset).word(wire(block)).word(0).word(wire(block));
                    inline(writer, offset, data - later);
                }
            }
        });
        if later > 0 {
            *data_offset = offset;
            *data_left = later;
        }
        self.flights[place] = Flight { xid, offset, sent: Instant::now() };
    }

    /// Returns the offset of the next read or write.
    fn next_offset(&mut self) -> u64 {
        let block = self.workload.block.max(1) as u64;
        let nr_blocks = (self.file.len / block).max(1);
        let number = match self.workload.order {
            Order::Sequential => self.next_block % nr_blocks,
            Order::Random => self.rng.below(usize::try_from(nr_blocks).unwrap_or(1)) as u64,
        };
        self.next_block += 1;
        number * block
    }

    /// Receives once.
    fn receive_once(&mut self) -> anyhow::Result<Received> {
        let goes_by = self.workload.operation == Operation::Read
            && self.workload.block >= LARGE
            && !self.verify;
        let Incoming { bytes, len, drop, .. } = &mut self.incoming;
        let (most, received) = if *drop > 0 {
            // Nothing is written to the buffer; the call drops at most its length.
            let most = (*drop).min(bytes.len());
            (most, recv(&self.socket, &mut bytes[..most], RecvFlags::TRUNC))
        } else {
            let end = if goes_by { HEAD } else { bytes.len() };
            (end - *len, recv(&self.socket, &mut bytes[*len..end], RecvFlags::empty()))
        };
        match received {
            Ok((_, 0)) => bail!("the server has closed a connection"),
            Ok((_, got)) => {
                if *drop > 0 {
                    *drop -= got;
                } else {
                    *len += got;
                }
                Ok(if got < most { Received::All } else { Received::Some })
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(Received::Nothing),
            Err(error) => Err(error).context("cannot receive a reply"),
        }
    }

    /// Processes all replies whose head has arrived.
    fn take_records(&mut self) -> anyhow::Result<()> {
        let mut at = 0;
        while let Some(mark) = self.incoming.bytes[at..self.incoming.len].first_chunk() {
            let record = record_len(*mark, self.workload.block + 4096)?;
            let there = self.incoming.len - at - MARK_LEN;
            let needed = if self.verify { record } else { record.min(HEAD - MARK_LEN) };
            if there < needed {
                break;
            }
            let taken = there.min(record);
            let place = self.take_reply(at + MARK_LEN, taken)?;
            at += MARK_LEN + taken;
            if taken < record {
                self.incoming.drop = record - taken;
                self.incoming.ends = Some(place);
            } else {
                self.finish(place);
            }
        }
        self.incoming.bytes.copy_within(at..self.incoming.len, 0);
        self.incoming.len -= at;
        Ok(())
    }

    /// Checks a reply, and returns the place of its call.
    fn take_reply(&mut self, at: usize, len: usize) -> anyhow::Result<usize> {
        let mut reply = Reader(&self.incoming.bytes[at..at + len]);
        let xid = accepted(&mut reply)?;
        let place = usize::try_from(xid % (1 << PLACE_BITS)).expect("it is below 256");
        let flight = self.flights.get(place).filter(|flight| flight.xid == xid);
        let flight = *flight.with_context(|| format!("a reply to a call {xid} never made"))?;
        let Workload { operation, block, .. } = self.workload;
        if operation != Operation::Null {
            status(&mut reply)?;
        }
        match operation {
            Operation::Null | Operation::Getattr => {}
            Operation::Read => {
                post_op_attributes(&mut reply)?;
                let (count, _eof) = (reply.word()?, reply.word()?);
                ensure!(count == wire(block), "a read of {block} bytes gives {count}");
                if self.verify {
                    pattern::check(flight.offset, reply.opaque(block)?)?;
                }
            }
            Operation::Write => {
                wcc_data(&mut reply)?;
                let count = reply.word()?;
                ensure!(count == wire(block), "a write of {block} bytes writes {count}");
            }
        }
        Ok(place)
    }

    /// Counts a call whose reply is complete.
    fn finish(&mut self, place: usize) {
        let flight = &mut self.flights[place];
        let latency = ns(flight.sent.elapsed());
        // A second reply to the same call then finds no call.
        flight.xid = flight.xid.wrapping_sub(1 << PLACE_BITS);
        self.idle.push(place);
        self.done.calls += 1;
        self.done.latency.saturating_record(latency);
    }
}

impl AsFd for Pipe<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Returns a histogram of latencies in ns, with an error of up to 1 %.
pub fn empty_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, NS_MAX, 2).expect("the bounds are in order")
}

/// Appends the pattern from `offset` on.
fn inline(writer: &mut Writer<'_>, offset: u64, len: usize) {
    let start = writer.0.len();
    writer.0.resize(start + len, 0);
    pattern::fill(offset, &mut writer.0[start..]);
}

fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
