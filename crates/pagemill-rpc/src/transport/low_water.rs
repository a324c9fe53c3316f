//! How many bytes must have come before the kernel reports that a connection has input.

#[cfg(not(loom))]
pub(crate) use pagemill_host::os::set_receive_low_water;

/// Loom looks at no sockets, and its allocator is not the host's.
#[cfg(loom)]
pub(crate) fn set_receive_low_water(
    _socket: std::os::fd::BorrowedFd<'_>,
    _nr_bytes: usize,
) -> rustix::io::Result<()> {
    Err(rustix::io::Errno::NOSYS)
}
