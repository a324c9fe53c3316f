//! Books of the buffer ring: owns the pages whose addresses are on the ring.
//!
//! A page whose address is put on the ring moves in here first, and comes out when the kernel has
//! reported it. So no code can access its bytes in the meantime, no page can be posted twice, and a
//! completion that names a buffer which is not here is detected.
//!
//! The number of a buffer is its slot: the place on the ring, which is also the place in here. The kernel
//! takes buffers in the order of the ring, so those of a bundle are in consecutive slots.
//!
//! `page-posted`: a page that was put in is neither read nor written through this crate until it is taken
//! out.

use crate::kernel::completion::Broken;
use crate::pages::filled::FilledPage;

/// One place per slot of the ring, filled while the kernel has the page.
#[derive(Debug)]
pub(crate) struct Books<F> {
    slots: Box<[Option<F>]>,
    /// The slot of the next page that is put in.
    next: usize,
    nr_posted: usize,
}

impl<F> Books<F> {
    /// Makes the books of a ring of `nr` slots, a power of two.
    pub(crate) fn new(nr: u16) -> Self {
        debug_assert!(nr.is_power_of_two(), "{nr} is no power of two");
        Self { slots: (0..nr).map(|_| None).collect(), next: 0, nr_posted: 0 }
    }

    /// Returns how many pages the kernel has.
    #[inline]
    pub(crate) fn nr_posted(&self) -> usize {
        self.nr_posted
    }

    /// Returns how many slots are free. They are not all usable if the kernel has not yet reported a
    /// buffer that it took earlier than others.
    #[inline]
    pub(crate) fn nr_free(&self) -> usize {
        self.slots.len() - self.nr_posted
    }

    /// Stores a page in the next slot, and returns its number.
    ///
    /// # Errors
    /// Returns the page if the kernel has not reported the last page of that slot.
    #[inline]
    pub(crate) fn put(&mut self, page: F) -> Result<u16, F> {
        let slot = self.next;
        match self.slots.get_mut(slot) {
            Some(place @ None) => *place = Some(page),
            _ => return Err(page),
        }
        self.next = (slot + 1) & (self.slots.len() - 1);
        self.nr_posted += 1;
        Ok(u16::try_from(slot).expect("a ring has at most 2^15 slots"))
    }

    /// Moves the page of one slot out.
    ///
    /// # Errors
    /// If there is no such slot, or the kernel does not have its page.
    #[inline]
    pub(crate) fn take(&mut self, slot: u16) -> Result<F, Broken> {
        let page = self.slots.get_mut(usize::from(slot)).and_then(Option::take);
        let page = page.ok_or(Broken { what: NOT_POSTED, value: slot.into() })?;
        self.nr_posted -= 1;
        Ok(page)
    }

    /// Moves the pages of consecutive slots to `pages`, from `first` on: as many as `len` bytes fill, and at
    /// most `nr_max`. `capacity` returns how many bytes the buffer of a slot has room for.
    ///
    /// # Errors
    /// If there is no such slot, the kernel does not have one of the pages, or they do not hold the bytes.
    /// Nothing is moved then.
    #[inline]
    pub(crate) fn take_filled(
        &mut self,
        first: u16,
        len: usize,
        nr_max: u16,
        capacity: impl Fn(u16, &F) -> u32,
        pages: &mut Vec<FilledPage<F>>,
    ) -> Result<(), Broken> {
        let nr = self.nr_filled(first, len, nr_max, &capacity)?;
        let mut left = len;
        for slot in slots(first, nr, self.slots.len()) {
            let page = self.take(slot)?;
            let room = capacity(slot, &page);
            let filled = u32::try_from(left).map_or(room, |left| left.min(room));
            left -= filled as usize;
            pages.push(FilledPage::new(page, filled));
        }
        Ok(())
    }

    /// Returns how many slots `len` bytes fill.
    fn nr_filled(
        &self,
        first: u16,
        len: usize,
        nr_max: u16,
        capacity: impl Fn(u16, &F) -> u32,
    ) -> Result<u16, Broken> {
        let (mut left, mut nr) = (len, 0);
        for slot in slots(first, nr_max, self.slots.len()) {
            if left == 0 {
                break;
            }
            let page = self.slots.get(usize::from(slot)).and_then(Option::as_ref);
            let page = page.ok_or(Broken { what: NOT_POSTED, value: slot.into() })?;
            left = left.saturating_sub(capacity(slot, page) as usize);
            nr += 1;
        }
        if left == 0 {
            Ok(nr)
        } else {
            Err(Broken { what: "more bytes than the buffers hold", value: len as u64 })
        }
    }

    /// Removes all pages, once the kernel no longer uses any.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = F> {
        self.nr_posted = 0;
        self.slots.iter_mut().filter_map(Option::take)
    }
}

/// Returns the numbers of `nr` consecutive slots from `first` on, in a ring of `nr_slots`. A `first` that the
/// ring does not have comes back as it is.
fn slots(first: u16, nr: u16, nr_slots: usize) -> impl Iterator<Item = u16> {
    let mask = u16::try_from(nr_slots - 1).unwrap_or(u16::MAX);
    (0..nr).map(move |index| if index == 0 { first } else { first.wrapping_add(index) & mask })
}

const NOT_POSTED: &str = "a buffer that the kernel does not have";

#[cfg(test)]
mod tests;
