//! Replies that are kept for clients that ask again: a call that must not be carried out twice is
//! answered twice.
//!
//! Bounded in entries and in bytes. A call looks at its own entry, and at those that it makes room
//! by forgetting; never at all of them. Room is made at the expense of the client that has most, and
//! of its address that has most: an address with many calls loses its own replies and not those of
//! others. Clients are those among which memory and connections are shared too.
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

/// How long a reply is kept at most.
///
/// # Source
/// `linux-7.0` `fs/nfsd/cache.h` `RC_EXPIRE`
pub const REPLY_LIFETIME: Duration = Duration::from_secs(120);
/// How many bytes of the arguments the checksum covers.
///
/// # Source
/// `linux-7.0` `fs/nfsd/cache.h` `RC_CSUMLEN`. Differs: 1024, not 256, to tell long paths apart.
const CHECKSUM_BYTES: usize = 1024;
/// Bytes that an entry is taken to cost beside its reply.
const ENTRY_BYTES: usize = 256;

/// The first and the last address in their order.
const MIN_ADDR: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const MAX_ADDR: IpAddr = IpAddr::V6(Ipv6Addr::from_bits(u128::MAX));

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct ReplyCacheLimits {
    /// Most calls.
    pub max_entries: usize,
    /// Most bytes of replies, and 256 for each call.
    pub max_bytes: usize,
}

impl Default for ReplyCacheLimits {
    /// Room for 64 Ki calls with replies of 256 bytes, as changes of files have.
    ///
    /// A client asks again after a minute or so; what is kept for all clients must last as long
    /// while others write, each WRITE with a reply of its own.
    fn default() -> Self {
        Self { max_entries: 64 << 10, max_bytes: (64 << 10) * (ENTRY_BYTES + 256) }
    }
}

/// What tells calls apart.
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

/// What is known of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Seen {
    /// Nothing: it is to be carried out, and [`ReplyCache::finish`] or
    /// [`ReplyCache::forget`] told of its end.
    New,
    /// It is being carried out: the client will get that answer.
    InProgress,
    /// It was carried out, with this reply: its bytes, from the call's number on.
    Done(Box<[u8]>),
}

enum State {
    InProgress,
    Done(Box<[u8]>),
}

struct Kept {
    /// Tells an entry from an earlier one of the same call.
    serial: u64,
    state: State,
}

#[derive(Default)]
struct Table {
    kept: HashMap<CallKey, Kept>,
    /// What each address has that has entries.
    shares: BTreeMap<Client, Share>,
    /// The same addresses by client, and by the bytes that they have.
    hosts: BTreeSet<(ClientKey, usize, IpAddr)>,
    /// The bytes of each client that has entries.
    totals: BTreeMap<ClientKey, usize>,
    /// The same clients by the bytes that they have.
    sizes: BTreeSet<(usize, ClientKey)>,
    bytes: usize,
    serial: u64,
}

/// What an address has.
#[derive(Default)]
struct Share {
    /// Its entries, oldest first, and some that are no more.
    order: VecDeque<(CallKey, u64, Duration)>,
    nr_kept: usize,
    bytes: usize,
}

/// The kept replies.
pub struct ReplyCache {
    limits: ReplyCacheLimits,
    /// Secret, so that nobody outside can make two calls look like one.
    hasher: RandomState,
    /// Guards all entries.
    table: Mutex<Table>,
    /// Calls answered from here.
    pub hits: Counter,
    /// Calls dropped because the first one is still being carried out.
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

    /// Returns what tells the call apart from others; `behind_len` bytes of it follow `args`.
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

    /// Looks a call up, and notes that it is being carried out if it is new.
    ///
    /// `now` is the time since some moment, the same for all calls.
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

    /// Keeps the reply of a call that was [`Seen::New`].
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

    /// Forgets a call that was [`Seen::New`], and has no reply to keep.
    pub fn forget(&self, key: &CallKey) {
        self.table().remove(key);
    }

    /// Returns how many calls are known, and how many bytes they take.
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

    /// Changes an address's share; its place in the orders of sizes follows, and that of its client.
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

    /// Returns an address that has finished entries, and the place of the oldest of them: of the
    /// client that has most, the address that has most.
    fn largest(&self) -> Option<(Client, usize)> {
        // Addresses whose entries are all in progress are at most as many as there are threads.
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

    /// Forgets what is too old of an address's entries, which stand in the order of their age. Those
    /// of addresses that no longer call stay until room is needed.
    fn expire(&mut self, client: Client, now: Duration) {
        while let Some(share) = self.shares.get_mut(&client)
            && let Some(&(key, serial, begun)) = share.order.front()
        {
            // Places of entries that are no more must not hide older entries behind them.
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

    /// Forgets finished entries until there is room.
    fn make_room(&mut self, limits: &ReplyCacheLimits, bytes: usize, entries: usize) {
        while self.bytes + bytes > limits.max_bytes
            || self.kept.len() + entries > limits.max_entries
        {
            let Some((client, place)) = self.largest() else { return };
            let Some(share) = self.shares.get_mut(&client) else { return };
            // Those in progress become the youngest: they are not passed over again soon.
            share.order.rotate_left(place);
            if let Some((key, serial, _)) = share.order.pop_front() {
                self.remove_entry(&key, serial);
            }
        }
    }

    /// Drops the places of an address's entries that are no more, once there are more of them than
    /// of others.
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
