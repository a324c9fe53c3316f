//! Per-frame metadata: list links, share counts, page owners.

#[expect(unsafe_code, reason = "tables in the caller's memory")]
pub(crate) mod links;
#[expect(unsafe_code, reason = "a call site behind a pointer")]
pub(crate) mod page_owner;
