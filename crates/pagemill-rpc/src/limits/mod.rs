//! Limits that clients share: connections, and bytes of requests.

pub(crate) mod client;
pub(crate) mod connection_table;
pub(crate) mod memory_budget;
