//! The calls that hand out pages and take them back.

use core::mem::MaybeUninit;
use core::panic::Location;

use crate::base::gfp::Gfp;
use crate::base::policy::Policy;
use crate::base::units::{NodeId, Order};
use crate::bulk::{
    self,
    request::{BulkItem, BulkOutcome, BulkRequest},
};
use crate::page::list::{Listable, PageList};
use crate::page::page::{Folio, Page};
use crate::page::page_vec::PageVec;
use crate::page::source::PageSource;
use crate::page_alloc::slow::BlockRequest;

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
    #[track_caller]
    fn alloc_page(self, gfp: Gfp) -> Option<Page<Self>> {
        let raw = self.allocator().alloc_single(gfp, None, Location::caller())?;
        Some(Page::new(self, raw))
    }

    /// Allocates one page, preferably on `node`.
    ///
    /// # Errors
    /// As [`alloc_page`](Self::alloc_page).
    #[inline]
    #[track_caller]
    fn alloc_page_node(self, node: NodeId, gfp: Gfp) -> Option<Page<Self>> {
        let raw = self.allocator().alloc_single(gfp, Some(node), Location::caller())?;
        Some(Page::new(self, raw))
    }

    /// Allocates 2^`order` adjacent frames, preferably on the caller's node.
    ///
    /// # Errors
    /// `None` if no zone has such a block above the limit that `gfp` sets. Nothing is moved to
    /// make one: there is no compaction.
    ///
    /// # Cost
    /// Takes a zone lock: only single pages come from the per-CPU lists.
    ///
    /// # Source
    /// `linux-6.12` `include/linux/gfp.h` `alloc_pages`. Differs: Linux keeps orders up to 3 in the
    /// per-CPU lists.
    #[inline]
    #[track_caller]
    fn alloc_pages(self, gfp: Gfp, order: Order) -> Option<Folio<Self>> {
        let raw = self
            .allocator()
            .alloc_block(&BlockRequest::new(gfp, None, order, Location::caller()))
            .ok()?;
        Some(Folio::new(self, raw))
    }

    /// Allocates 2^`order` adjacent frames, preferably on `node`.
    ///
    /// # Errors
    /// As [`alloc_pages`](Self::alloc_pages).
    #[inline]
    #[track_caller]
    fn alloc_pages_node(self, node: NodeId, gfp: Gfp, order: Order) -> Option<Folio<Self>> {
        let raw = self
            .allocator()
            .alloc_block(&BlockRequest::new(gfp, Some(node), order, Location::caller()))
            .ok()?;
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
    #[track_caller]
    fn alloc_pages_bulk(self, gfp: Gfp, slots: &mut [Option<Page<Self>>]) -> usize {
        bulk::array::alloc(&self, gfp, None, slots, Location::caller())
    }

    /// As [`alloc_pages_bulk`](Self::alloc_pages_bulk), preferably on `node`.
    #[inline]
    #[track_caller]
    fn alloc_pages_bulk_node(
        self,
        node: NodeId,
        gfp: Gfp,
        slots: &mut [Option<Page<Self>>],
    ) -> usize {
        bulk::array::alloc(&self, gfp, Some(node), slots, Location::caller())
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
    #[track_caller]
    fn alloc_pages_bulk_list(self, gfp: Gfp, nr: usize, list: &mut PageList<Page<Self>>) -> usize {
        bulk::list::alloc(&self, gfp, None, nr, list, Location::caller())
    }

    /// As [`alloc_pages_bulk_list`](Self::alloc_pages_bulk_list), preferably on `node`.
    #[inline]
    #[track_caller]
    fn alloc_pages_bulk_list_node(
        self,
        node: NodeId,
        gfp: Gfp,
        nr: usize,
        list: &mut PageList<Page<Self>>,
    ) -> usize {
        bulk::list::alloc(&self, gfp, Some(node), nr, list, Location::caller())
    }

    /// Puts up to `nr` single pages behind the last one of `vec`, as far as they fit, and returns
    /// their number.
    ///
    /// At least one page is allocated if `gfp` lets one be had at all and there is room; more only
    /// while the zone stays above its low watermark plus what was asked for.
    ///
    /// # Panics
    /// If `vec` is for another allocator.
    ///
    /// # Cost
    /// A copy for each page and nothing else that grows with their number: no slot is looked at.
    #[inline]
    #[track_caller]
    fn alloc_pages_bulk_vec<const N: usize>(
        self,
        gfp: Gfp,
        nr: usize,
        vec: &mut PageVec<Self, N>,
    ) -> usize {
        bulk::vec::alloc(&self, gfp, nr, vec, Location::caller())
    }

    /// As [`alloc_pages_bulk`](Self::alloc_pages_bulk), on the nodes that `policy` says.
    ///
    /// # Panics
    /// If `policy` names a node that the allocator does not have.
    ///
    /// # Source
    /// `linux-6.12` `mm/mempolicy.c` `alloc_pages_bulk_mempolicy_noprof`. Differs: the policy is the
    /// caller's, not the task's; slots may hold pages, and none is counted twice; what a node cannot
    /// give is asked of the others with all the effort that `gfp` admits.
    #[track_caller]
    fn alloc_pages_bulk_mempolicy(
        self,
        policy: Policy<'_>,
        gfp: Gfp,
        slots: &mut [Option<Page<Self>>],
    ) -> usize {
        let (request, all) = (BulkRequest { policy, ..BulkRequest::new(gfp) }, 0..slots.len());
        bulk::request::fill(&self, &request, slots, all, Location::caller());
        slots.iter().position(Option::is_none).unwrap_or(slots.len())
    }

    /// Fills the empty slots of `slots` as `request` says.
    ///
    /// Pages (order zero) or folios, as the slots' type says.
    ///
    /// # Panics
    /// If the slots are for [`Page`]s and the request's order is above zero; if its policy prefers,
    /// or spreads over, a node that the allocator does not have. Nothing was taken then. Nodes to
    /// choose from ([`Policy::Bind`], [`Policy::PreferredMany`]) need not be there.
    ///
    /// # Examples
    /// The four ways in which users of a bulk allocator go about it. As many as can be had, with
    /// all effort, which is what most loops around `alloc_pages_bulk` are for:
    /// ```
    /// # use pagemill::*;
    /// # fn example<S: AllocPages>(frames: S) {
    /// let mut slots: [Option<Page<S>>; 16] = [const { None }; 16];
    /// let got = frames.bulk_fill(&BulkRequest::new(Gfp::KERNEL), &mut slots);
    /// assert!(got.populated == 16 || got.short.is_some());
    /// # }
    /// ```
    /// All or nothing:
    /// ```
    /// # use pagemill::*;
    /// # fn example<S: AllocPages>(frames: S) -> Result<PageList<Page<S>>, Shortage> {
    /// let mut pages = PageList::new(frames.clone());
    /// let all = BulkRequest { effort: Effort::AllOrNothing, ..BulkRequest::new(Gfp::KERNEL) };
    /// match frames.bulk_list(&all, 259, &mut pages).short {
    ///     Some(shortage) => Err(shortage),
    ///     None => Ok(pages),
    /// }
    /// # }
    /// ```
    /// What comes easily, and what is missing from another source:
    /// ```
    /// # use pagemill::*;
    /// # fn example<S: AllocPages>(frames: S, spare: &mut PageList<Page<S>>) {
    /// let mut pages = PageList::new(frames.clone());
    /// let easy = BulkRequest { effort: Effort::Fast, ..BulkRequest::new(Gfp::NOWAIT) };
    /// let got = frames.bulk_list(&easy, 64, &mut pages);
    /// pages.extend(spare.take(64 - got.new));
    /// # }
    /// ```
    /// Waiting for the rest, until told to stop:
    /// ```
    /// # use pagemill::*;
    /// # fn example<S: AllocPages>(frames: S, stop: &dyn Fn() -> bool) -> bool {
    /// let mut slots: [Option<Page<S>>; 16] = [const { None }; 16];
    /// let patient = BulkRequest { stop: Some(stop), ..BulkRequest::new(Gfp::KERNEL) };
    /// frames.bulk_fill(&patient, &mut slots).short != Some(Shortage::Stopped)
    /// # }
    /// ```
    #[track_caller]
    fn bulk_fill<T: BulkItem<Source = Self>>(
        self,
        request: &BulkRequest<'_>,
        slots: &mut [Option<T>],
    ) -> BulkOutcome {
        let all = 0..slots.len();
        bulk::request::fill(&self, request, slots, all, Location::caller())
    }

    /// As [`bulk_fill`](Self::bulk_fill), where only `slots[hint]` may have holes: the others are
    /// neither looked at nor counted.
    ///
    /// # Panics
    /// As [`bulk_fill`](Self::bulk_fill), and if `hint` is not within `slots`.
    #[track_caller]
    fn bulk_fill_range<T: BulkItem<Source = Self>>(
        self,
        request: &BulkRequest<'_>,
        slots: &mut [Option<T>],
        hint: core::ops::Range<usize>,
    ) -> BulkOutcome {
        bulk::request::fill(&self, request, slots, hint, Location::caller())
    }

    /// Writes blocks into memory that holds none, from its start on; nothing needs to be cleared
    /// before.
    ///
    /// # Shape
    /// The first [`new`](BulkOutcome::new) entries are initialised, and the caller drops them.
    ///
    /// # Panics
    /// As [`bulk_fill`](Self::bulk_fill).
    #[track_caller]
    fn bulk_write<T: BulkItem<Source = Self>>(
        self,
        request: &BulkRequest<'_>,
        room: &mut [MaybeUninit<T>],
    ) -> BulkOutcome {
        bulk::request::write(&self, request, room, Location::caller())
    }

    /// Puts up to `nr` blocks behind the last one of `list`.
    ///
    /// # Panics
    /// As [`bulk_fill`](Self::bulk_fill), and if the list is for another allocator.
    #[track_caller]
    fn bulk_list<T: BulkItem<Source = Self> + Listable<Source = Self>>(
        self,
        request: &BulkRequest<'_>,
        nr: usize,
        list: &mut PageList<T>,
    ) -> BulkOutcome {
        list.check_allocator(&self);
        bulk::request::append(&self, request, nr, list, Location::caller())
    }

    /// Hands up to `nr` blocks to `take`, one by one; `take` may push them onto whatever grows.
    ///
    /// # Panics
    /// As [`bulk_fill`](Self::bulk_fill).
    #[track_caller]
    fn bulk_each<T: BulkItem<Source = Self>>(
        self,
        request: &BulkRequest<'_>,
        nr: usize,
        take: impl FnMut(T),
    ) -> BulkOutcome {
        bulk::request::for_each(&self, request, nr, take, Location::caller())
    }

    /// Hands `nr` frames to `take` in as few pieces as can be had without reclaim: from each of its
    /// policy's nodes the largest aligned blocks first, down to single pages, for which the
    /// request's effort is made.
    ///
    /// So 64 KiB need one descriptor where memory allows it, and sixteen at worst. The request's
    /// order is not looked at; the result counts frames.
    ///
    /// # Panics
    /// As [`bulk_fill`](Self::bulk_fill).
    #[track_caller]
    fn bulk_extents(
        self,
        request: &BulkRequest<'_>,
        nr: usize,
        take: impl FnMut(Folio<Self>),
    ) -> BulkOutcome {
        bulk::request::extents(&self, request, nr, take, Location::caller())
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
