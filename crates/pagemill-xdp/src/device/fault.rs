//! Fault injection for devices: lost, late and reordered packets, and short rings.

use alloc::collections::VecDeque;
use core::time::Duration;

use crate::device::device::{Device, DeviceCounters};
use crate::error::XdpError;
use crate::packet::packet::Packet;

/// Kinds and rates of faults; [`FaultConfig::NONE`] has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data, written out by the caller")]
pub struct FaultConfig {
    /// Seed of the random choices: the same seed makes the same choices.
    pub seed: u64,
    /// Received packets that are lost, per 1000.
    pub drop_per_mille: u16,
    /// Received packets that change places with the previous one, per 1000.
    pub reorder_per_mille: u16,
    /// Received packets that are delayed, per 1000.
    pub delay_per_mille: u16,
    /// Maximum delay, in calls.
    pub delay_max: u16,
    /// Maximum number of packets or frames per call, as with a short ring.
    pub batch_max: usize,
}

impl FaultConfig {
    /// No fault at all.
    pub const NONE: Self = Self {
        seed: 0,
        drop_per_mille: 0,
        reorder_per_mille: 0,
        delay_per_mille: 0,
        delay_max: 1,
        batch_max: usize::MAX,
    };
}

/// A device with faults on its way in and out.
#[derive(Debug)]
pub struct Fault<D: Device> {
    inner: D,
    config: FaultConfig,
    random: u64,
    /// Number of the current call of `receive`.
    now: u64,
    /// Delayed packets, and the call in which they arrive.
    late: VecDeque<(u64, Packet<D::Frame>)>,
    nr_dropped: u64,
}

impl<D: Device> Fault<D> {
    /// Adds faults to `inner`.
    pub fn new(inner: D, config: FaultConfig) -> Self {
        Self { inner, config, random: config.seed, now: 0, late: VecDeque::new(), nr_dropped: 0 }
    }

    /// Returns the device itself.
    pub fn inner_mut(&mut self) -> &mut D {
        &mut self.inner
    }

    /// Returns how many packets were lost by a fault.
    pub fn nr_dropped(&self) -> u64 {
        self.nr_dropped
    }

    /// Returns a random number below `end`.
    fn below(&mut self, end: u64) -> u64 {
        // Vigna's splitmix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % end.max(1)
    }

    fn happens(&mut self, per_mille: u16) -> bool {
        per_mille > 0 && self.below(1000) < u64::from(per_mille)
    }
}

impl<D: Device> Device for Fault<D> {
    type Frame = D::Frame;

    fn receive(
        &mut self,
        packets: &mut Vec<Packet<D::Frame>>,
        nr_max: usize,
    ) -> Result<usize, XdpError> {
        let (first, nr_max) = (packets.len(), nr_max.min(self.config.batch_max));
        self.now += 1;
        let mut nr_due = 0;
        while nr_due < nr_max && self.late.front().is_some_and(|(due, _)| *due <= self.now) {
            packets.extend(self.late.pop_front().map(|(_, packet)| packet));
            nr_due += 1;
        }
        let mut fresh = Vec::new();
        self.inner.receive(&mut fresh, nr_max - nr_due)?;
        for packet in fresh {
            if self.happens(self.config.drop_per_mille) {
                self.nr_dropped += 1;
                continue;
            }
            if self.happens(self.config.delay_per_mille) {
                let calls = 1 + self.below(self.config.delay_max.into());
                self.late.push_back((self.now + calls, packet));
                continue;
            }
            packets.push(packet);
            if packets.len() > first + 1 && self.happens(self.config.reorder_per_mille) {
                let last = packets.len() - 1;
                packets.swap(last - 1, last);
            }
        }
        Ok(packets.len() - first)
    }

    fn send(&mut self, packets: &mut Vec<Packet<D::Frame>>) -> Result<usize, XdpError> {
        let rest = packets.split_off(packets.len().min(self.config.batch_max));
        let result = self.inner.send(packets);
        packets.extend(rest);
        result
    }

    fn nr_wanted(&mut self) -> Result<usize, XdpError> {
        Ok(self.inner.nr_wanted()?.min(self.config.batch_max))
    }

    fn supply(&mut self, frames: &mut Vec<D::Frame>) -> Result<usize, XdpError> {
        let nr = frames.len().min(self.config.batch_max);
        let mut some = frames.split_off(frames.len() - nr);
        let result = self.inner.supply(&mut some);
        frames.extend(some);
        result
    }

    fn completed(&mut self, frames: &mut Vec<D::Frame>) -> Result<usize, XdpError> {
        self.inner.completed(frames)
    }

    fn flush(&mut self) -> Result<(), XdpError> {
        self.inner.flush()
    }

    fn wait(&mut self, timeout: Duration) -> Result<bool, XdpError> {
        if self.late.is_empty() { self.inner.wait(timeout) } else { Ok(true) }
    }

    fn nr_held(&self) -> usize {
        let late: usize = self.late.iter().map(|(_, packet)| packet.nr_frames()).sum();
        self.inner.nr_held() + late
    }

    fn counters(&self) -> DeviceCounters {
        let inner = self.inner.counters();
        DeviceCounters {
            received: inner.received - self.nr_dropped - self.late.len() as u64,
            dropped: inner.dropped + self.nr_dropped,
            ..inner
        }
    }

    fn close(self, frames: &mut Vec<D::Frame>) -> Result<(), XdpError> {
        frames.extend(self.late.into_iter().flat_map(|(_, packet)| packet.into_frames()));
        self.inner.close(frames)
    }
}
