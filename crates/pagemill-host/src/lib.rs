//! pagemill in a Linux process: memory, CPU numbers, clocks.
#![doc = include_str!("../README.md")]
//!
//! # Configuration
//! [`AllocatorConfig`] sets nodes, lists, accounts and the kind of memory;
//! [`HostAllocator::with_config`] takes one.
//!
//! In a process, use [`Gfp::KERNEL`] for requests that may reclaim and wait, and [`Gfp::NOWAIT`] for
//! requests of a thread that must not, such as one that polls a device. [`Gfp::ATOMIC`] does not wait
//! either and may use a part of the reserve: keep it for pages that soon return.
//!
//! The core crate works on frames and lists, and uses a [`Platform`](pagemill::Platform) for everything
//! else. [`Host`] is that platform in a process: its frames are an [`Arena`] of mapped memory, its CPU
//! numbers come from [`Cpus`]. For measurements, there are clocks ([`monotonic_ns`], [`Tsc`]) and a
//! description of the machine ([`Machine`]); for file servers, names of files that outlive paths
//! ([`FileHandle`]) and the identity of a thread ([`FsIdentity`]).
//!
//! [`IndexAllocator`] uses the core for blocks that are not memory of this process: it hands out numbers.
//!
//! This crate makes every system call of the hosted allocator.
//!
//! # Signals
//! A signal handler must not allocate or free: if it interrupted the holder of a zone lock, it would
//! wait for its own thread. (In a kernel, interrupts are off while a zone lock is held; a process
//! cannot do that cheaply.)
//!
//! # Fork
//! An allocator belongs to the process that made it. In a child of `fork`, its requests fail with
//! [`Shortage::Abandoned`](pagemill::Shortage::Abandoned), and dropping its pages does nothing; the
//! child makes an allocator of its own. Operations that need a lock which another thread held panic
//! with that message. Does not support `vfork`, `clone` and the C library's `_Fork`, which run no fork
//! handlers, unless their child only calls `exec` or `_exit`.
//!
//! # Invariants
//! SAFETY comments cite these invariants by name.
//!
//! - `mapping-owned`: a `Mapping` is the only owner of its addresses until it is dropped. Nothing
//!   else in the process unmaps them or maps over them, and the file behind them, if there is one,
//!   is sealed against shrinking.
//! - `mapping-no-refs`: this crate makes no reference to mapped bytes; it returns pointers. Code
//!   that makes references from them is responsible for these.
//! - `arena-initialised`: each byte of an arena is readable and writable and starts as zero, as the
//!   kernel provides it. When a page is allocated again, its bytes are those that its last owner
//!   left, or zeroes if [`return_free_memory`](arena::return_free_memory) returned them.
//! - `arena-outlives-pages`: a [`Host`] owns its arenas and never releases them, so what
//!   [`DirectMap::frame_ptr`] returns is valid while the host lives.
//! - `arena-resident`: while an arena is [pinned](arena::Arena::pin), no mapped part of it is returned to
//!   the system, cut out of its file or mapped anew. So an arena may be registered with a device: the
//!   device keeps the pages that it found at registration, and would not notice if the process had other
//!   pages at these addresses. Whoever registers it pins it first.
//!   A [`FaultRegion`](fault::FaultRegion) moves pages out of an arena and back; the kernel refuses that
//!   for pages that a device has pinned, and never moves one back to where there is another.
//! - `pinned-resident` (`memory/pins.rs`): memory is returned only while there is no pin, and none is made
//!   meanwhile.
//! - `frame-in-arena`: the number of a frame is checked against the arena, in every build, before
//!   it becomes a pointer.
//! - `home-borrowed` (`memory/fault_region.rs`): pages are moved from and to bytes that the caller of the
//!   move borrows exclusively.
//! - `uffd-layout` (`memory/fault_region.rs`): structures and numbers of userfaultfd are those of the
//!   kernel's header.
//! - `rseq-sequence` (`cpu/rseq.rs`): which instructions the kernel aborts when it preempts a thread.
//! - `code-resident` (`cpu/resident.rs`): the object (program or library) that made a host is never
//!   unmapped, and neither is another object that uses the host, as [`Host`] requires. The kernel
//!   may read a descriptor in it long after the sequence ran.
//! - `claim-switch` (`cpu/rseq.rs`): how a claim changes from plain stores to exchanges if fences are
//!   refused.
//! - `rseq-registered`: the offset of the restartable-sequence area is stored only if the C library
//!   states that each thread has such an area.
//!
//! [`Gfp::ATOMIC`]: pagemill::Gfp::ATOMIC
//! [`Gfp::KERNEL`]: pagemill::Gfp::KERNEL
//! [`Gfp::NOWAIT`]: pagemill::Gfp::NOWAIT
//! [`Arena`]: arena::Arena
//! [`Cpus`]: machine::Cpus
//! [`DirectMap::frame_ptr`]: pagemill::machine::DirectMap::frame_ptr
//! [`FileHandle`]: os::FileHandle
//! [`FsIdentity`]: os::FsIdentity
//! [`Machine`]: machine::Machine
//! [`Tsc`]: machine::Tsc
//! [`monotonic_ns`]: machine::monotonic_ns
#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(unsafe_code)]

extern crate alloc;

mod allocator;
mod cpu;
mod error;
mod fs;
#[expect(unsafe_code, reason = "the metadata of an allocator; numbers that become owners again")]
mod index_allocator;
mod measure;
mod memory;
mod observe;
mod owners;
mod signal;
mod trace;

/// Arenas: the memory of frames and metadata, its backing and the size of its pages.
pub mod arena {
    pub use crate::allocator::platform::DEFAULT_BASE_PFN;
    pub use crate::allocator::trim::return_free_memory;
    pub use crate::memory::arena::{Arena, ArenaKind, ArenaPages, Backing, HugePages};
    pub use crate::memory::pins::ArenaPin;
}

/// Debugging: an allocator that passes its events to a tracer, and the number of pages that each call
/// site holds.
pub mod debug {
    pub use crate::observe::traced::{Traced, Tracer, traced_allocator};
    pub use crate::owners::{PageOwner, PageOwners};
}

/// Extents and errors of an [`IndexAllocator`].
pub mod index {
    pub use crate::index_allocator::{Extent, IndexError, Lack, SharedExtent};
}

/// Memory whose missing pages this process supplies.
pub mod fault {
    pub use crate::memory::fault_region::FaultRegion;
}

/// The machine: its CPUs, clocks, context switches, and a description for reports of measurements.
pub mod machine {
    pub use crate::cpu::cpu::Cpus;
    pub use crate::measure::clock::{Tsc, monotonic_ns};
    pub use crate::measure::machine::Machine;
    pub use crate::measure::switches::context_switches;
}

/// System calls for servers and benchmarks (file handles, identities of threads, a socket option, private
/// namespaces), and the error of the operating system.
pub mod os {
    pub use crate::error::OsError;
    pub use crate::fs::credentials::{FsIdentity, MAX_NR_GROUPS};
    pub use crate::fs::file_handle::{FileHandle, MAX_FILE_HANDLE_BYTES};
    pub use crate::fs::socket::set_receive_low_water;
    pub use crate::measure::sandbox::enter_sandbox;
}

pub use allocator::allocator::{AllocatorConfig, HostAllocator, SharedAllocator, allocator};
pub use allocator::platform::Host;
pub use allocator::reclaim::ReclaimThread;
pub use allocator::scope::AllocScope;
pub use error::HostError;
pub use index_allocator::IndexAllocator;
pub use memory::arena::ArenaConfig;

// Lengths come as u64 and are mapped as usize; both are the same number.
const _: () = assert!(usize::BITS == u64::BITS, "the host needs a 64-bit target");
