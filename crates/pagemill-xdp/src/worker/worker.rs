//! The loop that moves packets: from a device, past a look at their headers, into a sink, and
//! frames round in bulk.

use core::time::Duration;

use pagemill_host::Tsc;

use crate::device::device::{Device, DeviceCounters};
use crate::error::XdpError;
use crate::packet::headers::{self, MalformedCounters};
use crate::packet::packet::Packet;
use crate::worker::frame_pool::FramePool;
use crate::worker::sink::Sink;

/// One thread's way of packets from `D` into `S`, with frames from `P`.
///
/// Nothing here blocks but [`wait`](Self::wait), and nothing is lost: a frame is with the device,
/// in the sink, or in the worker's hands, and [`close`](Self::close) returns them all to the pool.
#[derive(Debug)]
pub struct Worker<D, P, S>
where
    D: Device,
{
    input: D,
    pool: P,
    sink: S,
    /// Packets that have come in and found no room in the sink yet.
    packets: Vec<Packet<D::Frame>>,
    /// Frames that are free again.
    spent: Vec<D::Frame>,
    /// Empty frames that found no room in the device yet.
    spare: Vec<D::Frame>,
    /// Room in the device from which on it is worth a call: a batch, or half of a short ring.
    supply_min: usize,
    counters: WorkerCounters,
    clock: Option<Tsc>,
}

/// What a worker has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerCounters {
    /// Packets that came in.
    pub received: u64,
    /// Packets that the sink took.
    pub passed: u64,
    /// Packets whose headers do not hold together; they were dropped.
    pub malformed: MalformedCounters,
    /// Times that the pool had fewer frames than were wanted.
    pub short: u64,
    /// Ticks of the time stamp counter that went into getting frames and giving them back.
    pub alloc_ticks: u64,
}

/// Packets that one step takes, as many as one turn of Linux's receive loop.
///
/// # Source
/// `linux-6.12` `include/linux/netdevice.h` `NAPI_POLL_WEIGHT`
pub const BUDGET: usize = 64;

/// Frames that a step asks the pool for at most.
const SUPPLY_MAX: usize = 512;

impl<D, P, S> Worker<D, P, S>
where
    D: Device,
    P: FramePool<Frame = D::Frame>,
    S: Sink<D::Frame>,
{
    /// Makes a worker, and gives the device as many empty frames as it has room for.
    ///
    /// # Errors
    /// Those of the device.
    pub fn new(mut input: D, pool: P, sink: S) -> Result<Self, XdpError> {
        let supply_min = (input.nr_wanted()? / 2).clamp(1, BUDGET);
        let mut worker = Self {
            input,
            pool,
            sink,
            packets: Vec::with_capacity(2 * BUDGET),
            spent: Vec::with_capacity(2 * BUDGET),
            spare: Vec::new(),
            supply_min,
            counters: WorkerCounters::default(),
            clock: Tsc::detect(),
        };
        while worker.supply(1)? > 0 {}
        worker.input.flush()?;
        Ok(worker)
    }

    /// Moves what is there, [`BUDGET`] packets at most, and returns how many came in.
    ///
    /// # Errors
    /// Those of the devices.
    #[inline]
    pub fn step(&mut self) -> Result<usize, XdpError> {
        let room = BUDGET.saturating_sub(self.packets.len());
        let first = self.packets.len();
        let nr = self.input.receive(&mut self.packets, room)?;
        self.counters.received += nr as u64;
        self.look_at(first);
        self.counters.passed += self.sink.take(&mut self.packets, &mut self.spent)? as u64;
        if !self.spent.is_empty() {
            let start = self.now();
            self.pool.recycle(&mut self.spent);
            self.note_alloc(start);
        }
        // Also where nothing came in: a device that asked to be woken while it was being supplied may
        // have been missed then, and brings nothing until it is.
        if self.supply(self.supply_min)? > 0 || nr == 0 {
            self.input.flush()?;
        }
        Ok(nr)
    }

    /// Drops those packets from `first` on whose headers do not hold together.
    #[inline]
    fn look_at(&mut self, first: usize) {
        let mut index = first;
        while let Some(packet) = self.packets.get(index) {
            let total_len = if packet.nr_frames() == 1 { packet.len() } else { packet.total_len() };
            match headers::parse(packet, total_len) {
                Ok(_) => index += 1,
                Err(reason) => {
                    self.counters.malformed.count(reason);
                    self.spent.extend(self.packets.remove(index).into_frames());
                }
            }
        }
    }

    /// Gives the device empty frames if it has room for `nr_min`; returns how many.
    #[inline]
    fn supply(&mut self, nr_min: usize) -> Result<usize, XdpError> {
        let wanted = self.input.nr_wanted()?.min(SUPPLY_MAX);
        if wanted < nr_min {
            return Ok(0);
        }
        let missing = wanted.saturating_sub(self.spare.len());
        if missing > 0 {
            let start = self.now();
            let got = self.pool.allocate(&mut self.spare, missing);
            self.note_alloc(start);
            self.counters.short += u64::from(got < missing);
        }
        self.input.supply(&mut self.spare)
    }

    /// Waits until packets are there, at most `timeout`; tells whether some are.
    ///
    /// # Errors
    /// Those of the device.
    pub fn wait(&mut self, timeout: Duration) -> Result<bool, XdpError> {
        self.input.wait(timeout)
    }

    /// Returns what has been counted so far.
    pub fn counters(&self) -> WorkerCounters {
        self.counters
    }

    /// Returns what the device that packets come from has counted.
    pub fn input_counters(&self) -> DeviceCounters {
        self.input.counters()
    }

    /// Returns what the sink's device has counted.
    pub fn output_counters(&self) -> DeviceCounters {
        self.sink.counters()
    }

    /// Returns how many frames the worker answers for: in its hands, with the device, in the sink.
    pub fn nr_held(&self) -> usize {
        let packets: usize = self.packets.iter().map(Packet::nr_frames).sum();
        let hands = packets + self.spent.len() + self.spare.len();
        hands + self.input.nr_held() + self.sink.nr_held()
    }

    /// Returns how many frames are on their way out.
    pub fn nr_leaving(&self) -> usize {
        self.sink.nr_held()
    }

    /// Returns the device that packets come from.
    pub fn input_mut(&mut self) -> &mut D {
        &mut self.input
    }

    /// Returns the sink.
    pub fn sink_mut(&mut self) -> &mut S {
        &mut self.sink
    }

    /// Returns the pool.
    pub fn pool(&self) -> &P {
        &self.pool
    }

    /// Returns the pool, to be changed.
    pub fn pool_mut(&mut self) -> &mut P {
        &mut self.pool
    }

    /// Ends devices and sink, and returns the pool with all frames back in it.
    ///
    /// # Errors
    /// The first of those of the devices; the frames that could be had are back all the same.
    pub fn close(mut self) -> (P, Result<(), XdpError>) {
        let first = self.input.close(&mut self.spent);
        let second = self.sink.close(&mut self.spent);
        self.spent.append(&mut self.spare);
        self.spent.extend(self.packets.drain(..).flat_map(Packet::into_frames));
        self.pool.recycle(&mut self.spent);
        (self.pool, first.and(second))
    }

    #[inline]
    fn now(&self) -> u64 {
        self.clock.map_or(0, Tsc::now)
    }

    #[inline]
    fn note_alloc(&mut self, start: u64) {
        self.counters.alloc_ticks += self.now().saturating_sub(start);
    }
}
