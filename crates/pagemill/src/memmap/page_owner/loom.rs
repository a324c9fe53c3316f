//! Page owners under loom: of two frees of one frame, one finds its owner.

use alloc::boxed::Box;
use core::panic::Location;

use loom::model::Builder;
use loom::thread;

use super::{Entry, Owners};

#[test]
fn one_of_two_frees_finds_the_owner() {
    Builder::new().check(|| {
        let owners = Owners::new(Box::leak(Box::new([Entry::new()])));
        let site = Location::caller();
        owners.hold(0, site);
        let other = thread::spawn(move || owners.release(0));
        let is_first = owners.release(0);
        let is_other_first = other.join().expect("no panic");
        assert!(is_first != is_other_first, "{is_first} and {is_other_first}");
        assert_eq!((owners.holder(0), owners.last_holder(0)), (None, Some(site)));
    });
}
