//! Receive side: turns checked rx descriptors into packets, and owns the frames posted for filling.

use crate::packet::frame::Frame;
use crate::packet::packet::Packet;
use crate::ring::descriptor::RawDescriptor;
use crate::ring::in_flight::InFlight;

/// The frames posted for filling, and the packet whose fragments are being received.
#[derive(Debug)]
pub(crate) struct Rx<F: Frame> {
    posted: InFlight<F>,
    /// The first fragments of an incomplete packet.
    partial: Option<Packet<F>>,
    /// Whether the rest of the current packet is dropped, because a fragment of it was malformed.
    skipping: bool,
    nr_malformed: u64,
}

impl<F: Frame> Rx<F> {
    /// Starts without posted frames, for a region of `nr_chunks` frames from `base` on.
    pub(crate) fn new(base: usize, nr_chunks: usize) -> Self {
        Self {
            posted: InFlight::new(base, nr_chunks),
            partial: None,
            skipping: false,
            nr_malformed: 0,
        }
    }

    /// Posts a frame, and returns its index.
    ///
    /// # Panics
    /// If the frame is not in the region.
    #[inline]
    pub(crate) fn post(&mut self, frame: F) -> usize {
        self.posted.put(frame)
    }

    /// Processes a descriptor from the other side; returns a packet if this was its last fragment.
    ///
    /// A malformed descriptor is counted. If it names a frame at all, that frame stays posted, because
    /// the other side may still use it.
    #[inline]
    pub(crate) fn accept(&mut self, descriptor: RawDescriptor) -> Option<Packet<F>> {
        let placement = descriptor.check(self.posted.nr_chunks());
        let piece = placement.and_then(|placement| {
            let frame = self.posted.take(placement.chunk)?;
            let packet = Packet::from_frame(frame, placement.start, placement.len).ok()?;
            Some((packet, placement.continued))
        });
        match piece {
            Some((packet, false)) if self.partial.is_none() && !self.skipping => Some(packet),
            Some((packet, continued)) => self.join(packet, continued),
            None => {
                self.nr_malformed += 1;
                self.partial = None;
                // The flag cannot be verified; the fragments that follow would have no beginning.
                self.skipping = descriptor.options & crate::ring::descriptor::CONTINUED != 0;
                None
            }
        }
    }

    #[cold]
    fn join(&mut self, piece: Packet<F>, continued: bool) -> Option<Packet<F>> {
        if self.skipping {
            self.skipping = continued;
            return None;
        }
        match &mut self.partial {
            Some(packet) => packet.append(piece),
            None => self.partial = Some(piece),
        }
        if continued { None } else { self.partial.take() }
    }

    /// Returns how many descriptors were malformed.
    pub(crate) fn nr_malformed(&self) -> u64 {
        self.nr_malformed
    }

    /// Returns how many frames are posted, or belong to an incomplete packet.
    pub(crate) fn nr_held(&self) -> usize {
        self.posted.nr_held() + self.partial.as_ref().map_or(0, Packet::nr_frames)
    }

    /// Removes all frames, once the other side no longer has any.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = F> {
        let partial = self.partial.take();
        self.posted.drain().chain(partial.into_iter().flat_map(Packet::into_frames))
    }

    /// Returns the posted frame with this index, for a device that fills it itself.
    pub(crate) fn posted_mut(&mut self, index: usize) -> Option<&mut F> {
        self.posted.get_mut(index)
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

    fn rx(frames: &Frames) -> Rx<Page<&Frames>> {
        let memory = frames.platform().memory();
        Rx::new(memory.base().addr().get(), memory.nr_pages())
    }

    fn page(frames: &Frames) -> Page<&Frames> {
        frames.alloc_page(Gfp::KERNEL).unwrap()
    }

    #[test]
    fn a_frame_is_received_once_and_only_if_it_was_posted() {
        let frames = frames();
        let mut rx = rx(&frames);
        let index = rx.post(page(&frames));
        let other = (index + 1) % 1024;
        let descriptor = |chunk, len| RawDescriptor::new(chunk, 256, len, false);
        assert!(rx.accept(descriptor(other, 60)).is_none(), "not posted");
        assert!(rx.accept(RawDescriptor { len: 4000, ..descriptor(index, 0) }).is_none());
        assert_eq!((rx.nr_malformed(), rx.nr_held()), (2, 1));
        let packet = rx.accept(descriptor(index, 60)).unwrap();
        assert_eq!((packet.len(), packet.headroom()), (60, 256));
        assert!(rx.accept(descriptor(index, 60)).is_none(), "received twice");
        let beyond = RawDescriptor { address: 4 << 20, len: 60, options: 0 };
        assert!(rx.accept(beyond).is_none());
        assert_eq!((rx.nr_malformed(), rx.nr_held()), (4, 0));
    }

    #[test]
    fn pieces_become_one_packet() {
        let frames = frames();
        let mut rx = rx(&frames);
        let posted: Vec<usize> = (0..4).map(|_| rx.post(page(&frames))).collect();
        for (nth, &index) in posted[..3].iter().enumerate() {
            let packet = rx.accept(RawDescriptor::new(index, 256, 10, nth < 2));
            assert_eq!(
                packet.map(|packet| (packet.nr_frames(), packet.total_len())),
                (nth == 2).then_some((3, 30))
            );
            assert_eq!(rx.nr_held(), if nth < 2 { 4 } else { 1 });
        }
        // A packet that ends with the socket: its pieces come back too.
        assert!(rx.accept(RawDescriptor::new(posted[3], 0, 1, true)).is_none());
        assert_eq!(rx.drain().count(), 1);
        assert_eq!(frames.nr_free_pages(), 1024);
    }

    #[test]
    fn a_malformed_piece_costs_its_packet_and_no_other() {
        let frames = frames();
        let mut rx = rx(&frames);
        let posted: Vec<usize> = (0..4).map(|_| rx.post(page(&frames))).collect();
        let piece = |index, continued| RawDescriptor::new(index, 256, 10, continued);
        assert!(rx.accept(piece(posted[0], true)).is_none());
        assert!(rx.accept(RawDescriptor { len: 5000, ..piece(posted[1], true) }).is_none());
        assert!(rx.accept(piece(posted[2], false)).is_none(), "the rest of the bad packet");
        assert_eq!(rx.accept(piece(posted[3], false)).map(|packet| packet.len()), Some(10));
        // The frame of the bad piece is still the other side's.
        assert_eq!((rx.nr_malformed(), rx.nr_held()), (1, 1));
        assert_eq!(rx.drain().count(), 1);
    }

    #[test]
    #[should_panic(expected = "outside of the arena")]
    fn a_frame_of_another_arena_is_refused() {
        let (here, there) = (frames(), frames());
        rx(&here).post(page(&there));
    }

    #[test]
    fn frames_come_back_to_the_allocator_when_all_is_dropped() {
        let frames = frames();
        let mut rx = rx(&frames);
        for _ in 0..100 {
            rx.post(page(&frames));
        }
        assert_eq!(frames.nr_free_pages(), 924);
        drop(rx);
        assert_eq!(frames.nr_free_pages(), 1024);
    }
}
