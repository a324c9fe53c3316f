//! Traffic to try a device with, made by this machine.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::error::XdpError;
use crate::operation::Operation;
use crate::socket::program;
use crate::sys::bpf;
use crate::sys::clock;
use crate::sys::packet_socket::PacketSocket;
use crate::sys::syscall;

/// Packets that the kernel makes, millions in a second, and sends out of an interface.
///
/// It is `BPF_PROG_TEST_RUN` with live frames: a program that redirects is run on each packet. The
/// interface must take frames from drivers; one end of a virtual pair does while the other has an
/// XDP program in its driver.
#[derive(Debug)]
pub struct LiveFrames {
    program: OwnedFd,
}

impl LiveFrames {
    /// Prepares packets to be sent out of the interface with number `index`.
    ///
    /// # Errors
    /// [`XdpError::Capability`], and what the system refuses otherwise.
    pub fn to(index: u32) -> Result<Self, XdpError> {
        let program = bpf::load(&program::to_interface(index), 0)
            .map_err(|error| XdpError::system(Operation::LoadGenerator, &error))?;
        Ok(Self { program })
    }

    /// Sends `nr_packets` that begin with `bytes`, by the calling thread.
    ///
    /// # Cost
    /// About 30 ms for each call, whatever it sends: ask for half a million and more at once.
    ///
    /// # Errors
    /// What the system answers; `EINVAL` from a kernel before 5.18.
    pub fn send(&self, bytes: &[u8], nr_packets: u32) -> Result<(), XdpError> {
        match bpf::run_live(self.program.as_fd(), bytes, nr_packets) {
            // A signal ends it early, which is as good.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result.map_err(|error| XdpError::system(Operation::Generate, &error)),
        }
    }
}

/// Packets that go out of an interface through the network stack, one copy each.
#[derive(Debug)]
pub struct PacketSender {
    socket: PacketSocket,
}

impl PacketSender {
    /// Opens a socket that sends out of the interface with number `index`.
    ///
    /// # Errors
    /// [`XdpError::Capability`] without `CAP_NET_RAW`; what the system refuses otherwise.
    pub fn to(index: u32) -> Result<Self, XdpError> {
        let socket = PacketSocket::sender(index)
            .map_err(|error| XdpError::system(Operation::OpenPacketSocket, &error))?;
        Ok(Self { socket })
    }

    /// Sends packets from the first on for as long as there is room, and returns how many; 64 at
    /// most.
    ///
    /// # Errors
    /// What the system answers but for full queues: `ENETDOWN` where the interface is down.
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
    /// Takes the calling thread's.
    #[must_use]
    pub fn of_this_thread() -> Self {
        Self(syscall::thread_id())
    }

    /// Returns how long the thread has had a CPU, in nanoseconds; zero once it has ended.
    #[must_use]
    pub fn ns(self) -> u64 {
        clock::thread_cpu_ns(self.0).unwrap_or(0)
    }
}
