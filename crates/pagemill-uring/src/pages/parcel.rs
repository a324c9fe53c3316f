//! Parcel: received bytes that wait to be sent, or are being sent, in order.

use alloc::collections::VecDeque;

use crate::pages::received::Received;
use crate::pages::ring_page::RingPage;

/// Received pages in the order in which their bytes are to be sent.
#[derive(Debug)]
pub(crate) struct Parcel<F> {
    parts: VecDeque<Received<F>>,
    /// Bytes of the first part that were sent.
    sent: usize,
    /// Bytes that were not sent.
    len: usize,
}

impl<F: RingPage> Parcel<F> {
    /// Makes an empty parcel.
    pub(crate) fn new() -> Self {
        Self { parts: VecDeque::new(), sent: 0, len: 0 }
    }

    /// Returns the number of bytes that are to be sent.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns the number of pages.
    pub(crate) fn nr_pages(&self) -> usize {
        self.parts.iter().map(Received::nr_pages).sum()
    }

    /// Appends received bytes.
    pub(crate) fn push(&mut self, received: Received<F>) {
        self.len += received.len();
        self.parts.push_back(received);
    }

    /// Appends all bytes of another parcel, of which none were sent.
    pub(crate) fn append(&mut self, mut other: Self) {
        debug_assert!(other.sent == 0, "{} bytes were sent before earlier ones", other.sent);
        self.len += other.len;
        self.parts.append(&mut other.parts);
    }

    /// Returns the bytes that are to be sent, in pieces of at most a page.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let mut skipped = self.sent;
        self.parts.iter().flat_map(Received::pieces).filter_map(move |piece| {
            let nr = skipped.min(piece.len());
            skipped -= nr;
            piece.get(nr..).filter(|rest| !rest.is_empty())
        })
    }

    /// Removes the first `nr` bytes, which were sent. Parts of which nothing is left return their pages.
    pub(crate) fn advance(&mut self, nr: usize) {
        let nr = nr.min(self.len);
        self.len -= nr;
        self.sent += nr;
        while let Some(first) = self.parts.front()
            && first.len() <= self.sent
        {
            self.sent -= first.len();
            self.parts.pop_front();
        }
    }
}
