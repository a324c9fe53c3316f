//! Configuration of an allocator, and what can be wrong with it.

pub(crate) mod config;
pub(crate) mod error;
