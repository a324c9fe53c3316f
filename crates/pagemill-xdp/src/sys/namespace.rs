//! Network namespaces: creates one, and moves a thread to another.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::syscall;

/// Moves the calling thread to a new network namespace, which has only a loopback interface that is
/// down.
///
/// Threads that it starts from now on are in it too. The kernel removes it, and all interfaces in it,
/// when the last of them has ended and the last socket in it is closed.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`.
pub(crate) fn unshare() -> io::Result<()> {
    // SAFETY:
    // 1. The call changes which interfaces this thread sees, and accesses no memory of the process.
    syscall::answer(unsafe { libc::unshare(libc::CLONE_NEWNET) }).map(drop)
}

/// Moves the calling thread to the network namespace of the descriptor `namespace`.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN` in both namespaces.
pub(crate) fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY:
    // 1. The call changes which interfaces this thread sees, and accesses no memory of the process.
    syscall::answer(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }).map(drop)
}
