//! Owning handles: pages, folios, shared pages, page lists, page vectors, fragments, accounts.

pub(crate) mod account;
#[expect(unsafe_code, reason = "pieces of owned frames")]
pub(crate) mod fragment;
#[expect(unsafe_code, reason = "list links become owning handles")]
pub(crate) mod list;
#[expect(unsafe_code, reason = "handles taken apart; bytes of owned frames")]
pub(crate) mod page;
#[expect(unsafe_code, reason = "an array whose first entries are initialised")]
pub(crate) mod page_vec;
#[expect(unsafe_code, reason = "handles taken apart; bytes of owned frames")]
pub(crate) mod shared;
#[expect(unsafe_code, reason = "an unsafe trait: the allocator of a page")]
pub(crate) mod source;
