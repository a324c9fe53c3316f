//! Port: what a ring needs of the kernel, so that tests can take the kernel's place.

use core::time::Duration;
use std::os::fd::{BorrowedFd, OwnedFd};

use pagemill_host::os::OsError;

use crate::error::UringError;
use crate::pages::filled::FilledPage;
use crate::pages::parcel::Parcel;

/// A completed request, or a part of one; what it names is owned by it.
#[derive(Debug)]
pub(crate) enum Completion<F> {
    /// A receive request has `len` bytes, in `pages`.
    Received { number: u64, pages: Vec<FilledPage<F>>, len: usize, has_more: bool },
    /// A receive request has ended: the stream, or with an error.
    ReceiveEnded { number: u64, error: Option<OsError> },
    /// A listener has a new connection.
    Accepted { number: u64, socket: OwnedFd, has_more: bool },
    /// An accept request failed.
    AcceptEnded { number: u64, error: OsError },
    /// A send request ended after some bytes, and returns its pages.
    Sent { number: u64, parcel: Parcel<F>, result: Result<usize, OsError> },
}

/// The requests that a ring makes of the kernel. A `number` names a request in its completions.
pub(crate) trait Port<F> {
    /// Returns how many pages are on the buffer ring.
    fn nr_posted(&self) -> usize;

    /// Returns how many more pages it may have room for.
    fn room(&self) -> usize;

    /// Moves pages from the end of `pages` to the buffer ring, as long as there is room.
    fn post(&mut self, pages: &mut Vec<F>);

    /// Starts to receive from a socket. The number must not be in use by a receive request.
    fn receive(&mut self, number: u64, socket: BorrowedFd<'_>) -> Result<(), UringError>;

    /// Starts to accept connections.
    fn accept(&mut self, number: u64, socket: BorrowedFd<'_>) -> Result<(), UringError>;

    /// Starts to send all bytes of a parcel.
    fn send(
        &mut self,
        number: u64,
        socket: BorrowedFd<'_>,
        parcel: Parcel<F>,
    ) -> Result<(), UringError>;

    /// Asks the kernel to end a request to receive or accept; its last completion still follows.
    fn cancel(&mut self, number: u64, what: Cancelled) -> Result<(), UringError>;

    /// Submits what was started, and waits for a completion, at most for `timeout`.
    fn wait(&mut self, timeout: Option<Duration>) -> Result<(), UringError>;

    /// Returns the next completion.
    fn next(&mut self) -> Result<Option<Completion<F>>, UringError>;

    /// Takes an empty vector for later pages.
    fn keep_vec(&mut self, pages: Vec<FilledPage<F>>);

    /// Returns how often the completion queue was too short.
    fn nr_overflows(&self) -> u64;

    /// Returns whether one completion can have several pages.
    fn has_bundles(&self) -> bool;

    /// Ends all requests, and returns the pages that are on the buffer ring in `pages`; `Err` with the
    /// number of leaked pages if the kernel does not end them within `patience`.
    fn shut(&mut self, patience: Duration, pages: &mut Vec<F>) -> Result<(), usize>;
}

/// The kind of a request that is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cancelled {
    Receive,
    Accept,
    Send,
}
