//! What a server counts.

use core::time::Duration;

use crate::wire::sync::{AtomicU64, Ordering};

/// A number that only grows, and is read by whoever is curious.
///
/// Relaxed throughout: nothing else is ordered by it.
#[derive(Debug)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Starts at zero.
    #[must_use]
    pub fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Adds one and returns what it was.
    #[inline]
    pub fn bump(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns the number.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Default for Counter {
    fn default() -> Self {
        Self::new()
    }
}

/// What refills of request pages came to.
#[derive(Debug, Default)]
pub struct RefillStats {
    /// Calls to the allocator.
    pub calls: Counter,
    /// Pages that they gave.
    pub pages: Counter,
    /// Bulk calls for several pages that gave just one.
    pub single_fallbacks: Counter,
    /// Times that a thread waited for pages.
    pub waits: Counter,
}

impl RefillStats {
    #[inline]
    pub(crate) fn called(&self, nr_calls: usize, new: usize) {
        self.calls.add(nr_calls as u64);
        self.pages.add(new as u64);
    }

    #[cold]
    pub(crate) fn fell_back(&self) {
        self.single_fallbacks.bump();
    }

    #[cold]
    pub(crate) fn waited(&self) {
        self.waits.bump();
    }
}

/// How many classes of latency there are: class `i` counts calls of less than 2^i microseconds
/// that class `i - 1` does not count, the last one all others.
pub const NR_LATENCY_CLASSES: usize = 25;

/// What is counted of one procedure.
#[derive(Debug, Default)]
pub struct ProcedureStats {
    /// Calls that were answered with results.
    pub served: Counter,
    /// Calls that were answered with a status other than success, or dropped.
    pub failed: Counter,
    /// Microseconds that the calls took, together.
    pub busy_us: Counter,
    /// Calls by the time that they took.
    pub latency: [Counter; NR_LATENCY_CLASSES],
}

impl ProcedureStats {
    pub(crate) fn ran(&self, took: Duration, ok: bool) {
        if ok { &self.served } else { &self.failed }.bump();
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.busy_us.add(us);
        let class = (u64::BITS - us.leading_zeros()) as usize;
        self.latency[class.min(NR_LATENCY_CLASSES - 1)].bump();
    }

    /// Returns a time in microseconds that `share` of the calls did not exceed, as an upper bound.
    #[must_use]
    pub fn quantile_us(&self, share: f64) -> u64 {
        let counts = self.latency.each_ref().map(Counter::value);
        let all: u64 = counts.iter().sum();
        let mut seen = 0;
        for (class, count) in counts.iter().enumerate() {
            seen += count;
            if seen as f64 >= share * all as f64 {
                return 1 << class;
            }
        }
        0
    }
}

/// What a server counts, beside its procedures.
#[derive(Debug, Default)]
pub struct Stats {
    /// Calls that could be read, of any program.
    pub calls: Counter,
    /// Calls whose header, program, version or procedure was refused.
    pub refused: Counter,
    /// Messages that were no calls or too short, and were not answered.
    pub ignored: Counter,
    /// Refills of request pages.
    pub refills: RefillStats,
    /// Connections that were accepted.
    pub accepted: Counter,
    /// Connections that were turned away because there were too many.
    pub turned_away: Counter,
    /// Connections that were closed because others needed their place, memory or descriptor.
    pub evicted: Counter,
    /// Connections that were closed because their client did not go on in time.
    pub timed_out: Counter,
    /// Connections that were closed because of what their client sent.
    pub misbehaved: Counter,
    /// Panics in procedures and elsewhere in the server's threads.
    pub panicked: Counter,
    /// Times that no connection could be accepted for lack of file descriptors or memory.
    pub accept_failures: Counter,
    /// Times that a connection had to wait until others gave pages back.
    pub parked: Counter,
    /// Replies that did not fit into the socket at once.
    pub backlogged: Counter,
    /// Bytes received.
    pub received_bytes: Counter,
    /// Those of them that were spliced, for a file, and did not go through pages.
    pub spliced_bytes: Counter,
    /// Bytes sent.
    pub sent_bytes: Counter,
}
