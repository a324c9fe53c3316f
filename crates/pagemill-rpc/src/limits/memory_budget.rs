//! Memory budget: limits the bytes in incomplete calls and unread replies, shared fairly among clients.
//!
//! The bytes are shared by client, and those of a client by address. Among waiting requests, the client
//! that holds least is served first, and of it the address that holds least. So a client with many
//! connections delays its own calls and not those of others.

use alloc::collections::{BTreeMap, BTreeSet};
use core::fmt;
use core::net::IpAddr;

use crate::limits::client::{Client, ClientKey};
use crate::wire::sync::{AtomicUsize, Mutex, Ordering, lock};

/// A connection's request for bytes of the budget.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    /// The client whose share it counts against.
    pub(crate) client: Client,
    /// Whether the connection has completed a call; such requests are served before others of their
    /// address.
    pub(crate) is_proven: bool,
    /// Bytes that are needed now.
    pub(crate) bytes: usize,
    /// Bytes that are needed in total. A request that must wait is granted all of them, so that it does
    /// not wait twice.
    pub(crate) rest: usize,
    /// Bytes that the connection has, and keeps while it waits.
    pub(crate) held: usize,
}

/// Identifies a waiting request. Never zero.
pub(crate) type Ticket = u64;

/// A number of bytes, shared by clients.
///
/// A request is granted while the bytes in use are below the limit, so one request at most exceeds it.
/// A request is also granted if all bytes in use belong to waiting requests, because those would not
/// return any. Hence either no request waits, or a connection that does not wait holds bytes.
pub(crate) struct MemoryBudget<T> {
    limit: usize,
    /// Guards the bytes in use and the queues of waiting requests.
    state: Mutex<State<T>>,
    /// Number of waiting requests, for readers without the lock.
    nr_waiting: AtomicUsize,
}

struct State<T> {
    used: usize,
    /// Bytes held by waiting connections.
    held_waiting: usize,
    /// Clients that hold bytes or wait.
    shares: BTreeMap<ClientKey, Share<T>>,
    /// Waiting clients, in the order in which they are served.
    turns: BTreeSet<Turn>,
    last_ticket: Ticket,
    nr_waiting: usize,
}

/// Whether the client is a stranger, the bytes that it holds, the ticket of its next request, and its
/// key.
///
/// Among clients that hold equally many bytes, the one whose request has waited longest is served
/// first. Ordering by key alone would starve the client with the highest address.
type Turn = (bool, usize, Ticket, ClientKey);

/// The bytes that a client holds, and its waiting requests.
struct Share<T> {
    used: usize,
    /// Its addresses that hold bytes or wait.
    hosts: BTreeMap<IpAddr, Host<T>>,
    /// Its waiting addresses, in the order in which they are served.
    turns: BTreeSet<HostTurn>,
}

/// The bytes that the address holds, the ticket of its next request, and the address.
type HostTurn = (usize, Ticket, IpAddr);

/// The bytes that an address holds, and its waiting requests.
struct Host<T> {
    used: usize,
    /// Requests in the order in which they are served: those of proven connections first.
    waiting: BTreeMap<(bool, Ticket), Waiting<T>>,
}

struct Waiting<T> {
    bytes: usize,
    held: usize,
    waiter: T,
}

impl<T> MemoryBudget<T> {
    pub(crate) fn new(limit: usize) -> Self {
        let state = State {
            used: 0,
            held_waiting: 0,
            shares: BTreeMap::new(),
            turns: BTreeSet::new(),
            last_ticket: 0,
            nr_waiting: 0,
        };
        Self { limit, state: Mutex::new(state), nr_waiting: AtomicUsize::new(0) }
    }

    /// Reserves the bytes if they are available. Otherwise queues the request with the value that
    /// `waiter` makes, and returns its ticket.
    pub(crate) fn reserve(&self, request: &Request, waiter: impl FnOnce() -> T) -> Option<Ticket> {
        let mut state = lock(&self.state);
        if state.has_room(self.limit, request.held) {
            state.add(request.client, request.bytes);
            return None;
        }
        let ticket = state.push(request, waiter());
        self.note(&state);
        Some(ticket)
    }

    /// Reserves `bytes` even above the limit.
    pub(crate) fn charge(&self, client: Client, bytes: usize) {
        lock(&self.state).add(client, bytes);
    }

    /// Returns `bytes` of `client` to the budget, and passes the requests that can now be granted to
    /// `serve`.
    pub(crate) fn release(
        &self,
        client: Client,
        bytes: usize,
        serve: impl FnMut(Client, usize, T),
    ) {
        let mut state = lock(&self.state);
        state.subtract(client, bytes);
        state.serve(self.limit, serve);
        self.note(&state);
    }

    /// Removes a request if it still waits; others may then be granted.
    pub(crate) fn cancel(
        &self,
        client: Client,
        ticket: Ticket,
        serve: impl FnMut(Client, usize, T),
    ) {
        let mut state = lock(&self.state);
        let removed = [false, true].iter().find_map(|&late| state.take(client, (late, ticket)));
        state.serve(self.limit, serve);
        self.note(&state);
        drop(state);
        drop(removed);
    }

    /// Returns whether a client that precedes `client` waits: one that holds less, or a known one if
    /// `client` is a stranger; or another address of the client that holds less.
    pub(crate) fn is_beyond_its_share(&self, client: Client) -> bool {
        let state = lock(&self.state);
        let share = state.shares.get(&client.key);
        let used = share.map_or(0, |share| share.used);
        let is_client_beyond = state.turns.first().is_some_and(|&(is_stranger, least, ..)| {
            (is_stranger, least) < (client.is_stranger(), used)
        });
        is_client_beyond || share.is_some_and(|share| share.is_beyond(client.addr))
    }

    /// Returns whether a request would have to wait.
    pub(crate) fn is_full(&self) -> bool {
        !lock(&self.state).has_room(self.limit, 0)
    }

    /// Returns the number of waiting requests.
    pub(crate) fn nr_waiting(&self) -> usize {
        // Relaxed: the number may be outdated in any case.
        self.nr_waiting.load(Ordering::Relaxed)
    }

    /// Returns the number of bytes in use.
    pub(crate) fn used(&self) -> usize {
        lock(&self.state).used
    }

    /// Returns how many bytes `client` holds, and how many of them its address holds.
    pub(crate) fn used_by(&self, client: Client) -> (usize, usize) {
        let state = lock(&self.state);
        let share = state.shares.get(&client.key);
        share.map_or((0, 0), |share| (share.used, share.used_at(client.addr)))
    }

    /// Removes all waiting requests.
    pub(crate) fn clear(&self) {
        let mut state = lock(&self.state);
        let mut waiting = Vec::new();
        for share in state.shares.values_mut() {
            share.turns.clear();
            for host in share.hosts.values_mut() {
                waiting.extend(core::mem::take(&mut host.waiting));
            }
            share.hosts.retain(|_, host| host.used > 0);
        }
        state.shares.retain(|_, share| share.used > 0);
        state.turns.clear();
        (state.held_waiting, state.nr_waiting) = (0, 0);
        self.note(&state);
        drop(state);
        drop(waiting);
    }

    fn note(&self, state: &State<T>) {
        // Relaxed: readers of the number decide nothing that must be exact.
        self.nr_waiting.store(state.nr_waiting, Ordering::Relaxed);
    }
}

impl<T> State<T> {
    /// Returns whether a request of a connection that holds `held` bytes can be granted if it is the
    /// next one.
    fn has_room(&self, limit: usize, held: usize) -> bool {
        self.used < limit || self.used <= self.held_waiting + held
    }

    fn add(&mut self, client: Client, bytes: usize) {
        self.used += bytes;
        self.change(client, |host| host.used += bytes);
    }

    fn subtract(&mut self, client: Client, bytes: usize) {
        self.used -= bytes;
        self.change(client, |host| host.used -= bytes);
    }

    fn push(&mut self, request: &Request, waiter: T) -> Ticket {
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        let waiting = Waiting { bytes: request.rest, held: request.held, waiter };
        self.held_waiting += request.held;
        self.nr_waiting += 1;
        self.change(request.client, |host| {
            host.waiting.insert((!request.is_proven, ticket), waiting);
        });
        ticket
    }

    fn take(&mut self, client: Client, place: (bool, Ticket)) -> Option<Waiting<T>> {
        let mut taken = None;
        self.change(client, |host| taken = host.waiting.remove(&place));
        if let Some(waiting) = &taken {
            self.held_waiting -= waiting.held;
            self.nr_waiting -= 1;
        }
        taken
    }

    fn serve(&mut self, limit: usize, mut serve: impl FnMut(Client, usize, T)) {
        while let Some((client, place)) = self.next()
            // The bytes of the next one are among those that waiting requests hold.
            && self.has_room(limit, 0)
        {
            let Some(waiting) = self.take(client, place) else { break };
            self.add(client, waiting.bytes);
            serve(client, waiting.bytes, waiting.waiter);
        }
    }

    /// Returns the client of the next request, and the request's key among those of its address.
    fn next(&self) -> Option<(Client, (bool, Ticket))> {
        let &(.., key) = self.turns.first()?;
        let share = self.shares.get(&key)?;
        let &(.., addr) = share.turns.first()?;
        let &place = share.hosts.get(&addr)?.waiting.keys().next()?;
        Some((Client { key, addr }, place))
    }

    /// Changes what an address of a client holds or waits for, and updates the client's place in the
    /// order.
    fn change(&mut self, client: Client, change: impl FnOnce(&mut Host<T>)) {
        let share = self.shares.entry(client.key).or_insert_with(|| Share {
            used: 0,
            hosts: BTreeMap::new(),
            turns: BTreeSet::new(),
        });
        if let Some(turn) = share.turn(client.key) {
            self.turns.remove(&turn);
        }
        share.change(client.addr, change);
        if let Some(turn) = share.turn(client.key) {
            self.turns.insert(turn);
        } else if share.hosts.is_empty() {
            self.shares.remove(&client.key);
        }
    }
}

impl<T> Share<T> {
    /// Returns the client's place among the waiting ones; `None` if it does not wait.
    fn turn(&self, key: ClientKey) -> Option<Turn> {
        let &(_, ticket, _) = self.turns.first()?;
        Some((key.is_stranger(), self.used, ticket, key))
    }

    fn used_at(&self, addr: IpAddr) -> usize {
        self.hosts.get(&addr).map_or(0, |host| host.used)
    }

    /// Returns whether an address that holds less than `addr` waits.
    fn is_beyond(&self, addr: IpAddr) -> bool {
        self.turns.first().is_some_and(|&(least, ..)| least < self.used_at(addr))
    }

    fn change(&mut self, addr: IpAddr, change: impl FnOnce(&mut Host<T>)) {
        let host =
            self.hosts.entry(addr).or_insert_with(|| Host { used: 0, waiting: BTreeMap::new() });
        if let Some(turn) = host.turn(addr) {
            self.turns.remove(&turn);
        }
        self.used -= host.used;
        change(host);
        self.used += host.used;
        if let Some(turn) = host.turn(addr) {
            self.turns.insert(turn);
        } else if host.used == 0 {
            self.hosts.remove(&addr);
        }
    }
}

impl<T> Host<T> {
    /// Returns the address's place among the waiting ones; `None` if it does not wait.
    fn turn(&self, addr: IpAddr) -> Option<HostTurn> {
        let &(_, ticket) = self.waiting.keys().next()?;
        Some((self.used, ticket, addr))
    }
}

impl<T> fmt::Debug for MemoryBudget<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBudget")
            .field("limit", &self.limit)
            .field("used", &self.used())
            .field("nr_waiting", &self.nr_waiting())
            .finish()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;

#[cfg(test)]
#[cfg(loom)]
mod loom_tests {
    use core::net::Ipv4Addr;

    use loom::sync::Arc;

    use super::*;

    fn request(bytes: usize) -> Request {
        let client = Client::of(Ipv4Addr::LOCALHOST.into(), true);
        Request { client, is_proven: true, bytes, rest: bytes, held: 0 }
    }

    #[test]
    fn who_waits_is_served_by_a_release() {
        loom::model(|| {
            let budget = Arc::new(MemoryBudget::new(1));
            assert!(budget.reserve(&request(1), || 0).is_none());
            let waiter = {
                let budget = Arc::clone(&budget);
                loom::thread::spawn(move || budget.reserve(&request(1), || 1).is_none())
            };
            let mut served = 0;
            budget.release(request(1).client, 1, |_, _, _| served += 1);
            let at_once = waiter.join().unwrap();
            assert!(at_once != (served == 1));
            assert_eq!(budget.used(), 1);
        });
    }

    #[test]
    fn a_request_is_granted_or_cancelled_but_not_both() {
        loom::model(|| {
            let budget = Arc::new(MemoryBudget::new(1));
            assert!(budget.reserve(&request(1), || 0).is_none());
            let ticket = budget.reserve(&request(1), || 1).unwrap();
            let other = {
                let budget = Arc::clone(&budget);
                loom::thread::spawn(move || {
                    let mut served = 0;
                    budget.release(request(1).client, 1, |_, _, _| served += 1);
                    served
                })
            };
            budget.cancel(request(1).client, ticket, |_, _, _| unreachable!("it alone waited"));
            let served = other.join().unwrap();
            assert_eq!((budget.used(), budget.nr_waiting()), (served, 0));
        });
    }
}
