//! Send side: turns packets into tx descriptors, and owns their frames until they are completed.

use crate::packet::frame::Frame;
use crate::packet::packet::Packet;
use crate::ring::descriptor::{self, RawDescriptor};
use crate::ring::in_flight::InFlight;

/// The frames of packets that are being sent, and of packets that cannot be.
#[derive(Debug)]
pub(crate) struct Tx<F: Frame> {
    posted: InFlight<F>,
    /// Frames of packets that no device can send, and frames that came back and were not requested yet.
    refused: Vec<F>,
    nr_refused: u64,
    nr_malformed: u64,
    /// Maximum number of frames of a packet.
    nr_frames_max: usize,
}

/// Number of frames of the largest packet that the kernel copies: one, and its fragments.
///
/// # Source
/// `linux-6.12` `include/linux/skbuff.h` `MAX_SKB_FRAGS`
pub(crate) const NR_FRAMES_MAX: usize = 17;

/// Length of an Ethernet header, the minimum length of a packet.
const LEN_MIN: usize = 14;

impl<F: Frame> Tx<F> {
    /// Starts without posted frames, for a region of `nr_chunks` frames from `base` on.
    pub(crate) fn new(base: usize, nr_chunks: usize, nr_frames_max: usize) -> Self {
        Self {
            posted: InFlight::new(base, nr_chunks),
            refused: Vec::new(),
            nr_refused: 0,
            nr_malformed: 0,
            nr_frames_max,
        }
    }

    /// Posts packets from the front of `packets` as long as `room` descriptors suffice for them,
    /// appends the descriptors, and returns how many packets it posted.
    ///
    /// A packet that cannot be sent (shorter than an Ethernet header, with more frames than the device
    /// or its rings accept, or with an empty fragment) is counted, and its frames are returned by
    /// `completed`.
    ///
    /// # Panics
    /// If a frame is not in the region.
    pub(crate) fn post(
        &mut self,
        packets: &mut Vec<Packet<F>>,
        room: usize,
        descriptors: &mut Vec<RawDescriptor>,
    ) -> usize {
        let mut nr_packets = 0;
        let mut nr_used = 0;
        for packet in packets.iter() {
            let nr = if self.can_be_sent(packet) { packet.nr_frames() } else { 0 };
            if nr_used + nr > room {
                break;
            }
            nr_used += nr;
            nr_packets += 1;
        }
        for packet in packets.drain(..nr_packets) {
            if !self.can_be_sent(&packet) {
                self.nr_refused += 1;
                self.refused.extend(packet.into_frames());
                continue;
            }
            let (mut piece, mut rest) = packet.into_parts();
            loop {
                let (frame, start, len) = piece;
                let next = rest.next();
                let index = self.posted.put(frame);
                descriptors.push(RawDescriptor::new(index, start, len, next.is_some()));
                match next {
                    Some(next) => piece = next,
                    None => break,
                }
            }
        }
        nr_packets
    }

    /// Returns the frame that the other side reports as sent. If it had no such frame, returns `None`
    /// and counts that.
    #[inline]
    pub(crate) fn complete(&mut self, address: u64) -> Option<F> {
        let frame = descriptor::split(address, self.posted.nr_chunks())
            .and_then(|(chunk, _)| self.posted.take(chunk));
        self.nr_malformed += u64::from(frame.is_none());
        frame
    }

    /// Appends the frames of packets that could not be sent.
    #[inline]
    pub(crate) fn return_refused(&mut self, frames: &mut Vec<F>) -> usize {
        let nr = self.refused.len();
        frames.append(&mut self.refused);
        nr
    }

    /// Returns how many frames are posted.
    pub(crate) fn nr_posted(&self) -> usize {
        self.posted.nr_held()
    }

    /// Keeps frames that have come back, until they are requested.
    pub(crate) fn keep(&mut self, frames: &mut Vec<F>) {
        self.refused.append(frames);
    }

    /// Returns how many packets could not be sent.
    pub(crate) fn nr_refused(&self) -> u64 {
        self.nr_refused
    }

    /// Returns how many completions named a frame that was not posted.
    pub(crate) fn nr_malformed(&self) -> u64 {
        self.nr_malformed
    }

    /// Returns how many frames are posted, or were refused and not yet returned.
    pub(crate) fn nr_held(&self) -> usize {
        self.posted.nr_held() + self.refused.len()
    }

    /// Removes all frames, once the other side no longer has any.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = F> {
        self.posted.drain().chain(self.refused.drain(..))
    }

    /// Returns the posted frame with this index, for a device that reads it itself.
    pub(crate) fn posted_mut(&mut self, index: usize) -> Option<&mut F> {
        self.posted.get_mut(index)
    }

    #[inline]
    fn can_be_sent(&self, packet: &Packet<F>) -> bool {
        let one_frame = packet.len() >= LEN_MIN;
        match packet.nr_frames() {
            1 => one_frame,
            nr => one_frame && nr <= self.nr_frames_max && packet.pieces().all(|p| !p.is_empty()),
        }
    }
}

#[cfg(test)]
mod tests {
    use pagemill::{AllocPages, Gfp, Page, PageAllocator};
    use pagemill_host::{AllocatorConfig, ArenaConfig, Host, allocator};

    use super::*;

    type Frames = PageAllocator<Host>;

    fn frames() -> Frames {
        allocator(&AllocatorConfig::new(ArenaConfig::new(4 << 20))).unwrap()
    }

    fn tx(frames: &Frames, nr_frames_max: usize) -> Tx<Page<&Frames>> {
        let memory = frames.platform().memory();
        Tx::new(memory.base().addr().get(), memory.nr_pages(), nr_frames_max)
    }

    fn packet(frames: &Frames, len: usize) -> Packet<Page<&Frames>> {
        let mut packet = Packet::new(frames.alloc_page(Gfp::KERNEL).unwrap());
        packet.extend(&vec![7; len]).unwrap();
        packet
    }

    #[test]
    fn only_whole_packets_are_posted_and_each_frame_comes_back_once() {
        let frames = frames();
        let mut tx = tx(&frames, NR_FRAMES_MAX);
        let mut large = packet(&frames, 100);
        large.append(packet(&frames, 1));
        let mut packets = vec![packet(&frames, 60), large, packet(&frames, 61)];
        let mut descriptors = Vec::new();
        assert_eq!(tx.post(&mut packets, 2, &mut descriptors), 1);
        assert_eq!(tx.post(&mut packets, 2, &mut descriptors), 1);
        let shape: Vec<_> = descriptors.iter().map(|d| (d.len, d.options)).collect();
        assert_eq!((shape, packets.len()), (vec![(60, 0), (100, 1), (1, 0)], 1));
        assert_eq!(tx.nr_held(), 3);
        for descriptor in &descriptors {
            // The address is that of the packet, and is rebased to the frame.
            assert!(descriptor.address % 4096 == 256);
            assert!(tx.complete(descriptor.address).is_some());
            assert!(tx.complete(descriptor.address).is_none(), "completed twice");
        }
        assert!(tx.complete(u64::MAX).is_none());
        assert_eq!((tx.nr_malformed(), tx.nr_held()), (4, 0));
    }

    #[test]
    fn what_no_device_takes_comes_back_and_is_counted() {
        let frames = frames();
        let mut tx = tx(&frames, 1);
        let mut large = packet(&frames, 100);
        large.append(packet(&frames, 1));
        let mut packets = vec![packet(&frames, 13), packet(&frames, 0), large];
        let mut descriptors = Vec::new();
        assert_eq!(tx.post(&mut packets, 0, &mut descriptors), 3);
        assert_eq!((descriptors.len(), tx.nr_refused(), tx.nr_held()), (0, 3, 4));
        let mut back = Vec::new();
        assert_eq!(tx.return_refused(&mut back), 4);
        assert_eq!(tx.nr_held(), 0);
    }
}
