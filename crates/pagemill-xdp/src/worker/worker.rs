//! Packet loop: moves packets from a device through a header check into a sink, and recycles frames in
//! bulk.

use core::time::Duration;

use pagemill_host::machine::Tsc;

use crate::device::device::{Device, DeviceCounters};
use crate::error::XdpError;
use crate::packet::headers::{self, MalformedCounters};
use crate::packet::packet::Packet;
use crate::worker::frame_pool::FramePool;
use crate::worker::sink::Sink;

/// Moves packets from device `D` to sink `S` on one thread, with frames from pool `P`.
///
/// Nothing blocks except [`wait`](Self::wait), and no frame is lost: each one is with the device, in
/// the sink, or with the worker, and [`close`](Self::close) returns them all to the pool.
#[derive(Debug)]
pub struct Worker<D, P, S>
where
    D: Device,
{
    input: D,
    pool: P,
    sink: S,
    /// Received packets for which the sink has no room yet.
    packets: Vec<Packet<D::Frame>>,
    /// Frames that are free again.
    spent: Vec<D::Frame>,
    /// Empty frames for which the device has no room yet.
    spare: Vec<D::Frame>,
    /// Minimum room in the device that is worth a call: a batch, or half of a short ring.
    supply_min: usize,
    counters: WorkerCounters,
    clock: Option<Tsc>,
}

/// Counters of a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerCounters {
    /// Packets received.
    pub received: u64,
    /// Packets passed to the sink.
    pub passed: u64,
    /// Packets with malformed headers, which were dropped.
    pub malformed: MalformedCounters,
    /// Times that the pool had fewer frames than wanted.
    pub short: u64,
    /// Ticks of the time stamp counter spent on allocating and freeing frames.
    pub alloc_ticks: u64,
}

/// Maximum number of packets per step, equal to that of one turn of Linux's receive loop.
///
/// # Source
/// `linux-6.12` `include/linux/netdevice.h` `NAPI_POLL_WEIGHT`
pub const BUDGET: usize = 64;

/// Maximum number of frames that a step takes from the pool.
const SUPPLY_MAX: usize = 512;

impl<D, P, S> Worker<D, P, S>
where
    D: Device,
    P: FramePool<Frame = D::Frame>,
    S: Sink<D::Frame>,
{
    /// Makes a worker, and supplies the device with as many empty frames as it has room for.
    ///
    /// # Errors
    /// The errors of the device.
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

    /// Moves the available packets, at most [`BUDGET`], and returns how many were received.
    ///
    /// # Errors
    /// The errors of the devices.
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
        // Also if no packet was received: a wake-up request of the device during the supply may have
        // been missed, and it then receives nothing until it is woken.
        if self.supply(self.supply_min)? > 0 || nr == 0 {
            self.input.flush()?;
        }
        Ok(nr)
    }

    /// Drops malformed packets from index `first` on.
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

    /// Supplies the device with empty frames if it has room for `nr_min`; returns how many.
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

    /// Waits until packets have arrived, at most for `timeout`; returns whether some have.
    ///
    /// # Errors
    /// The errors of the device.
    pub fn wait(&mut self, timeout: Duration) -> Result<bool, XdpError> {
        self.input.wait(timeout)
    }

    /// Returns the counters.
    pub fn counters(&self) -> WorkerCounters {
        self.counters
    }

    /// Returns the counters of the input device.
    pub fn input_counters(&self) -> DeviceCounters {
        self.input.counters()
    }

    /// Returns the counters of the sink's device.
    pub fn output_counters(&self) -> DeviceCounters {
        self.sink.counters()
    }

    /// Returns how many frames the worker is responsible for: its own, the device's, and the sink's.
    pub fn nr_held(&self) -> usize {
        let packets: usize = self.packets.iter().map(Packet::nr_frames).sum();
        let hands = packets + self.spent.len() + self.spare.len();
        hands + self.input.nr_held() + self.sink.nr_held()
    }

    /// Returns how many frames the sink has.
    pub fn nr_leaving(&self) -> usize {
        self.sink.nr_held()
    }

    /// Returns the input device.
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

    /// Returns the pool, mutably.
    pub fn pool_mut(&mut self) -> &mut P {
        &mut self.pool
    }

    /// Closes the devices and the sink, and returns the pool with all frames back in it.
    ///
    /// # Errors
    /// The first error of the devices; all frames that could be reclaimed are returned nevertheless.
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
