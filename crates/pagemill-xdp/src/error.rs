//! `XdpError`: why a device cannot be opened or used, with the values and the remedy.

use std::io;

use pagemill_host::os::OsError;
use thiserror::Error;

use crate::capability::{self, Capabilities};
use crate::name::Name;
use crate::operation::Operation;

/// Why a device cannot be opened, or stopped working.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum XdpError {
    /// There is no such interface in this network namespace.
    #[error(
        "there is no interface {name} in this network namespace; `ip link` lists its interfaces"
    )]
    NoInterface {
        /// The name.
        name: Name,
    },
    /// The interface is down, so no packet can arrive or leave.
    #[error("interface {name} is down: take it up first (ip link set dev {name} up)")]
    InterfaceDown {
        /// Its name.
        name: Name,
    },
    /// The interface has fewer queues than requested.
    #[error("interface {name} has no queue {queue}: it has {nr_queues}, counted from 0")]
    NoQueue {
        /// Its name.
        name: Name,
        /// The requested queue, counted from zero.
        queue: u32,
        /// Number of its queues.
        nr_queues: u32,
    },
    /// A packet of this interface may exceed a frame, and packets of several frames are not enabled.
    #[error(
        "interface {name} has an MTU of {mtu}, and packets above {mtu_max} do not fit \
         one frame: lower the MTU, or ask for packets of several frames"
    )]
    Mtu {
        /// The interface's name.
        name: Name,
        /// Its MTU, which does not count the Ethernet header.
        mtu: u32,
        /// The largest MTU whose packets fit into a frame.
        mtu_max: u32,
    },
    /// A ring's size is not a power of two, or too large.
    #[error(
        "the {ring} ring cannot have {size} entries: a power of two up to {size_max} is allowed"
    )]
    RingSize {
        /// The ring: fill, completion, rx or tx.
        ring: &'static str,
        /// The requested size.
        size: u32,
        /// The largest allowed size.
        size_max: u32,
    },
    /// The headroom exceeds the space that a frame has besides the kernel's headroom and a packet.
    #[error("a headroom of {headroom} bytes is too large: {headroom_max} at most")]
    Headroom {
        /// The requested headroom, in bytes.
        headroom: u16,
        /// The largest allowed headroom.
        headroom_max: u16,
    },
    /// The arena has fewer frames than the rings hold.
    #[error(
        "an arena of {nr_frames} frames is too small for rings that take {nr_needed}: \
         use a larger arena or smaller rings"
    )]
    ArenaTooSmall {
        /// Frames in the arena.
        nr_frames: usize,
        /// Frames that the rings of the device hold.
        nr_needed: usize,
    },
    /// Another XDP program is attached to the interface.
    #[error(
        "interface {name} has {} already: detach it (ip link set dev {name} xdp off), or end the \
         process that attached it",
        attached(*.program)
    )]
    ProgramAttached {
        /// The interface's name.
        name: Name,
        /// The program's number, as `bpftool prog` shows it; zero if it was attached just now.
        program: u32,
    },
    /// The process lacks capabilities.
    #[error(
        "this needs {missing}, which {} missing: run as root, or give the program what is missing \
         with setcap",
        if missing.nr() == 1 { "is" } else { "are" }
    )]
    Capability {
        /// The missing capabilities.
        missing: Capabilities,
    },
    /// The process is in a user namespace, and the kernel requires these capabilities in the first one.
    #[error("this needs {missing} in the first user namespace, and the process is in another")]
    UserNamespace {
        /// The capabilities that are missing there.
        missing: Capabilities,
    },
    /// The arena is larger than the memory that the process may pin.
    #[error(
        "an arena of {} KiB cannot be pinned for each socket where {} KiB may be locked: \
         raise the limit (ulimit -l), use a smaller arena, or add CAP_IPC_LOCK",
        .len_bytes >> 10, .limit_bytes >> 10
    )]
    LockedMemory {
        /// Bytes in the arena.
        len_bytes: usize,
        /// Bytes that all sockets together may lock.
        limit_bytes: u64,
    },
    /// The interface was removed, or moved to another network namespace.
    #[error("interface {name} is gone: it was removed, or moved elsewhere")]
    InterfaceGone {
        /// Its name.
        name: Name,
    },
    /// The driver does not support XDP, and no other mode was allowed.
    #[error(
        "interface {name} cannot have the program in its driver{} use the generic mode",
        refusal(*.os)
    )]
    NoNativeMode {
        /// The interface's name.
        name: Name,
        /// The error of the system.
        os: OsError,
    },
    /// Zero-copy was requested, and the device does not support it.
    #[error("queue {queue} of interface {name} has no zero-copy: {os}; use the copy mode")]
    NoZeroCopy {
        /// The interface's name.
        name: Name,
        /// The queue.
        queue: u32,
        /// The error of the system.
        os: OsError,
    },
    /// Another socket uses the queue.
    #[error(
        "queue {queue} of interface {name} belongs to another AF_XDP socket: \
         end the program that opened it, or use another queue"
    )]
    QueueBusy {
        /// The interface's name.
        name: Name,
        /// The queue.
        queue: u32,
    },
    /// The producer and consumer words of a ring contradict each other.
    #[error("the kernel's side of a ring shows more entries than the ring has")]
    RingBroken,
    /// Frames of a socket that could not be reclaimed, because its device may still use them.
    #[error(
        "the queue of a closed socket is still in use, so its {nr_frames} frames are not reused: \
         the driver did not release it, or another program opened it at once; if so, start that \
         program later"
    )]
    FramesStuck {
        /// Number of frames that were left to the device.
        nr_frames: usize,
    },
    /// Frames of a socket that could not be reclaimed, because the kernel did not report whether its
    /// queue is free.
    #[error(
        "cannot {} {queue} (interface {name}), so its {nr_frames} frames are not reused: {} ({os})",
        Operation::AskReleased, Operation::AskReleased.reason(.os.raw())
    )]
    ReleaseUnknown {
        /// The interface's name.
        name: Name,
        /// The queue.
        queue: u32,
        /// Number of frames that were left to the device.
        nr_frames: usize,
        /// The error of the system.
        os: OsError,
    },
    /// Another system call failed.
    #[error("cannot {operation}{}: {} ({os})", on(*.name), operation.reason(.os.raw()))]
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

/// Returns the error number in `error` as the host crate's type.
pub(crate) fn os_error(error: &io::Error) -> OsError {
    OsError::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

/// Names the program that is attached to an interface; the number is zero if it is not known.
fn attached(program: u32) -> String {
    match program {
        0 => "an XDP program".to_owned(),
        number => format!("XDP program {number} attached"),
    }
}

/// Returns why a driver refuses a program, and the first half of a remedy if there are two.
fn refusal(os: OsError) -> String {
    match os.raw() {
        libc::ERANGE => ", because its MTU is too large for that: lower it, or".to_owned(),
        _ => format!(": {os};"),
    }
}

/// Returns the interface in parentheses.
fn on(name: Option<Name>) -> String {
    name.map_or_else(String::new, |name| format!(" (interface {name})"))
}

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
        let os = os_error(&answer(libc::EINVAL));
        let error = XdpError::ReleaseUnknown { name, queue: 3, nr_frames: 64, os };
        assert_eq!(
            error.to_string(),
            "cannot find out whether the kernel has released queue 3 (interface eth0), so its 64 \
             frames are not reused: the interface has fewer queues than when the socket was \
             opened: close sockets before you remove their queues (Invalid argument (os error 22))"
        );
        let error = XdpError::system(Operation::OpenSocket, &answer(libc::EMFILE));
        assert_eq!(
            error.to_string(),
            "cannot open an AF_XDP socket: this process has as many files open as it may: raise \
             the limit (ulimit -n) (Too many open files (os error 24))"
        );
    }
}
