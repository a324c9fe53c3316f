//! The allocator: fast path, slow path, free path, reclaim, setup and views.

#[expect(unsafe_code, reason = "the list of a pinned CPU; batches written in place")]
pub(crate) mod allocator;
#[expect(unsafe_code, reason = "the list of a pinned CPU")]
pub(crate) mod fast;
pub(crate) mod fault;
#[expect(unsafe_code, reason = "the list of a pinned CPU; batches written in place")]
pub(crate) mod free;
pub(crate) mod reclaim;
#[expect(unsafe_code, reason = "tables in the caller's memory")]
pub(crate) mod setup;
pub(crate) mod shrinker;
#[expect(unsafe_code, reason = "poison in frames that nobody owns")]
pub(crate) mod slow;
pub(crate) mod slow_path_flags;
pub(crate) mod view;
