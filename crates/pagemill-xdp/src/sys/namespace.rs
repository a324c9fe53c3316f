//! Network namespaces.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::syscall;

/// Gives the calling thread a network namespace of its own, with no interface but a loopback one
/// that is down.
///
/// Threads that it starts from now on are in it too. It vanishes, and all interfaces in it, when
/// the last of them has ended and the last socket in it is closed.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`.
pub(crate) fn unshare() -> io::Result<()> {
    // SAFETY:
    // 1. The call changes which interfaces this thread sees, and no memory.
    syscall::answer(unsafe { libc::unshare(libc::CLONE_NEWNET) }).map(drop)
}

/// Takes the calling thread to the network namespace behind `namespace`.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`, here and there.
pub(crate) fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY:
    // 1. The call changes which interfaces this thread sees, and no memory.
    syscall::answer(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }).map(drop)
}
