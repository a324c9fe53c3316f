//! Hooks of allocating and freeing: fault injection, charges, poison, page owners, zeroing, tracing.

use core::fmt;

use crate::account::table::{AccountId, Payer};
use crate::base::gfp::Gfp;
use crate::base::raw_page::{AccountNumber, RawPage};
use crate::base::units::{Order, Pfn};
use crate::memmap::page_owner::Owners;
use crate::page_alloc::allocator::{PageAllocator, Site};
use crate::page_alloc::fault::FaultConfig;
use crate::page_alloc::slow_path_flags::{FAULTS, OWNERS, POISON, TRACE};
use crate::platform::platform::{IrqOff, Platform};
use crate::platform::trace::Event;

impl<P: Platform> PageAllocator<P> {
    /// Sets which allocations fail from now on; [`FaultConfig::NEVER`] turns fault injection off.
    pub fn inject_faults(&self, config: &FaultConfig) {
        self.faults.configure(config);
        self.slow_path_flags.set(FAULTS, config.interval != 0);
    }

    /// Returns whether fault injection makes a request fail.
    #[inline]
    pub(crate) fn is_faulted(&self, gfp: Gfp, order: Order) -> bool {
        let is_faulted = self.slow_path_flags.has(FAULTS) && self.faults.should_fail(gfp, order);
        if is_faulted {
            self.platform().trace(Event::FaultInjected { gfp, order });
        }
        is_faulted
    }

    /// Charges the payer as [`Payer::charge`] does, and traces a charge that a limit cut short.
    pub(crate) fn charge(&self, payer: &mut Payer, nr: u64, min: u64, gfp: Gfp) -> u64 {
        if payer.account().is_none() {
            return payer.charge(nr, min, gfp, |_| {});
        }
        // With interrupts off: a handler that charges the same tree would wait for this CPU.
        let charged = {
            let _irq = IrqOff::new(self.platform());
            payer.charge(nr, min, gfp, |spins| self.platform().relax(spins))
        };
        if charged < nr
            && let Some(account) = payer.id()
        {
            self.platform().trace(Event::AccountRefused { account, wanted: nr, charged });
        }
        charged
    }

    /// Returns the account that pays for a request: the one that it names, or the platform's current
    /// one if its flags say so. Returns `None` if that account is closed and the request may fail.
    pub(crate) fn payer(&self, account: Option<AccountId>, gfp: Gfp) -> Option<Payer> {
        let current = || self.platform().current_account();
        let id = account.or_else(|| if gfp.contains(Gfp::ACCOUNT) { current() } else { None });
        let nobody = Payer::nobody(self.accounts());
        match id {
            None => Some(nobody),
            Some(id) => {
                self.accounts().pay_from(id).or(gfp.contains(Gfp::NOFAIL).then_some(nobody))
            }
        }
    }

    /// Prepares a new block for its owner: checks the poison, records the owner, zeroes and traces.
    ///
    /// Not inlined: once in the code of all callers, which are slow anyway.
    #[inline(never)]
    pub(crate) fn finish(
        &self,
        page: RawPage,
        account: AccountNumber,
        gfp: Gfp,
        site: Site,
    ) -> RawPage {
        let nr_pages = page.order().nr_pages();
        if self.slow_path_flags.has(POISON)
            && let Some(position) = self.find_unpoisoned(page)
        {
            used_after_free(page, position);
        }
        if self.slow_path_flags.has(OWNERS) {
            let first = self.frame_of(page);
            (first..first + nr_pages).for_each(|frame| self.owners().hold(frame, site));
        }
        if gfp.contains(Gfp::ZERO) {
            self.zero(page.pfn(), nr_pages);
        }
        if self.slow_path_flags.has(TRACE) {
            let (pfn, order, migratetype) = (page.pfn(), page.order(), gfp.migratetype());
            self.platform().trace(Event::PageAlloc { pfn, order, gfp, migratetype });
            // The tracer may have detached.
            self.look_for_tracers();
        }
        page.charged_to(account)
    }

    /// Fills blocks with zeroes, as [`zero`](Self::zero) does: by one call for each run of frames.
    ///
    /// Not inlined: once in the code of all callers.
    #[inline(never)]
    pub(crate) fn zero_all(&self, pages: &[RawPage]) {
        let blocks = pages.iter().map(|page| (page.pfn(), page.order().nr_pages()));
        runs(blocks, |first, nr_pages| self.zero(first, nr_pages));
    }

    /// Runs the hooks of a block that is being freed: owner, poison, trace.
    ///
    /// # Panics
    /// If owners are recorded and one of the frames has none, with its last owner.
    #[track_caller]
    pub(crate) fn note_freed(&self, page: RawPage) {
        let nr_pages = page.order().nr_pages();
        if self.slow_path_flags.has(TRACE) {
            self.platform().trace(Event::PageFree { pfn: page.pfn(), order: page.order() });
            self.look_for_tracers();
        }
        if self.slow_path_flags.has(OWNERS) {
            let first = self.frame_of(page);
            let mut frames = first..first + nr_pages;
            // All are checked before the first is released, so that a wrong free changes nothing.
            let is_held = |frame: &usize| self.owners().holder(*frame).is_some();
            let not_held = frames.clone().find(|frame| !is_held(frame));
            if let Some(frame) = not_held.or_else(|| frames.find(|&f| !self.owners().release(f))) {
                let pfn = page.pfn().offset((frame - first) as u64);
                freed_twice(page, &NotInUse::new(pfn, self.owners(), frame));
            }
        }
        if self.slow_path_flags.has(POISON) {
            self.poison(page.pfn(), page.order());
        }
    }
}

/// Calls `each` for the runs of frames that blocks make, each block a first frame and a number of frames. A
/// block prolongs the run before it if it follows that run or precedes it: batches have ascending and
/// descending frames.
fn runs(blocks: impl Iterator<Item = (Pfn, usize)>, mut each: impl FnMut(Pfn, usize)) {
    let mut run: Option<(Pfn, usize)> = None;
    for (pfn, nr_pages) in blocks {
        run = Some(match run {
            Some((first, nr)) if first.offset(nr as u64) == pfn => (first, nr + nr_pages),
            Some((first, nr)) if pfn.offset(nr_pages as u64) == first => (pfn, nr + nr_pages),
            before => {
                before.into_iter().for_each(|(first, nr)| each(first, nr));
                (pfn, nr_pages)
            }
        });
    }
    run.into_iter().for_each(|(first, nr)| each(first, nr));
}

#[cold]
fn used_after_free(page: RawPage, position: usize) -> ! {
    panic!(
        "use after free: byte {position} of the block of order {} at frame {} was written while it \
         was free",
        page.order(),
        page.pfn()
    )
}

#[cold]
#[track_caller]
fn freed_twice(page: RawPage, frame: &NotInUse) -> ! {
    let (order, first) = (page.order(), page.pfn());
    panic!("double free of the block of order {order} at frame {first}: {frame}")
}

/// Says that a frame is not in use, and who used it last.
pub(crate) struct NotInUse {
    pfn: Pfn,
    last_owner: Option<Site>,
    was_handed_in: bool,
}

impl NotInUse {
    pub(crate) fn new(pfn: Pfn, owners: Owners, frame: usize) -> Self {
        let last_owner = owners.last_holder(frame);
        Self { pfn, last_owner, was_handed_in: owners.was_handed_in(frame) }
    }
}

impl fmt::Display for NotInUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pfn, last_owner, was_handed_in } = self;
        match last_owner {
            Some(site) if *was_handed_in => write!(
                f,
                "frame {pfn} is free; it was handed in by the call at {site}, and no call has \
                 allocated it yet"
            ),
            Some(site) => write!(
                f,
                "frame {pfn} is free already; its last owner got it from the call at {site}"
            ),
            None => write!(f, "frame {pfn} is free; no call has allocated it yet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn runs_of(blocks: &[(u64, usize)]) -> Vec<(u64, usize)> {
        let mut found = Vec::new();
        let blocks = blocks.iter().map(|&(pfn, nr)| (Pfn::new(pfn), nr));
        runs(blocks, |first, nr| found.push((first.value(), nr)));
        found
    }

    #[test]
    fn runs_join_blocks_that_follow_or_precede() {
        assert_eq!(runs_of(&[]), []);
        assert_eq!(runs_of(&[(7, 1)]), [(7, 1)]);
        assert_eq!(runs_of(&[(7, 1), (8, 1), (9, 1)]), [(7, 3)]);
        assert_eq!(runs_of(&[(9, 1), (8, 1), (7, 1)]), [(7, 3)]);
        assert_eq!(runs_of(&[(8, 8), (0, 8), (16, 8)]), [(0, 24)]);
        assert_eq!(runs_of(&[(8, 8), (24, 8), (16, 8)]), [(8, 8), (16, 16)]);
        assert_eq!(runs_of(&[(1, 1), (3, 1), (5, 1)]), [(1, 1), (3, 1), (5, 1)]);
    }

    /// Every order of four neighbours and one block apart: the same frames, none of them twice.
    #[test]
    fn runs_have_exactly_the_frames_of_the_blocks() {
        let mut blocks = [(0, 2), (2, 1), (3, 4), (7, 1), (100, 3)];
        let frames = |runs: &[(u64, usize)]| {
            let mut frames: Vec<u64> =
                runs.iter().flat_map(|&(first, nr)| (first..).take(nr)).collect();
            frames.sort_unstable();
            frames
        };
        let all = frames(&blocks);
        permute(&mut blocks, 0, &mut |blocks| assert_eq!(frames(&runs_of(blocks)), all));
    }

    fn permute(blocks: &mut [(u64, usize)], from: usize, each: &mut impl FnMut(&[(u64, usize)])) {
        if from == blocks.len() {
            return each(blocks);
        }
        for other in from..blocks.len() {
            blocks.swap(from, other);
            permute(blocks, from + 1, each);
            blocks.swap(from, other);
        }
    }
}
