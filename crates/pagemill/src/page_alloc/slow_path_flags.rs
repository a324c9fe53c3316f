//! Whether allocation and free have anything unusual to do at the moment, as one word.
//!
//! The hot paths look at this word once a call and turn aside if it is not zero; so what is
//! switched off costs them nothing else.

use crate::base::sync::{AtomicU32, Ordering};

/// Reasons to leave the hot paths.
#[derive(Debug)]
pub(crate) struct SlowPathFlags(AtomicU32);

/// Some request may have to fail.
pub(crate) const FAULTS: u32 = 1 << 0;
/// Free pages carry a pattern.
pub(crate) const POISON: u32 = 1 << 1;
/// It is noted who holds each page.
pub(crate) const OWNERS: u32 = 1 << 2;
/// Somebody waits for memory, and wants to be told once that some was freed.
pub(crate) const WAITERS: u32 = 1 << 3;
/// Somebody watches every page.
pub(crate) const TRACE: u32 = 1 << 4;

impl SlowPathFlags {
    pub(crate) fn new(reasons: u32) -> Self {
        Self(AtomicU32::new(reasons))
    }

    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.get() != 0
    }

    #[inline]
    pub(crate) fn has(&self, reason: u32) -> bool {
        self.get() & reason != 0
    }

    pub(crate) fn set(&self, reason: u32, on: bool) {
        // Relaxed: calls under way may still see the old word; the features allow for that.
        if on {
            self.0.fetch_or(reason, Ordering::Relaxed);
        } else {
            self.0.fetch_and(!reason, Ordering::Relaxed);
        }
    }

    /// Takes a reason away and tells whether it was there.
    #[inline]
    pub(crate) fn take(&self, reason: u32) -> bool {
        // Relaxed: as in `set`.
        self.has(reason) && self.0.fetch_and(!reason, Ordering::Relaxed) & reason != 0
    }

    #[inline]
    fn get(&self) -> u32 {
        // Relaxed: as in `set`.
        self.0.load(Ordering::Relaxed)
    }
}
