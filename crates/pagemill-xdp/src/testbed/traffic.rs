//! Traffic generators: packets made by the kernel, or sent through the network stack.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::error::XdpError;
use crate::operation::Operation;
use crate::socket::program;
use crate::sys::bpf;
use crate::sys::clock;
use crate::sys::packet_socket::PacketSocket;
use crate::sys::syscall;

/// Generates packets in the kernel, millions per second, and sends them out of an interface.
///
/// Uses `BPF_PROG_TEST_RUN` with live frames: a program that redirects is run on each packet. The
/// interface must accept frames from drivers; one end of a virtual pair does while the other end has an
/// XDP program in its driver.
#[derive(Debug)]
pub struct LiveFrames {
    program: OwnedFd,
}

impl LiveFrames {
    /// Prepares to send packets out of the interface with number `index`.
    ///
    /// # Errors
    /// [`XdpError::Capability`], and other errors of the system.
    pub fn to(index: u32) -> Result<Self, XdpError> {
        let program = bpf::load(&program::to_interface(index), 0)
            .map_err(|error| XdpError::system(Operation::LoadGenerator, &error))?;
        Ok(Self { program })
    }

    /// Sends `nr_packets` that begin with `bytes`, on the calling thread.
    ///
    /// # Cost
    /// Approximately 30 ms per call, whatever it sends: send half a million packets or more at once.
    ///
    /// # Errors
    /// The error of the system; `EINVAL` from a kernel before 5.18.
    pub fn send(&self, bytes: &[u8], nr_packets: u32) -> Result<(), XdpError> {
        match bpf::run_live(self.program.as_fd(), bytes, nr_packets) {
            // A signal ends the call early, which does not matter.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result.map_err(|error| XdpError::system(Operation::Generate, &error)),
        }
    }
}

/// Sends packets out of an interface through the network stack, one copy each.
#[derive(Debug)]
pub struct PacketSender {
    socket: PacketSocket,
}

impl PacketSender {
    /// Opens a socket that sends out of the interface with number `index`.
    ///
    /// # Errors
    /// [`XdpError::Capability`] without `CAP_NET_RAW`; other errors of the system.
    pub fn to(index: u32) -> Result<Self, XdpError> {
        let socket = PacketSocket::sender(index)
            .map_err(|error| XdpError::system(Operation::OpenPacketSocket, &error))?;
        Ok(Self { socket })
    }

    /// Sends packets from the first on as long as there is room, and returns how many; at most 64.
    ///
    /// # Errors
    /// The error of the system, except for full queues: `ENETDOWN` if the interface is down.
    pub fn send<T: AsRef<[u8]>>(&self, packets: &[T]) -> Result<usize, XdpError> {
        match self.socket.send(packets) {
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EAGAIN | libc::ENOBUFS | libc::EINTR)
                ) =>
            {
                Ok(0)
            }
            result => result.map_err(|error| XdpError::system(Operation::SendPackets, &error)),
        }
    }
}

/// The CPU time of one thread of this process.
#[derive(Clone, Copy, Debug)]
pub struct ThreadClock(i32);

impl ThreadClock {
    /// Makes the clock of the calling thread.
    #[must_use]
    pub fn of_this_thread() -> Self {
        Self(syscall::thread_id())
    }

    /// Returns the thread's CPU time in nanoseconds; zero once the thread has ended.
    #[must_use]
    pub fn ns(self) -> u64 {
        clock::thread_cpu_ns(self.0).unwrap_or(0)
    }
}
