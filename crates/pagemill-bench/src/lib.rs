//! Benchmarks of page allocation and of what is built on it, and their reports.
//!
//! The program `pagemill` runs them; `pagemill-peers` shares the plot and the random numbers. Each benchmark
//! is a module: [`bulk`], [`frag`], [`latency`], [`nfs`], [`pool`] and [`refill`]. [`report`] turns their
//! results into tables, JSON and pictures.
#![forbid(unsafe_code)]
#![expect(
    clippy::exhaustive_enums,
    clippy::missing_errors_doc,
    clippy::missing_panics_doc,
    clippy::new_without_default,
    reason = "a library for two programs that are built with it"
)]

extern crate alloc;

pub mod bulk;
pub mod clock;
pub mod frag;
pub mod frames;
pub mod latency;
pub mod nfs;
pub mod plot;
pub mod pool;
pub mod refill;
pub mod report;
pub mod rng;
pub mod size;

pub use bulk::experiment::Experiment;
pub use bulk::results::{LimitRow, Results, Row, Spread};
pub use bulk::task::{Operation, Shape};
pub use clock::Clock;
pub use frag::FragExperiment;
pub use latency::calls::LatencyExperiment;
pub use nfs::NfsExperiment;
pub use pool::PoolExperiment;
pub use refill::RefillExperiment;
pub use size::Size;
