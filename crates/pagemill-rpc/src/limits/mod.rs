//! Limits shared among clients: connections, and bytes of incomplete calls and unread replies.

pub(crate) mod client;
pub(crate) mod connection_table;
pub(crate) mod memory_budget;
