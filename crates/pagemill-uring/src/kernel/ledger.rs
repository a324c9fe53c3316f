//! Ledger: everything that the kernel has of a ring, and what each completion returns of it.

use alloc::collections::BTreeMap;
use std::os::fd::OwnedFd;

use crate::kernel::books::Books;
use crate::kernel::completion::{Broken, Delivery, RawCompletion, RequestKind, Tag};
use crate::kernel::port::Completion;
use crate::kernel::send_request::SendRequest;
use crate::pages::filled::FilledPage;
use crate::pages::ring_page::RingPage;

/// The pages on the buffer ring, the messages that are being sent, and the number of requests.
#[derive(Debug)]
pub(crate) struct Ledger<F> {
    pub(crate) books: Books<F>,
    sends: BTreeMap<u64, SendRequest<F>>,
    /// Requests whose last completion was not seen.
    nr_requests: usize,
    /// Most buffers of one completion.
    nr_per_completion: u16,
    spares: Vec<Vec<FilledPage<F>>>,
}

/// Vectors that are kept for later pages.
const NR_SPARES: usize = 64;

impl<F: RingPage> Ledger<F> {
    /// Makes the ledger of a ring with `nr_buffers` slots.
    pub(crate) fn new(nr_buffers: u16, nr_per_completion: u16) -> Self {
        Self {
            books: Books::new(nr_buffers),
            sends: BTreeMap::new(),
            nr_requests: 0,
            nr_per_completion,
            spares: Vec::new(),
        }
    }

    /// Returns how many requests the kernel has.
    pub(crate) fn nr_requests(&self) -> usize {
        self.nr_requests
    }

    /// Counts a request that was queued.
    pub(crate) fn note_request(&mut self) {
        self.nr_requests += 1;
    }

    /// Stores the message of a send request; returns it if there is one under this number already.
    pub(crate) fn put_send(
        &mut self,
        number: u64,
        request: SendRequest<F>,
    ) -> Result<(), SendRequest<F>> {
        if self.sends.contains_key(&number) {
            return Err(request);
        }
        self.sends.insert(number, request);
        Ok(())
    }

    /// Removes the message of a send request that was not queued.
    pub(crate) fn forget_send(&mut self, number: u64) {
        self.sends.remove(&number);
    }

    /// Takes an empty vector for later pages.
    pub(crate) fn keep_vec(&mut self, mut pages: Vec<FilledPage<F>>) {
        pages.clear();
        if self.spares.len() < NR_SPARES {
            self.spares.push(pages);
        }
    }

    /// Returns the number of pages that the kernel has.
    pub(crate) fn nr_pages(&self) -> usize {
        let sent: usize = self.sends.values().map(SendRequest::nr_pages).sum();
        self.books.nr_posted() + sent
    }

    /// Takes out what a completion returns; `None` for one that nobody waits for.
    ///
    /// `capacity` returns how many bytes the entry of a slot has room for, `own` takes over a descriptor
    /// that an accept request returned.
    ///
    /// # Errors
    /// If no correct kernel writes this completion. No page is lost then, but the ledger may miss that a
    /// request has ended.
    pub(crate) fn resolve(
        &mut self,
        raw: RawCompletion,
        capacity: impl Fn(u16) -> u32,
        own: impl FnOnce(u32) -> OwnedFd,
    ) -> Result<Option<Completion<F>>, Broken> {
        let unknown = Broken { what: "an unknown request", value: raw.user_data };
        let Tag { kind, number } = Tag::from_raw(raw.user_data).ok_or(unknown)?;
        let has_more = raw.has_more();
        if !has_more {
            self.nr_requests = self.nr_requests.checked_sub(1).ok_or(unknown)?;
        }
        match kind {
            RequestKind::Receive => self.resolve_receive(number, raw, capacity).map(Some),
            RequestKind::Accept => Ok(Some(match raw.value() {
                Ok(descriptor) => {
                    Completion::Accepted { number, socket: own(descriptor), has_more }
                }
                Err(error) => Completion::AcceptEnded { number, error },
            })),
            RequestKind::Send => {
                let request = self.sends.remove(&number).ok_or(unknown)?;
                let result = raw.value().map(|nr| nr as usize);
                Ok(Some(Completion::Sent { number, parcel: request.into_parcel(), result }))
            }
            RequestKind::Cancel => Ok(None),
        }
    }

    fn resolve_receive(
        &mut self,
        number: u64,
        raw: RawCompletion,
        capacity: impl Fn(u16) -> u32,
    ) -> Result<Completion<F>, Broken> {
        let (error, unused) = match raw.delivery()? {
            Delivery::Bytes { first, len } => {
                let mut pages = self.spares.pop().unwrap_or_default();
                let room = |slot, page: &F| {
                    let len = u32::try_from(page.len_bytes()).unwrap_or(u32::MAX);
                    capacity(slot).min(len)
                };
                self.books.take_filled(first, len, self.nr_per_completion, room, &mut pages)?;
                return Ok(Completion::Received { number, pages, len, has_more: raw.has_more() });
            }
            Delivery::End { unused } => (None, unused),
            Delivery::Failed { error, unused } => (Some(error), unused),
        };
        // A page without bytes is dropped: it returns to its source.
        unused.map(|slot| self.books.take(slot)).transpose()?;
        Ok(Completion::ReceiveEnded { number, error })
    }
}

#[cfg(test)]
mod tests;
