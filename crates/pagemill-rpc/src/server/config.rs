//! Server configuration: threads, connections, memory, timeouts, refill; checked once at start.

use core::time::Duration;

use pagemill::units::PAGE_SIZE;

use crate::dispatch::reply_cache::ReplyCacheLimits;
use crate::rqst::pages::Refill;
use crate::rqst::rqst::{MAX_PAYLOAD_BYTES, OVERHEAD_BYTES, nr_request_pages};
use crate::wire::error::ConfigError;

/// Maximum number of worker threads.
pub const MAX_THREADS: usize = 1024;

/// A server's configuration; start from [`ServerConfig::default`].
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct ServerConfig {
    /// Number of worker threads.
    pub nr_threads: usize,
    /// Maximum bytes of data in a call or reply: what a file server announces as `rtmax` and `wtmax`.
    pub max_payload_bytes: usize,
    /// Maximum number of connections.
    pub max_connections: usize,
    /// Maximum bytes of pages in incomplete calls and in replies that clients have not read.
    ///
    /// A connection that needs more waits. Among waiting connections, the client that holds least is
    /// served first. A client is an IPv4 address, an IPv6 network of 64 bits, or all addresses that no
    /// program knows. Replies of calls in progress may exceed the limit.
    pub parked_bytes: usize,
    /// Maximum number of files kept open for replies that clients have not read.
    ///
    /// Above it, [`Reply::may_send_file`](crate::Reply::may_send_file) returns false, and procedures
    /// put data into pages. Each call in progress may exceed the limit by one file.
    pub max_kept_files: usize,
    /// Time without calls after which a connection is closed.
    ///
    /// # Source
    /// `linux-7.0` `net/sunrpc/svc_xprt.c` `svc_conn_age_period`: same default.
    pub idle_timeout: Duration,
    /// Time within which a call must be complete, from its first byte, or from when it received memory
    /// that it had to wait for.
    pub record_timeout: Duration,
    /// Time within which replies must be read, once they did not fit into the socket.
    pub reply_timeout: Duration,
    /// Replaces the two timeouts above while others wait for the memory that the connection holds.
    pub pressure_timeout: Duration,
    /// Time without a byte after which a connection is closed while others wait for the memory that it
    /// holds.
    pub stall_timeout: Duration,
    /// Time for which a connection may hold memory while a client that holds less waits for it.
    pub share_timeout: Duration,
    /// How request pages are refilled.
    pub refill: Refill,
    /// Whether a thread keeps the pages of a reply that was sent at once for its next reply.
    ///
    /// That is safe because the bytes were copied to the socket. Otherwise the pages are freed after
    /// each reply and allocated for the next one, as Linux must.
    pub keep_reply_pages: bool,
    /// Limits of the reply cache.
    pub replies: ReplyCacheLimits,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            nr_threads: 8,
            max_payload_bytes: 1 << 20,
            max_connections: 1024,
            parked_bytes: 64 << 20,
            max_kept_files: 1024,
            idle_timeout: Duration::from_secs(360),
            record_timeout: Duration::from_secs(60),
            reply_timeout: Duration::from_secs(60),
            pressure_timeout: Duration::from_secs(2),
            stall_timeout: Duration::from_millis(500),
            share_timeout: Duration::from_millis(200),
            refill: Refill::default(),
            keep_reply_pages: true,
            replies: ReplyCacheLimits::default(),
        }
    }
}

impl ServerConfig {
    /// Returns the maximum number of pages that the server may hold: its allocator needs that many
    /// free.
    #[must_use]
    pub fn nr_pages(&self) -> usize {
        self.nr_thread_pages(self.nr_threads) + self.parked_bytes.div_ceil(PAGE_SIZE)
            // Without a share of the budget, each connection may keep one page of an incomplete call.
            + self.max_connections
            // Two records may exceed the budget: a call that was granted just below the limit, and one
            // that is granted although none is left, so that requests do not wait for each other.
            + 2 * self.max_record_bytes().div_ceil(PAGE_SIZE)
    }

    /// Returns how many pages `nr_threads` hold: their requests, and one reply beyond the budget each.
    #[must_use]
    pub fn nr_thread_pages(&self, nr_threads: usize) -> usize {
        3 * nr_threads * nr_request_pages(self.max_payload_bytes)
    }

    /// Returns the maximum length of a call in bytes.
    #[must_use]
    pub fn max_record_bytes(&self) -> usize {
        self.max_payload_bytes.next_multiple_of(PAGE_SIZE) + OVERHEAD_BYTES
    }

    /// Checks the configuration.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let ranges = [
            ("nr_threads", self.nr_threads, 1..=MAX_THREADS),
            ("max_payload_bytes", self.max_payload_bytes, 1024..=MAX_PAYLOAD_BYTES),
            ("max_connections", self.max_connections, 1..=1 << 20),
            ("parked_bytes", self.parked_bytes, self.max_record_bytes()..=1 << 40),
            ("max_kept_files", self.max_kept_files, 0..=1 << 20),
            ("replies.max_entries", self.replies.max_entries, 1..=1 << 24),
            ("replies.max_bytes", self.replies.max_bytes, 1..=1 << 34),
        ];
        for (field, value, allowed) in ranges {
            if !allowed.contains(&value) {
                let allowed = *allowed.start() as u64..=*allowed.end() as u64;
                return Err(ConfigError { field, value: value as u64, allowed });
            }
        }
        Ok(())
    }
}
