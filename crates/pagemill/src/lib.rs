//! A page allocator with a bulk interface, for kernels, hypervisors and processes.
#![doc = include_str!("../README.md")]
//!
//! # Types and calls
//! [`PageAllocator`] manages the page frames of a memory map: zones with watermarks, per-CPU lists of
//! free pages, migrate types, blocks of up to 4 MiB. Its handles own their frames: a [`Page`], a
//! [`Folio`] of several adjacent frames, a [`FrameRange`] of any number of them, a [`PageList`], a
//! counted [`SharedPage`]. One call allocates
//! many pages ([`alloc_pages_bulk`](AllocPages::alloc_pages_bulk),
//! [`alloc_pages_bulk_list`](AllocPages::alloc_pages_bulk_list)), and one call frees them
//! ([`release_pages`](AllocPages::release_pages), [`free_pages_bulk`]).
//!
//! These calls keep the contract of Linux's bulk allocator. [`fill`](AllocPages::fill) and
//! [`alloc_exactly`](AllocPages::alloc_exactly) are the short calls of a caller that needs all pages.
//! [`BulkRequest`] adds what users of that contract miss: all or nothing, blocks of any order, extents,
//! a node [`Policy`], an [`Account`] to charge, and waiting that can be stopped. [`Shrinker`]s return
//! memory under pressure; a [`Mempool`] serves requests that must not fail.
//!
//! Names, flags and contracts are Linux's. Where the behaviour departs from Linux, the documentation
//! says "Differs:" and why.
//!
//! # Getting started
//! 1. Implement [`Platform`] for the machine: its CPUs, how to keep interrupts off, how to zero a
//!    frame. Where frames can be reached through pointers, implement [`DirectMap`] too.
//! 2. Describe the memory in a [`Config`], call [`PageAllocator::metadata_layout`] for the size of the
//!    metadata, and build the allocator with [`PageAllocator::new`].
//! 3. Reach it through a reference, or through a static that [`static_allocator`] declares, which
//!    makes a page handle one word.
//! 4. `use pagemill::AllocPages` to call the allocation functions.
//!
//! # Invariants
//! SAFETY comments cite these invariants by name. Each is stated in full in the file named.
//!
//! - `lock-excludes`, `once-filled` (`sync.rs`), `claim-excludes` (`claim.rs`): exclusive access
//!   to a locked, once-written or claimed value.
//! - `pcp-init`, `pcp-room` (`pcp.rs`), `vec-init`, `vec-class` (`page_vec.rs`), `stack-init`
//!   (`stack.rs`): which entries are initialised, and with what.
//! - `block-filed` (`buddy.rs`): which list a pageblock with free frames is on.
//! - `page-word`, `full-slots` (`page.rs`): where a slot for a page is exactly one word, and where
//!   all slots hold pages of one class.
//! - `account-alive` (`table.rs`): when the entry of an account may be reused.
//! - `ref-static` (`sync.rs`): references that threads exchange are null or static.
//! - `carved-once` (`setup.rs`): each byte of the metadata memory belongs to one table.
//! - `one-list`, `list-links` (`list.rs`): how the pages of a list are linked.
//! - `shared-count` (`shared.rs`): how many owners a shared frame has.
//! - `frag-count`, `frag-disjoint` (`fragment.rs`): who owns which bytes of a page in pieces.
//! - `ring-claim`, `ring-turn` (`ring.rs`): who may use which slot of a ring.
//! - `handle-unique`: a frame in use has exactly one owner: a handle, code that holds its [`RawPage`], or
//!   code that holds its number. In the last case, the frame has no [`RawPage`]. Frames in per-CPU lists
//!   and zones have no [`RawPage`] outside the allocator. Safe calls preserve this; [`Page::from_raw`] and
//!   the other unsafe constructors rely on their callers.
//!
//! [`Account`]: accounts::Account
//! [`FrameRange`]: contig::FrameRange
//! [`DirectMap`]: machine::DirectMap
//! [`Mempool`]: reserves::Mempool
//! [`Policy`]: policy::Policy
//! [`RawPage`]: handles::RawPage
//! [`SharedPage`]: handles::SharedPage
//! [`Shrinker`]: reclaim::Shrinker
//! [`free_pages_bulk`]: handles::free_pages_bulk

#![cfg_attr(docsrs, feature(doc_cfg))]
#![no_std]
#![deny(unsafe_code)]

#[cfg(not(all(target_pointer_width = "64", target_has_atomic = "64")))]
compile_error!(
    "pagemill needs a target with 64-bit pointers and 64-bit atomic operations, such as \
     x86_64-unknown-none, aarch64-unknown-none or riscv64gc-unknown-none-elf; 32-bit targets are not \
     supported"
);

#[cfg(any(test, feature = "alloc"))]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod account;
#[expect(unsafe_code, reason = "unsafe methods: frames that are known by their numbers")]
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

/// A cell that is written once, for values in statics of `no_std` code.
#[cfg(not(loom))]
pub mod sync {
    pub use crate::base::sync::OnceCell;
}

/// Validation: the values that [`PageAllocator::validate`] compares, and the error for two that differ.
pub mod validate {
    pub use crate::base::book::{Book, BookError, Place};
}

/// Accounts: limits on the pages that a user may hold, and the charges against them.
pub mod accounts {
    pub use crate::account::table::{
        AccountError, AccountId, AccountInfo, AccountLimits, AccountUsage,
    };
    pub use crate::page::account::Account;
}

/// Contiguous ranges: any number of adjacent frames as one handle, the requests for them, and their
/// errors.
pub mod contig {
    pub use crate::page::frame_range::{FrameRange, RangePages};
    pub use crate::page_alloc::contig::{ContigError, ContigRequest};
}

/// Debugging: trace events, and the configuration of fault injection.
pub mod debug {
    pub use crate::page_alloc::fault::FaultConfig;
    pub use crate::platform::trace::Event;
}

/// Fragments: pieces of one page or folio, each with an owner of its own.
pub mod fragment {
    pub use crate::page::fragment::{Carver, Fragment, OwnsBytes};
}

/// Zone kinds and migrate types, which the flags of a request ([`Gfp`]) select.
pub mod gfp {
    pub use crate::base::gfp::{NR_ZONE_KINDS, ZoneKind};
    pub use crate::base::migratetype::{MigrateType, NR_MIGRATE_TYPES};
}

/// Less common handles: shared pages, page words, the single pages of a folio and of a vector; the traits
/// of all handles; and the errors for words and frame numbers that name no block.
pub mod handles {
    pub use crate::alloc_pages::free_pages_bulk;
    pub use crate::base::raw_page::{InvalidRawPage, RawPage};
    pub use crate::page::owned::{Listable, Owned};
    pub use crate::page::page::FolioPages;
    pub use crate::page::page_vec::PageVecIter;
    pub use crate::page::shared::SharedPage;
    pub use crate::page_alloc::by_pfn::PfnError;
}

/// Optional parts of a [`Platform`]: the direct map, claims on the lists of a CPU, and closing the lists
/// of an abandoned allocator. Claims on a CPU for data of a user of the allocator.
pub mod machine {
    pub use crate::page_alloc::allocator::ListCloser;
    pub use crate::page_alloc::cpu_claim::CpuClaim;
    pub use crate::platform::claim::{Claim, Claimed};
    pub use crate::platform::platform::DirectMap;
}

/// Policies: the nodes that serve a request, and in which order.
pub mod policy {
    pub use crate::base::policy::{InterleaveCursor, NodeMask, Policy};
}

/// Shrinkers: caches that return memory under pressure, registered by
/// [`PageAllocator::register_shrinker`].
pub mod reclaim {
    pub use crate::page_alloc::reclaim::{ShrinkerGuard, TooManyShrinkers};
    pub use crate::page_alloc::shrinker::{MAX_NR_SHRINKERS, ShrinkControl, Shrinker};
}

/// Building blocks of page pools: handles that return to a pool on drop, and the ring they return
/// through.
pub mod recycling {
    pub use crate::recycle::returning::{Returning, TakeBack};
    #[cfg(feature = "alloc")]
    pub use crate::recycle::ring::{Ring, RingDrain};
    pub use crate::recycle::stack::Stack;
}

/// Effort, sinks and outcome of a [`BulkRequest`], and the error of [`AllocPages::fill`] and
/// [`AllocPages::alloc_exactly`].
pub mod request {
    pub use crate::bulk::complete::BulkError;
    pub use crate::bulk::request::{BulkItem, BulkOutcome, Effort};
}

/// Reserves of pages for one user: a local one without a lock, and a mempool.
pub mod reserves {
    pub use crate::reserve::local::LocalPages;
    pub use crate::reserve::mempool::Mempool;
}

/// Memory regions and reserved ranges of a [`Config`], and the error for an invalid one.
pub mod setup {
    pub use crate::config::config::{MemoryRegion, ReservedRange};
    pub use crate::config::error::ConfigError;
}

/// How a handle reaches its allocator: by reference or through a static.
pub mod source {
    pub use crate::page::source::PageSource;
    #[cfg(not(loom))]
    pub use crate::page::source::{OnceAllocator, Static, StaticAllocator};
}

/// State of an allocator: its event counters, its zones with their watermarks, and its per-CPU lists.
pub mod stats {
    pub use crate::base::stats::VmStat;
    pub use crate::page_alloc::view::{NR_PAGE_ORDERS, PcpInfo, ShardInfo, ZoneInfo};
    pub use crate::zone::watermark::Watermarks;
}

/// Units: frame numbers, physical addresses, CPUs and nodes, with the page size and other limits.
pub mod units {
    pub use crate::base::units::{
        CpuId, MAX_NR_NODES, MAX_ORDER, NodeId, OrderTooLarge, PAGE_SHIFT, PAGE_SIZE,
        PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER, PFN_BITS, Pfn, PhysAddr,
    };
}

pub use alloc_pages::AllocPages;
pub use base::gfp::Gfp;
pub use base::shortage::Shortage;
pub use base::units::Order;
pub use bulk::request::BulkRequest;
pub use config::config::Config;
pub use page::list::PageList;
pub use page::page::{Folio, Page};
pub use page::page_vec::PageVec;
pub use page_alloc::allocator::PageAllocator;
pub use platform::platform::Platform;
