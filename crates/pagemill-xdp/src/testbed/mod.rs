//! A private network with virtual interfaces, and traffic to try things with.

pub(crate) mod traffic;
pub(crate) mod veth;
