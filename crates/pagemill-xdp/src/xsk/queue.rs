//! Socket queue: puts frames on the rings of a socket, tracks them as in flight, and checks what
//! returns.

use core::time::Duration;
use std::io;
use std::os::fd::BorrowedFd;
use std::thread;
use std::time::Instant;

use super::rings::{Region, RingSizes, Statistics, XskRings};
use crate::operation::Operation;
use crate::packet::frame::Frame;
use crate::packet::packet::Packet;
use crate::ring::descriptor::RawDescriptor;
use crate::ring::ring::Broken;
use crate::ring::rx::Rx;
use crate::ring::tx::Tx;

/// A socket and the frames on its rings.
///
/// Upholds `in-flight-first`: an address is put on a ring only after its frame was put in flight
/// (`frame-in-flight`). The frame is taken out when the ring returns it, or by `drain` after the
/// kernel has released the queue of the closed socket.
#[derive(Debug)]
pub(crate) struct Queue<F: Frame> {
    /// `None` once the socket is closed.
    socket: Option<XskRings>,
    rx: Rx<F>,
    tx: Tx<F>,
    sizes: RingSizes,
    descriptors: Vec<RawDescriptor>,
}

impl<F: Frame> Queue<F> {
    /// Opens a socket over `region`, for packets of up to `nr_frames_max` frames.
    ///
    /// # Errors
    /// The errors of [`XskRings::open`].
    pub(crate) fn open(
        region: &Region,
        sizes: RingSizes,
        nr_frames_max: usize,
    ) -> Result<Self, (Operation, io::Error)> {
        let base = region.base.addr().get();
        let nr_chunks = region.len_bytes / pagemill::units::PAGE_SIZE;
        // All frames of a packet leave and return together.
        let nr_frames_fit = sizes.tx.min(sizes.completion) as usize;
        Ok(Self {
            socket: Some(XskRings::open(region, &sizes)?),
            rx: Rx::new(base, nr_chunks),
            tx: Tx::new(base, nr_chunks, nr_frames_max.min(nr_frames_fit)),
            sizes,
            descriptors: Vec::new(),
        })
    }

    /// Returns how many frames the fill ring has room for.
    #[inline]
    pub(crate) fn nr_wanted(&mut self) -> Result<u32, Broken> {
        let nr_max = self.sizes.fill;
        self.socket_mut().fill_room(nr_max)
    }

    /// Moves frames from the end of `frames` to the fill ring, and returns how many.
    #[inline]
    pub(crate) fn supply(&mut self, frames: &mut Vec<F>) -> Result<u32, Broken> {
        let Self { socket, rx, .. } = self;
        let socket = socket.as_mut().expect(OPEN);
        let wanted = u32::try_from(frames.len()).unwrap_or(u32::MAX);
        let room = socket.fill_room(wanted)?;
        let next = || {
            let frame = frames.pop().expect("the room is no larger than what was wanted");
            (rx.post(frame) * pagemill::units::PAGE_SIZE) as u64
        };
        // SAFETY:
        // 1. The frame is in flight before `next` returns its address (`in-flight-first`), and
        //    stays in flight until the kernel returns it or has released the queue.
        // 2. `fill_room` has just returned `room`.
        unsafe { socket.fill(room, next) };
        Ok(room)
    }

    /// Appends up to `nr_max` packets; each takes one descriptor or more.
    #[inline]
    pub(crate) fn receive(
        &mut self,
        packets: &mut Vec<Packet<F>>,
        nr_max: u32,
    ) -> Result<(), Broken> {
        let Self { socket, rx, .. } = self;
        let socket = socket.as_mut().expect(OPEN);
        socket.received(nr_max, |descriptor| packets.extend(rx.accept(descriptor)))?;
        Ok(())
    }

    /// Moves packets from the front of `packets` to the tx ring, and returns how many.
    #[inline]
    pub(crate) fn send(&mut self, packets: &mut Vec<Packet<F>>) -> Result<usize, Broken> {
        let Self { socket, tx, descriptors, sizes, .. } = self;
        let socket = socket.as_mut().expect(OPEN);
        let nr_frames: usize = packets.iter().map(Packet::nr_frames).sum();
        let wanted = u32::try_from(nr_frames).unwrap_or(u32::MAX).min(sizes.tx);
        let room = socket.send_room(wanted)?;
        descriptors.clear();
        let nr_packets = tx.post(packets, room as usize, descriptors);
        let nr = u32::try_from(descriptors.len()).expect("the room is a u32");
        let mut next = descriptors.iter();
        let next = || *next.next().expect("as many as were counted");
        // SAFETY:
        // 1. The frames are in flight (`in-flight-first`), and stay in flight until the kernel
        //    returns them or has released the queue.
        // 2. `tx.post` returned at most `room` descriptors, which `send_room` has just returned.
        unsafe { socket.send(nr, next) };
        Ok(nr_packets)
    }

    /// Appends frames whose packets were sent or could not be sent, and returns how many were sent.
    #[inline]
    pub(crate) fn completed(&mut self, frames: &mut Vec<F>) -> Result<usize, Broken> {
        let Self { socket, tx, sizes, .. } = self;
        let socket = socket.as_mut().expect(OPEN);
        tx.return_refused(frames);
        let before = frames.len();
        socket.completed(sizes.completion, |address| frames.extend(tx.complete(address)))?;
        Ok(frames.len() - before)
    }

    /// Returns whether the kernel has packets to send.
    #[inline]
    pub(crate) fn is_sending(&self) -> bool {
        self.tx.nr_held() > 0
    }

    /// Returns how many descriptors wait for the kernel to send them.
    pub(crate) fn nr_unsent(&mut self) -> Result<u32, Broken> {
        let nr_max = self.sizes.tx;
        Ok(nr_max - self.socket_mut().send_room(nr_max)?)
    }

    /// Waits until all packets that the kernel took off the tx ring have left, at most for `patience`.
    ///
    /// Needed even if the kernel copies: to a driver that supports scatter-gather, it passes the frames
    /// themselves, which are read until they are completed, even after the socket was closed.
    ///
    /// # Source
    /// `linux-6.12` `net/xdp/xsk.c` `xsk_build_skb_zerocopy`
    pub(crate) fn settle(&mut self, patience: Duration) {
        let start = Instant::now();
        let mut back = Vec::new();
        loop {
            let unsent = self.completed(&mut back).and_then(|_nr| self.nr_unsent());
            self.tx.keep(&mut back);
            // Packets that the kernel has not taken will never be sent.
            let is_settled = unsent.is_ok_and(|nr| self.tx.nr_posted() <= nr as usize);
            if is_settled || unsent.is_err() || start.elapsed() > patience {
                return;
            }
            thread::sleep(SETTLE);
        }
    }

    /// Closes the socket. The kernel may use the frames until it has released the queue, for which the
    /// caller waits before it calls [`drain`](Self::drain). Afterwards it writes to none; if it copies,
    /// it may read some that were being sent unless the socket was [settled](Self::settle).
    pub(crate) fn close(&mut self) {
        // Unmaps the rings and closes the descriptor, the last reference to both in this process.
        self.socket = None;
    }

    /// Removes all frames that are in flight, after the kernel has released the queue.
    ///
    /// # Panics
    /// If the socket is still open.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = F> {
        assert!(self.socket.is_none(), "the socket still has the frames");
        self.rx.drain().chain(self.tx.drain())
    }

    /// Leaks all frames that are in flight; returns their number.
    pub(crate) fn abandon(&mut self) -> usize {
        let frames: Vec<_> = self.drain().map(core::mem::ManuallyDrop::new).collect();
        frames.len()
    }

    /// Returns how many frames the kernel has.
    pub(crate) fn nr_held(&self) -> usize {
        self.rx.nr_held() + self.tx.nr_held()
    }

    /// Returns how many descriptors named a frame that the kernel did not have.
    pub(crate) fn nr_malformed(&self) -> u64 {
        self.rx.nr_malformed() + self.tx.nr_malformed()
    }

    /// Returns how many packets could not be sent.
    pub(crate) fn nr_refused(&self) -> u64 {
        self.tx.nr_refused()
    }

    /// Binds the socket; see [`XskRings::bind`].
    pub(crate) fn bind(&self, interface: u32, queue: u32, flags: u16) -> io::Result<()> {
        self.socket_ref().bind(interface, queue, flags)
    }

    /// See [`XskRings::is_zero_copy`].
    pub(crate) fn is_zero_copy(&self) -> io::Result<bool> {
        self.socket_ref().is_zero_copy()
    }

    /// See [`XskRings::statistics`]; zeroes once the socket is closed.
    pub(crate) fn statistics(&self) -> Statistics {
        self.socket.as_ref().and_then(|socket| socket.statistics().ok()).unwrap_or_default()
    }

    /// Returns whether the kernel requests a wake-up to send packets.
    #[inline]
    pub(crate) fn wants_send_wakeup(&self) -> bool {
        self.socket_ref().wants_send_wakeup()
    }

    /// Returns whether the kernel requests a wake-up to take new frames.
    #[inline]
    pub(crate) fn wants_fill_wakeup(&self) -> bool {
        self.socket_ref().wants_fill_wakeup()
    }

    /// See [`XskRings::wake_send`].
    pub(crate) fn wake_send(&self) -> io::Result<()> {
        self.socket_ref().wake_send()
    }

    /// See [`XskRings::wake_fill`].
    pub(crate) fn wake_fill(&self) -> io::Result<()> {
        self.socket_ref().wake_fill()
    }

    /// See [`XskRings::wait`].
    pub(crate) fn wait(&self, timeout: Duration) -> io::Result<bool> {
        self.socket_ref().wait(timeout)
    }

    /// See [`XskRings::is_unbound`].
    pub(crate) fn is_unbound(&self) -> bool {
        self.socket_ref().is_unbound()
    }

    /// Returns the descriptor, for BPF maps.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket_ref().fd()
    }

    #[inline]
    fn socket_ref(&self) -> &XskRings {
        self.socket.as_ref().expect(OPEN)
    }

    #[inline]
    fn socket_mut(&mut self) -> &mut XskRings {
        self.socket.as_mut().expect(OPEN)
    }
}

/// Pause between checks whether packets have left.
const SETTLE: Duration = Duration::from_micros(50);

/// Why a socket exists here: closing takes the device by value.
const OPEN: &str = "the socket is open until the device is closed";
