//! BPF system call: creates maps, loads, attaches and runs XDP programs.

use core::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::syscall;

/// One BPF instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Instruction {
    pub(crate) code: u8,
    /// Destination in the low four bits, source in the high ones.
    pub(crate) registers: u8,
    pub(crate) offset: i16,
    pub(crate) immediate: i32,
}

/// Creates a map from queue numbers to AF_XDP sockets.
///
/// # Errors
/// `EPERM` without `CAP_BPF`.
pub(crate) fn socket_map(nr_queues: u32) -> io::Result<OwnedFd> {
    #[derive(Clone, Copy, Default)]
    #[repr(C)]
    struct Attributes {
        map_type: u32,
        key_size: u32,
        value_size: u32,
        nr_entries: u32,
        flags: u32,
    }

    /// `BPF_MAP_TYPE_XSKMAP`
    const XSKMAP: u32 = 17;

    let mut attributes = Attributes {
        map_type: XSKMAP,
        key_size: 4,
        value_size: 4,
        nr_entries: nr_queues,
        flags: 0,
    };
    // SAFETY: 1. The attributes of `MapCreate` contain no pointers.
    syscall::own(unsafe { call(Command::MapCreate, &mut attributes) })
}

/// Puts `socket` into `map` under `queue`.
///
/// # Errors
/// `EBADF` or `EOPNOTSUPP` for a socket that is not bound, `E2BIG` for a queue beyond the size of the
/// map.
pub(crate) fn map_socket(
    map: BorrowedFd<'_>,
    queue: u32,
    socket: BorrowedFd<'_>,
) -> io::Result<()> {
    #[derive(Clone, Copy)]
    #[repr(C)]
    struct Attributes {
        map: i32,
        _gap: u32,
        key: u64,
        value: u64,
        flags: u64,
    }

    let value = socket.as_raw_fd();
    let mut attributes = Attributes {
        map: map.as_raw_fd(),
        _gap: 0,
        key: address(&raw const queue),
        value: address(&raw const value),
        flags: 0,
    };
    // SAFETY: 1. Key and value have four bytes each, as the map was created with, and outlive the
    // call.
    syscall::answer(unsafe { call(Command::MapUpdate, &mut attributes) }).map(drop)
}

/// Loads an XDP program.
///
/// # Errors
/// `EPERM` without `CAP_BPF` and `CAP_NET_ADMIN`, `EINVAL` from a kernel that does not support `flags`.
pub(crate) fn load(instructions: &[Instruction], flags: u32) -> io::Result<OwnedFd> {
    #[derive(Clone, Copy, Default)]
    #[repr(C)]
    struct Attributes {
        program_type: u32,
        nr_instructions: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
        name: [u8; 16],
        interface: u32,
        attach_type: u32,
    }

    /// `BPF_PROG_TYPE_XDP`
    const XDP: u32 = 6;

    let mut attributes = Attributes {
        program_type: XDP,
        nr_instructions: u32::try_from(instructions.len()).unwrap_or(u32::MAX),
        instructions: address(instructions.as_ptr()),
        license: address(c"Dual MIT/GPL".as_ptr()),
        flags,
        name: *b"pagemill_xdp\0\0\0\0",
        attach_type: ATTACH_XDP,
        ..Attributes::default()
    };
    // SAFETY:
    // 1. `instructions` has `nr_instructions` entries, and the licence ends with a zero byte; both
    //    outlive the call. The log pointer is null, and its size zero.
    syscall::own(unsafe { call(Command::ProgramLoad, &mut attributes) })
}

/// How a program is attached: the flags of `BPF_LINK_CREATE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkMode {
    /// In the network stack, after a socket buffer was allocated.
    Generic = 1 << 1,
    /// In the driver.
    Native = 1 << 2,
}

/// Attaches `program` to the interface with number `interface`, until the link is closed.
///
/// # Errors
/// `EBUSY` or `EEXIST` if another program is attached, `EOPNOTSUPP` if the driver does not support XDP,
/// `ERANGE` or `EINVAL` if the driver does not support it with its current settings.
pub(crate) fn attach(
    program: BorrowedFd<'_>,
    interface: u32,
    mode: LinkMode,
) -> io::Result<OwnedFd> {
    #[derive(Clone, Copy)]
    #[repr(C)]
    struct Attributes {
        program: i32,
        interface: u32,
        attach_type: u32,
        flags: u32,
    }

    let mut attributes = Attributes {
        program: program.as_raw_fd(),
        interface,
        attach_type: ATTACH_XDP,
        flags: mode as u32,
    };
    // SAFETY: 1. The attributes of `LinkCreate` contain no pointers.
    syscall::own(unsafe { call(Command::LinkCreate, &mut attributes) })
}

/// Makes the kernel generate `nr_packets` packets that begin with `bytes`, and run `program` on each as
/// if it had been received.
///
/// # Errors
/// `EINTR` after a signal; `EINVAL` from a kernel before 5.18.
pub(crate) fn run_live(program: BorrowedFd<'_>, bytes: &[u8], nr_packets: u32) -> io::Result<()> {
    #[derive(Clone, Copy, Default)]
    #[repr(C)]
    struct Attributes {
        program: i32,
        result: u32,
        nr_bytes_in: u32,
        nr_bytes_out: u32,
        bytes_in: u64,
        bytes_out: u64,
        repeat: u32,
        duration_ns: u32,
        context_in_len: u32,
        context_out_len: u32,
        context_in: u64,
        context_out: u64,
        flags: u32,
        cpu: u32,
        batch: u32,
        _gap: u32,
    }

    /// `BPF_F_TEST_XDP_LIVE_FRAMES`
    const LIVE_FRAMES: u32 = 1 << 1;

    let mut attributes = Attributes {
        program: program.as_raw_fd(),
        nr_bytes_in: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
        bytes_in: address(bytes.as_ptr()),
        repeat: nr_packets,
        flags: LIVE_FRAMES,
        ..Attributes::default()
    };
    // SAFETY: 1. The data has the stated length and outlives the call; the kernel writes no output.
    syscall::answer(unsafe { call(Command::TestRun, &mut attributes) }).map(drop)
}

/// `BPF_XDP`, a type of attachment.
const ATTACH_XDP: u32 = 37;

/// The commands, with their numbers.
#[derive(Clone, Copy)]
enum Command {
    MapCreate = 0,
    MapUpdate = 2,
    ProgramLoad = 5,
    TestRun = 10,
    LinkCreate = 28,
}

fn address<T>(pointer: *const T) -> u64 {
    pointer.expose_provenance() as u64
}

/// # Safety
/// The pointers in `attributes` refer to what `command` expects, for the duration of the call.
unsafe fn call<T: Copy>(command: Command, attributes: &mut T) -> c_int {
    // SAFETY:
    // 1. The kernel reads and writes at most `size_of::<T>()` bytes of `attributes`.
    // 2. Its pointers refer to what the command expects: guaranteed by the caller.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as c_int,
            core::ptr::from_mut(attributes),
            size_of::<T>(),
        )
    };
    // Descriptors and errors fit into an int.
    c_int::try_from(answer).unwrap_or(-1)
}
