//! Per-frame metadata: list links, share counts, page owners.

pub(crate) mod links;
pub(crate) mod page_owner;
