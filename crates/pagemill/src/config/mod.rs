//! Configuration of an allocator, and the errors of an invalid one.

pub(crate) mod config;
pub(crate) mod error;
