//! Sinks: the destinations of a worker's packets, which drop, forward or hand them over.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use crate::device::device::{Device, DeviceCounters};
use crate::error::XdpError;
use crate::packet::frame::Frame;
use crate::packet::packet::Packet;

/// The destination of packets.
pub trait Sink<F: Frame> {
    /// Takes packets from the front of `packets`, and returns how many; packets without room stay.
    /// Appends frames that are free again to `spent`.
    ///
    /// # Errors
    /// Those of the device behind it.
    fn take(&mut self, packets: &mut Vec<Packet<F>>, spent: &mut Vec<F>)
    -> Result<usize, XdpError>;

    /// Returns how many frames it has, which will come back.
    fn nr_held(&self) -> usize {
        0
    }

    /// Returns the counters of the device behind it, if there is one.
    fn counters(&self) -> DeviceCounters {
        DeviceCounters::default()
    }

    /// Closes it, and appends the frames that it had.
    ///
    /// # Errors
    /// Those of the device behind it.
    fn close(self, spent: &mut Vec<F>) -> Result<(), XdpError>;
}

/// Drops every packet.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "there is nothing in it")]
pub struct Discard;

impl<F: Frame> Sink<F> for Discard {
    #[inline]
    fn take(
        &mut self,
        packets: &mut Vec<Packet<F>>,
        spent: &mut Vec<F>,
    ) -> Result<usize, XdpError> {
        let nr = packets.len();
        spent.extend(packets.drain(..).flat_map(Packet::into_frames));
        Ok(nr)
    }

    fn close(self, _spent: &mut Vec<F>) -> Result<(), XdpError> {
        Ok(())
    }
}

/// Sends every packet out of a device.
#[derive(Debug)]
pub struct Forward<D> {
    device: D,
}

impl<D: Device> Forward<D> {
    /// Makes a sink that sends out of `device`.
    pub fn new(device: D) -> Self {
        Self { device }
    }

    /// Returns the device.
    pub fn device_mut(&mut self) -> &mut D {
        &mut self.device
    }
}

impl<D: Device> Sink<D::Frame> for Forward<D> {
    fn take(
        &mut self,
        packets: &mut Vec<Packet<D::Frame>>,
        spent: &mut Vec<D::Frame>,
    ) -> Result<usize, XdpError> {
        self.device.completed(spent)?;
        let nr = if packets.is_empty() { 0 } else { self.device.send(packets)? };
        if self.device.nr_held() > 0 {
            self.device.flush()?;
        }
        Ok(nr)
    }

    fn nr_held(&self) -> usize {
        self.device.nr_held()
    }

    fn counters(&self) -> DeviceCounters {
        self.device.counters()
    }

    fn close(self, spent: &mut Vec<D::Frame>) -> Result<(), XdpError> {
        self.device.close(spent)
    }
}

/// Passes every packet to another thread, which may keep it indefinitely.
///
/// If that thread has ended, packets are dropped.
#[derive(Debug)]
pub struct Handover<F: Frame> {
    to: SyncSender<Vec<Packet<F>>>,
    /// Empty vectors, to be reused.
    back: Receiver<Vec<Packet<F>>>,
    nr_orphaned: u64,
}

/// The other end of a [`Handover`].
#[derive(Debug)]
pub struct Inbox<F: Frame> {
    from: Receiver<Vec<Packet<F>>>,
    back: SyncSender<Vec<Packet<F>>>,
}

/// Makes a channel for packets from one thread to another, with room for `nr_batches` batches.
#[must_use]
pub fn handover<F: Frame>(nr_batches: usize) -> (Handover<F>, Inbox<F>) {
    let (to, from) = sync_channel(nr_batches);
    let (give_back, back) = sync_channel(nr_batches);
    (Handover { to, back, nr_orphaned: 0 }, Inbox { from, back: give_back })
}

impl<F: Frame> Handover<F> {
    /// Returns how many packets were dropped because the other thread had ended.
    pub fn nr_orphaned(&self) -> u64 {
        self.nr_orphaned
    }
}

impl<F: Frame> Sink<F> for Handover<F> {
    fn take(
        &mut self,
        packets: &mut Vec<Packet<F>>,
        spent: &mut Vec<F>,
    ) -> Result<usize, XdpError> {
        if packets.is_empty() {
            return Ok(0);
        }
        let nr = packets.len();
        let mut batch = self.back.try_recv().unwrap_or_default();
        batch.append(packets);
        match self.to.try_send(batch) {
            Ok(()) => Ok(nr),
            Err(TrySendError::Full(batch)) => {
                *packets = batch;
                Ok(0)
            }
            Err(TrySendError::Disconnected(batch)) => {
                self.nr_orphaned += batch.len() as u64;
                spent.extend(batch.into_iter().flat_map(Packet::into_frames));
                Ok(nr)
            }
        }
    }

    fn close(self, _spent: &mut Vec<F>) -> Result<(), XdpError> {
        Ok(())
    }
}

impl<F: Frame> Inbox<F> {
    /// Waits for a batch; `None` once the other end is gone and all batches were received.
    #[must_use]
    pub fn receive(&self) -> Option<Vec<Packet<F>>> {
        self.from.recv().ok()
    }

    /// Waits for a batch, at most for `timeout`.
    ///
    /// # Errors
    /// [`NoBatch`], which distinguishes a timeout from a closed channel.
    pub fn receive_timeout(
        &self,
        timeout: core::time::Duration,
    ) -> Result<Vec<Packet<F>>, NoBatch> {
        use std::sync::mpsc::RecvTimeoutError;

        self.from.recv_timeout(timeout).map_err(|error| match error {
            RecvTimeoutError::Timeout => NoBatch::Yet,
            RecvTimeoutError::Disconnected => NoBatch::EverAgain,
        })
    }

    /// Returns a vector to be reused; packets left in it are dropped.
    pub fn give_back(&self, mut batch: Vec<Packet<F>>) {
        batch.clear();
        // A vector for which there is no room is freed.
        let _spare = self.back.try_send(batch);
    }
}

/// Why no batch came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there are these two")]
pub enum NoBatch {
    /// No batch arrived in time.
    Yet,
    /// The other end is gone.
    EverAgain,
}
