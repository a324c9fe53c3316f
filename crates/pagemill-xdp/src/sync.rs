//! Atomics, under names that say where they may be written.

pub(crate) use core::sync::atomic::Ordering;

#[expect(clippy::disallowed_types, reason = "the alias that all others go through")]
pub(crate) type AtomicU32 = core::sync::atomic::AtomicU32;
