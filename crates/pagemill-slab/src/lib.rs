//! Object caches and a heap on the page allocator `pagemill`: `kmem_cache`, `kmalloc` and `GlobalAlloc`.
#![doc = include_str!("../README.md")]
//!
//! # Structure
//! [`Slabs`] is a table with 16 bytes for each frame of an allocator. It leads from an address to a slab and
//! its cache. A [`Cache`] has objects of one size, in three places:
//!
//! - the **arrays** of each CPU, two of them, behind the claim on the CPU: taking or putting an object moves
//!   one pointer;
//! - the **depot**, 8 arrays behind a lock: a CPU whose arrays are empty exchanges one for a full array, and a
//!   CPU whose arrays are full does the opposite. Objects that one CPU allocates and another frees return this
//!   way;
//! - the **slabs**, blocks of pages behind another lock, whose free objects are linked. An array is filled
//!   from them, and emptied into them, under one hold of the lock. Slabs without objects in use return to the
//!   allocator, several in one call.
//!
//! A [`TypedCache`] has values of one type, each owned by a [`SlabBox`]. A [`Heap`] has a cache for each of 26
//! sizes, and folios for larger objects. A [`GlobalHeap`] is a heap in a static.
//!
//! Refills take twice as many pages as the one before, up to 16, until a cache returns some. [`Refill`] says
//! by which calls: one for each slab, one for all, or one block that is split.
//!
//! # Locks
//! A CPU's claim, then the depot's lock or that of the slabs; never both locks. Locks are held with
//! interrupts off. Pages are allocated and freed while neither a claim nor a lock is held.
//!
//! # Invariants
//! SAFETY comments cite these invariants by name. Each is stated in full in the file named.
//!
//! - `frame-table`, `slab-exposed` (`slabs.rs`): the entries of the table; pointers to objects.
//! - `slab-free` (`store.rs`): who may use a free object, and what it holds.
//! - `array-init` (`array.rs`): which places of an array hold objects.
//! - `cpu-arrays`, `cpu-claimed` (`cpus.rs`): who may use the arrays of a CPU.
//! - `heap-caches` (`caches.rs`): where the caches of a heap are.
//! - `typed-cache`, `box-value` (`slab_box.rs`): what an object of a typed cache holds.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![no_std]
#![deny(unsafe_code)]

#[cfg(test)]
extern crate alloc;
#[cfg(any(test, loom))]
extern crate std;

#[expect(unsafe_code, reason = "entries that may not be initialised")]
mod array;
#[expect(unsafe_code, reason = "objects that are raw pointers")]
mod cache;
#[expect(unsafe_code, reason = "caches in pages")]
mod caches;
#[expect(unsafe_code, reason = "bytes in and behind free objects")]
mod checks;
#[expect(unsafe_code, reason = "a bound that the compiler does not see")]
mod class;
mod config;
#[expect(unsafe_code, reason = "exclusive use of a CPU's arrays")]
mod cpus;
mod depot;
mod geometry;
#[cfg(not(loom))]
#[expect(unsafe_code, reason = "an unsafe trait: the global allocator")]
mod global;
#[expect(unsafe_code, reason = "objects that are raw pointers")]
mod heap;
mod info;
#[expect(unsafe_code, reason = "frames that are known by their numbers")]
mod large;
mod lists;
#[expect(unsafe_code, reason = "frames that are known by their numbers")]
mod pages;
#[expect(unsafe_code, reason = "values in objects that are raw pointers")]
mod slab_box;
#[expect(unsafe_code, reason = "the table of frames")]
mod slabs;
#[expect(unsafe_code, reason = "objects and the links in free ones")]
mod store;
mod sync;
mod tag;

/// Errors: why a table, a cache or a global heap was not made.
pub mod errors {
    pub use crate::config::CacheError;
    pub use crate::geometry::BadGeometry;
    #[cfg(not(loom))]
    pub use crate::global::GlobalHeapError;
    pub use crate::slabs::SlabsError;
}

pub use cache::Cache;
pub use config::{CacheConfig, Checks, Refill};
#[cfg(not(loom))]
pub use global::{GlobalHeap, NoFallback};
pub use heap::{Heap, HeapConfig};
pub use info::SlabInfo;
pub use slab_box::{SlabBox, TypedCache};
pub use slabs::Slabs;
