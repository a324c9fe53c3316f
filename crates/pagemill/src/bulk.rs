//! The bulk interface: many pages in one call, into a slice, a vector or onto a list.

mod engine;

pub(crate) mod array;
pub(crate) mod list;
pub(crate) mod request;
pub(crate) mod vec;
