//! The list of all users.

use core::fmt;

use super::{Setup, Start, fault_around, page_pool, readahead, request};

/// A kind of user.
pub struct UserKind {
    /// Its name on the command line and in reports.
    pub name: &'static str,
    /// One operation.
    pub operation: &'static str,
    /// Pages per operation.
    pub nr_pages: f64,
    /// Starts it.
    pub start: fn(&Setup) -> anyhow::Result<Start>,
}

impl fmt::Debug for UserKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserKind").field("name", &self.name).finish_non_exhaustive()
    }
}

/// All users, in the order of reports.
pub static USERS: &[UserKind] = &[
    UserKind {
        name: "page_pool",
        operation: "packet of 1,514 bytes",
        nr_pages: 1.0,
        start: page_pool::start,
    },
    UserKind {
        name: "sunrpc",
        operation: "request of 1 MiB over TCP",
        nr_pages: request::NR_PAGES as f64,
        start: request::start,
    },
    UserKind {
        name: "readahead-128k",
        operation: "window of 128 KiB, O_DIRECT",
        nr_pages: 32.0,
        start: |setup| readahead::start(setup, 32),
    },
    UserKind {
        name: "readahead-1m",
        operation: "window of 1 MiB, O_DIRECT",
        nr_pages: 256.0,
        start: |setup| readahead::start(setup, 256),
    },
    UserKind {
        name: "fault-around-16",
        operation: "fault that gets 16 pages by userfaultfd",
        nr_pages: 16.0,
        start: |setup| fault_around::start(setup, 16),
    },
    UserKind {
        name: "fault-around-64",
        operation: "fault that gets 64 pages by userfaultfd",
        nr_pages: 64.0,
        start: |setup| fault_around::start(setup, 64),
    },
];
