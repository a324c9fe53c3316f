//! A page allocator with a bulk interface, for kernels, hypervisors and processes.
//!
//! [`PageAllocator`] manages the page frames of a memory map: zones with watermarks, lists of free
//! pages for each CPU, kinds of pages kept apart, blocks of up to 4 MiB. What it hands out owns its
//! frames: a [`Page`], a [`Folio`] of several adjacent frames, a [`PageList`], a counted
//! [`SharedPage`]. One call hands out many pages
//! ([`alloc_pages_bulk`](AllocPages::alloc_pages_bulk),
//! [`alloc_pages_bulk_list`](AllocPages::alloc_pages_bulk_list)), one takes them back
//! ([`release_pages`](AllocPages::release_pages), [`free_pages_bulk`]).
//!
//! Beside these calls, whose contract is that of Linux's bulk allocator, there is one
//! [`BulkRequest`] for everything that its users miss there: all or nothing, blocks of any order,
//! extents, node [`Policy`], an [`Account`] to charge, waiting that can be stopped. Memory comes
//! back through [`Shrinker`]s; a [`Mempool`] serves those who must not fail.
//!
//! Names, flags and contracts are Linux's; where behaviour departs from it, the documentation says
//! "Differs:" and why.
//!
//! # Getting started
//! 1. Implement [`Platform`] for the machine: its CPUs, how to keep interrupts off, how to zero a
//!    frame. Where frames can be reached through pointers, implement [`DirectMap`] too.
//! 2. Describe the memory in a [`Config`], ask [`PageAllocator::metadata_layout`] how much memory
//!    the books need, and build the allocator with [`PageAllocator::new`].
//! 3. Reach it through a reference, or through a [`Static`] so that a page is one word.
//! 4. `use pagemill::AllocPages` for the calls.
//!
//! In a Linux process, the crate `pagemill-host` does the first three.
//!
//! # Invariants
//! The arguments beside unsafe code cite these by name; each stands in full where it is kept.
//!
//! - `lock-excludes`, `once-filled` (`sync.rs`), `claim-excludes` (`claim.rs`): who may reach a
//!   locked, once-written or claimed value.
//! - `pcp-init`, `pcp-room` (`pcp.rs`), `batch-init` (`batch.rs`): which entries are pages.
//! - `block-filed` (`buddy.rs`): what a pageblock's books say of its frames.
//! - `carved-once` (`setup.rs`): each byte of the metadata memory belongs to one table.
//! - `one-list`, `list-links` (`list.rs`): how the pages of a list are linked.
//! - `shared-count` (`shared.rs`): how many owners a shared frame has.
//! - `frag-count`, `frag-disjoint` (`fragment.rs`): who owns which bytes of a page in pieces.
//! - `ring-claim`, `ring-turn` (`ring.rs`): who may use which slot of a ring.
//! - `handle-unique`: for each frame in use there is one [`RawPage`], in a handle or with the code
//!   that took it out of one; frames in per-CPU lists and zones have none outside. All safe calls
//!   keep it; [`Page::from_raw`] and its kin rely on their caller to.

#![no_std]
#![deny(unsafe_code)]

#[cfg(any(test, feature = "alloc"))]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod account;
mod alloc_pages;
mod base;
mod bulk;
mod config;
mod memmap;
mod page;
mod page_alloc;
mod percpu;
mod platform;
mod recycle;
mod reserve;
mod wait;
mod zone;

pub use account::table::{AccountError, AccountId, AccountLimits, AccountUsage};
pub use alloc_pages::{AllocPages, free_pages_bulk};
pub use base::gfp::{Gfp, NR_ZONE_KINDS, ZoneKind};
pub use base::migratetype::{MigrateType, NR_MIGRATE_TYPES};
pub use base::policy::{InterleaveCursor, NodeMask, Policy};
pub use base::raw_page::RawPage;
pub use base::shortage::Shortage;
pub use base::stats::VmStat;
pub use base::units::{
    CpuId, MAX_NR_NODES, MAX_ORDER, NodeId, Order, OrderTooLarge, PAGE_SHIFT, PAGE_SIZE,
    PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER, PFN_BITS, Pfn, PhysAddr,
};
pub use bulk::request::{BulkItem, BulkOutcome, BulkRequest, Effort};
pub use config::config::{Config, MemoryRegion, ReservedRange};
pub use config::error::ConfigError;
pub use page::account::Account;
pub use page::fragment::{Carver, Fragment, OwnsBytes};
pub use page::list::{Listable, Owned, PageList};
pub use page::page::{Folio, FolioPages, Page};
pub use page::page_vec::PageVec;
pub use page::shared::SharedPage;
pub use page::source::PageSource;
#[cfg(not(loom))]
pub use page::source::{OnceAllocator, Static, StaticAllocator};
pub use page_alloc::allocator::{ListCloser, PageAllocator};
pub use page_alloc::fault::FaultConfig;
pub use page_alloc::reclaim::{ShrinkerGuard, TooManyShrinkers};
pub use page_alloc::shrinker::{MAX_NR_SHRINKERS, ShrinkControl, Shrinker};
pub use page_alloc::view::{NR_PAGE_ORDERS, PcpInfo, ZoneInfo};
pub use platform::claim::{Claim, Claimed};
pub use platform::platform::{DirectMap, Platform};
pub use platform::trace::Event;
pub use recycle::returning::{Returning, TakeBack};
#[cfg(feature = "alloc")]
pub use recycle::ring::{Ring, RingDrain};
pub use recycle::stack::Stack;
pub use reserve::local::LocalPages;
pub use reserve::mempool::Mempool;
pub use zone::watermark::Watermarks;
