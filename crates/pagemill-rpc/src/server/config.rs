//! A server's settings.

use core::time::Duration;

use pagemill::PAGE_SIZE;

use crate::dispatch::reply_cache::ReplyCacheLimits;
use crate::rqst::pages::Refill;
use crate::rqst::rqst::{MAX_PAYLOAD_BYTES, OVERHEAD_BYTES, nr_request_pages};
use crate::wire::error::ConfigError;

/// Most worker threads.
pub const MAX_THREADS: usize = 1024;

/// A server's settings; start from [`ServerConfig::default`].
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct ServerConfig {
    /// How many threads carry out calls.
    pub nr_threads: usize,
    /// Most bytes of data in a call or reply: what a file server's `rtmax` and `wtmax` say.
    pub max_payload_bytes: usize,
    /// Most connections at a time.
    pub max_connections: usize,
    /// Most bytes of pages in calls that have not come whole and replies that have not been read.
    ///
    /// A connection that needs more waits. Of those that wait, the client that holds least is
    /// served first. A client is an IPv4 address, an IPv6 network of 64 bits, or all addresses
    /// that no program knows. Replies of calls that are being carried out may exceed the limit.
    pub parked_bytes: usize,
    /// Most files that are kept open for replies that have not been read.
    ///
    /// Beyond it, [`Reply::may_send_file`](crate::Reply::may_send_file) is false, and procedures put
    /// data into pages. Calls that are being carried out may exceed the limit by one file each.
    pub max_kept_files: usize,
    /// After how long a connection without calls is closed.
    ///
    /// # Source
    /// `linux-7.0` `net/sunrpc/svc_xprt.c` `svc_conn_age_period`: the default is as there.
    pub idle_timeout: Duration,
    /// After how long a call must have come whole, from its first byte on; or from when it got memory
    /// that it had to wait for.
    pub record_timeout: Duration,
    /// After how long replies must have been read, once they did not fit into the socket.
    pub reply_timeout: Duration,
    /// The same for both while others wait for the memory that they hold.
    pub pressure_timeout: Duration,
    /// After how long without a byte a connection is closed while others wait for the memory that
    /// it holds.
    pub stall_timeout: Duration,
    /// For how long a connection may hold memory while a client that holds less waits for it.
    pub share_timeout: Duration,
    /// How request pages are refilled.
    pub refill: Refill,
    /// Whether pages of replies that went out at once stay with their thread for the next one.
    ///
    /// The bytes were copied to the socket, so they can. Without it they are freed after each
    /// reply and allocated for the next, as Linux must.
    pub keep_reply_pages: bool,
    /// How much is kept for clients that ask again.
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
    /// Returns how many pages the server may hold at a time: what its allocator must have free.
    #[must_use]
    pub fn nr_pages(&self) -> usize {
        self.nr_thread_pages(self.nr_threads) + self.parked_bytes.div_ceil(PAGE_SIZE)
            // A page of a call's beginning for each connection, without a part of the budget.
            + self.max_connections
            // By which the budget may be exceeded: a call that was granted below the limit, and
            // one that is granted although none is left, so that others do not wait for each other.
            + 2 * self.max_record_bytes().div_ceil(PAGE_SIZE)
    }

    /// Returns how many pages `nr_threads` hold: their requests, and a reply beyond the budget each.
    #[must_use]
    pub fn nr_thread_pages(&self, nr_threads: usize) -> usize {
        3 * nr_threads * nr_request_pages(self.max_payload_bytes)
    }

    /// Returns the most bytes that a call may have.
    #[must_use]
    pub fn max_record_bytes(&self) -> usize {
        self.max_payload_bytes.next_multiple_of(PAGE_SIZE) + OVERHEAD_BYTES
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// The first that is outside its range.
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
