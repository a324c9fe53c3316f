//! The table of connections against a list that is searched from end to end.

use super::*;
use crate::limits::client::numbered::{NUMBERS, client, client_of};

const NOW: u64 = 100_000;

fn unproven() -> Standing {
    Standing { useful: 0, since: Some(NOW) }
}

fn idle(useful: u64) -> Standing {
    Standing { useful, since: Some(useful) }
}

fn busy() -> Standing {
    Standing { useful: NOW, since: None }
}

/// Makes a table of connections, and returns the token of the one that a new one replaces.
fn replaced(entries: &[(u64, Standing)], newcomer: u64) -> Option<usize> {
    let mut connection_table = ConnectionTable::new();
    for (token, &(number, standing)) in entries.iter().enumerate() {
        connection_table.insert(token as u64, client(number), (token, standing));
    }
    connection_table.least_useful(client(newcomer), NOW, |entry| entry.1).map(|entry| entry.0)
}

#[test]
fn connections_that_only_send_null_are_replaced_oldest_first() {
    assert_eq!(replaced(&[(1, idle(NOW)), (1, unproven()), (1, unproven())], 1), Some(1));
}

#[test]
fn connections_in_use_are_replaced_only_for_a_client_with_fewer() {
    let four = [(1, busy()), (1, idle(NOW - 10)), (1, busy()), (2, busy())];
    assert_eq!(replaced(&four, 1), None, "its own client's are all in use");
    assert_eq!(replaced(&four, 2), Some(1), "client 1 has two more: its longest without a call");
    assert_eq!(replaced(&[(1, busy()), (2, busy())], 3), None, "all have one");
    assert_eq!(replaced(&[(1, idle(NOW - MIN_USELESS_MS)), (2, busy())], 3), Some(0));
}

#[test]
fn strangers_give_way_and_no_client_gives_way_to_them() {
    assert_eq!(replaced(&[(1, unproven()), (0, busy())], 2), Some(1));
    assert_eq!(replaced(&[(1, unproven()), (1, idle(1))], 0), None);
    assert_eq!(replaced(&[(1, unproven()), (0, unproven())], 0), Some(1));
}

#[test]
fn the_client_with_most_connections_gives_way_first() {
    let two_clients = [(1, unproven()), (2, idle(1)), (2, idle(2))];
    assert_eq!(replaced(&two_clients, 3), Some(1), "client 2 has two");
}

#[test]
fn within_a_network_the_address_with_most_connections_gives_way() {
    let three = [(10, busy()), (10, busy()), (11, busy()), (12, busy())];
    assert_eq!(replaced(&three, 20), Some(0), "the network has four, and its first address two");
    assert_eq!(replaced(&three, 13), Some(0), "a new address has none");
    assert_eq!(replaced(&three, 11), None, "it has one");
    let mixed = [(11, idle(1)), (10, unproven()), (10, idle(NOW))];
    assert_eq!(replaced(&mixed, 12), Some(1), "before the idle one of an address with one");
}

/// The rules one by one, as the documentation says them.
fn naive(entries: &[(u64, u64, Standing)], newcomer: u64) -> Option<u64> {
    let nr_at = |number| entries.iter().filter(|entry| entry.1 == number).count();
    let nr_of = |number: u64| {
        entries.iter().filter(|entry| client_of(entry.1) == client_of(number)).count()
    };
    let mut left: Vec<_> = entries
        .iter()
        .copied()
        .filter(|&(_, number, standing)| {
            let aged = standing.since.is_some_and(|since| NOW - since >= MIN_USELESS_MS);
            let useless = aged || (standing.useful == 0 && standing.since.is_some());
            (number == 0 || newcomer != 0)
                && (useless
                    || (client_of(number) != client_of(newcomer)
                        && nr_of(number) > nr_of(newcomer) + 1)
                    || (client_of(number) == client_of(newcomer)
                        && nr_at(number) > nr_at(newcomer) + 1)
                    || (number == 0 && newcomer != 0))
        })
        .collect();
    if left.iter().any(|entry| entry.1 == 0) {
        left.retain(|entry| entry.1 == 0);
    }
    let most = left.iter().map(|entry| nr_of(entry.1)).max()?;
    left.retain(|entry| nr_of(entry.1) == most);
    let most = left.iter().map(|entry| nr_at(entry.1)).max()?;
    left.retain(|entry| nr_at(entry.1) == most);
    let earliest = left.iter().map(|entry| entry.2.useful).min()?;
    left.retain(|entry| entry.2.useful == earliest);
    left.iter().map(|entry| entry.0).min()
}

#[test]
fn random_rosters_lose_the_one_that_the_naive_rules_name() {
    for seed in 1..300_u64 {
        let mut state = seed;
        let mut next = move |limit: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % limit
        };
        let mut connection_table = ConnectionTable::new();
        let mut model: Vec<(u64, u64, Standing)> = Vec::new();
        for token in 0..200 {
            let number = NUMBERS[usize::try_from(next(7)).unwrap()];
            if model.len() >= 20 {
                let wanted = naive(&model, number);
                let victim =
                    connection_table.least_useful(client(number), NOW, |&(_, standing)| standing);
                let victim = victim.map(|&(token, _)| token);
                assert_eq!(victim, wanted, "seed {seed}, token {token}");
                let victim = victim.unwrap_or_else(|| model[usize::try_from(next(20)).unwrap()].0);
                assert!(
                    connection_table.remove(victim).is_some()
                        && connection_table.remove(victim).is_none()
                );
                model.retain(|entry| entry.0 != victim);
            }
            let useful = if next(3) == 0 { 0 } else { NOW - next(3000) };
            let since = (next(3) > 0).then(|| NOW - next(3000));
            let standing = Standing { useful, since };
            connection_table.insert(token, client(number), (token, standing));
            model.push((token, number, standing));
            assert_eq!(connection_table.len(), model.len());
            let tokens: Vec<u64> = connection_table.iter().map(|entry| entry.0).collect();
            assert!(tokens.is_sorted() && tokens.len() == model.len());
            let at: Vec<_> = connection_table.addresses().collect();
            assert_eq!(at.iter().map(|&(_, nr)| nr).sum::<usize>(), model.len());
            assert!(at.iter().all(|&(other, nr)| nr > 0 && connection_table.nr_of(other).1 == nr));
            for number in NUMBERS {
                let nr = |is_of: &dyn Fn(u64) -> bool| {
                    model.iter().filter(|entry| is_of(entry.1)).count()
                };
                let of_client = nr(&|other| client_of(other) == client_of(number));
                let at_address = nr(&|other| other == number);
                assert_eq!(connection_table.nr_of(client(number)), (of_client, at_address));
            }
        }
    }
}
