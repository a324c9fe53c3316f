//! Receiving into pages: io_uring with buffers from the pagemill page allocator.
#![doc = include_str!("../README.md")]
//!
//! # Invariants
//! SAFETY comments cite these invariants by name; all unsafe code is in `kernel` and
//! `fixed_arena`.
//!
//! - `page-posted` (`kernel/books.rs`): a page that is in the books is neither read nor written through
//!   this crate until it is taken out.
//! - `send-owned` (`kernel/send_request.rs`): what the kernel reads for a send request is owned by it, and
//!   does not change.
//! - `kernel-owned-until-completed` (`kernel/kernel_ring.rs`): whatever the kernel may use is owned by the
//!   ring until the kernel has reported it, or until no request is left and the buffer ring is no longer
//!   registered. Otherwise it is leaked.
//! - `buffer-ring-mapped` (`kernel/buffer_ring.rs`): while the memory of a buffer ring lives, it is mapped.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(unsafe_code)]

extern crate alloc;

mod config;
mod error;
#[expect(unsafe_code, reason = "memory that is registered with the kernel")]
mod fixed_arena;
mod kernel;
mod pages;
#[cfg(test)]
mod random;
mod ring;
mod stats;
mod sync;

/// Supplies of empty pages: the trait, and the page allocator as one; a
/// [`PoolOwner`](pagemill_pool::PoolOwner) is another.
pub mod supply {
    pub use crate::pages::ring_page::RingPage;
    pub use crate::pages::supply::{AllocatorSupply, PageSupply, Refill};
}

/// Fixed buffers: an arena that is registered with io_uring, and reads of files into its pages.
pub mod fixed {
    pub use crate::fixed_arena::FixedArena;
}

/// Operations that the system can refuse, as errors name them.
pub mod errors {
    pub use crate::error::Step;
}

pub use config::ReceiveConfig;
pub use error::UringError;
pub use pages::filled::FilledPage;
pub use pages::received::Received;
pub use ring::event::{ConnectionId, Event};
pub use ring::receive_ring::ReceiveRing;
pub use stats::RingStats;
