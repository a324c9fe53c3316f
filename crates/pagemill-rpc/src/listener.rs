//! The sockets that calls come to.

use core::net::SocketAddr;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use crate::sync::{AtomicBool, AtomicUsize};
use crate::transport::udp;

/// Most connections that wait to be accepted: as many as Linux allows unless told otherwise. Beyond
/// it, a client tries again only after a second.
const MAX_BACKLOG: i32 = 4096;

/// A socket that calls come to.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "the two transports of the RFC")]
pub enum Listener {
    /// Connections.
    Tcp(TcpListener),
    /// Datagrams. A reply leaves from the address that its call was sent to.
    Udp(UdpSocket),
}

/// A listener at work.
#[derive(Debug)]
pub(crate) enum Socket {
    /// Connections; true while none can be accepted for lack of file descriptors.
    Tcp(TcpListener, AtomicBool),
    /// Datagrams, and how many threads carry out calls that came as one.
    Udp(UdpSocket, AtomicUsize),
}

impl Socket {
    pub(crate) fn new(listener: Listener) -> io::Result<(Self, SocketAddr)> {
        match listener {
            Listener::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                // A second call changes the length alone.
                rustix::net::listen(&socket, MAX_BACKLOG)?;
                let addr = socket.local_addr()?;
                Ok((Self::Tcp(socket, AtomicBool::new(false)), addr))
            }
            Listener::Udp(socket) => {
                socket.set_nonblocking(true)?;
                let addr = socket.local_addr()?;
                udp::ask_for_addresses(&socket, addr)?;
                Ok((Self::Udp(socket, AtomicUsize::new(0)), addr))
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket, _) => socket.as_fd(),
            Self::Udp(socket, _) => socket.as_fd(),
        }
    }
}
