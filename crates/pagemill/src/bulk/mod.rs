//! Bulk calls: many pages in one call, into a slice, a page vector, a page list or any other sink.

#[expect(unsafe_code, reason = "the list of a pinned CPU")]
mod engine;

#[expect(unsafe_code, reason = "page slots as words; batches that closures fill")]
pub(crate) mod array;
pub(crate) mod list;
#[expect(unsafe_code, reason = "frames become owning handles")]
pub(crate) mod request;
pub(crate) mod vec;
