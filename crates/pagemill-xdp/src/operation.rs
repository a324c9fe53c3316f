//! Operations that the crate asks of the system, and what their error numbers mean.

use core::fmt;

/// An operation of this crate that the system may refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// To look up an interface and its settings.
    FindInterface,
    /// To read the number of an interface's queues.
    CountQueues,
    /// To create the map from queues to sockets.
    MakeMap,
    /// To load the XDP program.
    LoadProgram,
    /// To attach the XDP program to an interface.
    AttachProgram,
    /// To open an AF_XDP socket.
    OpenSocket,
    /// To register the arena as a socket's memory.
    RegisterArena,
    /// To create the rings of a socket.
    MakeRings,
    /// To map the rings of a socket.
    MapRings,
    /// To bind a socket to a queue.
    Bind,
    /// To ask a socket whether it copies.
    AskCopies,
    /// To find out whether the kernel has released the queue of a closed socket.
    AskReleased,
    /// To make the program pass packets to a socket.
    Route,
    /// To wait for packets.
    Wait,
    /// To wake the kernel, so that it sends packets or takes frames.
    Wake,
    /// To open a packet socket.
    OpenPacketSocket,
    /// To send packets through a packet socket.
    SendPackets,
    /// To load the program that generates packets.
    LoadGenerator,
    /// To generate packets in the kernel.
    Generate,
    /// To create a network namespace.
    MakeNamespace,
    /// To create a pair of virtual interfaces.
    MakePair,
    /// To take an interface up or down.
    SetUp,
    /// To set the MTU of an interface.
    SetMtu,
    /// To turn the checksum offload of an interface on or off.
    SetChecksums,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::FindInterface => "ask for an interface",
            Self::CountQueues => "ask for the queues of an interface",
            Self::MakeMap => "make a map for sockets",
            Self::LoadProgram => "load the XDP program",
            Self::AttachProgram => "attach the XDP program",
            Self::OpenSocket => "open an AF_XDP socket",
            Self::RegisterArena => "register the arena with the kernel",
            Self::MakeRings => "make the rings of a socket",
            Self::MapRings => "map the rings of a socket",
            Self::Bind => "bind a socket to its queue",
            Self::AskCopies => "ask a socket for its options",
            Self::AskReleased => "find out whether the kernel has released queue",
            Self::Route => "route packets to a socket",
            Self::Wait => "wait for packets",
            Self::Wake => "wake the kernel",
            Self::OpenPacketSocket => "open a packet socket",
            Self::SendPackets => "send packets",
            Self::LoadGenerator => "load the program that makes packets",
            Self::Generate => "make packets",
            Self::MakeNamespace => "make a network namespace",
            Self::MakePair => "make a pair of virtual interfaces",
            Self::SetUp => "take an interface up or down",
            Self::SetMtu => "set the MTU of an interface",
            Self::SetChecksums => "set the checksum offload of an interface",
        })
    }
}

impl Operation {
    /// Returns why the system refuses this with the error number `errno`, and what to do about it.
    pub(crate) fn reason(self, errno: i32) -> &'static str {
        let special = REASONS.iter().find(|row| row.0 == self && row.1 == errno);
        let general = || GENERAL.iter().find(|row| row.0 == errno).map(|row| row.1);
        special.map(|row| row.2).or_else(general).unwrap_or(UNKNOWN)
    }
}

/// The kernel's internal `ENOTSUPP`, which some parts of it return to processes.
const ENOTSUPP: i32 = 524;

/// The meaning of an error number, where one operation differs from the others.
///
/// # Source
/// `linux-6.12` `net/xdp/xsk.c`, `net/xdp/xdp_umem.c`, `net/xdp/xsk_buff_pool.c`, `net/core/dev.c`,
/// `kernel/bpf/syscall.c`, `net/bpf/test_run.c`, `drivers/net/veth.c`
const REASONS: &[(Operation, i32, &str)] = &[
    (
        Operation::MakeMap,
        libc::EINVAL,
        "this kernel has no maps for AF_XDP sockets: use 5.4 or newer, built with \
         CONFIG_XDP_SOCKETS",
    ),
    (
        Operation::MakeMap,
        libc::ENOSYS,
        "this kernel has no BPF: use one built with CONFIG_BPF_SYSCALL",
    ),
    (
        Operation::LoadProgram,
        libc::EINVAL,
        "this kernel does not know the program's flags: packets of several frames need 5.18 or \
         newer, so ask for packets of one frame",
    ),
    (
        Operation::LoadProgram,
        libc::E2BIG,
        "this kernel does not know all that is asked of it: use 5.9 or newer",
    ),
    (
        Operation::AttachProgram,
        libc::EINVAL,
        "the kernel is older than 5.9, or the driver cannot have XDP with the interface's \
         present settings (MTU, number of queues, LRO): change them, or use the generic mode",
    ),
    (
        Operation::AttachProgram,
        libc::ERANGE,
        "the interface's MTU is too large for XDP: lower it, or ask for packets of several frames",
    ),
    (Operation::AttachProgram, libc::EOPNOTSUPP, "the driver has no XDP: use the generic mode"),
    (
        Operation::OpenSocket,
        libc::EAFNOSUPPORT,
        "this kernel has no AF_XDP sockets: use one built with CONFIG_XDP_SOCKETS",
    ),
    (
        Operation::RegisterArena,
        libc::ENOBUFS,
        "the kernel refuses to pin so much memory: use a smaller arena, or raise the limit \
         (ulimit -l)",
    ),
    (
        Operation::RegisterArena,
        libc::EINVAL,
        "the kernel does not accept the arena's length or the headroom: use a smaller arena or \
         headroom",
    ),
    (
        Operation::RegisterArena,
        libc::EFAULT,
        "part of the arena is not mapped any more: nothing may unmap it while a socket is opened",
    ),
    (
        Operation::RegisterArena,
        libc::EOPNOTSUPP,
        "the arena lies in memory that cannot be pinned, such as a file system's: use anonymous \
         memory or a memfd",
    ),
    (
        Operation::MakeRings,
        libc::ENOMEM,
        "the kernel has not enough memory for the rings: use smaller rings",
    ),
    (
        Operation::MapRings,
        libc::EOPNOTSUPP,
        "the kernel is older than 5.4, which brought the wake-ups that are used here: use 5.4 or \
         newer",
    ),
    (
        Operation::Bind,
        libc::EBUSY,
        "another AF_XDP socket has the queue: end the program that opened it, or use another \
         queue",
    ),
    (
        Operation::Bind,
        libc::EINVAL,
        "the interface does not take this mode with its present settings: packets of several \
         frames need Linux 6.6, and a device that uses frames itself needs frames as large as its \
         buffers; ask for packets of one frame, and for copies",
    ),
    (
        Operation::Bind,
        libc::EOPNOTSUPP,
        "the driver cannot do what was asked for: use the copy mode, and packets of one frame",
    ),
    (Operation::Bind, libc::EPROTONOSUPPORT, "the driver has no AF_XDP: use the copy mode"),
    (
        Operation::AskReleased,
        libc::EINVAL,
        "the interface has fewer queues than when the socket was opened: close sockets before you \
         remove their queues",
    ),
    (
        Operation::Route,
        libc::E2BIG,
        "the queue's number is beyond the map of the program: use a queue that the interface had \
         when the program was attached",
    ),
    (
        Operation::Route,
        libc::EOPNOTSUPP,
        "the socket is not bound any more: the interface was removed or is being changed",
    ),
    (
        Operation::Route,
        libc::EBADF,
        "the socket is not bound any more: the interface was removed or is being changed",
    ),
    (
        Operation::OpenPacketSocket,
        libc::EAFNOSUPPORT,
        "this kernel has no packet sockets: use one built with CONFIG_PACKET",
    ),
    (
        Operation::SendPackets,
        libc::EMSGSIZE,
        "a packet is larger than the interface's MTU: send smaller ones, or raise the MTU",
    ),
    (
        Operation::Generate,
        libc::EINVAL,
        "this kernel cannot make packets: use 5.18 or newer, or packets of 14 to 3400 bytes",
    ),
    (Operation::Generate, ENOTSUPP, "this kernel cannot make packets: use 5.18 or newer"),
    (
        Operation::MakeNamespace,
        libc::ENOSPC,
        "there are as many network namespaces as are allowed: raise user.max_net_namespaces",
    ),
    (
        Operation::MakeNamespace,
        libc::EINVAL,
        "this kernel has no network namespaces: use one built with CONFIG_NET_NS",
    ),
    (
        Operation::MakePair,
        libc::EEXIST,
        "an interface of that name exists: choose another name, or remove that interface",
    ),
    (
        Operation::MakePair,
        libc::EOPNOTSUPP,
        "this kernel has no virtual pairs: load the module veth",
    ),
    (
        Operation::SetMtu,
        libc::EINVAL,
        "the driver does not allow such an MTU: choose one between its limits (ip -d link)",
    ),
    (
        Operation::SetMtu,
        libc::ERANGE,
        "an XDP program in the driver does not allow such an MTU: detach it, or choose a smaller \
         MTU",
    ),
];

/// The meaning of an error number for all other operations.
const GENERAL: &[(i32, &str)] = &[
    (
        libc::EPERM,
        "a security module or a filter of system calls forbids it, as in many containers: permit \
         it there, or run outside of the container",
    ),
    (
        libc::EACCES,
        "a security module or a filter of system calls forbids it, as in many containers: permit \
         it there, or run outside of the container",
    ),
    (
        libc::ENOMEM,
        "the kernel has not enough memory: use a smaller arena or smaller rings, or free some \
         memory",
    ),
    (
        libc::ENOBUFS,
        "the kernel has no buffers left: use smaller rings, or end other programs that use the \
         network",
    ),
    (libc::EMFILE, "this process has as many files open as it may: raise the limit (ulimit -n)"),
    (libc::ENFILE, "the system has as many files open as it may: raise fs.file-max"),
    (libc::ENODEV, "the interface is gone: it was removed, or moved to another network namespace"),
    (libc::ENXIO, "the interface is gone: it was removed, or moved to another network namespace"),
    (libc::ENETDOWN, "the interface is down: take it up (ip link set ... up)"),
    (libc::EBUSY, "another program uses it: end that program first"),
    (libc::EEXIST, "another program has one there already: remove that first"),
    (
        libc::EINVAL,
        "the kernel does not accept these settings together: it may be too old for them (6.6 has \
         all that is used here)",
    ),
    (
        libc::EOPNOTSUPP,
        "the driver or the kernel does not support it: try another interface, or a newer kernel",
    ),
    (
        ENOTSUPP,
        "the driver or the kernel does not support it: try another interface, or a newer kernel",
    ),
    (libc::ENOSYS, "this kernel was built without that: use another kernel"),
];

/// The text for error numbers without a row.
const UNKNOWN: &str =
    "the kernel refused it for a reason that is not known here; its log may say more (dmesg)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_the_only_one_of_its_kind_and_says_what_to_do() {
        for (nth, &(operation, errno, reason)) in REASONS.iter().enumerate() {
            let is_same = |row: &&(Operation, i32, &str)| row.0 == operation && row.1 == errno;
            assert_eq!(REASONS.iter().filter(is_same).count(), 1, "row {nth}");
            assert_eq!(operation.reason(errno), reason);
        }
        for &(errno, reason) in GENERAL {
            assert_eq!(GENERAL.iter().filter(|row| row.0 == errno).count(), 1, "{errno}");
            assert_eq!(Operation::AskCopies.reason(errno), reason);
        }
        let reasons = REASONS.iter().map(|row| row.2).chain(GENERAL.iter().map(|row| row.1));
        for reason in reasons {
            let (why, remedy) = reason.split_once(": ").unwrap_or((reason, ""));
            assert!(!why.is_empty() && !remedy.is_empty(), "{reason}");
            assert!(!reason.ends_with('.'), "{reason}");
        }
    }

    #[test]
    fn an_error_number_without_a_row_has_a_sentence_too() {
        assert_eq!(Operation::Bind.reason(libc::EPROTO), UNKNOWN);
        assert_ne!(Operation::Bind.reason(libc::EBUSY), Operation::MakeRings.reason(libc::EBUSY));
    }
}
