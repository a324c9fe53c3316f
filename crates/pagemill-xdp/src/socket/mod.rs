//! AF_XDP sockets, and the interfaces that they are bound to.

pub(crate) mod interface;
pub(crate) mod peer;
pub(crate) mod program;
pub(crate) mod socket;
