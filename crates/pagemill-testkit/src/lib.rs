//! A machine of heap memory, and an allocator on it, for tests of crates that use pagemill.
//!
//! It makes no system call, so tests on it run under Miri. Each thread sets the CPU that it runs on
//! ([`set_cpu`]), so tests do not depend on the scheduler. [`interrupted_by`] runs a handler where an
//! interrupt could come. Tests that need system calls, such as those of `mmap`, belong to
//! `pagemill-host`. The tests of the core have a machine of their own, which shows more of the
//! allocator.

extern crate alloc;

mod machine;
mod world;

pub use machine::{Machine, interrupted_by, interrupts_are_off, set_cpu};
pub use world::{SharedWorld, World};
