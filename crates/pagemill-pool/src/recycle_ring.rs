//! Recycle ring: where all threads return pages to a pool; counts pages in flight and handles overflow.

use arrayvec::ArrayVec;
use pagemill::recycling::{Ring, RingDrain};

use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};

/// The shared side of a pool: the ring, the in-flight counters, and the flags that leave the hot path.
///
/// Two counters, of pages taken and of pages released, give the number in flight, so that both sides
/// write to different cache lines. The difference is a signed number, so it does not matter that both
/// counters wrap.
///
/// `ring-emptied`: once the pool has ended and no thread is returning a page, the ring is empty. A
/// thread that puts a value into the ring checks afterwards whether the pool has ended in the meantime,
/// and if so empties the ring ([`scrub`](Self::scrub)). The owner empties the ring when it ends the
/// pool. A fence on each side guarantees that one of the two finds the value.
#[derive(Debug)]
pub(crate) struct RecycleRing<T> {
    ring: Ring<T>,
    /// Flags that make a returned page leave the hot path; zero while there are none.
    slow_path_flags: AtomicU32,
    /// Number of pages taken from the page allocator; written only by the owner.
    hold: AtomicU32,
    released: Released,
}

/// What returning threads write when a page leaves the pool, away from what they only read.
#[derive(Debug)]
#[repr(align(128))]
struct Released {
    count: AtomicU32,
    ring_full: AtomicU64,
    refcnt: AtomicU64,
}

/// The pool has ended: returned pages go to the page allocator.
pub(crate) const CLOSING: u32 = 1 << 0;
/// The holder of each page is recorded.
pub(crate) const TRACKED: u32 = 1 << 1;
/// Some page in use came from the reserve.
pub(crate) const RESERVE: u32 = 1 << 2;

impl<T> RecycleRing<T> {
    pub(crate) fn new(ring_size: usize) -> Self {
        Self {
            ring: Ring::new(ring_size),
            slow_path_flags: AtomicU32::new(0),
            hold: AtomicU32::new(0),
            released: Released {
                count: AtomicU32::new(0),
                ring_full: AtomicU64::new(0),
                refcnt: AtomicU64::new(0),
            },
        }
    }

    #[inline]
    pub(crate) fn slow_path_flags(&self) -> u32 {
        // Relaxed: a thread that still sees the old word acts as if it had returned the page earlier.
        // `has_closed` checks again whether the pool has ended.
        self.slow_path_flags.load(Ordering::Relaxed)
    }

    /// Ends the pool; the caller must empty the ring afterwards.
    pub(crate) fn close(&self) {
        // Release pairs with the Acquire in `has_closed`: the owner no longer uses the ring.
        self.slow_path_flags.fetch_or(CLOSING, Ordering::Release);
        // Pairs with the fence in `has_closed`.
        fence(Ordering::SeqCst);
    }

    /// Returns whether the pool has ended. Called after a value was put into the ring; if true, the
    /// caller must empty the ring.
    #[inline]
    pub(crate) fn has_closed(&self) -> bool {
        // Pairs with the fences in `close` and `scrub`: either this thread sees that the pool has ended
        // and takes over the ring, or the thread that has the ring sees the value.
        fence(Ordering::SeqCst);
        self.slow_path_flags.load(Ordering::Acquire) & CLOSING != 0
    }

    /// Empties the ring of a pool that has ended, `N` values at a time. Returns early only if another
    /// thread is doing so, which checks the ring again before it stops.
    pub(crate) fn scrub<const N: usize>(&self, mut give_up: impl FnMut(ArrayVec<T, N>)) {
        while let Some(drain) = self.ring.drain() {
            let values: ArrayVec<T, N> = drain.take(N).collect();
            if values.is_empty() {
                // Pairs with the fence in `has_closed`: a value that came while this thread held the
                // ring is seen here, or its producer finds the ring free.
                fence(Ordering::SeqCst);
                if !self.ring.is_ready() {
                    return;
                }
            }
            give_up(values);
        }
    }

    pub(crate) fn set_special(&self, reason: u32) {
        // Relaxed: the owner sets all flags except CLOSING, before it hands out the page that they are
        // about.
        self.slow_path_flags.fetch_or(reason, Ordering::Relaxed);
    }

    pub(crate) fn clear_special(&self, reason: u32) {
        // Relaxed: as in `slow_path_flags`.
        self.slow_path_flags.fetch_and(!reason, Ordering::Relaxed);
    }

    /// Puts a value into the ring; returns it, and counts an overflow, if there is no room.
    #[inline]
    pub(crate) fn push(&self, value: T) -> Result<(), T> {
        self.ring.push(value).inspect_err(|_| self.count_ring_full())
    }

    /// Puts up to `nr` values into the ring at once, and returns how many.
    #[inline]
    pub(crate) fn push_bulk(&self, nr: usize, values: &mut impl Iterator<Item = T>) -> usize {
        self.ring.push_bulk(nr, values)
    }

    /// Returns how many values are in the ring or being added; a snapshot.
    pub(crate) fn nr_in_ring(&self) -> usize {
        self.ring.len()
    }

    /// Returns whether the ring is empty.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Returns a drain that takes values out of the ring; there is one consumer at a time.
    #[inline]
    pub(crate) fn drain(&self) -> Option<RingDrain<'_, T>> {
        self.ring.drain()
    }

    /// Counts `nr` pages that the owner took from the page allocator.
    pub(crate) fn hold(&self, nr: u32) {
        // Relaxed: there is one writer. A page is released after it was handed out, by means that order
        // the two.
        let hold = self.hold.load(Ordering::Relaxed);
        self.hold.store(hold.wrapping_add(nr), Ordering::Relaxed);
    }

    /// Counts `nr` pages that left the pool.
    pub(crate) fn release(&self, nr: u32) {
        // Release pairs with the Acquire load in `inflight`: a thread that sees no page in flight sees
        // all that was done with the pages.
        self.released.count.fetch_add(nr, Ordering::Release);
    }

    /// Returns the number of pages in flight: taken from the page allocator and not released to it.
    ///
    /// # Source
    /// `linux-6.12` `net/core/page_pool.c` `page_pool_inflight`
    pub(crate) fn inflight(&self) -> i32 {
        // Acquire pairs with the Release in `release`. Loaded first, so that the count of taken pages
        // is not less than that of released ones.
        let released = self.released.count.load(Ordering::Acquire);
        // Relaxed: as in `hold`.
        let hold = self.hold.load(Ordering::Relaxed);
        hold.wrapping_sub(released).cast_signed()
    }

    pub(crate) fn count_refcnt(&self) {
        // Relaxed: a statistic.
        self.released.refcnt.fetch_add(1, Ordering::Relaxed);
    }

    #[cold]
    pub(crate) fn count_ring_full(&self) {
        // Relaxed: a statistic.
        self.released.ring_full.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many values were put into the ring, how many times it was full, and how many pages
    /// were released because they could not be recycled.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        // Relaxed, both: statistics.
        let ring_full = self.released.ring_full.load(Ordering::Relaxed);
        let refcnt = self.released.refcnt.load(Ordering::Relaxed);
        (self.ring.nr_pushed(), ring_full, refcnt)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn counters_may_wrap() {
        let ring = RecycleRing::<()>::new(1);
        for _ in 0..5 {
            ring.hold(u32::MAX / 2);
            ring.release(u32::MAX / 2);
        }
        assert_eq!(ring.inflight(), 0);
        ring.hold(7);
        assert_eq!(ring.inflight(), 7);
        ring.release(8);
        assert_eq!(ring.inflight(), -1, "one too many shows");
    }

    #[test]
    fn a_full_ring_is_counted() {
        let ring = RecycleRing::new(3);
        assert_eq!(ring.push_bulk(10, &mut (0..)), 3);
        assert_eq!(ring.push(10), Err(10));
        assert_eq!(ring.counts(), (3, 1, 0));
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use alloc::sync::Arc;
    use alloc::vec::Vec;

    use loom::thread;

    use super::*;

    /// Releases the values in the ring, as the pool does.
    fn scrub(ring: &RecycleRing<u32>, freed: &mut Vec<u32>) {
        ring.scrub::<4>(|values| {
            ring.release(u32::try_from(values.len()).unwrap());
            freed.extend(values);
        });
    }

    /// Returns a value as a returner does.
    fn put(ring: &RecycleRing<u32>, value: u32) -> Vec<u32> {
        let mut freed = Vec::new();
        let pushed =
            if ring.slow_path_flags() & CLOSING != 0 { Err(value) } else { ring.push(value) };
        match pushed {
            Ok(()) if ring.has_closed() => scrub(ring, &mut freed),
            Ok(()) => {}
            Err(value) => {
                freed.push(value);
                ring.release(1);
            }
        }
        freed
    }

    /// No thread looks at the ring later: the pool is in a static, and its owner is gone.
    #[test]
    fn pages_that_come_back_during_a_shutdown_are_all_found() {
        for ring_size in [1, 2] {
            loom::model(move || {
                let ring = Arc::new(RecycleRing::new(ring_size));
                ring.hold(2);
                let threads = [1, 2].map(|value| {
                    let ring = Arc::clone(&ring);
                    thread::spawn(move || put(&ring, value))
                });
                ring.close();
                let mut freed = Vec::new();
                scrub(&ring, &mut freed);
                assert!((0..=2).contains(&ring.inflight()));
                for thread in threads {
                    freed.extend(thread.join().unwrap());
                }
                freed.sort_unstable();
                assert_eq!((freed, ring.inflight()), (Vec::from([1, 2]), 0));
            });
        }
    }
}
