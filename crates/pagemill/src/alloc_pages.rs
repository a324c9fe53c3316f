//! The calls that hand out pages and take them back.

use crate::bulk;
use crate::gfp::Gfp;
use crate::list::{Listable, PageList};
use crate::page::{Folio, Page};
use crate::source::PageSource;
use crate::units::{NodeId, Order};

/// Allocation and bulk release, for whatever reaches an allocator.
///
/// Implemented for every [`PageSource`]: `&PageAllocator`, [`Static`](crate::Static). The source
/// is taken by value because each page keeps a copy of it.
///
/// # Panics
/// Every `_node` call panics if the allocator does not have the node, with the number and the
/// range allowed. A node without memory is fine: it is served by the nearest one that has some.
pub trait AllocPages: PageSource {
    /// Allocates one page, preferably on the caller's node.
    ///
    /// # Errors
    /// `None` if every zone that `gfp` admits would go below the limit that `gfp` sets.
    ///
    /// # Source
    /// `linux-6.12` `include/linux/gfp.h` `alloc_page`
    #[inline]
    fn alloc_page(self, gfp: Gfp) -> Option<Page<Self>> {
        let raw = self.allocator().alloc_single(gfp, None)?;
        Some(Page::new(self, raw))
    }

    /// Allocates one page, preferably on `node`.
    ///
    /// # Errors
    /// As [`alloc_page`](Self::alloc_page).
    #[inline]
    fn alloc_page_node(self, node: NodeId, gfp: Gfp) -> Option<Page<Self>> {
        let raw = self.allocator().alloc_single(gfp, Some(node))?;
        Some(Page::new(self, raw))
    }

    /// Allocates 2^`order` adjacent frames, preferably on the caller's node.
    ///
    /// # Errors
    /// `None` if no zone has such a block above the limit that `gfp` sets. Nothing is moved to
    /// make one: there is no compaction.
    ///
    /// # Cost
    /// Takes the zone lock: only single pages come from the per-CPU lists.
    ///
    /// # Source
    /// `linux-6.12` `include/linux/gfp.h` `alloc_pages`. Differs: Linux keeps orders up to 3 in the
    /// per-CPU lists.
    fn alloc_pages(self, gfp: Gfp, order: Order) -> Option<Folio<Self>> {
        let raw = self.allocator().alloc_block(gfp, None, order)?;
        Some(Folio::new(self, raw))
    }

    /// Allocates 2^`order` adjacent frames, preferably on `node`.
    ///
    /// # Errors
    /// As [`alloc_pages`](Self::alloc_pages).
    fn alloc_pages_node(self, node: NodeId, gfp: Gfp, order: Order) -> Option<Folio<Self>> {
        let raw = self.allocator().alloc_block(gfp, Some(node), order)?;
        Some(Folio::new(self, raw))
    }

    /// Fills the empty slots of `slots` with single pages, and returns how many slots from the
    /// first on it has seen to hold one.
    ///
    /// At least one page is allocated if `gfp` lets one be had at all; more only while the zone
    /// stays above its low watermark plus the length of `slots`. So a caller that needs them all
    /// repeats the call for as long as the result grows.
    ///
    /// # Shape
    /// Slots that hold a page are left alone, and holes are filled in order. Every slot below the
    /// result holds a page; so may slots behind it, which it does not count. A full or an empty
    /// slice returns its length at once, and nothing is counted.
    ///
    /// # Concurrency
    /// The CPU's lists are held for 512 pages at a time, a zone lock for at most 64 words of its
    /// bitmaps at a time, whatever the length of `slots`.
    ///
    /// # Cost
    /// A copy for each page; the zone is asked for 64 and more at once. One page costs what
    /// [`alloc_page`](Self::alloc_page) costs.
    ///
    /// # Examples
    /// The loop of a caller that needs every slot filled:
    /// ```
    /// # use pagemill::*;
    /// # fn example<S: AllocPages>(frames: S) {
    /// let mut slots: [Option<Page<S>>; 16] = [const { None }; 16];
    /// let mut filled = 0;
    /// while filled < slots.len() {
    ///     let now = frames.clone().alloc_pages_bulk(Gfp::KERNEL, &mut slots);
    ///     if now == filled {
    ///         break; // no progress: free some memory, or give up
    ///     }
    ///     filled = now;
    /// }
    /// frames.release_pages(&mut slots);
    /// # }
    /// ```
    ///
    /// # Source
    /// `series-v3` patch 2; `linux-6.12` `mm/page_alloc.c` `alloc_pages_bulk_noprof`
    #[inline]
    fn alloc_pages_bulk(self, gfp: Gfp, slots: &mut [Option<Page<Self>>]) -> usize {
        bulk::array::alloc(&self, gfp, None, slots)
    }

    /// As [`alloc_pages_bulk`](Self::alloc_pages_bulk), preferably on `node`.
    #[inline]
    fn alloc_pages_bulk_node(
        self,
        node: NodeId,
        gfp: Gfp,
        slots: &mut [Option<Page<Self>>],
    ) -> usize {
        bulk::array::alloc(&self, gfp, Some(node), slots)
    }

    /// Puts up to `nr` single pages behind the last one of `list`, and returns their number.
    ///
    /// At least one page is allocated if `gfp` lets one be had at all; more only while the zone
    /// stays above its low watermark plus `nr`. Pages that are on the list already are left alone.
    ///
    /// # Panics
    /// If `list` is for another allocator.
    ///
    /// # Cost
    /// As [`alloc_pages_bulk`](Self::alloc_pages_bulk), and a link written for each page.
    ///
    /// # Source
    /// `series-v3` patch 2 `alloc_pages_bulk`. Differs: nothing is allocated for `nr` zero.
    #[inline]
    fn alloc_pages_bulk_list(self, gfp: Gfp, nr: usize, list: &mut PageList<Page<Self>>) -> usize {
        bulk::list::alloc(&self, gfp, None, nr, list)
    }

    /// As [`alloc_pages_bulk_list`](Self::alloc_pages_bulk_list), preferably on `node`.
    #[inline]
    fn alloc_pages_bulk_list_node(
        self,
        node: NodeId,
        gfp: Gfp,
        nr: usize,
        list: &mut PageList<Page<Self>>,
    ) -> usize {
        bulk::list::alloc(&self, gfp, Some(node), nr, list)
    }

    /// Empties the slots, frees their pages together, and returns the number of pages.
    ///
    /// # Cost
    /// A copy for each page where 64 slots in a row hold pages of one zone and kind, as a bulk
    /// call leaves them; otherwise as dropping each.
    ///
    /// # Source
    /// `linux-6.12` `mm/swap.c` `release_pages`. Differs: Linux drops a reference of each page; an
    /// owned page here has only this one.
    #[inline]
    fn release_pages(self, slots: &mut [Option<Page<Self>>]) -> usize {
        bulk::array::release(&self, slots)
    }
}

impl<S: PageSource> AllocPages for S {}

/// Frees every page of `list` that nobody else holds, and returns their number.
///
/// Owned pages are all freed. Of shared pages, those with other owners stay on the list.
///
/// # Source
/// `series-v3` patch 2 `free_pages_bulk`. Differs: there, the list gives up its claim to the pages
/// that stay; here they stay its own. The pages go to the per-CPU lists, not to the zone.
pub fn free_pages_bulk<T: Listable>(list: &mut PageList<T>) -> usize {
    list.free_unheld()
}
