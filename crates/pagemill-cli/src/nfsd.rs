//! The NFS server as a process: its parts put together, its statistics, its signals.

mod exports;
pub(crate) mod metrics;
mod service;
pub(crate) mod statistics;

pub(crate) use exports::{FIRST_RETRY, LAST_RETRY, log_exported};
pub(crate) use service::{Service, Sockets};
