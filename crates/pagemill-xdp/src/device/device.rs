//! `Device` trait: receives, sends, and exchanges frames; implemented by sockets and test devices.

use core::ops::{Add, Sub};
use core::time::Duration;

use crate::error::XdpError;
use crate::packet::frame::Frame;
use crate::packet::packet::Packet;

/// One queue of an interface, or a substitute for it.
///
/// Frames circulate: [`supply`](Self::supply) passes empty frames to the device, and
/// [`receive`](Self::receive) returns them as packets. [`send`](Self::send) passes packets to it, and
/// [`completed`](Self::completed) returns their frames. [`nr_held`](Self::nr_held) is the number of
/// frames that the device has, and [`close`](Self::close) returns all of them. No frame is lost: frames
/// that a call did not take still belong to the caller.
pub trait Device {
    /// The frames of its packets.
    type Frame: Frame;

    /// Appends up to `nr_max` packets that have come in, and returns how many.
    ///
    /// # Errors
    /// [`XdpError::RingBroken`].
    fn receive(
        &mut self,
        packets: &mut Vec<Packet<Self::Frame>>,
        nr_max: usize,
    ) -> Result<usize, XdpError>;

    /// Takes packets from the front of `packets` as long as there is room, and returns how many; the
    /// others stay. The packets leave with the next [`flush`](Self::flush) at the latest.
    ///
    /// # Errors
    /// [`XdpError::RingBroken`].
    ///
    /// # Panics
    /// If a frame is not of the device's arena.
    fn send(&mut self, packets: &mut Vec<Packet<Self::Frame>>) -> Result<usize, XdpError>;

    /// Returns for how many empty frames the device has room.
    ///
    /// # Errors
    /// [`XdpError::RingBroken`].
    fn nr_wanted(&mut self) -> Result<usize, XdpError>;

    /// Takes empty frames from the end of `frames` as long as there is room, and returns how many; the
    /// others stay.
    ///
    /// # Errors
    /// [`XdpError::RingBroken`].
    ///
    /// # Panics
    /// If a frame is not of the device's arena.
    fn supply(&mut self, frames: &mut Vec<Self::Frame>) -> Result<usize, XdpError>;

    /// Appends the frames of packets that were sent, and returns how many.
    ///
    /// # Errors
    /// [`XdpError::RingBroken`].
    fn completed(&mut self, frames: &mut Vec<Self::Frame>) -> Result<usize, XdpError>;

    /// Makes the device send its packets and notice empty frames.
    ///
    /// # Errors
    /// The error of the system, except for temporary ones: full queues, an interface that is down for
    /// now. The packets then stay with the device. [`XdpError::InterfaceGone`].
    fn flush(&mut self) -> Result<(), XdpError>;

    /// Waits until a packet has arrived, at most for `timeout`; returns whether one has.
    ///
    /// # Errors
    /// The error of the system. [`XdpError::InterfaceGone`].
    fn wait(&mut self, timeout: Duration) -> Result<bool, XdpError>;

    /// Returns how many frames the device has.
    fn nr_held(&self) -> usize;

    /// Returns the counters.
    fn counters(&self) -> DeviceCounters;

    /// Closes the device and appends all frames that it had.
    ///
    /// # Errors
    /// [`XdpError::FramesStuck`] if some may still be in use by hardware, and
    /// [`XdpError::ReleaseUnknown`] if the kernel does not report whether they are. They are leaked
    /// then.
    fn close(self, frames: &mut Vec<Self::Frame>) -> Result<(), XdpError>;
}

/// Counters of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain figures, which devices of others fill in")]
pub struct DeviceCounters {
    /// Packets that were received.
    pub received: u64,
    /// Packets that were accepted for sending.
    pub sent: u64,
    /// Frames of packets that the device reported as sent.
    pub completed: u64,
    /// Packets that were lost because there was no empty frame for them.
    pub no_frame: u64,
    /// Packets that were lost because the ring of received packets was full.
    pub ring_full: u64,
    /// Packets that were lost for another reason, such as being larger than a frame.
    pub dropped: u64,
    /// Descriptors with invalid contents from the other side: outside of the arena, or of a frame that
    /// it did not have.
    pub malformed: u64,
    /// Times that the interface was down when something was to be sent.
    pub down: u64,
}

impl DeviceCounters {
    /// Returns how many packets were lost before they were received.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.no_frame + self.ring_full + self.dropped
    }

    fn zip(self, other: Self, with: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            received: with(self.received, other.received),
            sent: with(self.sent, other.sent),
            completed: with(self.completed, other.completed),
            no_frame: with(self.no_frame, other.no_frame),
            ring_full: with(self.ring_full, other.ring_full),
            dropped: with(self.dropped, other.dropped),
            malformed: with(self.malformed, other.malformed),
            down: with(self.down, other.down),
        }
    }
}

impl Add for DeviceCounters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.zip(other, |one, other| one + other)
    }
}

impl Sub for DeviceCounters {
    type Output = Self;

    /// Returns the counts since `earlier`.
    fn sub(self, earlier: Self) -> Self {
        self.zip(earlier, u64::saturating_sub)
    }
}
