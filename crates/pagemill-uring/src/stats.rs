//! Counters of a receive ring.

/// What a receive ring has done, and how many pages are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RingStats {
    /// Whether the kernel receives many pages for one completion (bundles, Linux 6.10). Otherwise each
    /// page is a completion, which costs half as much CPU time again.
    pub has_bundles: bool,
    /// Bytes received.
    pub bytes_received: u64,
    /// Pages received.
    pub pages_received: u64,
    /// Completions that brought pages.
    pub nr_deliveries: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Number of times that a connection found no page on the buffer ring (`ENOBUFS`), and waited.
    pub nr_starved: u64,
    /// Number of times that a connection was paused, because too many of its pages were held.
    pub nr_paused: u64,
    /// Number of times that the ring gave the kernel no pages, because too many were held.
    pub nr_withheld: u64,
    /// Number of times that the supply had fewer pages than were wanted.
    pub nr_short: u64,
    /// Number of times that receive and accept requests were started, the first time included.
    pub nr_armed: u64,
    /// Number of times that the completion queue was too short.
    pub nr_overflows: u64,
    /// New connections that were closed at once, because the ring has no place for them.
    pub nr_refused: u64,
    /// Pages that the kernel can receive into now.
    pub nr_posted: usize,
    /// Received pages that are held now: by the user, in events, or waiting to be sent.
    pub nr_held: usize,
    /// Connections and listeners now.
    pub nr_connections: usize,
}
