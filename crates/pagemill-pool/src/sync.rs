//! Atomics in two builds: the real ones, and loom's for model checking.

#[cfg(not(loom))]
mod imp {
    pub(crate) use core::sync::atomic::{Ordering, fence};

    #[expect(clippy::disallowed_types, reason = "the alias that all others go through")]
    pub(crate) type AtomicBool = core::sync::atomic::AtomicBool;
    #[expect(clippy::disallowed_types, reason = "the alias that all others go through")]
    pub(crate) type AtomicU32 = core::sync::atomic::AtomicU32;
    #[expect(clippy::disallowed_types, reason = "the alias that all others go through")]
    pub(crate) type AtomicU64 = core::sync::atomic::AtomicU64;
}

#[cfg(loom)]
mod imp {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
}

pub(crate) use imp::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
