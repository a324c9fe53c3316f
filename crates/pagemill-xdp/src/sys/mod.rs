//! System calls: BPF, netlink, ethtool, packet sockets, namespaces, CPU clocks.

#[expect(unsafe_code, reason = "the system call bpf")]
pub(crate) mod bpf;
#[expect(unsafe_code, reason = "a system call")]
pub(crate) mod clock;
#[expect(unsafe_code, reason = "an ioctl with a structure")]
pub(crate) mod ethtool;
#[expect(unsafe_code, reason = "a system call")]
pub(crate) mod namespace;
pub(crate) mod netlink;
#[expect(unsafe_code, reason = "socket options and addresses as structures")]
pub(crate) mod packet_socket;
#[expect(unsafe_code, reason = "system calls as functions")]
pub(crate) mod syscall;
