//! Benchmarks of page allocation, page pools, refills and NFS servers, and their reports.
#![doc = include_str!("../README.md")]
//!
//! # Modules
//! Each benchmark is a module: [`bulk`], [`frag`], [`latency`], [`nfs`], [`pool`], [`refill`]
//! and [`users`].
//! [`report`] turns their results into tables, JSON and plots; [`saved`] reads, compares and exports
//! what was written as JSON. The benchmarks allocate from a static allocator ([`frames`]), so a handle
//! of a page is one word. The program `pagemill` runs them; `pagemill-peers` shares the plot ([`plot`])
//! and the random numbers ([`rng`]).
//!
//! The modules [`clock`], [`rng`], [`size`], [`document`] and [`frames`] need no feature. The program
//! `pagemill` uses some of them even if it is built without benchmarks. The crate has no unsafe code.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
#![expect(
    clippy::exhaustive_enums,
    clippy::missing_errors_doc,
    clippy::missing_panics_doc,
    clippy::new_without_default,
    reason = "a library for two programs that are built with it"
)]

extern crate alloc;

#[cfg(feature = "benchmarks")]
pub mod bulk;
pub mod clock;
pub mod document;
#[cfg(feature = "benchmarks")]
pub mod frag;
pub mod frames;
#[cfg(feature = "benchmarks")]
pub mod latency;
#[cfg(feature = "benchmarks")]
pub mod nfs;
#[cfg(feature = "plot")]
pub mod plot;
#[cfg(feature = "benchmarks")]
pub mod pool;
#[cfg(feature = "benchmarks")]
pub mod refill;
#[cfg(feature = "benchmarks")]
pub mod report;
pub mod rng;
#[cfg(feature = "saved")]
pub mod saved;
pub mod size;
#[cfg(feature = "benchmarks")]
pub mod users;

#[cfg(feature = "benchmarks")]
pub use bulk::experiment::Experiment;
#[cfg(feature = "benchmarks")]
pub use bulk::results::{LimitRow, Results, Row, Spread};
#[cfg(feature = "benchmarks")]
pub use bulk::task::{Operation, Shape};
pub use clock::Clock;
#[cfg(feature = "benchmarks")]
pub use frag::FragExperiment;
#[cfg(feature = "benchmarks")]
pub use latency::calls::LatencyExperiment;
#[cfg(feature = "benchmarks")]
pub use nfs::NfsExperiment;
#[cfg(feature = "benchmarks")]
pub use pool::PoolExperiment;
#[cfg(feature = "benchmarks")]
pub use refill::RefillExperiment;
pub use size::Size;
#[cfg(feature = "benchmarks")]
pub use users::UsersExperiment;
