//! The C interface of pagemill.
#![doc = include_str!("../README.md")]
//!
//! # For developers
//! The header is the documentation of the functions. Functions that a process and a kernel share are
//! written once, in `calls.rs`, for any `Environment`: it finds the allocator of
//! a handle, and ends the program when a call is wrong. `hosted/` is the environment of a process, with the
//! functions that only a process has. `kernel/` is that of a kernel, in a build without the feature `host`.
//!
//! No panic crosses the boundary: it ends the process with one line too.
//!
//! # Invariants
//! SAFETY comments cite these invariants by name.
//!
//! - `c-arguments` (`calls.rs`): a C caller keeps the rules of the header that no function can check.
//! - `pool-owner` (`hosted/pool.rs`): only the thread whose number is in a pool uses its owner.
//! - `c-platform` (`kernel/platform.rs`): the functions of a kernel's table keep the rules of the header.
//! - `c-memory` (`kernel/allocator.rs`): nothing else uses the memory and the frames of a kernel's allocator.
//! - `handle-live` (`handles.rs`): a handle that its table finds is that of an object that exists.
#![deny(unsafe_code)]
#![cfg_attr(not(feature = "host"), no_std)]

#[cfg(feature = "host")]
extern crate alloc;

#[expect(unsafe_code, reason = "memory of C callers, and functions with C names")]
mod calls;
mod environment;
mod error;
mod handles;
#[cfg(test)]
#[cfg(feature = "host")]
mod header;
#[cfg(feature = "host")]
#[expect(unsafe_code, reason = "handles of C callers, functions with C names")]
mod hosted;
#[cfg(not(feature = "host"))]
#[expect(unsafe_code, reason = "functions and memory of a C kernel, functions with C names")]
mod kernel;
#[expect(unsafe_code, reason = "structures that C code fills in")]
mod types;
