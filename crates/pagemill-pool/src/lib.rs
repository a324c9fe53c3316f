//! A recycling pool of pages between the page allocator and a device's receive ring: Linux's
//! `page_pool`, with its contract, its constants and the names of its statistics.
#![doc = include_str!("../README.md")]
//!
//! # Structure
//! A receive ring is refilled thousands of times per second with pages that are soon returned. A
//! [`PagePool`] keeps them, mapped for the device, in three places:
//!
//! - the **cache** of the [`PoolOwner`], the one poll loop that takes pages: 128 places, with neither a
//!   lock nor an atomic operation to put or take a page;
//! - the **ring**, through which all other threads return pages, many by one claim; an empty cache is
//!   refilled from it, 64 pages at a time;
//! - the **page allocator**, from which one call takes 64 pages when the ring has none.
//!
//! Types decide who may do what. The owner can be sent to another thread but not shared. A [`PoolPage`]
//! owns its page, can be kept and sent anywhere, and returns through the ring when it is dropped;
//! [`PoolOwner::put`] takes it back directly. A [`Returner`] returns many at once, from any thread.
//! Small packets share pages as [`PoolFrag`]s.
//!
//! # Devices
//! A [`DmaMapper`] maps pages: [`NoDma`], [`ArenaOffsets`] for devices that address an arena by
//! offsets, or a user's own. Pages are mapped once, when they come from the allocator. A page that
//! cannot be mapped is freed; other pages are not affected.
//!
//! # What is recycled
//! A page is recycled if it is not shared ([`SharedPoolPage`]), did not come from the allocator's
//! reserve, and is on the owner's node. One function decides that for every way of return: directly,
//! through the ring (the node is checked when the page is taken out), and when the last fragment of a
//! page is dropped.
//!
//! # Interrupts
//! Pages, shares and fragments may be dropped or returned through a [`Returner`] wherever pages may be
//! freed to the page allocator: also in an interrupt handler, but not in an NMI. The ring is lock-free.
//! Pages of the reserve and of a [`Tracked`] pool are recorded under a spinlock, which is held with
//! interrupts off ([`Platform::irq_save`](pagemill::Platform::irq_save)); under it, returning a page
//! neither allocates nor frees heap memory. A [`DmaMapper`] and a [`MemoryProvider`] are called in the
//! same contexts and must keep to the same rule.
//!
//! Only the [`PoolOwner`] takes pages. It is borrowed uniquely, so a handler that interrupts its use
//! cannot use it. The owner of a [`Tracked`] pool uses the heap when it takes a page, with interrupts
//! off. In a process, interrupts are signals, and nothing blocks them: a signal handler must not return
//! pages.
//!
//! # Invariants
//! The crate forbids unsafe code. What depends on these invariants is that no page is lost.
//!
//! - `refill-empty`: the cache is refilled only when it is empty, so 128 places hold 64 new pages and
//!   all pages that one poll may drop.
//! - `in-flight`: a page is counted as in flight from when it comes from the page allocator until it is
//!   freed there, wherever it is in between; so zero means that every page is accounted for.
//! - `ring-emptied` (`recycle_ring.rs`): once the pool has ended and no thread is returning a page, the
//!   ring is empty.
//! - `mapped-not-freed` (`pool.rs`): a page is unmapped before it is freed to the page allocator. If the
//!   mapper panics, the page is leaked, and stays in flight.
//! - `ledger-irq` (`ledger.rs`): the lock of the ledger is held with interrupts off.
//!
//! [`ArenaOffsets`]: dma::ArenaOffsets
//! [`DmaMapper`]: dma::DmaMapper
//! [`MemoryProvider`]: providers::MemoryProvider
//! [`NoDma`]: dma::NoDma
//! [`Tracked`]: sources::Tracked

#![cfg_attr(docsrs, feature(doc_cfg))]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod block;
pub mod dma;
mod frag;
mod ledger;
mod owner;
mod page;
mod params;
mod pool;
mod pool_ref;
mod provider;
mod recycle_ring;
mod returner;
pub mod shutdown;
pub mod stats;
mod sync;

/// DMA parameters of [`PoolParams`], the sizes of the cache and its refill, and the alignment of
/// fragments.
pub mod config {
    pub use crate::frag::FRAG_ALIGN;
    pub use crate::params::{DmaParams, PP_ALLOC_CACHE_REFILL, PP_ALLOC_CACHE_SIZE};
}

/// Memory providers: sources of a pool's blocks other than the page allocator.
pub mod providers {
    pub use crate::block::{Block, BlockBytes};
    pub use crate::provider::MemoryProvider;
}

/// Less common ways in which a page reaches its pool ([`PoolRef`]): through a static, or in a pool that
/// records the holders of its pages.
pub mod sources {
    pub use crate::ledger::Holder;
    #[cfg(not(loom))]
    pub use crate::pool_ref::OncePool;
    pub use crate::pool_ref::{Named, NamedPool, Tracked};
}

pub use frag::{PoolFrag, PoolFrags};
pub use owner::PoolOwner;
pub use page::{PoolPage, SharedPoolPage};
pub use params::{PoolError, PoolParams};
pub use pool::PagePool;
pub use pool_ref::PoolRef;
pub use returner::Returner;
