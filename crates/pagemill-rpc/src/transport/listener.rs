//! Listeners: the TCP and UDP sockets of a server, and the accepting of connections.

use core::net::SocketAddr;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use crate::transport::udp;
use crate::wire::sync::{AtomicBool, AtomicUsize};

/// Length of the accept queue: Linux's default limit. A client of a full queue retries only after one
/// second.
const MAX_BACKLOG: i32 = 4096;

/// Maximum number of connections that one thread accepts at a time.
const ACCEPT_BATCH: usize = 16;

/// A listening socket.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "the two transports of the RFC")]
pub enum Listener {
    /// For connections.
    Tcp(TcpListener),
    /// For datagrams. A reply is sent from the address that its call was sent to.
    Udp(UdpSocket),
}

/// A listener in use.
#[derive(Debug)]
pub(crate) enum Socket {
    /// For connections; true while none can be accepted for lack of file descriptors.
    Tcp(TcpListener, AtomicBool),
    /// For datagrams; with the number of threads that carry out its calls.
    Udp(UdpSocket, AtomicUsize),
}

impl Socket {
    pub(crate) fn new(listener: Listener) -> io::Result<(Self, SocketAddr)> {
        match listener {
            Listener::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                // A second call changes only the queue length.
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

/// Why a connection was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// No connection waits.
    NoneWaits,
    /// That connection is gone; there may be others.
    Gone,
    /// A resource is exhausted.
    NoRoom(Room),
}

/// The resource that is missing to accept a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// File descriptors, of the process or the system.
    Descriptors,
    /// Memory, or a resource that the error does not identify.
    Other,
}

impl Refusal {
    /// # Source
    /// `man-pages` `accept(2)`, "Error handling": Linux reports network errors of the new connection
    /// here.
    fn of(error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::AGAIN) => Self::NoneWaits,
            Some(
                Errno::INTR
                | Errno::CONNABORTED
                | Errno::PERM
                | Errno::PROTO
                | Errno::NOPROTOOPT
                | Errno::OPNOTSUPP
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::NONET
                | Errno::TIMEDOUT,
            ) => Self::Gone,
            Some(Errno::MFILE | Errno::NFILE) => Self::NoRoom(Room::Descriptors),
            _ => Self::NoRoom(Room::Other),
        }
    }
}

/// The result of accepting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accepted {
    /// All waiting connections were accepted, or as many as one thread may accept.
    All,
    /// The next connection could not be accepted.
    UpToAFailure,
}

/// Accepts waiting connections, up to the limit of one thread.
///
/// If a resource is missing, calls `make_room`, which returns whether it freed some; then retries that
/// connection once.
pub(crate) fn accept_batch<T>(
    mut accept: impl FnMut() -> io::Result<T>,
    mut admit: impl FnMut(T),
    mut make_room: impl FnMut(&io::Error, Room) -> bool,
) -> Accepted {
    let mut is_second_try = false;
    for _ in 0..ACCEPT_BATCH {
        let error = match accept() {
            Ok(connection) => {
                is_second_try = false;
                admit(connection);
                continue;
            }
            Err(error) => error,
        };
        match Refusal::of(&error) {
            Refusal::NoneWaits => break,
            Refusal::Gone => {}
            // A closed connection keeps its descriptor while a thread uses it, so one retry is enough.
            Refusal::NoRoom(room) => {
                if is_second_try || !make_room(&error, room) {
                    return Accepted::UpToAFailure;
                }
                is_second_try = true;
            }
        }
    }
    Accepted::All
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket, _) => socket.as_fd(),
            Self::Udp(socket, _) => socket.as_fd(),
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    /// Runs a script of results, and returns how it ended, how many were admitted, and for what
    /// room was made.
    fn run(script: &[Result<(), Errno>], makes_room: bool) -> (Accepted, usize, Vec<Room>) {
        let mut left = script.iter();
        let (mut nr_admitted, mut rooms) = (0, Vec::new());
        let accept = || left.next().copied().unwrap_or(Err(Errno::AGAIN)).map_err(io::Error::from);
        let make_room = |_: &io::Error, room| {
            rooms.push(room);
            makes_room
        };
        let accepted = accept_batch(accept, |()| nr_admitted += 1, make_room);
        (accepted, nr_admitted, rooms)
    }

    #[test]
    fn a_connection_that_is_gone_costs_others_nothing() {
        for errno in [Errno::CONNABORTED, Errno::PERM, Errno::PROTO, Errno::NETDOWN, Errno::INTR] {
            assert_eq!(run(&[Err(errno), Ok(())], false), (Accepted::All, 1, vec![]), "{errno}");
        }
    }

    #[test]
    fn without_a_descriptor_one_is_freed_for_each_and_the_next_try_follows_at_once() {
        for errno in [Errno::MFILE, Errno::NFILE] {
            let script = [Ok(()), Err(errno), Ok(()), Err(errno), Ok(())];
            let rooms = vec![Room::Descriptors; 2];
            assert_eq!(run(&script, true), (Accepted::All, 3, rooms), "{errno}");
        }
        // One that is closed but still has its descriptor does not take others along.
        let script = [Err(Errno::MFILE), Err(Errno::MFILE), Ok(())];
        assert_eq!(run(&script, true), (Accepted::UpToAFailure, 0, vec![Room::Descriptors]));
        assert_eq!(run(&script, false), (Accepted::UpToAFailure, 0, vec![Room::Descriptors]));
    }

    #[test]
    fn without_memory_no_descriptor_is_freed() {
        for errno in [Errno::NOBUFS, Errno::NOMEM, Errno::INVAL] {
            let ended = run(&[Err(errno), Ok(())], false);
            assert_eq!(ended, (Accepted::UpToAFailure, 0, vec![Room::Other]), "{errno}");
        }
    }

    #[test]
    fn one_thread_accepts_a_bounded_number() {
        assert_eq!(run(&[Ok(()); 100], false), (Accepted::All, ACCEPT_BATCH, vec![]));
    }
}
