//! Accounts under loom: a charge that fits is concurrent with one that does not.

use alloc::boxed::Box;
use alloc::vec::Vec;

use loom::model::Builder;
use loom::thread;

use super::{AccountLimits, Accounts, Entry};
use crate::base::raw_page::AccountNumber;

/// Two threads charge one account, whose parent has room for one of them.
fn charges(direct: bool) {
    Builder::new().check(move || {
        let entries: Vec<Entry> = (0..=2).map(|_| Entry::new()).collect();
        let accounts = Accounts::new(Box::leak(entries.into_boxed_slice()));
        let limited = |max| AccountLimits { max, high: u64::MAX };
        let top = accounts.open(AccountNumber::NONE, limited(8)).expect("there is room");
        let leaf = accounts.open(top, limited(10)).expect("there is room");
        let charge = move |account, nr| accounts.charge(account, nr, nr, |_| thread::yield_now());
        let fits = if direct { top } else { leaf };
        let other = thread::spawn(move || {
            assert_eq!(charge(fits, 4), 4, "it fits, whatever the other one does");
            accounts.uncharge(fits, 4);
        });
        assert_eq!(charge(leaf, 9), 0, "more than the one above may have");
        other.join().expect("no panic");
        assert_eq!((accounts.usage(leaf).current, accounts.usage(top).current), (0, 0));
    });
}

#[test]
fn a_charge_that_fits_meets_one_that_does_not() {
    charges(false);
}

#[test]
fn a_charge_of_the_one_above_meets_one_that_does_not_fit() {
    charges(true);
}
