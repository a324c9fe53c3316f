//! AF_XDP sockets on interfaces.

pub(crate) mod interface;
pub(crate) mod peer;
pub(crate) mod program;
pub(crate) mod socket;
