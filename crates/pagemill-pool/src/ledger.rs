//! Ledger: records which pages in use came from the reserve, and for a tracked pool who holds each
//! page.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use core::panic::Location;

use arrayvec::ArrayVec;
use pagemill::Platform;
use pagemill::units::Pfn;
use spin::Mutex;

/// Records about pages in use, by the number of their first frame.
///
/// Accessed only while there is one: the hot paths read one word that says so.
///
/// `ledger-irq`: the lock is held with interrupts off, so a handler that returns a page never waits for
/// the code that it interrupted. Returning a page neither allocates nor frees heap memory here, because
/// a handler may not. Taking a page, which only the owner does, may do both.
///
/// In a child of `fork` there are no records, and the lock is not taken: a thread that does not exist
/// in the child may hold it forever.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    /// `None` for a page that was returned: the owner frees its entry later.
    holders: BTreeMap<u64, Option<&'static Location<'static>>>,
    /// Number of entries that are `None`.
    nr_back: usize,
    reserve: ArrayVec<u64, MAX_RESERVE>,
}

/// Entries of returned pages are all freed at once, when there are more than this.
const NR_BACK_MIN: usize = if cfg!(miri) { 16 } else { 1024 };

/// Maximum number of reserve pages that one pool may have in use: as many as one refill takes. A fixed
/// array, because the heap may have no memory when the reserve is needed.
const MAX_RESERVE: usize = 64;

/// Enables interrupts again on drop, also after a panic.
struct IrqOff<'a, P: Platform>(&'a P, usize);

impl<P: Platform> Drop for IrqOff<'_, P> {
    fn drop(&mut self) {
        self.0.irq_restore(self.1);
    }
}

/// A call site that holds pages of a pool, and their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// The call that took the pages.
    pub site: &'static Location<'static>,
    /// Number of its pages still in use.
    pub nr_pages: usize,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} taken at {}", self.nr_pages, self.site)
    }
}

impl Ledger {
    /// Records the call site that takes a page; called only by the owner.
    pub(crate) fn note_holder(
        &self,
        platform: &impl Platform,
        pfn: Pfn,
        site: &'static Location<'static>,
    ) {
        self.with(platform, |pages| {
            if pages.nr_back > NR_BACK_MIN.max(pages.holders.len() / 2) {
                pages.holders.retain(|_, holder| holder.is_some());
                pages.nr_back = 0;
            }
            if pages.holders.insert(pfn.value(), Some(site)) == Some(None) {
                pages.nr_back -= 1;
            }
        });
    }

    /// Records that a page came from the reserve; returns false if there are too many such pages
    /// already.
    ///
    /// `then` runs under the lock, as in [`forget`](Self::forget), so that other state about the
    /// reserve changes in the same order as the ledger.
    pub(crate) fn note_reserve(
        &self,
        platform: &impl Platform,
        pfn: Pfn,
        then: impl FnOnce(),
    ) -> bool {
        let noted = self.with(platform, |pages| {
            let noted = pages.reserve.try_push(pfn.value()).is_ok();
            if noted {
                then();
            }
            noted
        });
        noted.unwrap_or(false)
    }

    /// Removes the record of a returned page, and returns whether it came from the reserve. Runs
    /// `if_whole` if no other reserve page is in use.
    pub(crate) fn forget(
        &self,
        platform: &impl Platform,
        pfn: Pfn,
        if_whole: impl FnOnce(),
    ) -> bool {
        let is_reserve = self.with(platform, |pages| {
            if let Some(holder) = pages.holders.get_mut(&pfn.value())
                && holder.take().is_some()
            {
                pages.nr_back += 1;
            }
            let position = pages.reserve.iter().position(|&reserved| reserved == pfn.value());
            let Some(position) = position else { return false };
            pages.reserve.swap_remove(position);
            if pages.reserve.is_empty() {
                if_whole();
            }
            true
        });
        is_reserve.unwrap_or(false)
    }

    /// Returns the holders, those with the most pages first.
    pub(crate) fn holders(&self, platform: &impl Platform) -> Vec<Holder> {
        let mut sites = BTreeMap::new();
        for site in self.sites(platform) {
            *sites.entry(site).or_insert(0) += 1;
        }
        let holder = |(site, nr_pages)| Holder { site, nr_pages };
        let mut holders: Vec<_> = sites.into_iter().map(holder).collect();
        holders.sort_by_key(|holder| core::cmp::Reverse(holder.nr_pages));
        holders
    }

    /// Returns the call site of each page in use. Allocates the memory for it without the lock.
    fn sites(&self, platform: &impl Platform) -> Vec<&'static Location<'static>> {
        let mut sites = Vec::new();
        loop {
            let missing = self.with(platform, |pages| {
                let nr = pages.holders.len() - pages.nr_back;
                if nr <= sites.capacity() {
                    sites.extend(pages.holders.values().flatten());
                    return 0;
                }
                nr
            });
            let missing = missing.unwrap_or(0);
            if missing == 0 {
                return sites;
            }
            sites.reserve(missing);
        }
    }

    /// Runs `body` under the lock (`ledger-irq`); returns `None` in a child of `fork`.
    fn with<T>(&self, platform: &impl Platform, body: impl FnOnce(&mut Pages) -> T) -> Option<T> {
        if platform.is_abandoned() {
            return None;
        }
        let _irq = IrqOff(platform, platform.irq_save());
        let mut spins = 0;
        let mut pages = loop {
            if let Some(pages) = self.0.try_lock() {
                break pages;
            }
            platform.relax(spins);
            spins = spins.saturating_add(1);
        };
        Some(body(&mut pages))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use pagemill_testkit::{Machine, interrupts_are_off};

    use super::*;

    #[test]
    fn the_reserve_flag_changes_under_the_lock_of_the_ledger() {
        let (ledger, machine) = (Ledger::default(), Machine::new(1));
        let one = Pfn::new(1);
        let is_locked = || {
            assert!(ledger.0.try_lock().is_none(), "another could come between");
            assert!(interrupts_are_off(), "a handler could wait for what it interrupted");
        };
        assert!(ledger.note_reserve(&machine, one, is_locked));
        assert!(!ledger.forget(&machine, Pfn::new(2), || panic!("it is out")));
        let mut reported = false;
        assert!(ledger.forget(&machine, one, || {
            is_locked();
            reported = true;
        }));
        assert!(reported && !interrupts_are_off());
        assert!(!ledger.forget(&machine, one, || panic!("that was reported already")));
    }

    #[test]
    fn a_child_of_fork_waits_for_no_thread_that_it_does_not_have() {
        let (ledger, machine) = (Ledger::default(), Machine::new(1));
        let _held = ledger.0.lock();
        machine.abandon();
        let one = Pfn::new(1);
        ledger.note_holder(&machine, one, Location::caller());
        assert!(!ledger.note_reserve(&machine, one, || panic!("it was not noted")));
        assert!(!ledger.forget(&machine, one, || panic!("there are no notes")));
        assert_eq!(ledger.holders(&machine), []);
    }

    #[test]
    fn pages_that_came_back_have_no_holder_and_their_entries_go_in_the_end() {
        let (ledger, machine) = (Ledger::default(), Machine::new(1));
        let site = Location::caller();
        let nr = 4 * NR_BACK_MIN;
        for pfn in 0..nr as u64 {
            ledger.note_holder(&machine, Pfn::new(pfn), site);
            assert_eq!(ledger.holders(&machine), [Holder { site, nr_pages: 1 }]);
            assert!(!ledger.forget(&machine, Pfn::new(pfn), || ()));
            assert!(!ledger.forget(&machine, Pfn::new(pfn), || ()), "once more changes nothing");
            assert!(ledger.0.lock().holders.len() <= NR_BACK_MIN + 1);
        }
        assert_eq!(ledger.holders(&machine), []);
    }
}
