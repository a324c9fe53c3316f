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
    #[inline]
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
            self.zero(page);
        }
        if self.slow_path_flags.has(TRACE) {
            let (pfn, order, migratetype) = (page.pfn(), page.order(), gfp.migratetype());
            self.platform().trace(Event::PageAlloc { pfn, order, gfp, migratetype });
            // The tracer may have detached.
            self.look_for_tracers();
        }
        page.charged_to(account)
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
