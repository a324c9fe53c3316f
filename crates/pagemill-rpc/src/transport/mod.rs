//! The ways that calls come: connections and datagrams, and the kernel's queue of what happened.

pub(crate) mod poller;
pub(crate) mod tcp;
pub(crate) mod udp;

#[cfg(not(loom))]
use pagemill_host::set_receive_low_water;

/// Loom looks at no sockets, and its allocator is not the host's.
#[cfg(loom)]
fn set_receive_low_water(
    _socket: std::os::fd::BorrowedFd<'_>,
    _nr_bytes: usize,
) -> rustix::io::Result<()> {
    Err(rustix::io::Errno::NOSYS)
}

pub(crate) mod busy;
pub(crate) mod listener;
pub(crate) mod run_queue;
pub(crate) mod send_queue;
