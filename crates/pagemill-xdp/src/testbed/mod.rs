//! Testbed: a private network with virtual interfaces, and traffic generators.

pub(crate) mod traffic;
pub(crate) mod veth;
