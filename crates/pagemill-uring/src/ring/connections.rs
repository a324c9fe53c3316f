//! Table of connections: sockets by name, and what the kernel does with each.

use alloc::sync::Arc;
use std::os::fd::OwnedFd;

use crate::pages::held::Held;
use crate::pages::parcel::Parcel;
use crate::ring::event::ConnectionId;

/// A socket of the ring.
#[derive(Debug)]
pub(crate) struct Connection<F> {
    pub(crate) socket: OwnedFd,
    pub(crate) is_listener: bool,
    pub(crate) input: Input,
    /// Pages of this connection that users hold.
    pub(crate) held: Arc<Held>,
    /// Bytes that wait until the send request is completed.
    pub(crate) unsent: Parcel<F>,
    /// Whether the kernel has a send request.
    pub(crate) is_sending: bool,
    /// Bytes of that request.
    pub(crate) nr_sending: usize,
    pub(crate) closing: Closing,
}

/// The state of a connection's request to receive, or of a listener's to accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// There is none; it is to be started.
    Idle,
    /// The kernel has it.
    Armed,
    /// The kernel has it, and was asked to end it.
    Stopping,
    /// There is none, because there were no pages: to be started again when there are.
    Starved,
    /// There is none, because users hold too many of the connection's pages.
    Paused,
    /// There will be none: the stream ended or failed.
    Ended,
}

impl Input {
    /// Returns whether the kernel has a request.
    pub(crate) fn is_pending(self) -> bool {
        matches!(self, Self::Armed | Self::Stopping)
    }
}

/// Whether a connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// No.
    No,
    /// Once everything is sent.
    WhenSent,
    /// As soon as the kernel has no request of it.
    AtOnce,
}

impl<F> Connection<F> {
    /// Returns whether the connection is to be closed and the kernel has nothing of it any more.
    pub(crate) fn is_done(&self) -> bool {
        self.closing != Closing::No && !self.input.is_pending() && !self.is_sending
    }
}

/// All connections of a ring.
#[derive(Debug)]
pub(crate) struct Connections<F> {
    places: Vec<Place<F>>,
    free: Vec<u32>,
    nr_max: u32,
}

/// A place in the table, and how many connections were in it.
#[derive(Debug)]
struct Place<F> {
    generation: u32,
    connection: Option<Box<Connection<F>>>,
}

impl<F> Connections<F> {
    /// Makes a table for up to `nr_max` connections.
    pub(crate) fn new(nr_max: u32) -> Self {
        Self { places: Vec::new(), free: Vec::new(), nr_max }
    }

    /// Returns the number of connections.
    pub(crate) fn nr(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Adds a connection; returns it if the table is full.
    pub(crate) fn add(
        &mut self,
        connection: Box<Connection<F>>,
    ) -> Result<ConnectionId, Box<Connection<F>>> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => match u32::try_from(self.places.len()) {
                Ok(index) if index < self.nr_max => {
                    self.places.push(Place { generation: 0, connection: None });
                    index
                }
                _ => return Err(connection),
            },
        };
        let place = &mut self.places[index as usize];
        place.connection = Some(connection);
        Ok(ConnectionId::new(index, place.generation))
    }

    /// Returns a connection, if it exists.
    #[inline]
    pub(crate) fn get(&self, id: ConnectionId) -> Option<&Connection<F>> {
        let place = self.places.get(id.index())?;
        place.connection.as_deref().filter(|_there| place.generation == id.generation())
    }

    /// Returns a connection, if it exists, for changing it.
    #[inline]
    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection<F>> {
        let place = self.places.get_mut(id.index())?;
        place.connection.as_deref_mut().filter(|_there| place.generation == id.generation())
    }

    /// Removes a connection.
    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<Box<Connection<F>>> {
        let place = self.places.get_mut(id.index())?;
        if place.generation != id.generation() {
            return None;
        }
        let connection = place.connection.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(u32::try_from(id.index()).ok()?);
        Some(connection)
    }

    /// Returns all connections, for tests.
    #[cfg(test)]
    pub(crate) fn all(&self) -> impl Iterator<Item = &Connection<F>> {
        self.places.iter().filter_map(|place| place.connection.as_deref())
    }
}
