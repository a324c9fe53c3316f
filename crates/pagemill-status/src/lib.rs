//! Status of a process that uses pagemill, over a local socket.
//!
#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

extern crate alloc;

mod client;
mod counters;
mod error;
mod place;
mod proc;
mod protocol;
mod section;
mod server;
mod snapshot;
mod text;

/// The parts of a [`Snapshot`], as they are in its JSON.
pub mod snapshots {
    pub use crate::counters::Counters;
    pub use crate::snapshot::{
        AccountStatus, AllocatorStatus, PagesetStatus, PoolStatus, ProcessStatus, TypeStatus,
        ZoneStatus,
    };
}

/// The parts of a [`Section`].
pub mod sections {
    pub use crate::section::{Column, Figure, Kind, MAX_ROWS, Row, Table};
}

/// The bytes on the socket: what a server reads and what a client reads, for programs without this crate
/// and for tests.
pub mod wire {
    pub use crate::error::ReplyError;
    pub use crate::protocol::{MAX_SNAPSHOT_BYTES, Request, VERSION, parse_reply};
    pub use crate::text::visible;
}

/// Errors of [`Status::serve`] and [`fetch`].
pub mod errors {
    pub use crate::error::{FetchError, ServeError};
}

pub use client::{Process, fetch, processes};
pub use section::{Section, Unit};
pub use server::{Status, StatusServer};
pub use snapshot::Snapshot;
