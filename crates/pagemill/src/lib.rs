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

#[cfg(any(test, feature = "alloc"))]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod account;
mod alloc_pages;
mod allocator;
mod batch;
mod buddy;
mod bulk;
mod claim;
mod config;
mod division;
mod error;
mod fault;
mod fragment;
mod free;
mod gfp;
mod handle;
mod list;
mod local;
mod memmap;
mod mempool;
mod migratetype;
mod owner;
mod page;
mod page_vec;
mod pageblock;
mod pcp;
mod percpu;
mod platform;
mod policy;
mod put;
mod queue;
mod reclaim;
mod reserved;
mod returning;
#[cfg(feature = "alloc")]
mod ring;
mod route;
mod setup;
mod shard;
mod shared;
mod shortage;
mod shrinker;
mod single;
mod slot;
mod slow;
mod source;
mod span;
mod special;
mod stack;
mod stats;
mod sync;
mod tenant;
mod trace;
mod units;
mod view;
mod watermark;
mod zone;
mod zonelist;

pub use account::{AccountError, AccountId, AccountLimits, AccountUsage};
pub use alloc_pages::{AllocPages, free_pages_bulk};
pub use allocator::{ListCloser, PageAllocator};
pub use bulk::request::{BulkItem, BulkOutcome, BulkRequest, Effort};
pub use claim::{Claim, Claimed};
pub use config::{Config, MemoryRegion, ReservedRange};
pub use error::ConfigError;
pub use fault::FaultConfig;
pub use fragment::{Carver, Fragment, OwnsBytes};
pub use gfp::{Gfp, NR_ZONE_KINDS, ZoneKind};
pub use handle::RawPage;
pub use list::{Listable, Owned, PageList};
pub use local::LocalPages;
pub use mempool::Mempool;
pub use migratetype::{MigrateType, NR_MIGRATE_TYPES};
pub use page::{Folio, FolioPages, Page};
pub use page_vec::PageVec;
pub use platform::{DirectMap, Platform};
pub use policy::{InterleaveCursor, NodeMask, Policy};
pub use reclaim::{ShrinkerGuard, TooManyShrinkers};
pub use returning::{Returning, TakeBack};
#[cfg(feature = "alloc")]
pub use ring::{Ring, RingDrain};
pub use shared::SharedPage;
pub use shortage::Shortage;
pub use shrinker::{MAX_NR_SHRINKERS, ShrinkControl, Shrinker};
pub use source::PageSource;
#[cfg(not(loom))]
pub use source::{OnceAllocator, Static, StaticAllocator};
pub use stack::Stack;
pub use stats::VmStat;
pub use tenant::Account;
pub use trace::Event;
pub use units::{
    CpuId, MAX_NR_NODES, MAX_ORDER, NodeId, Order, OrderTooLarge, PAGE_SHIFT, PAGE_SIZE,
    PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER, PFN_BITS, Pfn, PhysAddr,
};
pub use view::{NR_PAGE_ORDERS, PcpInfo, ZoneInfo};
pub use watermark::Watermarks;
