//! Bulk calls: many pages in one call, into a slice, a page vector, a page list or any other sink.

mod engine;

pub(crate) mod array;
pub(crate) mod complete;
pub(crate) mod list;
pub(crate) mod pfns;
pub(crate) mod request;
mod slots;
pub(crate) mod vec;
pub(crate) mod words;
