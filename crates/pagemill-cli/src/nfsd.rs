//! The NFS server as a process: its parts put together, its statistics, its signals.

pub(crate) mod metrics;
mod service;
pub(crate) mod statistics;

pub(crate) use service::Service;
