//! Fast path: allocates one page from the per-CPU list of the preferred zone.

use crate::base::gfp::Gfp;
use crate::base::raw_page::RawPage;
use crate::base::units::{NodeId, Order};
use crate::page_alloc::allocator::{PageAllocator, Site};
use crate::page_alloc::slow::BlockRequest;
use crate::platform::platform::Platform;

impl<P: Platform> PageAllocator<P> {
    /// Allocates one page: from this CPU's list of the preferred zone if no slow-path flag is set and
    /// the list has one, else on the slow path.
    ///
    /// # Source
    /// `linux-6.12` `mm/page_alloc.c` `__alloc_frozen_pages_noprof`
    #[inline]
    pub(crate) fn alloc_single(
        &self,
        gfp: Gfp,
        node: Option<NodeId>,
        site: Site,
    ) -> Option<RawPage> {
        match self.alloc_hot(gfp, node) {
            Some(page) => Some(page),
            None => self.alloc_block(&BlockRequest::new(gfp, node, Order::ZERO, site)).ok(),
        }
    }

    /// Takes a page from this CPU's list of the preferred zone, if the list has one and the zone is
    /// above its low watermark.
    #[inline]
    fn alloc_hot(&self, gfp: Gfp, node: Option<NodeId>) -> Option<RawPage> {
        if gfp.intersects(Gfp::UNUSUAL) || self.slow_path_flags.any() {
            return None;
        }
        let pinned = self.pin();
        let hot_zone = pinned.hot_zone(gfp, node)?;
        if !hot_zone.admits(0) {
            return None;
        }
        let mut lists = pinned.lists()?;
        let mut list = lists.hot_list(gfp);
        let page = list.pop()?;
        list.events.alloc.add(1);
        Some(page)
    }
}
