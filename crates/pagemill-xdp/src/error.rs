//! What can go wrong between a program, its arena and an interface.

use core::error::Error;
use core::fmt;
use std::io;

use pagemill_host::OsError;

use crate::capability::{self, Capabilities};
use crate::name::Name;
use crate::operation::Operation;

/// Why a device cannot be had, or does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum XdpError {
    /// There is no such interface in this network namespace.
    NoInterface {
        /// The name.
        name: Name,
    },
    /// The interface is down, so nothing can arrive or leave.
    InterfaceDown {
        /// Its name.
        name: Name,
    },
    /// The interface has fewer queues.
    NoQueue {
        /// Its name.
        name: Name,
        /// The queue that was asked for, counted from zero.
        queue: u32,
        /// How many it has.
        nr_queues: u32,
    },
    /// A packet of this interface may be larger than what fits a frame, and packets of several
    /// frames were not asked for.
    Mtu {
        /// The interface's name.
        name: Name,
        /// Its MTU, which does not count the Ethernet header.
        mtu: u32,
        /// The largest MTU whose packets fit.
        mtu_max: u32,
    },
    /// A ring's size is no power of two, or too large.
    RingSize {
        /// Which ring: fill, completion, rx or tx.
        ring: &'static str,
        /// The size asked for.
        size: u32,
        /// The largest that is allowed.
        size_max: u32,
    },
    /// More headroom than a frame has beside the kernel's own and a packet.
    Headroom {
        /// What was asked for, in bytes.
        headroom: u16,
        /// The largest that is allowed.
        headroom_max: u16,
    },
    /// The arena has fewer frames than the rings take.
    ArenaTooSmall {
        /// Frames in the arena.
        nr_frames: usize,
        /// Frames that fit on the rings of the device.
        nr_needed: usize,
    },
    /// Another XDP program is attached to the interface.
    ProgramAttached {
        /// The interface's name.
        name: Name,
        /// The program's number, as `bpftool prog` shows it; zero if it came just now.
        program: u32,
    },
    /// The process may not do what is needed.
    Capability {
        /// What it lacks.
        missing: Capabilities,
    },
    /// The process is in a user namespace, and the kernel asks for these capabilities in the first.
    UserNamespace {
        /// What it lacks there.
        missing: Capabilities,
    },
    /// The arena is larger than what the process may pin.
    LockedMemory {
        /// Bytes in the arena.
        len_bytes: usize,
        /// Bytes that may be locked, by all sockets together.
        limit_bytes: u64,
    },
    /// The interface was removed, or moved to another network namespace.
    InterfaceGone {
        /// Its name.
        name: Name,
    },
    /// The driver has no XDP of its own, and no other was wanted.
    NoNativeMode {
        /// The interface's name.
        name: Name,
        /// The system's answer.
        os: OsError,
    },
    /// Zero-copy was demanded, and the device cannot do it.
    NoZeroCopy {
        /// The interface's name.
        name: Name,
        /// The queue.
        queue: u32,
        /// The system's answer.
        os: OsError,
    },
    /// Another socket has the queue.
    QueueBusy {
        /// The interface's name.
        name: Name,
        /// The queue.
        queue: u32,
    },
    /// The words of a ring that the kernel shares contradict each other.
    RingBroken,
    /// Frames of a socket that could not be taken back, because its device may still use them.
    FramesStuck {
        /// How many were left to the device for good.
        nr_frames: usize,
    },
    /// The system refused something else.
    System {
        /// What was to be done.
        operation: Operation,
        /// The interface that it concerns, if it concerns one.
        name: Option<Name>,
        /// The system's answer.
        os: OsError,
    },
}

impl XdpError {
    /// Tells what the system answered to `operation`.
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

    /// Adds the interface that a refused operation concerns.
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
    /// Writes what the process may not do.
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
    /// Writes which size does not fit.
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

/// Returns the error number behind `error` as the host's type.
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
            Self::FramesStuck { nr_frames } => write!(
                f,
                "the device did not let go of its queue: {nr_frames} frames are left to it"
            ),
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
        let told = XdpError::system(Operation::Bind, &answer(libc::EOPNOTSUPP)).on(name);
        assert_eq!(
            told.to_string(),
            "cannot bind a socket to its queue (interface eth0): the driver cannot do what was \
             asked for: use the copy mode, and packets of one frame (Operation not supported (os \
             error 95))"
        );
        let told = XdpError::system(Operation::OpenSocket, &answer(libc::EMFILE));
        assert_eq!(
            told.to_string(),
            "cannot open an AF_XDP socket: this process has as many files open as it may: raise \
             the limit (ulimit -n) (Too many open files (os error 24))"
        );
    }
}
