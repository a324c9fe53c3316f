//! Driver settings through ethtool: numbers of queues and checksum offload.
//!
//! # Source
//! `linux-6.12` `include/uapi/linux/ethtool.h`, `include/uapi/linux/sockios.h`

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::syscall;

/// The name of an interface in the format of the calls, padded with zeroes.
type RawName = [u8; libc::IFNAMSIZ];

/// Returns the number of receive queues; `None` if the driver does not report it.
pub(crate) fn nr_rx_queues(name: &RawName) -> io::Result<Option<u32>> {
    /// `ETHTOOL_GCHANNELS`
    const GET_CHANNELS: u32 = 0x3c;

    let mut channels = Channels { command: GET_CHANNELS, ..Channels::default() };
    match call(name, &mut channels) {
        Ok(()) => Ok(Some(channels.rx.saturating_add(channels.combined))),
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns whether the network stack leaves checksums of packets to the interface with number `index`.
pub(crate) fn leaves_checksums(index: u32) -> io::Result<bool> {
    /// `ETHTOOL_GTXCSUM`
    const GET_TX_CHECKSUM: u32 = 0x16;

    let mut value = Value { command: GET_TX_CHECKSUM, data: 0 };
    call(&name_of(index)?, &mut value)?;
    Ok(value.data != 0)
}

/// Sets whether the network stack leaves checksums to the interface.
pub(crate) fn set_leaves_checksums(index: u32, leaves: bool) -> io::Result<()> {
    /// `ETHTOOL_STXCSUM`
    const SET_TX_CHECKSUM: u32 = 0x17;

    let mut value = Value { command: SET_TX_CHECKSUM, data: leaves.into() };
    call(&name_of(index)?, &mut value)
}

/// A structure that ethtool reads and writes, and that begins with the number of a command.
///
/// # Safety
/// For the commands that this module stores in the structure, the kernel reads and writes at most
/// its size. Every bit pattern is a valid value.
unsafe trait Argument {}

/// `struct ethtool_channels`
#[derive(Default)]
#[repr(C)]
struct Channels {
    command: u32,
    max_rx: u32,
    max_tx: u32,
    max_other: u32,
    max_combined: u32,
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

// SAFETY: 1. `ETHTOOL_GCHANNELS` uses this structure, which consists of integers.
unsafe impl Argument for Channels {}

/// `struct ethtool_value`
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

// SAFETY: 1. `ETHTOOL_GTXCSUM` and `ETHTOOL_STXCSUM` use this structure, which consists of
// integers.
unsafe impl Argument for Value {}

fn call<T: Argument>(name: &RawName, argument: &mut T) -> io::Result<()> {
    /// `struct ifreq`, with the pointer after the name.
    #[repr(C)]
    struct Request {
        name: RawName,
        data: *mut core::ffi::c_void,
        _rest: [u64; 2],
    }

    const SIOCETHTOOL: libc::c_ulong = 0x8946;

    let socket = any_socket()?;
    let data = core::ptr::from_mut(argument).cast();
    let mut request = Request { name: *name, data, _rest: [0; 2] };
    // SAFETY:
    // 1. The kernel reads a request of this size, and reads and writes the argument that it points
    //    to (`Argument`). Both are borrowed uniquely and outlive the call.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    syscall::answer(answer).map(drop)
}

/// Returns the name of the interface with number `index` in the thread's network namespace.
pub(crate) fn name_of(index: u32) -> io::Result<RawName> {
    /// `struct ifreq`, with the number after the name.
    #[repr(C)]
    struct Request {
        name: RawName,
        index: u32,
        _rest: [u32; 5],
    }

    let socket = any_socket()?;
    let mut request = Request { name: [0; libc::IFNAMSIZ], index, _rest: [0; 5] };
    let fd: BorrowedFd<'_> = socket.as_fd();
    // SAFETY:
    // 1. The kernel reads and writes a request of this size, a local variable.
    let answer = unsafe { libc::ioctl(fd.as_raw_fd(), libc::SIOCGIFNAME, &raw mut request) };
    syscall::answer(answer)?;
    Ok(request.name)
}

/// Opens a socket for the calls: it belongs to the thread's network namespace.
fn any_socket() -> io::Result<std::os::fd::OwnedFd> {
    syscall::socket(libc::AF_INET, libc::SOCK_DGRAM, 0)
}
