//! Bulk calls: many pages in one call, into a slice, a page vector, a page list or any other sink.

#[expect(unsafe_code, reason = "the list of a pinned CPU; batches written in place")]
mod engine;

#[expect(unsafe_code, reason = "slots that are filled before the caller sees them")]
pub(crate) mod array;
pub(crate) mod list;
#[expect(unsafe_code, reason = "frames become owning handles")]
pub(crate) mod request;
pub(crate) mod vec;
