//! Allocation with everything that a request may ask for: reserves, reclaim, accounts, faults.

use core::panic::Location;

use crate::allocator::{PageAllocator, Site};
use crate::gfp::Gfp;
use crate::handle::{AccountNumber, RawPage};
use crate::platform::Platform;
use crate::policy::NodeMask;
use crate::shortage::Shortage;
use crate::special::{FAULTS, OWNERS, POISON};
use crate::units::{NodeId, Order};
use crate::watermark::Mark;

/// A request for one block, in full.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) gfp: Gfp,
    pub(crate) node: Option<NodeId>,
    pub(crate) nodes: NodeMask,
    pub(crate) order: Order,
    /// Who pays; `None` for whoever `gfp` and the platform say.
    pub(crate) account: Option<AccountNumber>,
    /// Ends the request's efforts when it returns true.
    pub(crate) stop: Option<&'a dyn Fn() -> bool>,
    pub(crate) site: Site,
}

/// Orders above this are not tried for again and again.
///
/// # Source
/// `linux-6.12` `include/linux/mmzone.h` `PAGE_ALLOC_COSTLY_ORDER`
const COSTLY_ORDER: u8 = 3;

/// Rounds of reclaim without any page freed before a request is given up.
///
/// # Source
/// `linux-6.12` `mm/internal.h` `MAX_RECLAIM_RETRIES`
const MAX_RECLAIM_RETRIES: u32 = 16;

/// A number of spins after which a platform that can give up the CPU does so.
const LONG_AGO: u32 = 1000;

impl Ask<'_> {
    pub(crate) const fn new(
        gfp: Gfp,
        node: Option<NodeId>,
        order: Order,
        site: &'static Location<'static>,
    ) -> Self {
        Self { gfp, node, nodes: NodeMask::ALL, order, account: None, stop: None, site }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.is_some_and(|stop| stop())
    }
}

impl<P: Platform> PageAllocator<P> {
    /// Allocates one block with all the effort that the request allows.
    ///
    /// # Source
    /// `linux-6.12` `mm/page_alloc.c` `__alloc_frozen_pages_noprof`
    #[cold]
    pub(crate) fn alloc_block(&self, ask: &Ask<'_>) -> Result<RawPage, Shortage> {
        if self.is_faulted(ask.gfp, ask.order) {
            return Err(Shortage::Fault);
        }
        let account = self.account_of(ask);
        let nr_pages = ask.order.nr_pages() as u64;
        if self.accounts().charge(account, nr_pages, nr_pages) == 0 {
            return Err(Shortage::Account);
        }
        match self.take_block(ask) {
            Ok(page) => Ok(self.finish(page, account, ask.gfp, ask.site)),
            Err(shortage) => {
                self.accounts().uncharge(account, nr_pages);
                Err(shortage)
            }
        }
    }

    /// Tells whether fault injection lets a request fail.
    #[inline]
    pub(crate) fn is_faulted(&self, gfp: Gfp, order: Order) -> bool {
        self.special.has(FAULTS) && self.faults.should_fail(gfp, order)
    }

    /// Returns who pays for a request.
    pub(crate) fn account_of(&self, ask: &Ask<'_>) -> AccountNumber {
        match ask.account {
            Some(account) => account,
            None if ask.gfp.contains(Gfp::ACCOUNT) => {
                self.platform().current_account().map_or(AccountNumber::NONE, |id| id.0)
            }
            None => AccountNumber::NONE,
        }
    }

    /// Makes a block that was just taken what its request asked for.
    #[inline]
    pub(crate) fn finish(
        &self,
        page: RawPage,
        account: AccountNumber,
        gfp: Gfp,
        site: Site,
    ) -> RawPage {
        let nr_pages = page.order().nr_pages();
        if self.special.has(POISON) {
            // SAFETY: 1. owned: the block was just taken and nobody has been given it yet.
            let spoilt = unsafe { self.platform().find_unpoisoned(page.pfn(), nr_pages) };
            if let Some(position) = spoilt {
                used_after_free(page, position);
            }
        }
        if self.special.has(OWNERS) {
            let first = self.frame_of(page);
            (first..first + nr_pages).for_each(|frame| self.owners().hold(frame, site));
        }
        if gfp.contains(Gfp::ZERO) {
            self.zero(page);
        }
        page.charged_to(account)
    }

    /// Notes that a page came to `site` past all allocation, if nobody is noted to hold it.
    pub(crate) fn adopt(&self, page: RawPage, site: Site) {
        if self.special.has(OWNERS) && self.owners().holder(self.frame_of(page)).is_none() {
            self.owners().hold(self.frame_of(page), site);
        }
    }

    /// Notes that a block is being given back.
    ///
    /// # Panics
    /// If owners are noted and nobody held one of the frames.
    pub(crate) fn note_freed(&self, page: RawPage) {
        let nr_pages = page.order().nr_pages();
        if self.special.has(OWNERS) {
            let first = self.frame_of(page);
            for frame in first..first + nr_pages {
                if self.owners().release(frame).is_none() {
                    freed_twice(page);
                }
            }
        }
        if self.special.has(POISON) {
            // SAFETY: 1. owned: the block is being given up, and is not free yet.
            unsafe { self.platform().poison_pages(page.pfn(), nr_pages) };
        }
    }

    /// Takes a block: above low first, then as far as the request may go.
    pub(crate) fn take_block(&self, ask: &Ask<'_>) -> Result<RawPage, Shortage> {
        let pinned = self.pin();
        let request = self.request(&pinned, ask.gfp, ask.node).on(ask.nodes);
        if let Some(page) = self.take_from_zones(&pinned, &request, ask.order, Mark::Low) {
            return Ok(page);
        }
        drop(pinned);
        self.take_block_slowly(ask)
    }

    /// Takes a block only if a zone has it above its low watermark.
    pub(crate) fn take_fast(&self, ask: &Ask<'_>) -> Result<RawPage, Shortage> {
        let pinned = self.pin();
        let request = self.request(&pinned, ask.gfp, ask.node).on(ask.nodes);
        self.take_from_zones(&pinned, &request, ask.order, Mark::Low).ok_or(Shortage::Memory)
    }

    /// Goes below the low watermark, reclaims, and waits, as far as the request may.
    ///
    /// # Source
    /// `linux-6.12` `mm/page_alloc.c` `__alloc_pages_slowpath`. Differs: there is no compaction and
    /// no killing of tasks; a request that may not fail waits for others to free.
    #[cold]
    fn take_block_slowly(&self, ask: &Ask<'_>) -> Result<RawPage, Shortage> {
        let gfp = self.platform().gfp_context(ask.gfp);
        if gfp.contains(Gfp::KSWAPD_RECLAIM) {
            self.platform().wake_reclaim();
        }
        let mut idle_rounds = 0;
        loop {
            if let Some(page) = self.try_last(ask, gfp) {
                return Ok(page);
            }
            if !gfp.contains(Gfp::DIRECT_RECLAIM) {
                return self.take_own(ask).ok_or(Shortage::Memory);
            }
            if ask.is_stopped() {
                return Err(Shortage::Stopped);
            }
            let freed = self.reclaim(ask.order.nr_pages(), gfp);
            if let Some(page) = self.try_last(ask, gfp) {
                return Ok(page);
            }
            idle_rounds = if freed > 0 { 0 } else { idle_rounds + 1 };
            let costly = ask.order.value() > COSTLY_ORDER;
            let patient = !gfp.contains(Gfp::NORETRY)
                && (!costly || gfp.contains(Gfp::RETRY_MAYFAIL))
                && (freed > 0 || idle_rounds < MAX_RECLAIM_RETRIES && self.shrinkers.any());
            if patient {
                if freed == 0 {
                    // Somebody else may be asking the shrinkers: let that go on.
                    self.platform().relax(LONG_AGO);
                }
                continue;
            }
            if !gfp.contains(Gfp::NOFAIL) {
                return self.take_own(ask).ok_or(Shortage::Memory);
            }
            return self.in_turn(ask.stop, || {
                self.reclaim(ask.order.nr_pages(), gfp);
                self.try_last(ask, gfp)
            });
        }
    }

    /// Makes one attempt down to the last limit that the request may use.
    fn try_last(&self, ask: &Ask<'_>, gfp: Gfp) -> Option<RawPage> {
        let pinned = self.pin();
        let request = self.request(&pinned, ask.gfp, ask.node).on(ask.nodes);
        self.take_from_zones(&pinned, &request, ask.order, Mark::last(gfp))
    }

    /// Takes what this CPU's lists hold already: the last resort.
    fn take_own(&self, ask: &Ask<'_>) -> Option<RawPage> {
        if ask.order != Order::ZERO {
            return None;
        }
        let pinned = self.pin();
        let request = self.request(&pinned, ask.gfp, ask.node).on(ask.nodes);
        self.take_from_own_lists(&pinned, &request)
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
fn freed_twice(page: RawPage) -> ! {
    panic!("double free of the block of order {} at frame {}", page.order(), page.pfn())
}
