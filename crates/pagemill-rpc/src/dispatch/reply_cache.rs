//! Reply cache (duplicate request cache): replies kept for retransmitted calls that must not run twice.
//!
//! Bounded in entries and in bytes. A call looks at its own entry and at the entries that it evicts,
//! never at all entries. Evicts from the client that has most, and of that client from the address that
//! has most. So an address with many calls loses its own replies and not those of others. Clients are
//! the same as for memory and connections.
//!
//! # Source
//! `linux-7.0` `fs/nfsd/nfscache.c`. Differs: replies with a body are not kept.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use core::fmt;
use core::hash::BuildHasher;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use std::collections::hash_map::{Entry, HashMap, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::limits::client::{Client, ClientKey};
use crate::stats::Counter;
use crate::wire::msg::CallHeader;
use crate::wire::xdr::XdrReader;

/// The longest time for which a reply is kept.
///
/// # Source
/// `linux-7.0` `fs/nfsd/cache.h` `RC_EXPIRE`
pub const REPLY_LIFETIME: Duration = Duration::from_secs(120);
/// Number of argument bytes that the checksum covers.
///
/// # Source
/// `linux-7.0` `fs/nfsd/cache.h` `RC_CSUMLEN`. Differs: 1024, not 256, to distinguish calls with long
/// paths.
const CHECKSUM_BYTES: usize = 1024;
/// Assumed cost of an entry in bytes, besides its reply.
const ENTRY_BYTES: usize = 256;

/// The first and the last address in their order.
const MIN_ADDR: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const MAX_ADDR: IpAddr = IpAddr::V6(Ipv6Addr::from_bits(u128::MAX));

/// Limits of the reply cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct ReplyCacheLimits {
    /// Maximum number of calls.
    pub max_entries: usize,
    /// Maximum number of bytes: those of the replies, and 256 per call.
    pub max_bytes: usize,
}

impl Default for ReplyCacheLimits {
    /// 64 Ki calls with replies of 256 bytes, as calls that change files have.
    ///
    /// A client retransmits after approximately one minute. The cache must hold replies that long while
    /// other clients write, with one reply per WRITE.
    fn default() -> Self {
        Self { max_entries: 64 << 10, max_bytes: (64 << 10) * (ENTRY_BYTES + 256) }
    }
}

/// The fields that identify a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallKey {
    addr: SocketAddr,
    header: CallHeader,
    len: usize,
    checksum: u64,
}

impl CallKey {
    fn client(&self) -> Client {
        Client::of(self.addr.ip(), true)
    }
}

/// What the cache knows about a call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Seen {
    /// Nothing: the caller carries it out, and then calls [`ReplyCache::finish`] or
    /// [`ReplyCache::forget`].
    New,
    /// It is being carried out: the client will receive that reply.
    InProgress,
    /// It was carried out, with this reply: its bytes, from the transaction id on.
    Done(Box<[u8]>),
}

enum State {
    InProgress,
    Done(Box<[u8]>),
}

struct Kept {
    /// Distinguishes an entry from an earlier one of the same call.
    serial: u64,
    state: State,
}

#[derive(Default)]
struct Table {
    kept: HashMap<CallKey, Kept>,
    /// The share of each address that has entries.
    shares: BTreeMap<Client, Share>,
    /// The same addresses, ordered by client and by bytes.
    hosts: BTreeSet<(ClientKey, usize, IpAddr)>,
    /// The bytes of each client that has entries.
    totals: BTreeMap<ClientKey, usize>,
    /// The same clients, ordered by bytes.
    sizes: BTreeSet<(usize, ClientKey)>,
    bytes: usize,
    serial: u64,
}

/// The entries of an address.
#[derive(Default)]
struct Share {
    /// Its entries, oldest first; some may have been removed already.
    order: VecDeque<(CallKey, u64, Duration)>,
    nr_kept: usize,
    bytes: usize,
}

/// The kept replies.
pub struct ReplyCache {
    limits: ReplyCacheLimits,
    /// A secret hash key, so that no client can construct two calls with one key.
    hasher: RandomState,
    /// Guards all entries.
    table: Mutex<Table>,
    /// Calls that were answered from the cache.
    pub hits: Counter,
    /// Calls dropped because the first one is still in progress.
    pub dropped: Counter,
}

impl ReplyCache {
    /// Makes an empty cache.
    #[must_use]
    pub fn new(limits: ReplyCacheLimits) -> Self {
        Self {
            limits,
            hasher: RandomState::new(),
            table: Mutex::default(),
            hits: Counter::new(),
            dropped: Counter::new(),
        }
    }

    /// Returns the key of a call; `behind_len` bytes of the call follow `args`.
    #[must_use]
    pub fn key(
        &self,
        addr: SocketAddr,
        header: CallHeader,
        args: XdrReader<'_>,
        behind_len: usize,
    ) -> CallKey {
        let len = args.remaining() + behind_len;
        let mut start = [0; CHECKSUM_BYTES];
        let mut args = args;
        let start = args
            .fixed_bytes(args.remaining().min(CHECKSUM_BYTES) & !3)
            .ok()
            .and_then(|bytes| bytes.copy_to(&mut start).map(|start| &*start))
            .unwrap_or_default();
        CallKey { addr, header, len, checksum: self.hasher.hash_one(start) }
    }

    /// Looks a call up, and inserts it as being in progress if it is new.
    ///
    /// `now` is the time since an arbitrary moment, the same for all calls.
    pub fn begin(&self, key: &CallKey, now: Duration) -> Seen {
        let mut table = self.table();
        let client = key.client();
        table.expire(client, now);
        match table.kept.entry(*key) {
            Entry::Occupied(entry) => match &entry.get().state {
                State::InProgress => {
                    self.dropped.bump();
                    return Seen::InProgress;
                }
                State::Done(reply) => {
                    self.hits.bump();
                    return Seen::Done(reply.clone());
                }
            },
            Entry::Vacant(_) => {}
        }
        table.make_room(&self.limits, ENTRY_BYTES, 1);
        table.serial += 1;
        let serial = table.serial;
        table.kept.insert(*key, Kept { serial, state: State::InProgress });
        table.change(client, |share| {
            share.order.push_back((*key, serial, now));
            share.nr_kept += 1;
            share.bytes += ENTRY_BYTES;
        });
        table.bytes += ENTRY_BYTES;
        table.compact(client);
        Seen::New
    }

    /// Stores the reply of a call that was [`Seen::New`].
    pub fn finish(&self, key: &CallKey, reply: Box<[u8]>) {
        let mut table = self.table();
        table.make_room(&self.limits, reply.len(), 0);
        let len = reply.len();
        if let Some(kept) = table.kept.get_mut(key) {
            kept.state = State::Done(reply);
            table.bytes += len;
            table.change(key.client(), |share| share.bytes += len);
        }
    }

    /// Removes a call that was [`Seen::New`] and has no reply to keep.
    pub fn forget(&self, key: &CallKey) {
        self.table().remove(key);
    }

    /// Returns the number of calls and of bytes in the cache.
    #[must_use]
    pub fn usage(&self) -> (usize, usize) {
        let table = self.table();
        (table.kept.len(), table.bytes)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn remove(&mut self, key: &CallKey) {
        let Some(kept) = self.kept.remove(key) else { return };
        let bytes = ENTRY_BYTES
            + match kept.state {
                State::InProgress => 0,
                State::Done(reply) => reply.len(),
            };
        self.bytes -= bytes;
        self.change(key.client(), |share| {
            share.nr_kept -= 1;
            share.bytes -= bytes;
        });
    }

    /// Changes an address's share, and updates the orders by size for it and its client.
    fn change(&mut self, client: Client, change: impl FnOnce(&mut Share)) {
        let Client { key, addr } = client;
        let share = self.shares.entry(client).or_default();
        let before = share.bytes;
        change(share);
        let (after, nr_kept) = (share.bytes, share.nr_kept);
        self.hosts.remove(&(key, before, addr));
        if nr_kept == 0 {
            self.shares.remove(&client);
        } else {
            self.hosts.insert((key, after, addr));
        }
        let total = self.totals.entry(key).or_default();
        self.sizes.remove(&(*total, key));
        *total = *total - before + after;
        if *total == 0 {
            self.totals.remove(&key);
        } else {
            self.sizes.insert((*total, key));
        }
    }

    /// Returns an address with finished entries, and the index of the oldest of them: from the client
    /// that has most, the address that has most.
    fn largest(&self) -> Option<(Client, usize)> {
        // There are at most as many addresses with only unfinished entries as threads.
        self.sizes.iter().rev().find_map(|&(_, key)| {
            let own = (key, 0, MIN_ADDR)..=(key, usize::MAX, MAX_ADDR);
            self.hosts.range(own).rev().find_map(|&(_, _, addr)| {
                let client = Client { key, addr };
                let mut order = self.shares.get(&client)?.order.iter();
                let place = order.position(|(key, serial, _)| self.is_finished(key, *serial))?;
                Some((client, place))
            })
        })
    }

    /// Removes an address's expired entries, which are ordered by age. Entries of addresses that no
    /// longer call stay until their room is needed.
    fn expire(&mut self, client: Client, now: Duration) {
        while let Some(share) = self.shares.get_mut(&client)
            && let Some(&(key, serial, begun)) = share.order.front()
        {
            // Places of removed entries must not hide older entries behind them.
            let is_old = now.saturating_sub(begun) >= REPLY_LIFETIME;
            if self.is_kept(&key, serial) && !(is_old && self.is_finished(&key, serial)) {
                break;
            }
            if let Some(share) = self.shares.get_mut(&client) {
                share.order.pop_front();
            }
            self.remove_entry(&key, serial);
        }
    }

    /// Removes finished entries until there is room.
    fn make_room(&mut self, limits: &ReplyCacheLimits, bytes: usize, entries: usize) {
        while self.bytes + bytes > limits.max_bytes
            || self.kept.len() + entries > limits.max_entries
        {
            let Some((client, place)) = self.largest() else { return };
            let Some(share) = self.shares.get_mut(&client) else { return };
            // Entries in progress move to the end, so that they are not skipped again soon.
            share.order.rotate_left(place);
            if let Some((key, serial, _)) = share.order.pop_front() {
                self.remove_entry(&key, serial);
            }
        }
    }

    /// Drops the places of an address's removed entries, once there are more of them than of the other
    /// ones.
    fn compact(&mut self, client: Client) {
        let Some(share) = self.shares.get_mut(&client) else { return };
        if share.order.len() > 2 * share.nr_kept + 64 {
            let kept = &self.kept;
            share
                .order
                .retain(|(key, serial, _)| kept.get(key).is_some_and(|k| k.serial == *serial));
        }
    }

    fn is_kept(&self, key: &CallKey, serial: u64) -> bool {
        self.kept.get(key).is_some_and(|kept| kept.serial == serial)
    }

    fn is_finished(&self, key: &CallKey, serial: u64) -> bool {
        self.kept
            .get(key)
            .is_some_and(|kept| kept.serial == serial && matches!(kept.state, State::Done(_)))
    }

    fn remove_entry(&mut self, key: &CallKey, serial: u64) {
        if self.is_kept(key, serial) {
            self.remove(key);
        }
    }
}

impl fmt::Debug for ReplyCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (entries, bytes) = self.usage();
        f.debug_struct("ReplyCache")
            .field("limits", &self.limits)
            .field("entries", &entries)
            .field("bytes", &bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
