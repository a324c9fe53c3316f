//! Which pages are out and need attention: whose they are, and which came from the reserve.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use core::panic::Location;

use arrayvec::ArrayVec;
use pagemill::Pfn;
use spin::Mutex;

/// Notes about pages that are out, by the number of their first frame.
///
/// Looked at only while there is one: the hot paths read a word that says whether there is.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    holders: BTreeMap<u64, &'static Location<'static>>,
    reserve: ArrayVec<u64, MAX_RESERVE>,
}

/// Pages from the reserve that one pool may have out: as many as one refill brings. There is no heap
/// to be asked for more where the reserve is needed.
const MAX_RESERVE: usize = 64;

/// Who has pages of a pool, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// The call that took them.
    pub site: &'static Location<'static>,
    /// How many of them are still out.
    pub nr_pages: usize,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} taken at {}", self.nr_pages, self.site)
    }
}

impl Ledger {
    pub(crate) fn note_holder(&self, pfn: Pfn, site: &'static Location<'static>) {
        self.0.lock().holders.insert(pfn.value(), site);
    }

    /// Notes that a page came from the reserve; false if there are too many of them already.
    ///
    /// `then` is called before anybody can look at the ledger again, as in [`forget`](Self::forget):
    /// what is told elsewhere of the reserve follows what stands here.
    pub(crate) fn note_reserve(&self, pfn: Pfn, then: impl FnOnce()) -> bool {
        let mut pages = self.0.lock();
        let noted = pages.reserve.try_push(pfn.value()).is_ok();
        if noted {
            then();
        }
        noted
    }

    /// Forgets a page that came back, and tells whether it came from the reserve; `if_whole` is
    /// called if no other one that did is out.
    pub(crate) fn forget(&self, pfn: Pfn, if_whole: impl FnOnce()) -> bool {
        let mut pages = self.0.lock();
        pages.holders.remove(&pfn.value());
        let position = pages.reserve.iter().position(|&reserved| reserved == pfn.value());
        let Some(position) = position else { return false };
        pages.reserve.swap_remove(position);
        if pages.reserve.is_empty() {
            if_whole();
        }
        true
    }

    /// Returns who has pages, those with the most first.
    pub(crate) fn holders(&self) -> Vec<Holder> {
        let mut sites = BTreeMap::new();
        for &site in self.0.lock().holders.values() {
            *sites.entry(site).or_insert(0) += 1;
        }
        let holder = |(site, nr_pages)| Holder { site, nr_pages };
        let mut holders: Vec<_> = sites.into_iter().map(holder).collect();
        holders.sort_by_key(|holder| core::cmp::Reverse(holder.nr_pages));
        holders
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_the_reserve_follows_what_stands_in_the_ledger() {
        let ledger = Ledger::default();
        let one = Pfn::new(1);
        let is_locked = || assert!(ledger.0.try_lock().is_none(), "another could come between");
        assert!(ledger.note_reserve(one, is_locked));
        assert!(!ledger.forget(Pfn::new(2), || panic!("it is out")));
        let mut told = false;
        assert!(ledger.forget(one, || {
            is_locked();
            told = true;
        }));
        assert!(told);
        assert!(!ledger.forget(one, || panic!("that was told already")));
    }
}
