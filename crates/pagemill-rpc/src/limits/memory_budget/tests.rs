//! The budget against lists that are searched from end to end.

use super::*;
use crate::limits::client::numbered::{NUMBERS, client, client_of};

const LIMIT: usize = 100;
const MAX_BYTES: u64 = 30;

fn request(number: u64, bytes: usize) -> Request {
    Request { client: client(number), is_proven: false, bytes, rest: bytes, held: 0 }
}

/// Releases, and returns who was served with how much.
fn release(budget: &MemoryBudget<u32>, number: u64, bytes: usize) -> Vec<(usize, u32)> {
    let mut served = Vec::new();
    budget.release(client(number), bytes, |_, bytes, who| served.push((bytes, who)));
    served
}

#[test]
fn the_client_that_holds_least_is_served_first() {
    let budget = MemoryBudget::new(10);
    assert!(budget.reserve(&request(1, 10), || 0).is_none());
    assert!(budget.reserve(&request(1, 1), || 1).is_some());
    assert!(budget.reserve(&request(0, 1), || 2).is_some());
    assert!(!budget.is_beyond_its_share(client(1)), "only strangers wait that have less");
    assert!(budget.reserve(&request(2, 10), || 3).is_some());
    assert!(budget.is_beyond_its_share(client(1)));
    assert_eq!(release(&budget, 1, 4), [(10, 3)], "6 are used and 10 fit: below the limit");
    assert_eq!(release(&budget, 1, 6), [], "client 2 has 10");
    assert_eq!(release(&budget, 2, 10), [(1, 1), (1, 2)], "strangers come last");
    assert_eq!((budget.used(), budget.nr_waiting()), (2, 0));
}

#[test]
fn a_proven_connection_passes_others_of_its_client() {
    let budget = MemoryBudget::new(1);
    assert!(budget.reserve(&request(1, 1), || 0).is_none());
    assert!(budget.reserve(&request(1, 1), || 1).is_some());
    let proven = Request { is_proven: true, ..request(1, 1) };
    assert!(budget.reserve(&proven, || 2).is_some());
    assert_eq!(release(&budget, 1, 1), [(1, 2)]);
    assert_eq!(release(&budget, 1, 1), [(1, 1)]);
}

#[test]
fn connections_that_all_hold_a_part_and_wait_do_not_wait_for_each_other() {
    let budget = MemoryBudget::new(10);
    let more = |held| Request { bytes: 1, rest: 5, held, ..request(1, 0) };
    assert!(budget.reserve(&request(1, 5), || 0).is_none());
    assert!(budget.reserve(&request(1, 5), || 0).is_none());
    assert!(budget.reserve(&more(5), || 1).is_some());
    // The other would be the last that returns anything, so it is granted.
    assert!(budget.reserve(&more(5), || 2).is_none());
    assert_eq!(budget.used(), 11);
    assert_eq!(release(&budget, 1, 6), [(5, 1)]);
}

#[test]
fn a_cancelled_request_is_not_served() {
    let budget = MemoryBudget::new(1);
    assert!(budget.reserve(&request(1, 1), || 0).is_none());
    let ticket = budget.reserve(&request(2, 1), || 1).unwrap();
    budget.cancel(client(2), ticket, |_, _, _| unreachable!("no other waits"));
    assert_eq!(release(&budget, 1, 1), []);
    budget.cancel(client(2), ticket, |_, _, _| unreachable!("it is gone"));
    assert_eq!((budget.used(), budget.nr_waiting()), (0, 0));
}

#[test]
fn of_clients_that_hold_the_same_the_one_that_waits_longest_is_served_first() {
    let budget = MemoryBudget::new(1);
    assert!(budget.reserve(&request(9, 1), || 9).is_none());
    // Clients with lower addresses ask again whenever they were served.
    assert!(budget.reserve(&request(8, 1), || 8).is_some());
    assert!(budget.reserve(&request(1, 1), || 1).is_some());
    assert!(budget.reserve(&request(2, 1), || 2).is_some());
    let mut holder = 9;
    for expected in [8, 1, 2, 8, 1, 2] {
        let served = release(&budget, holder, 1);
        assert_eq!(served, [(1, u32::try_from(expected).unwrap())]);
        holder = expected;
        let again = u32::try_from(holder).unwrap();
        assert!(budget.reserve(&request(holder, 1), || again).is_some());
    }
}

#[test]
fn within_a_network_the_address_that_holds_least_is_served_first() {
    let budget = MemoryBudget::new(10);
    assert!(budget.reserve(&request(10, 10), || 0).is_none());
    assert!(budget.reserve(&request(10, 1), || 1).is_some());
    assert!(budget.reserve(&Request { is_proven: true, ..request(10, 1) }, || 2).is_some());
    assert!(!budget.is_beyond_its_share(client(10)), "only it waits");
    assert!(budget.reserve(&request(11, 3), || 3).is_some());
    assert!(budget.is_beyond_its_share(client(10)), "another address of the network has less");
    assert!(!budget.is_beyond_its_share(client(11)));
    assert_eq!(release(&budget, 10, 2), [(3, 3)]);
    assert_eq!(budget.used_by(client(11)), (11, 3));
    assert_eq!(release(&budget, 10, 8), [(1, 2), (1, 1)]);
    // The network is one client: what all its addresses hold counts against others.
    assert!(budget.reserve(&request(12, 9), || 4).is_none());
    assert!(budget.reserve(&request(12, 1), || 5).is_some());
    assert!(budget.reserve(&request(20, 1), || 6).is_some());
    assert!(budget.is_beyond_its_share(client(11)));
    assert_eq!(release(&budget, 12, 5), [(1, 6)]);
    assert_eq!(release(&budget, 12, 4), [(1, 5)]);
}

#[test]
fn an_old_request_that_others_of_its_client_pass_does_not_let_the_client_pass_others() {
    let budget = MemoryBudget::new(1);
    let proven = |number| Request { is_proven: true, ..request(number, 1) };
    assert!(budget.reserve(&request(3, 1), || 0).is_none());
    assert!(budget.reserve(&request(1, 1), || 1).is_some());
    assert!(budget.reserve(&request(2, 1), || 2).is_some());
    assert!(budget.reserve(&proven(1), || 3).is_some());
    assert_eq!(release(&budget, 3, 1), [(1, 2)], "client 1 is granted what was released last");
    assert_eq!(release(&budget, 2, 1), [(1, 3)]);
    assert_eq!(release(&budget, 1, 1), [(1, 1)]);
}

struct Connection {
    client: u64,
    is_proven: bool,
    held: usize,
    /// Its ticket, and the bytes that it waits for.
    waits: Option<(Ticket, usize)>,
}

struct Naive {
    connections: Vec<Connection>,
}

impl Naive {
    fn used(&self) -> usize {
        self.connections.iter().map(|connection| connection.held).sum()
    }

    /// Returns what the client of `number` holds, and what its address does.
    fn used_by(&self, number: u64) -> (usize, usize) {
        let held = |is_of: &dyn Fn(u64) -> bool| {
            let connections = self.connections.iter().filter(|of| is_of(of.client));
            connections.map(|connection| connection.held).sum()
        };
        (held(&|other| client_of(other) == client_of(number)), held(&|other| other == number))
    }

    /// What connections hold that do not wait.
    fn is_moving(&self) -> bool {
        self.connections.iter().any(|connection| connection.waits.is_none() && connection.held > 0)
    }

    fn has_room(&self) -> bool {
        self.used() < LIMIT || !self.is_moving()
    }

    /// Returns the place of the one to be served next.
    fn next(&self) -> Option<usize> {
        // The request that each address has served next, of those the first of each client, and of
        // those the first.
        let of_client = |number: u64| {
            let (_, ticket, at) = self.next_of(number)?;
            Some(((number == 0, self.used_by(number).0, ticket), at))
        };
        NUMBERS.into_iter().filter_map(of_client).min().map(|(_, at)| at)
    }

    /// Returns what the address holds that is served next of the client of `number`, its ticket,
    /// and the place of the connection.
    fn next_of(&self, number: u64) -> Option<(usize, Ticket, usize)> {
        let of_address = |address: u64| {
            let waiting = self.connections.iter().enumerate().filter_map(|(at, connection)| {
                let (ticket, _) = connection.waits.filter(|_| connection.client == address)?;
                Some((!connection.is_proven, ticket, at))
            });
            let (_, ticket, at) = waiting.min()?;
            Some((self.used_by(address).1, ticket, at))
        };
        let addresses = NUMBERS.into_iter().filter(|&of| client_of(of) == client_of(number));
        addresses.filter_map(of_address).min()
    }

    fn serve(&mut self) -> Vec<(usize, u32)> {
        let mut served = Vec::new();
        while let Some(at) = self.next()
            && self.has_room()
        {
            let (_, bytes) = self.connections[at].waits.take().unwrap();
            self.connections[at].held += bytes;
            served.push((bytes, u32::try_from(at).unwrap()));
        }
        served
    }
}

fn assert_equal(budget: &MemoryBudget<u32>, model: &Naive, place: &str) {
    let waiting = model.connections.iter().filter(|connection| connection.waits.is_some()).count();
    assert_eq!((budget.used(), budget.nr_waiting()), (model.used(), waiting), "{place}");
    assert!(waiting == 0 || model.is_moving(), "{place}: all wait");
    for number in NUMBERS {
        let (used, used_at) = model.used_by(number);
        assert_eq!(budget.used_by(client(number)), (used, used_at), "{place}");
        let first = model.next().map(|at| model.connections[at].client);
        let first = first.map(|first| (first == 0, model.used_by(first).0));
        let is_beyond = first.is_some_and(|first| first < (number == 0, used))
            || model.next_of(number).is_some_and(|(least, ..)| least < used_at);
        assert_eq!(budget.is_beyond_its_share(client(number)), is_beyond, "{place}");
    }
    let is_full = !model.has_room() || (model.used() >= LIMIT && waiting == 0);
    assert_eq!(budget.is_full(), is_full, "{place}");
}

#[test]
fn random_requests_are_served_as_the_naive_budget_serves_them() {
    for seed in 1..200_u64 {
        let mut state = seed;
        let mut next = move |limit: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % limit
        };
        let budget = MemoryBudget::new(LIMIT);
        let connections = (0..12)
            .map(|_| {
                let client = NUMBERS[usize::try_from(next(7)).unwrap()];
                Connection { client, is_proven: next(2) == 0, held: 0, waits: None }
            })
            .collect();
        let mut model = Naive { connections };
        for step in 0..400 {
            let at = usize::try_from(next(12)).unwrap();
            let who = u32::try_from(at).unwrap();
            let bytes = usize::try_from(next(MAX_BYTES)).unwrap();
            let mut served = Vec::new();
            let connection = &mut model.connections[at];
            let number = connection.client;
            let key = client(number);
            match (connection.waits, next(3)) {
                // It is closed.
                (Some((ticket, _)), 0) => {
                    let held = connection.held;
                    (connection.waits, connection.held) = (None, 0);
                    budget.cancel(key, ticket, |_, bytes, who| served.push((bytes, who)));
                    budget.release(key, held, |_, bytes, who| served.push((bytes, who)));
                    let expected = model.serve();
                    assert_eq!(served, expected, "seed {seed}, step {step}");
                }
                (Some(_), _) => {}
                (None, 0 | 1) => {
                    let rest = bytes + usize::try_from(next(MAX_BYTES)).unwrap();
                    let (held, is_proven) = (connection.held, connection.is_proven);
                    let request = Request { client: key, is_proven, bytes, rest, held };
                    let ticket = budget.reserve(&request, || who);
                    // As if it waited: is there another that returns anything?
                    connection.waits = Some((u64::MAX, rest));
                    if model.has_room() {
                        assert_eq!(ticket, None, "seed {seed}, step {step}");
                        model.connections[at].held += bytes;
                        model.connections[at].waits = None;
                    } else {
                        let ticket = ticket.expect("there is no room");
                        model.connections[at].waits = Some((ticket, rest));
                    }
                }
                (None, _) => {
                    let less = bytes.min(connection.held);
                    connection.held -= less;
                    let got = release(&budget, number, less);
                    assert_eq!(got, model.serve(), "seed {seed}, step {step}");
                }
            }
            assert_equal(&budget, &model, &format!("seed {seed}, step {step}"));
        }
        budget.clear();
        for connection in &model.connections {
            assert_eq!(release(&budget, connection.client, connection.held), []);
        }
        assert_eq!(budget.used(), 0);
        assert!(lock(&budget.state).shares.is_empty(), "no share is left");
    }
}
