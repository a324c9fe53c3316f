//! Accounts compared with a naive model, on one thread and on several.

use alloc::boxed::Box;
use alloc::vec::Vec;
use std::thread;

use super::*;

/// A table that lives as long as the tests.
fn accounts(nr: usize) -> Accounts {
    let entries: Vec<Entry> = (0..=nr).map(|_| Entry::new()).collect();
    Accounts::new(Box::leak(entries.into_boxed_slice()))
}

fn charge(accounts: Accounts, account: AccountNumber, nr: u64, min: u64) -> u64 {
    accounts.charge(account, nr, min, |_| thread::yield_now())
}

fn limited(max: u64) -> AccountLimits {
    AccountLimits { max, high: max / 2 }
}

#[test]
fn a_name_is_of_one_table_even_if_another_takes_its_place() {
    let entries: &'static [Entry] =
        Box::leak((0..=4).map(|_| Entry::new()).collect::<Vec<_>>().into());
    let (first, second) = (Accounts::new(&entries[..3]), Accounts::new(&entries[..2]));
    // As if the second allocator's metadata had the addresses of the first one's, which is gone.
    let theirs = [(); 2].map(|()| first.open(AccountNumber::NONE, AccountLimits::NONE).unwrap());
    let names = theirs.map(|account| first.id(account));
    assert!(names.iter().all(|&name| first.pay_from(name).is_some()));
    assert!(names.iter().all(|&name| second.pay_from(name).is_none()));
    assert_ne!(second.id(theirs[0]), names[0]);
}

#[test]
fn a_place_is_given_up_before_its_names_repeat() {
    let accounts = accounts(2);
    let first = accounts.open(AccountNumber::NONE, AccountLimits::NONE).unwrap();
    let name = accounts.id(first);
    // Relaxed, all of them: one thread.
    let state = &accounts.entries[first.index()].state;
    state.fetch_add((LAST_GENERATION - 1) * GENERATION, Ordering::Relaxed);
    accounts.close(first);
    assert_eq!(generation(state.load(Ordering::Relaxed)), LAST_GENERATION);
    let second = accounts.open(AccountNumber::NONE, AccountLimits::NONE).unwrap();
    assert_ne!(second.index(), first.index(), "the place is used up");
    let refused = accounts.open(AccountNumber::NONE, AccountLimits::NONE);
    assert_eq!(refused, Err(AccountError::TableFull { nr_accounts: 2 }));
    assert!(accounts.pay_from(name).is_none());
}

/// An account as a person would write it down.
#[derive(Clone, Debug)]
struct Naive {
    number: AccountNumber,
    parent: Option<usize>,
    max: u64,
    pages: u64,
    is_open: bool,
    /// Whether it was ever charged past its limit.
    is_forced: bool,
}

/// Adds up the pages of an account and of all below it.
fn sum(all: &[Naive], index: usize) -> u64 {
    let below = (0..all.len()).filter(|&child| all[child].parent == Some(index));
    all[index].pages + below.map(|child| sum(all, child)).sum::<u64>()
}

/// Returns how many more pages fit under all limits above.
fn fit(all: &[Naive], index: usize) -> u64 {
    let here = all[index].max.saturating_sub(sum(all, index));
    all[index].parent.map_or(here, |parent| here.min(fit(all, parent)))
}

fn is_kept(all: &[Naive], index: usize) -> bool {
    let mut children = (0..all.len()).filter(|&child| all[child].parent == Some(index));
    all[index].is_open || all[index].pages > 0 || children.any(|child| is_kept(all, child))
}

/// Numbers that come again with their seed.
fn random(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 20) as usize
}

#[test]
fn random_charges_equal_the_naive_sums() {
    const ROOM: usize = 6;
    for seed in 1..=if cfg!(miri) { 1 } else { 40_u64 } {
        let (accounts, mut state, mut all) = (accounts(ROOM), seed, Vec::<Naive>::new());
        for step in 0..if cfg!(miri) { 60 } else { 600 } {
            let which = random(&mut state) % all.len().max(1);
            let nr = (random(&mut state) % 40) as u64;
            match random(&mut state) % 10 {
                0 => {
                    let parent = Some(which).filter(|&at| all.get(at).is_some_and(|a| a.is_open));
                    let number = parent.map_or(AccountNumber::NONE, |parent| all[parent].number);
                    let taken = (0..all.len()).filter(|&index| is_kept(&all, index)).count();
                    let opened = accounts.open(number, limited(nr * 4));
                    assert_eq!(opened.is_ok(), taken < ROOM, "seed {seed}, step {step}");
                    if let Ok(number) = opened {
                        let max = nr * 4;
                        all.push(Naive {
                            number,
                            parent,
                            max,
                            pages: 0,
                            is_open: true,
                            is_forced: false,
                        });
                    }
                }
                1 if !all.is_empty() && all[which].is_open => {
                    all[which].is_open = false;
                    accounts.close(all[which].number);
                }
                2 if !all.is_empty() && all[which].is_open => {
                    assert_eq!(accounts.charge_past_limits(all[which].number, nr), nr);
                    all[which].pages += nr;
                    let above = |at: &usize| all[*at].parent;
                    let line: Vec<_> = core::iter::successors(Some(which), above).collect();
                    line.into_iter().for_each(|at| all[at].is_forced = true);
                }
                3..6 if !all.is_empty() && all[which].is_open => {
                    let min = if nr.is_multiple_of(2) { nr } else { 1 };
                    let charged = charge(accounts, all[which].number, nr, min);
                    let fits = fit(&all, which).min(nr);
                    assert_eq!(charged, if fits >= min { fits } else { 0 }, "seed {seed}");
                    all[which].pages += charged;
                }
                _ if !all.is_empty() => {
                    let nr = nr.min(all[which].pages);
                    accounts.uncharge(all[which].number, nr);
                    all[which].pages -= nr;
                }
                _ => {}
            }
            for index in (0..all.len()).filter(|&index| all[index].is_open) {
                let usage = accounts.usage(all[index].number);
                assert_eq!(usage.current, sum(&all, index), "seed {seed}, step {step}");
                assert!(usage.peak >= usage.current);
                assert!(usage.peak <= all[index].max || all[index].is_forced, "seed {seed}");
            }
        }
    }
}

#[test]
fn usage_tells_peak_and_how_often_marks_were_met() {
    let accounts = accounts(2);
    let top = accounts.open(AccountNumber::NONE, limited(100)).unwrap();
    let leaf = accounts.open(top, AccountLimits::NONE).unwrap();
    assert_eq!(charge(accounts, leaf, 60, 60), 60);
    assert_eq!(charge(accounts, leaf, 60, 60), 0, "the one above is at its limit");
    assert_eq!(charge(accounts, leaf, 60, 1), 40);
    assert_eq!(accounts.usage(leaf).peak, 100, "what was refused above was never charged");
    accounts.uncharge(leaf, 90);
    let usage = accounts.usage(top);
    assert_eq!((usage.current, usage.peak, usage.nr_high, usage.nr_max), (10, 100, 2, 2));
    accounts.set_limits(top, limited(5));
    assert_eq!(charge(accounts, leaf, 1, 1), 0, "pages above a lower limit stay");
    assert_eq!(accounts.usage(leaf).current, 10);
    accounts.uncharge(leaf, 10);
    assert_eq!(charge(accounts, leaf, 7, 1), 5);
    accounts.uncharge(leaf, 5);
}

#[test]
fn a_closed_account_keeps_its_place_until_its_last_page_is_back() {
    let accounts = accounts(2);
    let top = accounts.open(AccountNumber::NONE, AccountLimits::NONE).unwrap();
    let leaf = accounts.open(top, AccountLimits::NONE).unwrap();
    assert_eq!(charge(accounts, leaf, 3, 3), 3);
    accounts.close(leaf);
    accounts.close(top);
    for left in [2, 1] {
        accounts.uncharge(leaf, 1);
        assert_eq!(accounts.usage(top).current, left);
        let full = accounts.open(AccountNumber::NONE, AccountLimits::NONE);
        assert_eq!(full, Err(AccountError::TableFull { nr_accounts: 2 }));
    }
    accounts.uncharge(leaf, 1);
    for _ in 0..2 {
        let fresh = accounts.open(AccountNumber::NONE, AccountLimits::NONE).unwrap();
        assert_eq!(accounts.usage(fresh), AccountUsage::default(), "nothing of who was here");
    }
}

#[test]
#[should_panic(expected = "returns 2 pages and has 1")]
fn giving_back_more_than_was_charged_is_refused() {
    let accounts = accounts(1);
    let account = accounts.open(AccountNumber::NONE, AccountLimits::NONE).unwrap();
    charge(accounts, account, 1, 1);
    accounts.uncharge(account, 2);
}

#[test]
fn threads_charge_and_give_back_and_no_limit_is_exceeded() {
    const ROUNDS: usize = if cfg!(miri) { 15 } else { 20_000 };
    let accounts = accounts(8);
    let top = accounts.open(AccountNumber::NONE, limited(50)).unwrap();
    thread::scope(|scope| {
        for seed in 1..=4_u64 {
            scope.spawn(move || {
                let mut state = seed;
                for _ in 0..ROUNDS {
                    // Closed while it has pages, so that the last one frees its place.
                    let leaf = accounts.open(top, limited(30)).unwrap();
                    let nr = (random(&mut state) % 40) as u64;
                    let charged = charge(accounts, leaf, nr, 1);
                    assert!(charged <= 30 && accounts.usage(leaf).current == charged);
                    accounts.close(leaf);
                    let half = charged / 2;
                    accounts.uncharge(leaf, half);
                    accounts.uncharge(leaf, charged - half);
                    let direct = charge(accounts, top, nr, nr);
                    accounts.uncharge(top, direct);
                }
            });
        }
    });
    let usage = accounts.usage(top);
    assert_eq!(usage.current, 0);
    accounts.close(top);
    let all: Vec<_> =
        (0..8).map(|_| accounts.open(AccountNumber::NONE, AccountLimits::NONE)).collect();
    assert!(all.iter().all(Result::is_ok), "every place is free again");
}

/// Adding first and comparing then refused others for as long as it took to take the pages back.
#[test]
fn a_charge_that_fits_is_not_refused_for_one_that_does_not() {
    const ROUNDS: usize = if cfg!(miri) { 15 } else { 200_000 };
    let accounts = accounts(3);
    let top = accounts.open(AccountNumber::NONE, limited(1000)).unwrap();
    let leaf = accounts.open(top, limited(5000)).unwrap();
    let other = accounts.open(top, limited(5000)).unwrap();
    thread::scope(|scope| {
        for (account, nr) in [(top, 1001), (leaf, 4998), (other, 1001)] {
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    assert_eq!(charge(accounts, account, nr, nr), 0);
                }
            });
        }
        for account in [top, leaf, other] {
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    assert_eq!(charge(accounts, account, 4, 4), 4, "{account:?}");
                    accounts.uncharge(account, 4);
                }
            });
        }
    });
}

#[test]
fn a_name_is_good_until_the_account_is_closed() {
    let (accounts, others) = (accounts(1), accounts(1));
    let account = accounts.open(AccountNumber::NONE, AccountLimits::NONE).unwrap();
    let id = accounts.id(account);
    let mut payer = accounts.pay_from(id).unwrap();
    assert!(others.pay_from(id).is_none(), "another table");
    assert_eq!(payer.charge(5, 5, Gfp::KERNEL, |_| {}), 5);
    payer.hand_over(2);
    accounts.close(account);
    assert!(accounts.pay_from(id).is_none(), "it is closed, and in its place");
    drop(payer);
    assert_eq!(accounts.usage(account).current, 2, "the rest went back with the payer");
    accounts.uncharge(account, 2);
    let next = accounts.open(AccountNumber::NONE, AccountLimits::NONE).unwrap();
    assert_eq!(next, account);
    assert!(accounts.pay_from(id).is_none() && accounts.id(next) != id);
}

#[test]
fn each_book_that_is_wrong_is_found() {
    type Spoil<'a> = &'a dyn Fn(&Accounts);

    // Relaxed, all of them: one thread.
    let set = |count: &AtomicU64, value| count.store(value, Ordering::Relaxed);
    let spoils: [(Book, Spoil<'_>); 9] = [
        (Book::AccountUsers, &|accounts| set(&accounts.entries[1].state, 1)),
        (Book::AccountUsers, &|accounts| set(&accounts.entries[2].state, 3)),
        (Book::AccountUsers, &|accounts| set(&accounts.entries[3].state, 2)),
        (Book::AccountUsers, &|accounts| set(&accounts.entries[3].current, 1)),
        (Book::AccountPages, &|accounts| set(&accounts.entries[1].current, 6)),
        (Book::AccountPages, &|accounts| {
            // Two children whose counts have wrapped.
            let root = AccountNumber::new(1);
            let other = accounts.open(root, AccountLimits::NONE).unwrap();
            assert_eq!(charge(*accounts, other, 1, 1), 1);
            for entry in [2, 3] {
                set(&accounts.entries[entry].current, u64::MAX - 2);
            }
        }),
        (Book::AccountPeak, &|accounts| set(&accounts.entries[2].peak, 6)),
        (Book::Charged, &|accounts| {
            for count in [&accounts.entries[1].current, &accounts.entries[1].peak] {
                set(count, 8);
            }
        }),
        (Book::AccountParent, &|accounts| {
            // Each is the other's parent; the counts of users agree.
            accounts.entries[1].parent.store(2, Ordering::Relaxed);
            set(&accounts.entries[2].state, 3);
        }),
    ];
    for (number, (book, spoil)) in spoils.into_iter().enumerate() {
        let accounts = accounts(3);
        let parent = accounts.open(AccountNumber::NONE, AccountLimits::NONE).unwrap();
        let child = accounts.open(parent, AccountLimits::NONE).unwrap();
        assert_eq!(charge(accounts, child, 7, 7), 7);
        assert_eq!(accounts.check(7), Ok(()));
        spoil(&accounts);
        let error = accounts.check(7).unwrap_err();
        assert_eq!(error.book, book, "number {number}: {error}");
    }
}
