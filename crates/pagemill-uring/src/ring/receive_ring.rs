//! `ReceiveRing`: receives from many sockets into owned pages.

use core::iter;
use core::time::Duration;
use std::os::fd::{BorrowedFd, OwnedFd};

use crate::config::ReceiveConfig;
use crate::error::UringError;
use crate::kernel::kernel_ring::{KernelRing, PATIENCE};
use crate::pages::received::Received;
use crate::pages::supply::PageSupply;
use crate::ring::connections::Closing;
use crate::ring::engine::Engine;
use crate::ring::event::{ConnectionId, Event};
use crate::stats::RingStats;

/// Receives from many sockets into owned pages, with one io_uring instance.
///
/// The ring owns its sockets and the supply of its pages. Events have the received bytes as owned pages,
/// which can be kept, sent to other threads, and sent on connections of the ring without copying.
///
/// Dropping the ring ends all requests, waits until the kernel has ended them, at most ten seconds, and
/// returns the pages; [`shutdown`](Self::shutdown) does so and returns the supply. If the kernel does not
/// end them, their pages are leaked.
///
/// # Concurrency
/// A ring belongs to the thread that made it, and so do its calls:
/// ```compile_fail,E0277
/// # use pagemill::Page;
/// # use pagemill_host::SharedAllocator;
/// # use pagemill_uring::ReceiveRing;
/// # use pagemill_uring::supply::AllocatorSupply;
/// fn sent<T: Send>() {}
/// sent::<ReceiveRing<AllocatorSupply<SharedAllocator>>>();
/// ```
/// In a child of `fork`, calls return [`UringError::Forked`], and dropping it does nothing.
///
/// # Cost
/// With bundles, one completion brings up to some hundred pages: 2 MiB were seen on Linux 6.18.
#[derive(Debug)]
pub struct ReceiveRing<P: PageSupply>(Engine<P, KernelRing<P::Page>>);

impl<P: PageSupply> ReceiveRing<P> {
    /// Makes a ring whose pages come from `supply`.
    ///
    /// # Errors
    /// An invalid field of `config`; [`UringError::Unavailable`] and [`UringError::KernelTooOld`] where
    /// io_uring cannot be used; the error of a system call.
    pub fn new(supply: P, config: &ReceiveConfig) -> Result<Self, UringError> {
        config.check()?;
        Ok(Self(Engine::new(KernelRing::open(config)?, supply, config)))
    }

    /// Adds a connected stream socket, and receives from it.
    ///
    /// # Errors
    /// [`UringError::TooManyConnections`], which closes the socket; the error of a system call. What the
    /// socket itself cannot do is an [`Event::Error`] later.
    pub fn add(&mut self, socket: impl Into<OwnedFd>) -> Result<ConnectionId, UringError> {
        self.0.add(socket.into())
    }

    /// Adds a listening socket, and accepts its connections.
    ///
    /// # Errors
    /// As [`add`](Self::add). A listener that runs out of descriptors gets an [`Event::Error`], and is to
    /// be closed and added again.
    pub fn listen(&mut self, socket: impl Into<OwnedFd>) -> Result<ConnectionId, UringError> {
        self.0.listen(socket.into())
    }

    /// Waits until there are events, at most for `timeout`, and returns how many there are.
    ///
    /// Gives the kernel new pages, and submits what was started since the last call. `None` waits without
    /// a limit.
    ///
    /// # Errors
    /// The error of a system call; [`UringError::Broken`] if the kernel reported what it cannot.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<usize, UringError> {
        self.0.wait(timeout)
    }

    /// Removes and returns the oldest event that [`wait`](Self::wait) found.
    #[inline]
    pub fn next_event(&mut self) -> Option<Event<P::Page>> {
        self.0.next_event()
    }

    /// Removes and returns the events that [`wait`](Self::wait) found.
    pub fn events(&mut self) -> impl Iterator<Item = Event<P::Page>> {
        iter::from_fn(|| self.0.next_event())
    }

    /// Sends received bytes, without copying them within this process, after those that were to be sent
    /// before. Their pages are held until they are sent.
    ///
    /// # Errors
    /// [`UringError::NoConnection`], [`UringError::NotSending`], the error of a system call. The bytes are
    /// dropped then.
    pub fn send(
        &mut self,
        connection: ConnectionId,
        received: Received<P::Page>,
    ) -> Result<(), UringError> {
        self.0.send(connection, received)
    }

    /// Takes received pages back directly: cheaper than dropping them, if they come from this ring.
    #[inline]
    pub fn put(&mut self, received: Received<P::Page>) {
        self.0.put(received);
    }

    /// Stops to receive, and closes the connection or listener once everything is sent. An
    /// [`Event::Closed`] follows.
    ///
    /// # Errors
    /// [`UringError::NoConnection`], the error of a system call.
    pub fn close(&mut self, connection: ConnectionId) -> Result<(), UringError> {
        self.0.close(connection, Closing::WhenSent)
    }

    /// Closes the connection or listener as soon as the kernel has ended its requests. What was not sent is
    /// dropped. An [`Event::Closed`] follows.
    ///
    /// # Errors
    /// [`UringError::NoConnection`], the error of a system call.
    pub fn abort(&mut self, connection: ConnectionId) -> Result<(), UringError> {
        self.0.close(connection, Closing::AtOnce)
    }

    /// Returns the socket of a connection, for its addresses and options; `None` if it is closed.
    ///
    /// Bytes that are read or written through it are missing or come at the wrong place here.
    #[must_use]
    pub fn socket(&self, connection: ConnectionId) -> Option<BorrowedFd<'_>> {
        self.0.socket(connection)
    }

    /// Returns how many bytes of a connection are not sent yet; `None` if it is closed.
    #[must_use]
    pub fn nr_unsent(&self, connection: ConnectionId) -> Option<usize> {
        self.0.nr_unsent(connection)
    }

    /// Returns the counters.
    #[must_use]
    pub fn stats(&self) -> RingStats {
        self.0.stats()
    }

    /// Ends all requests, closes all sockets, and returns the supply.
    ///
    /// Received pages that users hold stay valid.
    ///
    /// # Errors
    /// Beside the supply, [`UringError::Leaked`] if the kernel does not end its requests within ten seconds:
    /// the pages that it may use are leaked.
    pub fn shutdown(self) -> (P, Result<(), UringError>) {
        self.0.shut(PATIENCE)
    }
}
