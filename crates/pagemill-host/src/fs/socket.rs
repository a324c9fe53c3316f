//! Socket option `SO_RCVLOWAT`: how many bytes make a socket readable.

use core::ffi::c_int;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Result;

use crate::fs::file_handle::last_errno;

/// Makes a socket readable only from `nr_bytes` on, as far as the system's limits allow, or when no
/// more bytes can come. The default of sockets is 1.
///
/// # Errors
/// The error of `setsockopt`.
///
/// # Source
/// `linux-7.0` `net/ipv4/tcp.c` `tcp_set_rcvlowat`: a TCP socket also gets buffer space for that many.
pub fn set_receive_low_water(socket: BorrowedFd<'_>, nr_bytes: usize) -> Result<()> {
    let nr_bytes = c_int::try_from(nr_bytes).unwrap_or(c_int::MAX);
    // SAFETY:
    // 1. The kernel reads the given number of bytes, the size of the value, which is borrowed.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            core::ptr::from_ref(&nr_bytes).cast(),
            INT_BYTES,
        )
    };
    if answer == 0 { Ok(()) } else { Err(last_errno()) }
}

/// The length of the option's value.
const INT_BYTES: libc::socklen_t = 4;
const _: () = assert!(size_of::<c_int>() == INT_BYTES as usize);
