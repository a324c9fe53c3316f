//! Limits that clients share: connections, and bytes of requests.

pub(crate) mod client;
pub(crate) mod memory_budget;
pub(crate) mod roster;
