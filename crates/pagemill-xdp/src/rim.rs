//! The rim: every system call of this crate, and the memory that it shares with the kernel.
//!
//! The one place of the crate for unsafe code. What it hands out is safe to call, but for
//! [`socket::RawSocket`]: whoever puts an address on its rings says that the frame behind it is in
//! custody, and so reached by nobody else.

pub(crate) mod bpf;
pub(crate) mod clock;
pub(crate) mod ethtool;
pub(crate) mod mapping;
pub(crate) mod namespace;
pub(crate) mod netlink;
pub(crate) mod packet_socket;
pub(crate) mod queue;
pub(crate) mod socket;
pub(crate) mod sys;
