//! Owning handles: pages, folios, frame ranges, shared pages, page lists, page vectors, fragments, accounts.

pub(crate) mod account;
#[expect(unsafe_code, reason = "pieces of owned frames")]
pub(crate) mod fragment;
#[expect(unsafe_code, reason = "handles made of raw frames; bytes of owned frames")]
pub(crate) mod frame_range;
pub(crate) mod list;
pub(crate) mod owned;
#[expect(unsafe_code, reason = "handles taken apart; bytes of owned frames")]
pub(crate) mod page;
#[expect(unsafe_code, reason = "an array whose first entries are initialised")]
pub(crate) mod page_vec;
pub(crate) mod shared;
#[expect(unsafe_code, reason = "an unsafe trait: the allocator of a page")]
pub(crate) mod source;
