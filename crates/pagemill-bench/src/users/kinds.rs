//! The list of all users.

use core::fmt;

use super::slab::Sizes;
use super::{
    Setup, Start, fault_around, fault_move, page_pool, readahead, receive_ring, request, slab,
};

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
        name: "slab-64",
        operation: "object of 64 bytes, as caches grow and shrink",
        nr_pages: 64.0 / 4096.0,
        start: |setup| Ok(slab::start(setup, Sizes::Small)),
    },
    UserKind {
        name: "slab-mixed",
        operation: "object of 8 to 512 bytes, as caches grow and shrink",
        nr_pages: 1016.0 / 7.0 / 4096.0,
        start: |setup| Ok(slab::start(setup, Sizes::Mixed)),
    },
    UserKind {
        name: "slab-512",
        operation: "object of 512 bytes, as caches grow and shrink",
        nr_pages: 512.0 / 4096.0,
        start: |setup| Ok(slab::start(setup, Sizes::Large)),
    },
    UserKind {
        name: "receive-ring",
        operation: "MiB over TCP by io_uring, in bundles",
        nr_pages: 256.0,
        start: receive_ring::start,
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
    UserKind {
        name: "fault-move-1",
        operation: "fault to which 1 page moves, and back",
        nr_pages: 1.0,
        start: |setup| fault_move::start(setup, 1),
    },
    UserKind {
        name: "fault-move-16",
        operation: "fault to which 16 pages move, and back",
        nr_pages: 16.0,
        start: |setup| fault_move::start(setup, 16),
    },
    UserKind {
        name: "fault-move-64",
        operation: "fault to which 64 pages move, and back",
        nr_pages: 64.0,
        start: |setup| fault_move::start(setup, 64),
    },
    UserKind {
        name: "fault-move-512",
        operation: "fault to which 512 pages move, and back",
        nr_pages: 512.0,
        start: |setup| fault_move::start(setup, 512),
    },
];
