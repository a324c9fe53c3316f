//! Loopback device: returns sent packets as received ones, without a network or capabilities.
//!
//! It behaves like a socket, including rings and frames in flight, so that everything above a device
//! can be tested without privileges.

use alloc::collections::VecDeque;
use core::time::Duration;

use pagemill::source::PageSource;
use pagemill::units::PAGE_SIZE;

use crate::device::device::{Device, DeviceCounters};
use crate::error::XdpError;
use crate::packet::frame::Frame;
use crate::packet::packet::{DEFAULT_HEADROOM, Packet};
use crate::ring::descriptor::{self, RawDescriptor};
use crate::ring::rx::Rx;
use crate::ring::tx::{NR_FRAMES_MAX, Tx};

/// A device whose other side copies packets from the tx ring to the rx ring.
#[derive(Debug)]
pub struct Loopback<F: Frame> {
    rx: Rx<F>,
    tx: Tx<F>,
    /// Indexes of frames to be filled.
    fill: VecDeque<usize>,
    rx_ring: VecDeque<RawDescriptor>,
    tx_ring: VecDeque<RawDescriptor>,
    completion: VecDeque<u64>,
    ring_size: usize,
    descriptors: Vec<RawDescriptor>,
    counters: DeviceCounters,
    /// Keeps the arena alive.
    _source: F::Source,
}

impl<F: Frame> Loopback<F> {
    /// Makes a device with four rings of `ring_size` entries over the arena of `source`.
    ///
    /// # Errors
    /// [`XdpError::RingSize`] for a size that is not a power of two, [`XdpError::ArenaTooSmall`] for
    /// fewer frames than two of the rings hold.
    pub fn new(source: F::Source, ring_size: u32) -> Result<Self, XdpError> {
        if !ring_size.is_power_of_two() || ring_size > RING_SIZE_MAX {
            let ring = "loopback";
            return Err(XdpError::RingSize { ring, size: ring_size, size_max: RING_SIZE_MAX });
        }
        let ring_size = ring_size as usize;
        let memory = source.allocator().platform().memory();
        let (base, nr_frames) = (memory.base().addr().get(), memory.nr_pages());
        if nr_frames < 2 * ring_size {
            return Err(XdpError::ArenaTooSmall { nr_frames, nr_needed: 2 * ring_size });
        }
        Ok(Self {
            rx: Rx::new(base, nr_frames),
            // A packet with more descriptors than the ring would never leave.
            tx: Tx::new(base, nr_frames, NR_FRAMES_MAX.min(ring_size)),
            fill: VecDeque::new(),
            rx_ring: VecDeque::new(),
            tx_ring: VecDeque::new(),
            completion: VecDeque::new(),
            ring_size,
            descriptors: Vec::new(),
            counters: DeviceCounters::default(),
            _source: source,
        })
    }

    /// Receives a packet from outside; returns whether there was room for it.
    ///
    /// A packet that exceeds one frame takes several.
    pub fn inject(&mut self, bytes: &[u8]) -> bool {
        let nr_frames = bytes.len().div_ceil(ROOM).max(1);
        if self.rx_ring.len() + nr_frames > self.ring_size {
            self.counters.ring_full += 1;
            return false;
        }
        if self.fill.len() < nr_frames {
            self.counters.no_frame += 1;
            return false;
        }
        for nth in 0..nr_frames {
            let rest = bytes.get(nth * ROOM..).unwrap_or_default();
            let piece = rest.get(..ROOM).unwrap_or(rest);
            self.place(piece, nth + 1 < nr_frames);
        }
        true
    }

    /// Writes a fragment of a packet into the next empty frame.
    fn place(&mut self, piece: &[u8], continued: bool) {
        let index = self.fill.pop_front().expect("as many as were counted");
        let frame = self.rx.posted_mut(index).expect("what is on the ring is posted");
        let start = usize::from(DEFAULT_HEADROOM);
        let room = frame.bytes_mut().get_mut(start..start + piece.len());
        room.expect("a piece fits a frame").copy_from_slice(piece);
        let len = u16::try_from(piece.len()).expect("a piece fits a frame");
        self.rx_ring.push_back(RawDescriptor::new(index, DEFAULT_HEADROOM, len, continued));
    }

    /// Makes the other side report a packet of `len` bytes at `address`, which may be false.
    pub fn inject_descriptor(&mut self, address: u64, len: u32) {
        self.rx_ring.push_back(RawDescriptor { address, len, options: 0 });
    }

    /// Makes the other side report that the frame at `address` was sent, which may be false.
    pub fn inject_completion(&mut self, address: u64) {
        self.completion.push_back(address);
    }

    /// Takes the packet at the front of the tx ring, if all its fragments are there.
    fn next_to_send(&mut self) -> Option<Vec<u8>> {
        let nr = self.tx_ring.iter().position(|descriptor| descriptor.options == 0)? + 1;
        let mut bytes = Vec::new();
        for descriptor in self.tx_ring.drain(..nr) {
            let (index, start) = descriptor::split(descriptor.address, usize::MAX)?;
            let frame = self.tx.posted_mut(index).expect("what is on the ring is posted");
            let start = usize::from(start);
            bytes.extend(frame.bytes().get(start..start + descriptor.len as usize)?);
            self.completion.push_back(descriptor.address);
        }
        Some(bytes)
    }
}

impl<F: Frame> Device for Loopback<F> {
    type Frame = F;

    fn receive(&mut self, packets: &mut Vec<Packet<F>>, nr_max: usize) -> Result<usize, XdpError> {
        let before = packets.len();
        while packets.len() - before < nr_max {
            let Some(descriptor) = self.rx_ring.pop_front() else {
                break;
            };
            packets.extend(self.rx.accept(descriptor));
        }
        let nr = packets.len() - before;
        self.counters.received += nr as u64;
        Ok(nr)
    }

    fn send(&mut self, packets: &mut Vec<Packet<F>>) -> Result<usize, XdpError> {
        // As with a socket, a sent packet needs a place on the completion ring.
        let room = self.ring_size.saturating_sub(self.tx_ring.len() + self.completion.len());
        self.descriptors.clear();
        let nr = self.tx.post(packets, room, &mut self.descriptors);
        self.tx_ring.extend(self.descriptors.iter());
        self.counters.sent += nr as u64;
        Ok(nr)
    }

    fn nr_wanted(&mut self) -> Result<usize, XdpError> {
        Ok(self.ring_size - self.fill.len())
    }

    fn supply(&mut self, frames: &mut Vec<F>) -> Result<usize, XdpError> {
        let room = self.ring_size - self.fill.len();
        let nr = room.min(frames.len());
        for frame in frames.drain(frames.len() - nr..).rev() {
            self.fill.push_back(self.rx.post(frame));
        }
        Ok(nr)
    }

    fn completed(&mut self, frames: &mut Vec<F>) -> Result<usize, XdpError> {
        self.tx.return_refused(frames);
        let before = frames.len();
        for address in self.completion.drain(..) {
            frames.extend(self.tx.complete(address));
        }
        let nr = frames.len() - before;
        self.counters.completed += nr as u64;
        Ok(nr)
    }

    fn flush(&mut self) -> Result<(), XdpError> {
        while let Some(bytes) = self.next_to_send() {
            // Lost if there is no room, as on a wire; `inject` counts it.
            self.inject(&bytes);
        }
        Ok(())
    }

    fn wait(&mut self, _timeout: Duration) -> Result<bool, XdpError> {
        // No packet arrives without a call, so waiting would not help.
        Ok(!self.rx_ring.is_empty())
    }

    fn nr_held(&self) -> usize {
        self.rx.nr_held() + self.tx.nr_held()
    }

    fn counters(&self) -> DeviceCounters {
        DeviceCounters {
            dropped: self.tx.nr_refused(),
            malformed: self.rx.nr_malformed() + self.tx.nr_malformed(),
            ..self.counters
        }
    }

    fn close(mut self, frames: &mut Vec<F>) -> Result<(), XdpError> {
        frames.extend(self.rx.drain());
        frames.extend(self.tx.drain());
        Ok(())
    }
}

/// Bytes of a packet that fit into one frame.
const ROOM: usize = PAGE_SIZE - DEFAULT_HEADROOM as usize;

/// Entries in the largest ring.
const RING_SIZE_MAX: u32 = 1 << 16;
