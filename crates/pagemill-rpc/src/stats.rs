//! Counters of a server, its procedures and its page refills; the addresses that have connections.

use core::net::IpAddr;
use core::time::Duration;

use crate::wire::sync::{AtomicU64, Ordering};

/// A counter that only grows.
///
/// Relaxed throughout: it orders nothing else.
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

    /// Adds one and returns the previous value.
    #[inline]
    pub fn bump(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns the value.
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

/// Counters of the refills of request pages.
#[derive(Debug, Default)]
pub struct RefillStats {
    /// Calls to the allocator.
    pub calls: Counter,
    /// Pages that they returned.
    pub pages: Counter,
    /// Bulk calls for several pages that returned only one.
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

/// Number of latency classes. Class `i` counts calls of less than 2^i microseconds that class `i - 1`
/// does not count; the last class counts all longer ones.
pub const NR_LATENCY_CLASSES: usize = 25;

/// Counters of one procedure.
#[derive(Debug, Default)]
pub struct ProcedureStats {
    /// Calls with results in the reply.
    pub served: Counter,
    /// Calls whose reply had a status other than success, and dropped calls.
    pub failed: Counter,
    /// Total time of the calls, in microseconds.
    pub busy_us: Counter,
    /// Calls by duration.
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

    /// Returns an upper bound in microseconds for the time that `share` of the calls did not exceed.
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

/// An address that has connections to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientInfo {
    /// The address; an IPv4 address is never mapped to IPv6.
    pub addr: IpAddr,
    /// Its connections.
    pub nr_connections: usize,
    /// Whether no program knew the address when it connected.
    pub is_stranger: bool,
}

/// Counters of a server, besides those of its procedures.
#[derive(Debug, Default)]
pub struct Stats {
    /// Calls that could be parsed, of any program.
    pub calls: Counter,
    /// Calls whose header, program, version or procedure was refused.
    pub refused: Counter,
    /// Messages without a reply because they were too short or not calls.
    pub ignored: Counter,
    /// Refills of request pages.
    pub refills: RefillStats,
    /// Connections that were accepted.
    pub accepted: Counter,
    /// Connections that were refused because there were too many.
    pub turned_away: Counter,
    /// Connections that were closed because others needed their place, memory or descriptor.
    pub evicted: Counter,
    /// Connections that were closed because their client exceeded a timeout.
    pub timed_out: Counter,
    /// Connections that were closed because of invalid data from their client.
    pub misbehaved: Counter,
    /// Panics in procedures and elsewhere in the server's threads.
    pub panicked: Counter,
    /// Failures to accept a connection for lack of file descriptors or memory.
    pub accept_failures: Counter,
    /// Times that a connection had to wait for memory.
    pub parked: Counter,
    /// Replies that did not fit into the socket at once.
    pub backlogged: Counter,
    /// Bytes received.
    pub received_bytes: Counter,
    /// Received bytes that were spliced to a file and did not pass through pages.
    pub spliced_bytes: Counter,
    /// Bytes sent.
    pub sent_bytes: Counter,
}
