//! A kernel: its allocators, in memory that it supplies, and the functions that only a kernel has.

mod allocator;
mod fail;
mod message;
mod numbers;
mod platform;
mod types;
