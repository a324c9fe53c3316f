//! A machine of heap memory, and an allocator on it, for tests of what stands on pagemill.
//!
//! It makes no system call, so tests on it run under Miri, and each thread says for itself which CPU
//! it runs on, so they do not depend on where the system lets them run. The tests of the core have a
//! machine of their own, which sees more of the allocator.

extern crate alloc;

mod machine;
mod world;

pub use machine::{Machine, interrupted_by, interrupts_are_off, set_cpu};
pub use world::{SharedWorld, World};
