//! Counters of received pages that users hold, for each connection and for the whole ring.

use alloc::sync::Arc;

use crate::sync::{AtomicUsize, Ordering};

/// Pages that are held, of one connection; the counter of the whole ring counts them too.
#[derive(Debug)]
pub(crate) struct Held {
    nr: AtomicUsize,
    all: Arc<AtomicUsize>,
}

impl Held {
    /// Makes the counter of a connection of the ring that `all` counts for.
    pub(crate) fn new(all: &Arc<AtomicUsize>) -> Arc<Self> {
        Arc::new(Self { nr: AtomicUsize::new(0), all: all.clone() })
    }

    /// Returns how many pages are held.
    #[inline]
    pub(crate) fn nr(&self) -> usize {
        // Relaxed: a limit that is noticed a moment later is noticed at the next turn.
        self.nr.load(Ordering::Relaxed)
    }
}

/// Some held pages; dropping it takes them off the counters, on any thread.
#[derive(Debug)]
pub(crate) struct Lease {
    held: Arc<Held>,
    nr: usize,
}

impl Lease {
    /// Counts `nr` more pages.
    #[inline]
    pub(crate) fn new(held: &Arc<Held>, nr: usize) -> Self {
        // Relaxed, here and below: the counters order no other data.
        held.nr.fetch_add(nr, Ordering::Relaxed);
        held.all.fetch_add(nr, Ordering::Relaxed);
        Self { held: held.clone(), nr }
    }
}

impl Drop for Lease {
    #[inline]
    fn drop(&mut self) {
        self.held.nr.fetch_sub(self.nr, Ordering::Relaxed);
        self.held.all.fetch_sub(self.nr, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_counts_in_both_counters_until_it_is_dropped() {
        let all = Arc::new(AtomicUsize::new(0));
        let (one, other) = (Held::new(&all), Held::new(&all));
        let (first, second) = (Lease::new(&one, 3), Lease::new(&other, 4));
        assert_eq!((one.nr(), other.nr(), all.load(Ordering::Relaxed)), (3, 4, 7));
        std::thread::spawn(move || drop(first)).join().unwrap();
        assert_eq!((one.nr(), other.nr(), all.load(Ordering::Relaxed)), (0, 4, 4));
        drop(second);
        assert_eq!((other.nr(), all.load(Ordering::Relaxed)), (0, 0));
    }
}
