//! Slow-path flags: the reasons to leave the hot paths. Poisoning, page owners, fault injection or tracing
//! is on, or a request waits for memory.
//!
//! The hot paths read this one word per call and leave for the slow path if it is not zero. A reason
//! that is absent costs nothing else.

use crate::base::sync::{AtomicU32, Ordering};

/// Reasons to leave the hot paths, one bit each.
#[derive(Debug)]
pub(crate) struct SlowPathFlags(AtomicU32);

/// Fault injection is on.
pub(crate) const FAULTS: u32 = 1 << 0;
/// Free pages are poisoned.
pub(crate) const POISON: u32 = 1 << 1;
/// Page owners are recorded.
pub(crate) const OWNERS: u32 = 1 << 2;
/// At least one request waits for memory and asks for a wake-up at the next free.
pub(crate) const WAITERS: u32 = 1 << 3;
/// Every page is traced.
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
        // Relaxed: calls in progress may still read the old word; the features allow for that.
        if on {
            self.0.fetch_or(reason, Ordering::Relaxed);
        } else {
            self.0.fetch_and(!reason, Ordering::Relaxed);
        }
    }

    /// Clears a reason and returns whether it was set.
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
