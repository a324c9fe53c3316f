//! Table of frames in flight: owns the frames whose addresses are on a ring.
//!
//! A frame whose address is put on a ring moves in here, and comes out when the ring returns it. So no
//! code can access its bytes in the meantime, no frame can be posted twice, and a descriptor that names
//! a frame which is not here is detected.
//!
//! `frame-in-flight`: a frame that was put in is neither read nor written through this crate
//! until it is taken out.

use crate::packet::frame::Frame;

/// One place per frame of a region, filled while the other side has the frame.
#[derive(Debug)]
pub(crate) struct InFlight<F> {
    /// The address of the region's first byte.
    base: usize,
    places: Box<[Option<F>]>,
    nr_held: usize,
}

impl<F: Frame> InFlight<F> {
    /// Makes the table for a region of `nr_chunks` frames from `base` on.
    pub(crate) fn new(base: usize, nr_chunks: usize) -> Self {
        Self { base, places: (0..nr_chunks).map(|_| None).collect(), nr_held: 0 }
    }

    /// Returns the number of frames in the region.
    #[inline]
    pub(crate) fn nr_chunks(&self) -> usize {
        self.places.len()
    }

    /// Returns how many frames the other side has.
    #[inline]
    pub(crate) fn nr_held(&self) -> usize {
        self.nr_held
    }

    /// Stores `frame`, and returns its index.
    ///
    /// # Panics
    /// If the frame is not in the region.
    #[inline]
    pub(crate) fn put(&mut self, frame: F) -> usize {
        let index = self.index_of(&frame);
        let Some(place) = self.places.get_mut(index) else {
            panic!("a frame at {:p} is outside of the arena of this device", frame.bytes());
        };
        // A frame has only one owner.
        debug_assert!(place.is_none(), "frame {index} was in flight already");
        *place = Some(frame);
        self.nr_held += 1;
        index
    }

    /// Removes and returns the frame with this index, if the other side has it.
    #[inline]
    pub(crate) fn take(&mut self, index: usize) -> Option<F> {
        let frame = self.places.get_mut(index)?.take()?;
        self.nr_held -= 1;
        Some(frame)
    }

    /// Returns the frame with this index, if the other side has it. For devices whose other side is
    /// implemented in this crate.
    #[inline]
    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut F> {
        self.places.get_mut(index)?.as_mut()
    }

    /// Removes all frames, once the other side no longer has any.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = F> {
        self.nr_held = 0;
        self.places.iter_mut().filter_map(Option::take)
    }

    #[inline]
    fn index_of(&self, frame: &F) -> usize {
        // Wraps for a frame below the region, to an index that no region has.
        let offset = frame.bytes().as_ptr().addr().wrapping_sub(self.base);
        offset / pagemill::units::PAGE_SIZE
    }
}
