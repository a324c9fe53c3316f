//! Connection table: the connections by token, and which one is closed to accept a new one.

use alloc::collections::BTreeMap;
use core::cmp::Reverse;

use crate::limits::client::{Client, ClientKey};

/// The facts about a connection that decide whether it is closed for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Time of its last useful call, in milliseconds; zero for none.
    pub(crate) useful: u64,
    /// Time since which it has been useless: idle, without a completed call, or with replies that the
    /// client has not read. `None` while a call is being carried out.
    pub(crate) since: Option<u64>,
}

/// How long a connection that has completed a call must be useless before it is closed for another one
/// of a client with as many connections.
pub(crate) const MIN_USELESS_MS: u64 = 1000;

/// The connections by token, and the number of connections of each client and address.
#[derive(Debug)]
pub(crate) struct ConnectionTable<T> {
    entries: BTreeMap<u64, (Client, T)>,
    nr_of: BTreeMap<ClientKey, usize>,
    nr_at: BTreeMap<Client, usize>,
}

impl<T> ConnectionTable<T> {
    pub(crate) fn new() -> Self {
        Self { entries: BTreeMap::new(), nr_of: BTreeMap::new(), nr_at: BTreeMap::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn get(&self, token: u64) -> Option<&T> {
        self.entries.get(&token).map(|(_, entry)| entry)
    }

    /// Returns the connections, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.values().map(|(_, entry)| entry)
    }

    pub(crate) fn insert(&mut self, token: u64, client: Client, entry: T) {
        if self.entries.insert(token, (client, entry)).is_none() {
            *self.nr_of.entry(client.key).or_default() += 1;
            *self.nr_at.entry(client).or_default() += 1;
        }
    }

    pub(crate) fn remove(&mut self, token: u64) -> Option<T> {
        let (client, entry) = self.entries.remove(&token)?;
        count_less(&mut self.nr_of, client.key);
        count_less(&mut self.nr_at, client);
        Some(entry)
    }

    /// Returns the number of connections of `client`, and how many of them its address has.
    pub(crate) fn nr_of(&self, client: Client) -> (usize, usize) {
        let nr = self.nr_of.get(&client.key).copied().unwrap_or(0);
        (nr, self.nr_at.get(&client).copied().unwrap_or(0))
    }

    /// Yields each address with its number of connections.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = (Client, usize)> + '_ {
        self.nr_at.iter().map(|(&client, &nr)| (client, nr))
    }

    /// Returns the connection to close for a new one of `client`: the least useful of those that may be
    /// closed for it.
    ///
    /// Prefers, in this order: a stranger's connection; one of the client with the most connections;
    /// one of the address with the most; one that has never completed a useful call; the one whose last
    /// useful call is longest ago.
    ///
    /// For a stranger, only a stranger's connection is closed. A connection in use is closed only for a
    /// client with fewer connections, for another address of its client with fewer connections, or if
    /// it is a stranger's and the new one is not.
    ///
    /// # Cost
    /// Visits all connections.
    ///
    /// # Source
    /// `linux-7.0` `net/sunrpc/svc_xprt.c` `svc_check_conn_limits`. Differs: Linux closes the
    /// oldest.
    pub(crate) fn least_useful(
        &self,
        client: Client,
        now: u64,
        look: impl Fn(&T) -> Standing,
    ) -> Option<&T> {
        let own = self.nr_of(client);
        let candidates = self.entries.iter().filter_map(|(&token, (other, entry))| {
            let (nr, standing) = (self.nr_of(*other), look(entry));
            let has_more =
                if other.key == client.key { nr.1 > own.1 + 1 } else { nr.0 > own.0 + 1 };
            let is_useless = standing.since.is_some_and(|since| {
                standing.useful == 0 || now.saturating_sub(since) >= MIN_USELESS_MS
            });
            let may_be_closed = match (other.is_stranger(), client.is_stranger()) {
                (true, false) => true,
                (false, true) => false,
                _ => is_useless || has_more,
            };
            let rank = (!other.is_stranger(), Reverse(nr), standing.useful, token);
            may_be_closed.then_some((rank, entry))
        });
        candidates.min_by_key(|&(rank, _)| rank).map(|(_, entry)| entry)
    }
}

fn count_less<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K) {
    if let Some(nr) = counts.get_mut(&key) {
        *nr -= 1;
        if *nr == 0 {
            counts.remove(&key);
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
