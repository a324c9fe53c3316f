//! Events of a ring, and the names of its connections.

use core::fmt;

use pagemill_host::os::OsError;

use crate::pages::received::Received;

/// Names a connection or a listener of one ring.
///
/// A name is not used again after its connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    index: u32,
    generation: u32,
}

const INDEX_BITS: u32 = 24;
const INDEX_MASK: u32 = (1 << INDEX_BITS) - 1;

impl ConnectionId {
    pub(crate) fn new(index: u32, generation: u32) -> Self {
        debug_assert!(index <= INDEX_MASK, "connection {index}");
        Self { index, generation }
    }

    /// Returns the place in the table.
    pub(crate) fn index(self) -> usize {
        self.index as usize
    }

    /// Returns the number of connections that had the place before, modulo 2^32.
    pub(crate) fn generation(self) -> u32 {
        self.generation
    }

    /// Returns the number of requests of this connection.
    pub(crate) fn to_number(self) -> u64 {
        u64::from(self.generation) << INDEX_BITS | u64::from(self.index)
    }

    /// Returns the connection of a request; it may not exist.
    pub(crate) fn from_number(number: u64) -> Self {
        let low = |word: u64| u32::try_from(word & u64::from(u32::MAX)).unwrap_or(0);
        Self { index: low(number) & INDEX_MASK, generation: low(number >> INDEX_BITS) }
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

/// What happened on a ring.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<F> {
    /// Bytes arrived.
    Data {
        /// The connection.
        connection: ConnectionId,
        /// The bytes, and the pages that own them.
        received: Received<F>,
    },
    /// The peer has sent all it had. Bytes can still be sent to it; the connection is to be closed.
    End {
        /// The connection.
        connection: ConnectionId,
    },
    /// Receiving, sending or accepting failed, for instance because the peer reset the connection. What
    /// waited to be sent is dropped; the connection is to be closed.
    Error {
        /// The connection.
        connection: ConnectionId,
        /// The error of the system.
        error: OsError,
    },
    /// A listener has a new connection, which the ring receives from.
    Accepted {
        /// The listener.
        listener: ConnectionId,
        /// The new connection.
        connection: ConnectionId,
    },
    /// A connection that was to be closed is closed, and its name means nothing any more.
    Closed {
        /// The connection.
        connection: ConnectionId,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_survives_its_number() {
        for (index, generation) in [(0, 0), (1, u32::MAX), (INDEX_MASK, 5), (INDEX_MASK, u32::MAX)]
        {
            let id = ConnectionId::new(index, generation);
            assert!(id.to_number() < 1 << 56);
            assert_eq!(ConnectionId::from_number(id.to_number()), id);
        }
    }
}
