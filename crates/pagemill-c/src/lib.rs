//! The C interface of pagemill.
#![doc = include_str!("../README.md")]
//!
//! # For developers
//! The header is the documentation of the functions. Functions that a process and a kernel share are
//! written once, in `calls.rs`, for any [`Environment`](environment::Environment): it finds the allocator of
//! a handle, and ends the program when a call is wrong. `hosted/` is the environment of a process, with the
//! functions that only a process has.
//!
//! No panic crosses the boundary: it ends the process with one line too.
//!
//! # Invariants
//! SAFETY comments cite these invariants by name.
//!
//! - `c-arguments` (`calls.rs`): a C caller keeps the rules of the header that no function can check.
//! - `pool-owner` (`hosted/pool.rs`): only the thread whose number is in a pool uses its owner.
//! - `handle-live` (`hosted/handles.rs`): a handle that its table finds is that of an object that exists.
#![deny(unsafe_code)]

extern crate alloc;

#[expect(unsafe_code, reason = "memory of C callers, and functions with C names")]
mod calls;
mod environment;
mod error;
#[cfg(test)]
mod header;
#[expect(unsafe_code, reason = "handles of C callers, functions with C names")]
mod hosted;
#[expect(unsafe_code, reason = "structures that C code fills in")]
mod types;
