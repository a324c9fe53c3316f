//! Wrappers of socket system calls: they return owned descriptors and `io::Error`s.

use core::ffi::{c_int, c_void};
use core::time::Duration;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A structure that the kernel may fill with any bytes.
///
/// # Safety
/// Every bit pattern is a valid value.
pub(crate) unsafe trait AnyBits: Copy + Default {}

// SAFETY: 1. every bit pattern is an integer.
unsafe impl AnyBits for c_int {}

/// Returns the result of a call that returns a number, or the error behind -1.
pub(crate) fn answer(value: c_int) -> io::Result<c_int> {
    if value < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

/// Returns the length of `T` as socket calls expect it.
pub(crate) fn len_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).expect("a structure of the kernel is small")
}

/// Opens a socket that is closed on exec.
pub(crate) fn socket(domain: c_int, kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
    // SAFETY:
    // 1. The call takes numbers and accesses no memory of the process.
    let fd = unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) };
    own(answer(fd)?)
}

/// Takes ownership of a descriptor that the kernel has just created.
pub(crate) fn own(fd: c_int) -> io::Result<OwnedFd> {
    let fd = answer(fd)?;
    // SAFETY:
    // 1. The descriptor is open, and nothing else owns it: every caller passes the result of a call
    //    that creates one.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets an option of a socket.
pub(crate) fn set_option<T: Copy>(
    socket: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    value: &T,
) -> io::Result<()> {
    // SAFETY:
    // 1. The kernel reads at most `size_of::<T>()` bytes of `value`, which is borrowed.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            core::ptr::from_ref(value).cast::<c_void>(),
            len_of::<T>(),
        )
    };
    answer(result).map(drop)
}

/// Reads an option of a socket, and returns how many bytes of it the kernel wrote.
pub(crate) fn option<T: AnyBits>(
    socket: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
) -> io::Result<(T, usize)> {
    let mut value = T::default();
    let mut len = len_of::<T>();
    // SAFETY:
    // 1. The kernel writes at most `len` bytes, the size of the local `value`.
    // 2. Any bytes that it writes are a valid value (`AnyBits`).
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw mut value).cast::<c_void>(),
            &raw mut len,
        )
    };
    answer(result)?;
    Ok((value, usize::try_from(len).unwrap_or(0)))
}

/// Binds a socket to the address that `T` describes.
pub(crate) fn bind<T: Copy>(socket: BorrowedFd<'_>, address: &T) -> io::Result<()> {
    let address = core::ptr::from_ref(address).cast::<libc::sockaddr>();
    // SAFETY:
    // 1. The kernel reads at most `size_of::<T>()` bytes of `address`, which is borrowed.
    let result = unsafe { libc::bind(socket.as_raw_fd(), address, len_of::<T>()) };
    answer(result).map(drop)
}

/// Sends `bytes` on a connected or bound socket.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], flags: c_int) -> io::Result<usize> {
    // SAFETY:
    // 1. The kernel reads only the bytes of the slice.
    let sent = unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
    usize::try_from(sent).map_err(|_negative| io::Error::last_os_error())
}

/// Receives one message into `bytes`.
pub(crate) fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8], flags: c_int) -> io::Result<usize> {
    // SAFETY:
    // 1. The kernel writes at most the bytes of the slice, which is borrowed uniquely.
    let got =
        unsafe { libc::recv(socket.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), flags) };
    usize::try_from(got).map_err(|_negative| io::Error::last_os_error())
}

/// Waits until one of `events` holds for `socket`, at most for the timeout; returns whether one does.
///
/// A signal ends the wait early.
pub(crate) fn wait(socket: BorrowedFd<'_>, events: i16, timeout: Duration) -> io::Result<bool> {
    let mut poll = libc::pollfd { fd: socket.as_raw_fd(), events, revents: 0 };
    let timeout_ms = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
    // SAFETY:
    // 1. The kernel reads and writes one entry, a local variable.
    match answer(unsafe { libc::poll(&raw mut poll, 1, timeout_ms) }) {
        Ok(ready) => Ok(ready > 0),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns the number of the calling thread.
pub(crate) fn thread_id() -> i32 {
    // SAFETY:
    // 1. The call takes no arguments and returns a number.
    unsafe { libc::gettid() }
}
