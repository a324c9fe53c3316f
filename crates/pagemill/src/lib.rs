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
//! - `lock-excludes`, `once-filled` (`sync.rs`): who may reach a locked or once-written value.
//! - `pcp-init`, `pcp-room` (`pcp.rs`), `batch-init` (`batch.rs`): which entries are pages.
//! - `block-filed` (`buddy.rs`): what a pageblock's books say of its frames.
//! - `carved-once` (`setup.rs`): each byte of the metadata memory belongs to one table.
//! - `one-list`, `list-links` (`list.rs`): how the pages of a list are linked.
//! - `shared-count` (`shared.rs`): how many owners a shared frame has.
//! - `handle-unique`: for each frame in use there is one [`RawPage`], in a handle or in the hands of
//!   whoever took it out of one; frames in per-CPU lists and zones have none outside. All safe calls
//!   keep it; [`Page::from_raw`] and its kin rely on their caller to.

#![no_std]

#[cfg(test)]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod account;
mod alloc_pages;
mod allocator;
mod batch;
mod buddy;
mod bulk;
mod config;
mod error;
mod fault;
mod free;
mod gfp;
mod handle;
mod list;
mod memmap;
mod mempool;
mod migratetype;
mod owner;
mod page;
mod pageblock;
mod pcp;
mod percpu;
mod platform;
mod policy;
mod queue;
mod reclaim;
mod setup;
mod shared;
mod shortage;
mod shrinker;
mod single;
mod slow;
mod source;
mod span;
mod special;
mod stats;
mod sync;
mod tenant;
mod units;
mod view;
mod watermark;
mod zone;
mod zonelist;

pub use account::{AccountError, AccountId, AccountLimits, AccountUsage};
pub use alloc_pages::{AllocPages, free_pages_bulk};
pub use allocator::PageAllocator;
pub use bulk::request::{BulkItem, BulkOutcome, BulkRequest, Effort};
pub use config::{Config, MemoryRegion, ReservedRange};
pub use error::ConfigError;
pub use fault::FaultConfig;
pub use gfp::{Gfp, NR_ZONE_KINDS, ZoneKind};
pub use handle::RawPage;
pub use list::{Listable, Owned, PageList};
pub use mempool::Mempool;
pub use migratetype::{MigrateType, NR_MIGRATE_TYPES};
pub use page::{Folio, FolioPages, Page};
pub use platform::{DirectMap, Platform};
pub use policy::{InterleaveCursor, NodeMask, Policy};
pub use reclaim::{ShrinkerGuard, TooManyShrinkers};
pub use shared::SharedPage;
pub use shortage::Shortage;
pub use shrinker::{MAX_NR_SHRINKERS, Shrinker};
pub use source::PageSource;
#[cfg(not(loom))]
pub use source::{OnceAllocator, Static, StaticAllocator};
pub use stats::VmStat;
pub use tenant::Account;
pub use units::{
    CpuId, MAX_NR_NODES, MAX_ORDER, NodeId, Order, OrderTooLarge, PAGE_SHIFT, PAGE_SIZE,
    PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER, PFN_BITS, Pfn, PhysAddr,
};
pub use view::{NR_PAGE_ORDERS, PcpInfo, ZoneInfo};
pub use watermark::Watermarks;
