//! The connections of a server, and which of them is closed for a new one.

use alloc::collections::BTreeMap;
use core::cmp::Reverse;

use crate::client::ClientKey;

/// What of a connection decides whether it is closed for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// When its last useful call was carried out, in milliseconds; zero for never.
    pub(crate) useful: u64,
    /// Since when it has been of no use: it has been idle, has not completed a call, or has not
    /// read its replies. `None` while a call is being carried out.
    pub(crate) since: Option<u64>,
}

/// How long a connection that has completed a call is of no use before it is closed for another of
/// a client that has as many.
pub(crate) const MIN_USELESS_MS: u64 = 1000;

/// The connections by token, and how many each client has.
#[derive(Debug)]
pub(crate) struct Roster<T> {
    entries: BTreeMap<u64, (ClientKey, T)>,
    nr_of: BTreeMap<ClientKey, usize>,
}

impl<T> Roster<T> {
    pub(crate) fn new() -> Self {
        Self { entries: BTreeMap::new(), nr_of: BTreeMap::new() }
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

    pub(crate) fn insert(&mut self, token: u64, client: ClientKey, entry: T) {
        if self.entries.insert(token, (client, entry)).is_none() {
            *self.nr_of.entry(client).or_default() += 1;
        }
    }

    pub(crate) fn remove(&mut self, token: u64) -> Option<T> {
        let (client, entry) = self.entries.remove(&token)?;
        if let Some(nr) = self.nr_of.get_mut(&client) {
            *nr -= 1;
            if *nr == 0 {
                self.nr_of.remove(&client);
            }
        }
        Some(entry)
    }

    pub(crate) fn nr_of(&self, client: ClientKey) -> usize {
        self.nr_of.get(&client).copied().unwrap_or(0)
    }

    /// Returns the connection to close for a new one of `client`, the least useful of those that
    /// may be closed for it.
    ///
    /// That is one of strangers; else one of the client that has most; among those, one that has
    /// never completed a useful call; among those, the one whose last call is longest ago.
    ///
    /// Only a stranger's is closed for a stranger. One that is in use is closed only for a client
    /// with fewer connections, or if it is a stranger's.
    ///
    /// # Cost
    /// Looks at all connections.
    ///
    /// # Source
    /// `linux-7.0` `net/sunrpc/svc_xprt.c` `svc_check_conn_limits`. Differs: Linux closes the
    /// oldest.
    pub(crate) fn least_useful(
        &self,
        client: ClientKey,
        now: u64,
        look: impl Fn(&T) -> Standing,
    ) -> Option<&T> {
        let own = self.nr_of(client);
        let candidates = self.entries.iter().filter_map(|(&token, (key, entry))| {
            let (nr, standing) = (self.nr_of(*key), look(entry));
            let is_useless = standing.since.is_some_and(|since| {
                standing.useful == 0 || now.saturating_sub(since) >= MIN_USELESS_MS
            });
            let may_be_closed = match (key.is_stranger(), client.is_stranger()) {
                (true, false) => true,
                (false, true) => false,
                _ => is_useless || nr > own + 1,
            };
            let rank = (!key.is_stranger(), Reverse(nr), standing.useful, token);
            may_be_closed.then_some((rank, entry))
        });
        candidates.min_by_key(|&(rank, _)| rank).map(|(_, entry)| entry)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
