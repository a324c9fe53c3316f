//! The server: worker threads, supervisor, shared state, configuration, start and stop.

pub(crate) mod config;
pub(crate) mod idle_pages;
pub(crate) mod idle_shrinker;
pub(crate) mod server;
pub(crate) mod server_state;
pub(crate) mod supervisor;
pub(crate) mod worker;
pub(crate) mod worker_count;
