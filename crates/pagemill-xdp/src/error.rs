//! `XdpError`: why a device cannot be opened or used, with the values and the remedy.

use core::error::Error;
use core::fmt;
use std::io;

use pagemill_host::OsError;

use crate::capability::{self, Capabilities};
use crate::name::Name;
use crate::operation::Operation;

/// Why a device cannot be opened, or stopped working.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum XdpError {
    /// There is no such interface in this network namespace.
    NoInterface {
        /// The name.
        name: Name,
    },
    /// The interface is down, so no packet can arrive or leave.
    InterfaceDown {
        /// Its name.
        name: Name,
    },
    /// The interface has fewer queues than requested.
    NoQueue {
        /// Its name.
        name: Name,
        /// The requested queue, counted from zero.
        queue: u32,
        /// Number of its queues.
        nr_queues: u32,
    },
    /// A packet of this interface may exceed a frame, and packets of several frames are not enabled.
    Mtu {
        /// The interface's name.
        name: Name,
        /// Its MTU, which does not count the Ethernet header.
        mtu: u32,
        /// The largest MTU whose packets fit into a frame.
        mtu_max: u32,
    },
    /// A ring's size is not a power of two, or too large.
    RingSize {
        /// The ring: fill, completion, rx or tx.
        ring: &'static str,
        /// The requested size.
        size: u32,
        /// The largest allowed size.
        size_max: u32,
    },
    /// The headroom exceeds the space that a frame has besides the kernel's headroom and a packet.
    Headroom {
        /// The requested headroom, in bytes.
        headroom: u16,
        /// The largest allowed headroom.
        headroom_max: u16,
    },
    /// The arena has fewer frames than the rings hold.
    ArenaTooSmall {
        /// Frames in the arena.
        nr_frames: usize,
        /// Frames that the rings of the device hold.
        nr_needed: usize,
    },
    /// Another XDP program is attached to the interface.
    ProgramAttached {
        /// The interface's name.
        name: Name,
        /// The program's number, as `bpftool prog` shows it; zero if it was attached just now.
        program: u32,
    },
    /// The process lacks capabilities.
    Capability {
        /// The missing capabilities.
        missing: Capabilities,
    },
    /// The process is in a user namespace, and the kernel requires these capabilities in the first one.
    UserNamespace {
        /// The capabilities that are missing there.
        missing: Capabilities,
    },
    /// The arena is larger than the memory that the process may pin.
    LockedMemory {
        /// Bytes in the arena.
        len_bytes: usize,
        /// Bytes that all sockets together may lock.
        limit_bytes: u64,
    },
    /// The interface was removed, or moved to another network namespace.
    InterfaceGone {
        /// Its name.
        name: Name,
    },
    /// The driver does not support XDP, and no other mode was allowed.
    NoNativeMode {
        /// The interface's name.
        name: Name,
        /// The error of the system.
        os: OsError,
    },
    /// Zero-copy was requested, and the device does not support it.
    NoZeroCopy {
        /// The interface's name.
        name: Name,
        /// The queue.
        queue: u32,
        /// The error of the system.
        os: OsError,
    },
    /// Another socket uses the queue.
    QueueBusy {
        /// The interface's name.
        name: Name,
        /// The queue.
        queue: u32,
    },
    /// The producer and consumer words of a ring contradict each other.
    RingBroken,
    /// Frames of a socket that could not be reclaimed, because its device may still use them.
    FramesStuck {
        /// Number of frames that were left to the device.
        nr_frames: usize,
    },
    /// Another system call failed.
    System {
        /// The operation.
        operation: Operation,
        /// The interface that it is about, if any.
        name: Option<Name>,
        /// The error of the system.
        os: OsError,
    },
}

impl XdpError {
    /// Makes the error for a failed `operation`.
    pub(crate) fn system(operation: Operation, error: &io::Error) -> Self {
        let os = os_error(error);
        if matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES)) {
            let missing = Capabilities::NEEDED.without(Capabilities::effective());
            if !missing.is_empty() {
                return Self::Capability { missing };
            }
            if !capability::is_in_first_user_namespace() {
                let missing = Capabilities::BPF.with(Capabilities::NET_ADMIN);
                return Self::UserNamespace { missing };
            }
        }
        Self::System { operation, name: None, os }
    }

    /// Adds the interface that a failed operation is about.
    pub(crate) fn on(self, interface: Name) -> Self {
        match self {
            Self::System { operation, os, .. } => {
                Self::System { operation, name: Some(interface), os }
            }
            other => other,
        }
    }
}

impl XdpError {
    /// Writes which right the process lacks.
    fn fmt_right(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Capability { missing } => write!(f, "this needs {missing}, which is missing"),
            Self::UserNamespace { missing } => write!(
                f,
                "this needs {missing} in the first user namespace, and the process is in another"
            ),
            Self::LockedMemory { len_bytes, limit_bytes } => write!(
                f,
                "an arena of {} KiB cannot be pinned for each socket where {} KiB may be locked: \
                 raise the limit (ulimit -l), use a smaller arena, or add CAP_IPC_LOCK",
                len_bytes >> 10,
                limit_bytes >> 10
            ),
            _ => Ok(()),
        }
    }
}

impl XdpError {
    /// Writes which size is invalid.
    fn fmt_size(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Mtu { name, mtu, mtu_max } => write!(
                f,
                "interface {name} has an MTU of {mtu}, and packets above {mtu_max} do not fit \
                 one frame: lower the MTU, or ask for packets of several frames"
            ),
            Self::RingSize { ring, size, size_max } => write!(
                f,
                "the {ring} ring cannot have {size} entries: \
                 a power of two up to {size_max} is allowed"
            ),
            Self::Headroom { headroom, headroom_max } => {
                write!(f, "a headroom of {headroom} bytes is too large: {headroom_max} at most")
            }
            Self::ArenaTooSmall { nr_frames, nr_needed } => write!(
                f,
                "an arena of {nr_frames} frames is too small for rings that take {nr_needed}: \
                 use a larger arena or smaller rings"
            ),
            _ => Ok(()),
        }
    }
}

/// Returns the error number in `error` as the host crate's type.
pub(crate) fn os_error(error: &io::Error) -> OsError {
    OsError::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

impl fmt::Display for XdpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoInterface { name } => {
                write!(f, "there is no interface {name} in this network namespace")
            }
            Self::InterfaceDown { name } => {
                write!(f, "interface {name} is down: take it up first")
            }
            Self::NoQueue { name, queue, nr_queues } => write!(
                f,
                "interface {name} has no queue {queue}: it has {nr_queues}, counted from 0"
            ),
            Self::Mtu { .. }
            | Self::RingSize { .. }
            | Self::Headroom { .. }
            | Self::ArenaTooSmall { .. } => self.fmt_size(f),
            Self::ProgramAttached { name, program: 0 } => {
                write!(f, "interface {name} has an XDP program already: detach it first")
            }
            Self::ProgramAttached { name, program } => write!(
                f,
                "interface {name} has XDP program {program} attached already: detach it first"
            ),
            Self::Capability { .. } | Self::UserNamespace { .. } | Self::LockedMemory { .. } => {
                self.fmt_right(f)
            }
            Self::InterfaceGone { name } => {
                write!(f, "interface {name} is gone: it was removed, or moved elsewhere")
            }
            Self::NoNativeMode { name, os } if os.raw() == libc::ERANGE => write!(
                f,
                "interface {name} cannot have the program in its driver, because its MTU is too \
                 large for that: lower it, or use the generic mode"
            ),
            Self::NoNativeMode { name, os } => write!(
                f,
                "interface {name} cannot have the program in its driver: {os}; \
                 use the generic mode"
            ),
            Self::NoZeroCopy { name, queue, os } => write!(
                f,
                "queue {queue} of interface {name} has no zero-copy: {os}; use the copy mode"
            ),
            Self::QueueBusy { name, queue } => write!(
                f,
                "queue {queue} of interface {name} belongs to another AF_XDP socket: \
                 end the program that opened it, or use another queue"
            ),
            Self::RingBroken => {
                f.write_str("the kernel's side of a ring shows more entries than the ring has")
            }
            Self::FramesStuck { nr_frames } => {
                write!(f, "the device did not release its queue: it keeps {nr_frames} frames")
            }
            Self::System { operation, name, os } => {
                write!(f, "cannot {operation}")?;
                if let Some(name) = name {
                    write!(f, " (interface {name})")?;
                }
                write!(f, ": {} ({os})", operation.reason(os.raw()))
            }
        }
    }
}

impl Error for XdpError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_step_the_interface_the_reason_and_the_answer() {
        let name = Name::new("eth0").unwrap();
        let answer = |errno| io::Error::from_raw_os_error(errno);
        let error = XdpError::system(Operation::Bind, &answer(libc::EOPNOTSUPP)).on(name);
        assert_eq!(
            error.to_string(),
            "cannot bind a socket to its queue (interface eth0): the driver cannot do what was \
             asked for: use the copy mode, and packets of one frame (Operation not supported (os \
             error 95))"
        );
        let error = XdpError::system(Operation::OpenSocket, &answer(libc::EMFILE));
        assert_eq!(
            error.to_string(),
            "cannot open an AF_XDP socket: this process has as many files open as it may: raise \
             the limit (ulimit -n) (Too many open files (os error 24))"
        );
    }
}
