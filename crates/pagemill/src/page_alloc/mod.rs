//! The allocator: fast path, slow path, free path, reclaim, setup and views.

pub(crate) mod alloc_context;
#[expect(unsafe_code, reason = "the metadata memory; frames that nobody owns")]
pub(crate) mod allocator;
pub(crate) mod by_pfn;
mod by_word;
pub(crate) mod contig;
pub(crate) mod cpu_claim;
pub(crate) mod fast;
pub(crate) mod fault;
pub(crate) mod free;
pub(crate) mod hooks;
pub(crate) mod reclaim;
#[expect(unsafe_code, reason = "tables in the caller's memory")]
pub(crate) mod setup;
pub(crate) mod shrinker;
pub(crate) mod slow;
pub(crate) mod slow_path_flags;
pub(crate) mod validate;
pub(crate) mod view;
pub(crate) mod zone_walk;
