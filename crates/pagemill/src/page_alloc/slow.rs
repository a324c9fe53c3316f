//! Slow path: requests for one block, and the retry loop of reclaim and waiting.

use core::panic::Location;

use crate::base::gfp::Gfp;
use crate::base::policy::NodeMask;
use crate::base::raw_page::RawPage;
use crate::base::shortage::Shortage;
use crate::base::units::{NodeId, Order};
use crate::page_alloc::alloc_context::{AllocContext, Pinned};
use crate::page_alloc::allocator::{PageAllocator, Site};
use crate::page_alloc::shrinker::{ShrinkControl, Whom};
use crate::percpu::slot::ListOrder;
use crate::platform::platform::Platform;
use crate::zone::watermark::Mark;

/// A request for one block, with all its options.
#[derive(Clone, Copy)]
pub(crate) struct BlockRequest<'a> {
    pub(crate) gfp: Gfp,
    pub(crate) node: Option<NodeId>,
    pub(crate) nodes: NodeMask,
    pub(crate) order: Order,
    /// Stops the request when it returns true.
    pub(crate) stop: Option<&'a dyn Fn() -> bool>,
    pub(crate) site: Site,
}

/// Requests of a higher order are not retried indefinitely.
///
/// # Source
/// `linux-6.12` `include/linux/mmzone.h` `PAGE_ALLOC_COSTLY_ORDER`
pub(crate) const COSTLY_ORDER: Order = match Order::new(3) {
    Ok(order) => order,
    Err(_) => unreachable!(),
};

/// Rounds of reclaim in which shrinkers freed nothing, after which a request fails. For orders above
/// zero, the number of all rounds, since freed pages need not be adjacent.
///
/// # Source
/// `linux-6.12` `mm/internal.h` `MAX_RECLAIM_RETRIES`
const MAX_RECLAIM_RETRIES: u32 = 16;

/// Total rounds of reclaim after which a request fails. Needed because the pages freed in a round may
/// be pages that a shrinker had just allocated, or other threads may take them each time.
const MAX_ROUNDS: u32 = 16 * MAX_RECLAIM_RETRIES;

impl BlockRequest<'_> {
    pub(crate) const fn new(
        gfp: Gfp,
        node: Option<NodeId>,
        order: Order,
        site: &'static Location<'static>,
    ) -> Self {
        Self { gfp, node, nodes: NodeMask::ALL, order, stop: None, site }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.is_some_and(|stop| stop())
    }
}

impl<P: Platform> PageAllocator<P> {
    /// Allocates one block, with all the effort that the request allows.
    ///
    /// # Source
    /// `linux-6.12` `mm/page_alloc.c` `__alloc_frozen_pages_noprof`
    #[cold]
    pub(crate) fn alloc_block(&self, request: &BlockRequest<'_>) -> Result<RawPage, Shortage> {
        self.check_usable()?;
        if self.is_faulted(request.gfp, request.order) {
            return Err(Shortage::Fault);
        }
        let nr_pages = request.order.nr_pages() as u64;
        let mut payer = self.payer(None, request.gfp).ok_or(Shortage::Account)?;
        if self.charge(&mut payer, nr_pages, nr_pages, request.gfp) == 0 {
            return Err(Shortage::Account);
        }
        let page =
            self.finish(self.take_block(request)?, payer.account(), request.gfp, request.site);
        payer.hand_over(nr_pages);
        Ok(page)
    }

    /// Refuses requests to an allocator that must not be used.
    #[inline]
    pub(crate) fn check_usable(&self) -> Result<(), Shortage> {
        if self.platform().is_abandoned() { Err(Shortage::Abandoned) } else { Ok(()) }
    }

    /// Pins the CPU, and prepares the request by it.
    fn pin_for(&self, request: &BlockRequest<'_>) -> (Pinned<'_, P>, AllocContext) {
        let pinned = self.pin();
        let context = self.context(&pinned, request.gfp, request.node).on(request.nodes);
        (pinned, context)
    }

    /// Takes a block: first above the low watermark, then as far below as the request may go.
    pub(crate) fn take_block(&self, request: &BlockRequest<'_>) -> Result<RawPage, Shortage> {
        let (pinned, context) = self.pin_for(request);
        if let Some(page) = self.take_from_zones(&pinned, &context, request.order, Mark::Low) {
            return Ok(page);
        }
        drop(pinned);
        self.take_block_slowly(request)
    }

    /// Takes a block from a zone above its low watermark, or from this CPU's lists.
    ///
    /// Below the low watermark, a block in a list still serves any request: taking it does not change the
    /// number of free pages of the zone.
    pub(crate) fn take_fast(&self, request: &BlockRequest<'_>) -> Result<RawPage, Shortage> {
        let (pinned, context) = self.pin_for(request);
        let page = self.take_from_zones(&pinned, &context, request.order, Mark::Low);
        drop(pinned);
        page.or_else(|| {
            self.wake_reclaim(request.order, request.gfp);
            self.take_own(request).or_else(|| self.take_drained(request, Mark::Low))
        })
        .ok_or(Shortage::Memory)
    }

    /// Takes a block from below the low watermark, after reclaim, or after waiting, as the request
    /// allows.
    ///
    /// # Source
    /// `linux-6.12` `mm/page_alloc.c` `__alloc_pages_slowpath`. Differs: there is no compaction and
    /// no killing of tasks; a request that may not fail and finds nothing in the part of the reserve
    /// that [`Gfp::HIGH`] may use waits for others to free.
    #[cold]
    fn take_block_slowly(&self, request: &BlockRequest<'_>) -> Result<RawPage, Shortage> {
        let gfp = self.platform().gfp_context(request.gfp);
        self.wake_reclaim(request.order, gfp);
        self.look_for_tracers();
        let nodes = self.pin_for(request).1.nodes;
        let (mut rounds, mut rounds_in_all) = (0, 0);
        loop {
            if let Some(page) = self.try_last(request, gfp) {
                return Ok(page);
            }
            if !gfp.contains(Gfp::DIRECT_RECLAIM) {
                let page = self.take_own(request);
                let page = page.or_else(|| self.take_drained(request, Mark::last(gfp)));
                return page.ok_or(Shortage::Memory);
            }
            if request.is_stopped() {
                return Err(Shortage::Stopped);
            }
            // This CPU's lists come last: an interrupt handler may have taken those pages from the
            // reserve, which is now short of them. Reclaim returns them to the zone, as in Linux.
            let passes_over = self.shrinkers.passes_over(ShrinkControl { gfp, nodes });
            let freed = self.reclaim_directly(request.order, gfp, nodes, Whom::Due);
            if let Some(page) = self.try_last(request, gfp) {
                return Ok(page);
            }
            rounds = if freed > 0 && request.order == Order::ZERO { 0 } else { rounds + 1 };
            rounds_in_all += 1;
            if rounds_in_all < MAX_ROUNDS && self.is_worth_a_round(request.order, gfp, rounds) {
                continue;
            }
            // Before the request fails, shrinkers that were skipped are asked: they may have pages by
            // now.
            if passes_over
                && self.reclaim_directly(request.order, gfp, nodes, Whom::PassedOver) > 0
                && let Some(page) = self.try_last(request, gfp)
            {
                return Ok(page);
            }
            // A request that may not fail gets a part of the reserve, but never all of it.
            let last = if gfp.contains(Gfp::NOFAIL) { gfp | Gfp::HIGH } else { gfp };
            let context = self.pin_for(request).1;
            let is_possible = self.most(&context, request.order, Mark::last(last)) > 0;
            if !gfp.contains(Gfp::NOFAIL) || !is_possible {
                return self.take_own(request).ok_or(Shortage::Memory);
            }
            let attempt = || {
                self.try_last(request, last).or_else(|| self.take_own(request)).or_else(|| {
                    self.reclaim_directly(request.order, gfp, nodes, Whom::Due);
                    self.try_last(request, last)
                })
            };
            return self.in_turn(self.claims(request), request.stop, attempt, |_| true);
        }
    }

    /// Returns whether a request should reclaim again after `rounds` rounds without progress.
    fn is_worth_a_round(&self, order: Order, gfp: Gfp, rounds: u32) -> bool {
        // A `MEMALLOC` request frees memory itself; it did not ask the shrinkers and will not.
        !gfp.intersects(Gfp::NORETRY | Gfp::MEMALLOC)
            && (order <= COSTLY_ORDER || gfp.contains(Gfp::RETRY_MAYFAIL))
            && rounds < MAX_RECLAIM_RETRIES
            && self.shrinkers.any()
    }

    /// Returns the nodes on which a waiting request holds back later ones: none if it takes no more
    /// than a request that does not wait may take.
    fn claims(&self, request: &BlockRequest<'_>) -> NodeMask {
        if request.order <= COSTLY_ORDER {
            return NodeMask::NONE;
        }
        self.nodes_of(&self.pin_for(request).1)
    }

    /// Makes one attempt, down to the lowest watermark that the request may use.
    fn try_last(&self, request: &BlockRequest<'_>, gfp: Gfp) -> Option<RawPage> {
        let (pinned, context) = self.pin_for(request);
        self.take_from_zones(&pinned, &context, request.order, Mark::last(gfp))
    }

    /// Takes a block from this CPU's lists, as the last resort.
    fn take_own(&self, request: &BlockRequest<'_>) -> Option<RawPage> {
        let order = ListOrder::of(request.order)?;
        let (pinned, context) = self.pin_for(request);
        self.take_from_own_lists(&pinned, &context, order)
    }

    /// Returns the blocks in this CPU's lists to their zones, and takes a block from a zone above `mark`
    /// if there were any. For requests that do not reclaim, which would drain all lists.
    #[cold]
    fn take_drained(&self, request: &BlockRequest<'_>, mark: Mark) -> Option<RawPage> {
        let (pinned, context) = self.pin_for(request);
        if self.drain_own_blocks(&pinned) == 0 {
            return None;
        }
        self.take_from_zones(&pinned, &context, request.order, mark)
    }
}
