//! A machine of heap memory, and an allocator on it, for tests of pagemill and of crates that use it.
//!
//! It makes no system call, so tests on it run under Miri. Each thread sets the CPU that it runs on
//! ([`set_cpu`]), so tests do not depend on the scheduler. [`interrupted_by`] runs a handler where an
//! interrupt could come. Tests that need system calls, such as those of `mmap`, belong to
//! `pagemill-host`.
//!
//! ```
//! use pagemill::{AllocPages, Gfp};
//! use pagemill_testkit::{World, set_cpu};
//!
//! let world = World::with_memory(1024, 1);
//! set_cpu(1);
//! let page = world.alloc_page(Gfp::KERNEL).expect("1024 frames are free");
//! assert_eq!(world.nr_out(), 1);
//! drop(page); // dropping the world checks that all pages came back
//! ```

extern crate alloc;

mod machine;
mod rng;
mod seeds;
mod world;

pub use machine::{
    Call, Machine, Traces, check_balance, hooked, interrupted_by, interrupts_are_off, irq_sections,
    nr_pins, nr_waits, nr_wakes, set_account, set_cpu, take_zeroed, traced,
};
pub use rng::Rng;
pub use seeds::play_seeds;
pub use world::{Frames, NORMAL, SharedWorld, Slots, World, holes, order, pages, region, reserved};
