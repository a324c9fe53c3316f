//! Atomics, under the names that the rest of the crate imports.

pub(crate) use core::sync::atomic::{AtomicU16, Ordering};

#[expect(clippy::disallowed_types, reason = "the alias that all others go through")]
pub(crate) type AtomicUsize = core::sync::atomic::AtomicUsize;
