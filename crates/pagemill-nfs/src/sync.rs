//! Atomics, under the names that the rest of the crate imports.

#[expect(clippy::disallowed_types, reason = "this is where the alias is")]
pub(crate) type AtomicBool = core::sync::atomic::AtomicBool;
#[expect(clippy::disallowed_types, reason = "this is where the alias is")]
pub(crate) type AtomicU64 = core::sync::atomic::AtomicU64;
pub(crate) use core::sync::atomic::Ordering;
