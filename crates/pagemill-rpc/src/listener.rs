//! The sockets that calls come to.

use core::net::SocketAddr;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use crate::sync::AtomicBool;

/// A socket that calls come to.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "the two transports of the RFC")]
pub enum Listener {
    /// Connections.
    Tcp(TcpListener),
    /// Datagrams.
    ///
    /// Bind it to one address on machines with several: a reply leaves from the address that the
    /// system picks.
    Udp(UdpSocket),
}

/// A listener at work.
#[derive(Debug)]
pub(crate) enum Socket {
    /// Connections; true while none can be accepted for lack of file descriptors.
    Tcp(TcpListener, AtomicBool),
    Udp(UdpSocket),
}

impl Socket {
    pub(crate) fn new(listener: Listener) -> io::Result<(Self, SocketAddr)> {
        match listener {
            Listener::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                let addr = socket.local_addr()?;
                Ok((Self::Tcp(socket, AtomicBool::new(false)), addr))
            }
            Listener::Udp(socket) => {
                socket.set_nonblocking(true)?;
                let addr = socket.local_addr()?;
                Ok((Self::Udp(socket), addr))
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket, _) => socket.as_fd(),
            Self::Udp(socket) => socket.as_fd(),
        }
    }
}
