//! pagemill in a Linux process: CPU numbers, clocks.
//!
//! CPU numbers come from [`Cpus`]. For whoever measures, there are clocks ([`monotonic_ns`],
//! [`Tsc`]) and a description of the machine ([`Machine`]).
//!
//! # Invariants
//! The proofs beside unsafe code cite these by name.
//!
//! - `rseq-registered`: an offset of the restartable-sequence area is kept only where the C library
//!   says that it keeps such an area for each thread.

mod clock;
mod cpu;
mod error;
mod machine;
mod sysfs;

pub use clock::{Tsc, monotonic_ns};
pub use cpu::Cpus;
pub use error::{HostError, OsError};
pub use machine::Machine;
