//! Reports of all benchmarks: tables for people, JSON for programs, plots.

pub(crate) mod context;
pub mod frag;
pub mod json;
pub mod latency;
pub mod nfs;
pub mod pool;
pub mod refill;
pub mod sentence;
pub mod spread;
pub mod svg;
pub mod table;
pub mod users;

pub use context::Context;
