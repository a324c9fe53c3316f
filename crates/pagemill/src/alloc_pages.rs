//! `AllocPages`: the public calls that allocate and free pages, single and in bulk.

use core::mem::MaybeUninit;
use core::panic::Location;

use crate::base::gfp::Gfp;
use crate::base::policy::Policy;
use crate::base::raw_page::{InvalidRawPage, RawPage};
use crate::base::units::{NodeId, Order, Pfn, PhysAddr};
use crate::bulk::{
    self,
    complete::BulkError,
    request::{BulkItem, BulkOutcome, BulkRequest},
};
use crate::page::frame_range::FrameRange;
use crate::page::list::PageList;
use crate::page::owned::Listable;
use crate::page::page::{Folio, Page};
use crate::page::page_vec::PageVec;
use crate::page::source::PageSource;
use crate::page_alloc::by_pfn::PfnError;
use crate::page_alloc::contig::{ContigError, ContigRequest};

/// Allocation and bulk free, for every type that reaches an allocator.
///
/// Implemented for every [`PageSource`]: `&PageAllocator`, [`Static`](crate::source::Static). The
/// source is taken by value because each page keeps a copy of it. Both of these are `Copy`, so generic
/// code for `S: AllocPages + Copy` calls these methods any number of times. A bound without `Copy` also
/// admits sources that count their pages; each call then needs a clone.
///
/// # Panics
/// Every `_node` call panics if the allocator does not have the node; the message gives the number and
/// the allowed range. A node without memory is allowed: the nearest node with memory serves it.
pub trait AllocPages: PageSource {
    /// Allocates one page, preferably on the caller's node.
    ///
    /// # Errors
    /// `None` if every zone that `gfp` allows would go below the watermark that `gfp` sets.
    ///
    /// # Source
    /// `linux-6.12` `include/linux/gfp.h` `alloc_page`
    #[inline]
    #[track_caller]
    #[must_use = "a page that is dropped is freed"]
    fn alloc_page(self, gfp: Gfp) -> Option<Page<Self>> {
        let raw = self.allocator().alloc_single(gfp, None, Location::caller())?;
        Some(Page::new(self, raw))
    }

    /// Allocates one page, preferably on `node`.
    ///
    /// # Errors
    /// See [`alloc_page`](Self::alloc_page).
    #[inline]
    #[track_caller]
    #[must_use = "a page that is dropped is freed"]
    fn alloc_page_node(self, node: NodeId, gfp: Gfp) -> Option<Page<Self>> {
        self.allocator().check_node(node);
        let raw = self.allocator().alloc_single(gfp, Some(node), Location::caller())?;
        Some(Page::new(self, raw))
    }

    /// Allocates 2^`order` adjacent frames, preferably on the caller's node.
    ///
    /// # Errors
    /// `None` if no zone has such a block above the watermark that `gfp` sets. There is no compaction:
    /// no page is moved to make one.
    ///
    /// # Cost
    /// Blocks of the orders 0 to 3 and 9 come from the per-CPU lists, like single pages; a zone of less
    /// than 128 MiB for each CPU has no lists of order 9. Other orders take a zone lock.
    ///
    /// # Source
    /// `linux-6.12` `include/linux/gfp.h` `alloc_pages`
    #[inline]
    #[track_caller]
    #[must_use = "a page that is dropped is freed"]
    fn alloc_pages(self, gfp: Gfp, order: Order) -> Option<Folio<Self>> {
        let raw = self.allocator().alloc_folio(gfp, None, order, Location::caller())?;
        Some(Folio::new(self, raw))
    }

    /// Allocates 2^`order` adjacent frames, preferably on `node`.
    ///
    /// # Errors
    /// See [`alloc_pages`](Self::alloc_pages).
    #[inline]
    #[track_caller]
    #[must_use = "a page that is dropped is freed"]
    fn alloc_pages_node(self, node: NodeId, gfp: Gfp, order: Order) -> Option<Folio<Self>> {
        self.allocator().check_node(node);
        let raw = self.allocator().alloc_folio(gfp, Some(node), order, Location::caller())?;
        Some(Folio::new(self, raw))
    }

    /// Allocates `nr` adjacent frames, preferably on the caller's node, the first at a multiple of `align`
    /// frames and all below the address `limit`.
    ///
    /// `nr` is any number up to the zone's size; the frames behind it stay free. The range can be
    /// [split](FrameRange::split_at) at any frame. It lies in one zone; with
    /// [`Config::zone_dma32`](crate::Config::zone_dma32), which is on by default, no range crosses 4 GiB.
    ///
    /// With [`Gfp::NOFAIL`], fails only if no zone could have such frames with all frames of its memory map
    /// free. Reserved frames count as free there, because they may be handed in: a request for a range
    /// that needs one of them waits until then.
    ///
    /// # Errors
    /// [`ContigError`]: `nr` is zero or more than any zone has; `align` is no power of two; no memory is
    /// below `limit`; or no zone has such frames above the watermark that `gfp` sets, also after the
    /// reclaim that `gfp` allows. There is no compaction: no page is moved to make room.
    ///
    /// # Concurrency
    /// Takes one shard's lock at a time, and releases it after at most 32 pageblocks, of which it reads at most
    /// 8 bitmaps, or after 16 pageblocks that it changes, whatever `nr` and the size of the memory are. With several threads, frames of
    /// a range that turns out to be taken in part, or to leave less than the watermark, are in use for a
    /// moment.
    ///
    /// # Cost
    /// Up to one pageblock of frames (512): usually looks at no more than 20 pageblocks, those with the
    /// smallest large enough blocks first. If these have no room, and for more frames: linear in the
    /// number of pageblocks in front of the range, of which only those with large enough blocks are read.
    /// Then linear in the number of pageblocks of the range, both when it is allocated and when it is
    /// freed. In instructions for both: 1,500 for 33 frames of free memory, 2,200 to 5,100 if 85 % of it is
    /// in use, 10,200 for 8,192 frames; 65,000 for a search of 1 GiB that finds nothing and reads no bitmap
    /// (BENCHMARKING.md, "Contiguous ranges").
    ///
    /// # Source
    /// `linux-6.12` `mm/page_alloc.c` `alloc_contig_pages`. Differs: Linux moves pages out of the way;
    /// here the frames must be free.
    ///
    /// # Examples
    /// ```
    /// # use pagemill::contig::ContigError;
    /// # use pagemill::units::PhysAddr;
    /// # use pagemill::{AllocPages, Gfp};
    /// # fn example<S: AllocPages>(frames: S) -> Result<(), ContigError> {
    /// // A stack of 5 frames with a guard frame below it.
    /// let range = frames.alloc_contig(Gfp::KERNEL, 6, 1, None)?;
    /// let (guard, stack) = range.split_at(1);
    /// assert_eq!(stack.pfn(), guard.pfn().offset(1));
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    fn alloc_contig(
        self,
        gfp: Gfp,
        nr: usize,
        align: usize,
        limit: Option<PhysAddr>,
    ) -> Result<FrameRange<Self>, ContigError> {
        let request = ContigRequest { align, limit, ..ContigRequest::new(gfp, nr) };
        let taken = self.allocator().alloc_contig(&request, Location::caller())?;
        Ok(FrameRange::new(self, taken))
    }

    /// Does what [`alloc_contig`](Self::alloc_contig) does, with all options of a request: a node, an
    /// account, and a smaller number of frames that is enough.
    ///
    /// # Errors
    /// See [`alloc_contig`](Self::alloc_contig).
    #[track_caller]
    fn alloc_contig_with(self, request: &ContigRequest) -> Result<FrameRange<Self>, ContigError> {
        if let Some(node) = request.node {
            self.allocator().check_node(node);
        }
        let taken = self.allocator().alloc_contig(request, Location::caller())?;
        Ok(FrameRange::new(self, taken))
    }

    /// Allocates the frames `start` to `start + nr - 1` if all of them are free, those in per-CPU lists
    /// included.
    ///
    /// `gfp` decides the watermark, the migrate type and the account, and whether the frames are zeroed.
    /// It does not decide the zone: the frames do.
    ///
    /// # Errors
    /// [`ContigError`]: `nr` is zero; a frame is not in the memory map; the range crosses zones; a frame
    /// is not free, which is named; or the zone would go below the watermark that `gfp` sets. Does not
    /// reclaim or wait. If no other thread takes frames of the range at the same time, a refused request
    /// changes no pageblock's migrate type.
    ///
    /// # Concurrency
    /// As for [`alloc_contig`](Self::alloc_contig). If a frame is not free, first empties all per-CPU
    /// lists that are not in use. Frames in lists that are in use count as in use.
    ///
    /// # Source
    /// `linux-6.12` `mm/page_alloc.c` `alloc_contig_range`. Differs: Linux moves pages out of the way.
    #[track_caller]
    fn alloc_contig_range(
        self,
        gfp: Gfp,
        start: Pfn,
        nr: usize,
    ) -> Result<FrameRange<Self>, ContigError> {
        let taken = self.allocator().alloc_contig_range(gfp, start, nr, Location::caller())?;
        Ok(FrameRange::new(self, taken))
    }

    /// Allocates the block of `order` that begins at frame `pfn`, if all its frames are free.
    ///
    /// # Errors
    /// See [`alloc_contig_range`](Self::alloc_contig_range); also if `pfn` is not a multiple of the
    /// block's size.
    #[track_caller]
    fn alloc_at(self, gfp: Gfp, pfn: Pfn, order: Order) -> Result<Folio<Self>, ContigError> {
        if !pfn.is_aligned(order) {
            return Err(ContigError::Misaligned { pfn, order });
        }
        let (allocator, nr) = (self.allocator(), order.nr_pages());
        let taken = allocator.alloc_contig_range(gfp, pfn, nr, Location::caller())?;
        let raw = taken.class.with_order(order).at(pfn);
        Ok(Folio::new(self, raw))
    }

    /// Fills all empty slots of `slots` with single pages, in order.
    ///
    /// Makes the effort of [`Effort::TryHard`](crate::request::Effort): continues below the low
    /// watermark, and reclaims where `gfp` allows it. Slots that hold a page are left alone.
    ///
    /// # Errors
    /// The number of pages that the call allocated, and why there are not more. These pages stay in
    /// `slots`.
    ///
    /// # Concurrency
    /// Holds the CPU's lists and a zone lock for bounded times, as
    /// [`alloc_pages_bulk`](Self::alloc_pages_bulk) does. Waits for other threads to free memory only
    /// with [`Gfp::NOFAIL`].
    ///
    /// # Examples
    /// ```
    /// # use pagemill::request::BulkError;
    /// # use pagemill::{AllocPages, Gfp, Page};
    /// # fn example<S: AllocPages + Copy>(frames: S) -> Result<(), BulkError> {
    /// let mut slots: [Option<Page<S>>; 64] = [const { None }; 64];
    /// frames.fill(Gfp::KERNEL, &mut slots)?;
    /// frames.release_pages(&mut slots);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    fn fill(self, gfp: Gfp, slots: &mut [Option<Page<Self>>]) -> Result<(), BulkError> {
        bulk::complete::fill(&self, gfp, slots, Location::caller())
    }

    /// Allocates exactly `nr` single pages, with the effort of [`fill`](Self::fill).
    ///
    /// # Errors
    /// Why the call could not allocate all of them; none is allocated then.
    ///
    /// # Cost
    /// One link written per page: the list has no memory of its own, so `nr` has no limit.
    ///
    /// # Examples
    /// ```
    /// # use pagemill::request::BulkError;
    /// # use pagemill::{AllocPages, Gfp};
    /// # fn example<S: AllocPages + Copy>(frames: S) -> Result<(), BulkError> {
    /// let pages = frames.alloc_exactly(Gfp::KERNEL, 259)?;
    /// assert_eq!(pages.len(), 259);
    /// for page in pages {
    ///     println!("{}", page.pfn());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    fn alloc_exactly(self, gfp: Gfp, nr: usize) -> Result<PageList<Page<Self>>, BulkError> {
        bulk::complete::exactly(&self, gfp, nr, Location::caller())
    }

    /// Fills the empty slots of `slots` with single pages, and returns the length of the filled prefix
    /// that it has seen.
    ///
    /// Allocates at least one page if a single allocation would succeed; more only while the zone stays
    /// above its low watermark plus the length of `slots`. A caller that needs all slots filled calls
    /// [`fill`](Self::fill), or repeats this call as long as the result grows.
    ///
    /// # Shape
    /// Slots that hold a page are left alone, and holes are filled in order. Every slot below the
    /// result holds a page. Slots behind it may hold pages too, which the result does not count. For a
    /// full or an empty slice, returns its length at once, without counting anything in the statistics.
    ///
    /// # Concurrency
    /// Holds the CPU's lists for 512 pages at a time and a zone lock for at most 64 words of its
    /// bitmaps at a time, whatever the length of `slots`.
    ///
    /// # Cost
    /// One copy per page; takes 64 or more pages from the zone at once. One page costs as much as with
    /// [`alloc_page`](Self::alloc_page).
    ///
    /// # Examples
    /// The loop that Linux's callers use to fill every slot:
    /// ```
    /// # use pagemill::{AllocPages, Gfp, Page};
    /// # fn example<S: AllocPages + Copy>(frames: S) {
    /// let mut slots: [Option<Page<S>>; 16] = [const { None }; 16];
    /// let mut filled = 0;
    /// while filled < slots.len() {
    ///     let now = frames.alloc_pages_bulk(Gfp::KERNEL, &mut slots);
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

    /// Does what [`alloc_pages_bulk`](Self::alloc_pages_bulk) does, preferably on `node`.
    #[inline]
    #[track_caller]
    fn alloc_pages_bulk_node(
        self,
        node: NodeId,
        gfp: Gfp,
        slots: &mut [Option<Page<Self>>],
    ) -> usize {
        self.allocator().check_node(node);
        bulk::array::alloc(&self, gfp, Some(node), slots, Location::caller())
    }

    /// Appends up to `nr` single pages to `list`, and returns their number.
    ///
    /// Allocates at least one page if a single allocation would succeed; more only while the zone stays
    /// above its low watermark plus `nr`. Pages that are on the list already are left alone.
    ///
    /// # Panics
    /// If `list` belongs to another allocator.
    ///
    /// # Cost
    /// Costs as much as [`alloc_pages_bulk`](Self::alloc_pages_bulk), plus one link written per page.
    ///
    /// # Source
    /// `series-v3` patch 2 `alloc_pages_bulk`. Differs: nothing is allocated for `nr` zero.
    #[inline]
    #[track_caller]
    fn alloc_pages_bulk_list(self, gfp: Gfp, nr: usize, list: &mut PageList<Page<Self>>) -> usize {
        bulk::list::alloc(&self, gfp, None, nr, list, Location::caller())
    }

    /// Does what [`alloc_pages_bulk_list`](Self::alloc_pages_bulk_list) does, preferably on `node`.
    #[inline]
    #[track_caller]
    fn alloc_pages_bulk_list_node(
        self,
        node: NodeId,
        gfp: Gfp,
        nr: usize,
        list: &mut PageList<Page<Self>>,
    ) -> usize {
        self.allocator().check_node(node);
        bulk::list::alloc(&self, gfp, Some(node), nr, list, Location::caller())
    }

    /// Appends up to `nr` single pages to `vec`, as far as there is room, and returns their number.
    ///
    /// Allocates at least one page if a single allocation would succeed and there is room; more only
    /// while the zone stays above its low watermark plus the number of pages asked for.
    ///
    /// # Panics
    /// If `vec` belongs to another allocator.
    ///
    /// # Cost
    /// One copy per page, and nothing else that grows with their number: no slot is checked.
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

    /// Allocates a single page, and returns the number of its frame.
    ///
    /// The page belongs to the caller, as if [`Page::into_pfn`] had returned the number.
    ///
    /// # Errors
    /// `None` for the reasons of [`alloc_page`](Self::alloc_page).
    #[inline]
    #[track_caller]
    #[must_use = "the page leaks unless its number is used"]
    fn alloc_pfn(self, gfp: Gfp) -> Option<Pfn> {
        self.alloc_page(gfp).map(Page::into_pfn)
    }

    /// Allocates up to `pfns.len()` single pages, writes their frame numbers to the first entries of
    /// `pfns`, and returns how many it wrote.
    ///
    /// The pages belong to the caller, as if [`Page::into_pfn`] had returned each number; what the numbers
    /// no longer name is leaked. The other entries keep their values.
    ///
    /// Allocates at least one page if a single allocation would succeed; more only while the zone stays
    /// above its low watermark plus the length of `pfns`.
    ///
    /// # Cost
    /// One copy per page, and nothing else that grows with their number, unless they are charged.
    ///
    /// # Examples
    /// ```
    /// # use pagemill::handles::PfnError;
    /// # use pagemill::units::Pfn;
    /// # use pagemill::{AllocPages, Gfp};
    /// # fn example<S: AllocPages + Copy>(frames: S) -> Result<(), PfnError> {
    /// let mut pfns = [Pfn::new(0); 64];
    /// let nr = frames.alloc_pfns_bulk(Gfp::KERNEL, &mut pfns);
    /// // The numbers are from the call above, and are not used again.
    /// unsafe { frames.free_pfns(&pfns[..nr]) }
    /// # }
    /// ```
    ///
    /// # Source
    /// `linux-6.12` `mm/page_alloc.c` `alloc_pages_bulk_noprof`. Differs: writes numbers, and does not look
    /// at what the entries held.
    #[inline]
    #[track_caller]
    #[must_use = "the pages leak unless their numbers are used"]
    fn alloc_pfns_bulk(self, gfp: Gfp, pfns: &mut [Pfn]) -> usize {
        bulk::pfns::alloc(&self, gfp, pfns, Location::caller())
    }

    /// Frees the `nr_pages` frames from `start` on, whatever they were allocated as: single pages, blocks,
    /// ranges, or pieces of these.
    ///
    /// Zero pages are no frames: nothing is freed, and `start` may be any number.
    ///
    /// # Errors
    /// If one of the frames is not in the allocator's memory map, or is reserved; nothing has been freed
    /// then. A range may cross zones, but no hole. [`hand_in`](Self::hand_in) frees reserved frames.
    ///
    /// # Panics
    /// If one of the frames is known to be free, with its number:
    /// - with [`page_owner`](crate::Config::page_owner), always, with the call that allocated it last;
    ///   nothing has been freed then;
    /// - without, if the range has 16 frames or more, for a frame that is free in its zone; if the range
    ///   is in one zone and one [region](crate::setup::MemoryRegion), nothing has been freed then;
    /// - without, for fewer frames, or a frame that is in a per-CPU list: later, when the list that has it
    ///   is drained.
    ///
    /// # Safety
    /// The caller owns the frames and gives them up, as for [`Page::from_pfn`].
    ///
    /// # Concurrency
    /// Holds the CPU's lists or a zone lock for bounded numbers of frames at a time.
    ///
    /// # Cost
    /// An aligned power of two of frames costs what freeing a [`Folio`] costs. Otherwise fewer than 16
    /// frames are copied to a list, and more return to their zone as a
    /// [`FrameRange`] does.
    ///
    /// # Source
    /// `linux-6.12` `mm/page_alloc.c` `free_contig_range`, `free_pages_exact`. Differs: those free frame by
    /// frame.
    #[inline]
    #[track_caller]
    unsafe fn free_pfn_range(self, start: Pfn, nr_pages: usize) -> Result<(), PfnError> {
        self.allocator().free_pfn_range(start, nr_pages)
    }

    /// Hands in the `nr_pages` reserved frames from `start` on: frees them, so that they can be allocated.
    /// Zero pages hand in nothing.
    ///
    /// A kernel hands in the memory of its loader and of its init code once it no longer needs them. The
    /// frames count as managed from now on, and the watermarks of all zones follow. No other call makes a
    /// reserved frame free, so a wrong free never gives away the kernel's image.
    ///
    /// # Errors
    /// If one of the frames is not in the allocator's memory map, or is not reserved; nothing has changed
    /// then. Reserved are the frames of [`Config::reserved`](crate::Config::reserved) that have not been
    /// handed in. A range may cross zones, but no hole.
    ///
    /// # Safety
    /// Nothing uses the frames, and no other thread hands one of them in meanwhile.
    ///
    /// # Concurrency
    /// Holds the lock of the watermarks once per zone and region, and frees as
    /// [`free_pfn_range`](Self::free_pfn_range) does.
    ///
    /// # Cost
    /// A few instructions per frame to check it, then what `free_pfn_range` costs.
    ///
    /// # Source
    /// `linux-6.12` `mm/mm_init.c` `free_reserved_area`, `include/linux/mm.h` `free_reserved_page`.
    /// Differs: a frame that is not reserved is an error; those free it.
    #[track_caller]
    unsafe fn hand_in(self, start: Pfn, nr_pages: usize) -> Result<(), PfnError> {
        self.allocator().hand_in(start, nr_pages, Location::caller())
    }

    /// Frees single frames by their numbers, in any order, whatever they were allocated as.
    ///
    /// # Errors
    /// If one of the frames is not in the allocator's memory map, or is reserved; nothing has been freed
    /// then.
    ///
    /// # Panics
    /// If one of the frames is known to be free: with [`page_owner`](crate::Config::page_owner), always,
    /// with the call that allocated it last, and before anything is freed unless `pfns` names one frame
    /// twice; without, later, when the per-CPU list that has it is drained.
    ///
    /// # Safety
    /// The caller owns the frames and gives them up, as for [`Page::from_pfn`]. No number occurs twice.
    ///
    /// # Cost
    /// Up to 64 frames at a time are looked up and then freed by one copy, if they are in one zone without
    /// holes, in pageblocks of one migrate type, and not charged; else sorted first.
    #[inline]
    #[track_caller]
    unsafe fn free_pfns(self, pfns: &[Pfn]) -> Result<(), PfnError> {
        self.allocator().free_pfns(pfns)
    }

    /// Fills the empty slots of `slots` with the words of single pages, as
    /// [`alloc_pages_bulk`](Self::alloc_pages_bulk) does with pages, and returns the length of the filled
    /// prefix that it has seen.
    ///
    /// For C code and tables of devices, which have no handles. The pages belong to the caller, as if
    /// [`Page::into_raw`] had returned each word.
    ///
    /// # Cost
    /// That of `alloc_pages_bulk` for one-word pages.
    ///
    /// # Examples
    /// ```
    /// # use pagemill::handles::InvalidRawPage;
    /// # use pagemill::{AllocPages, Gfp};
    /// # fn example<S: AllocPages + Copy>(frames: S) -> Result<(), InvalidRawPage> {
    /// let mut slots = [None; 64];
    /// let nr = frames.alloc_raw_bulk(Gfp::KERNEL, &mut slots);
    /// // The words are from the call above, and are not used again.
    /// let freed = unsafe { frames.release_raw(&mut slots) }?;
    /// assert_eq!(freed, nr);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Source
    /// `linux-6.12` `mm/page_alloc.c` `alloc_pages_bulk_noprof`
    // Always: a C interface compiles it for several kinds of arguments, and a call costs 20 instructions.
    #[inline(always)]
    #[track_caller]
    fn alloc_raw_bulk(self, gfp: Gfp, slots: &mut [Option<RawPage>]) -> usize {
        bulk::words::alloc(&self, gfp, slots, Location::caller())
    }

    /// Empties the slots, frees the blocks that their words name, of any order, and returns their number.
    ///
    /// Empty slots are skipped.
    ///
    /// # Errors
    /// What [`check_raw`](crate::PageAllocator::check_raw) finds wrong with a word. The slots are freed 64
    /// at a time, and none of a group with such a word; the groups in front of it are freed and empty.
    ///
    /// # Panics
    /// As for [`free_pfns`](Self::free_pfns), if a block is known to be free.
    ///
    /// # Safety
    /// The caller owns the blocks and gives them up: each word is one that [`Page::from_raw`] or
    /// [`Folio::from_raw`] could be called with, or is not a word of the allocator. No word occurs twice.
    ///
    /// # Cost
    /// That of [`release_pages`](Self::release_pages) for one-word pages, if 64 slots hold pages of one
    /// migrate type, of the most adjacent frames of one zone. In a zone with holes, pages of its other frames
    /// are each looked up, and then freed in one copy too. Otherwise, each block is checked and freed by
    /// itself.
    #[inline]
    #[track_caller]
    unsafe fn release_raw(self, slots: &mut [Option<RawPage>]) -> Result<usize, InvalidRawPage> {
        bulk::words::release(self.allocator(), slots)
    }

    /// Does what [`release_raw`](Self::release_raw) does and returns true, if all slots hold pages of one
    /// migrate type, of the most adjacent frames of one zone, and this CPU's list has room. Otherwise,
    /// returns false and changes nothing.
    ///
    /// For functions that other languages call: a function that tries this, and calls another function for
    /// all other cases, saves few registers.
    ///
    /// # Safety
    /// As for [`release_raw`](Self::release_raw).
    #[inline]
    unsafe fn try_release_raw(self, slots: &mut [Option<RawPage>]) -> bool {
        bulk::words::try_release(self.allocator(), slots)
    }

    /// Fills the empty slots of `slots` with the words of blocks, as [`bulk_fill`](Self::bulk_fill) does with
    /// handles.
    ///
    /// # Panics
    /// If the policy names a node that the allocator does not have.
    #[track_caller]
    fn bulk_raw(self, request: &BulkRequest<'_>, slots: &mut [Option<RawPage>]) -> BulkOutcome {
        bulk::request::words(&self, request, slots, Location::caller())
    }

    /// Does what [`alloc_pages_bulk`](Self::alloc_pages_bulk) does, on the nodes that `policy` selects.
    ///
    /// # Panics
    /// If `policy` names a node that the allocator does not have.
    ///
    /// # Source
    /// `linux-6.12` `mm/mempolicy.c` `alloc_pages_bulk_mempolicy_noprof`. Differs: the policy is the
    /// caller's, not the task's; slots may hold pages, and none is counted twice; what a node cannot
    /// give is taken from the other nodes with all the effort that `gfp` allows.
    #[track_caller]
    fn alloc_pages_bulk_mempolicy(
        self,
        policy: Policy<'_>,
        gfp: Gfp,
        slots: &mut [Option<Page<Self>>],
    ) -> usize {
        let (request, all) = (BulkRequest { policy, ..BulkRequest::new(gfp) }, 0..slots.len());
        let _outcome = bulk::request::fill(&self, &request, slots, all, Location::caller());
        slots.iter().position(Option::is_none).unwrap_or(slots.len())
    }

    /// Fills the empty slots of `slots` according to `request`.
    ///
    /// The type of the slots decides between pages (order zero) and folios.
    ///
    /// # Panics
    /// If the slots are for [`Page`]s and the request's order is above zero, or if its policy prefers
    /// or interleaves over a node that the allocator does not have. Nothing has been allocated then. A
    /// set of nodes to choose from ([`Policy::Bind`], [`Policy::PreferredMany`]) may name absent nodes.
    ///
    /// # Examples
    /// Users of a bulk allocator have four common needs. As many pages as possible, with full effort,
    /// as in most loops around `alloc_pages_bulk`:
    /// ```
    /// # use pagemill::{AllocPages, BulkRequest, Gfp, Page};
    /// # fn example<S: AllocPages + Copy>(frames: S) {
    /// let mut slots: [Option<Page<S>>; 16] = [const { None }; 16];
    /// let got = frames.bulk_fill(&BulkRequest::new(Gfp::KERNEL), &mut slots);
    /// assert!(got.populated == 16 || got.short.is_some());
    /// # }
    /// ```
    /// All or nothing, with a policy; without one, call [`alloc_exactly`](Self::alloc_exactly):
    /// ```
    /// # use pagemill::policy::Policy;
    /// # use pagemill::request::Effort;
    /// # use pagemill::units::NodeId;
    /// # use pagemill::{AllocPages, BulkRequest, Gfp, Page, PageList, Shortage};
    /// # fn example<S: AllocPages + Copy>(frames: S) -> Result<PageList<Page<S>>, Shortage> {
    /// let mut pages = PageList::new(frames);
    /// let all = BulkRequest {
    ///     effort: Effort::AllOrNothing,
    ///     policy: Policy::Preferred(NodeId::new(1)),
    ///     ..BulkRequest::new(Gfp::KERNEL)
    /// };
    /// match frames.bulk_list(&all, 259, &mut pages).short {
    ///     Some(shortage) => Err(shortage),
    ///     None => Ok(pages),
    /// }
    /// # }
    /// ```
    /// What is easily available, and the missing pages from another source:
    /// ```
    /// # use pagemill::request::Effort;
    /// # use pagemill::{AllocPages, BulkRequest, Gfp, Page, PageList};
    /// # fn example<S: AllocPages + Copy>(frames: S, spare: &mut PageList<Page<S>>) {
    /// let mut pages = PageList::new(frames);
    /// let easy = BulkRequest { effort: Effort::Fast, ..BulkRequest::new(Gfp::NOWAIT) };
    /// let got = frames.bulk_list(&easy, 64, &mut pages);
    /// pages.extend(spare.take(64 - got.new));
    /// # }
    /// ```
    /// Waiting for all pages, until a callback stops the request:
    /// ```
    /// # use pagemill::{AllocPages, BulkRequest, Gfp, Page, Shortage};
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

    /// Does what [`bulk_fill`](Self::bulk_fill) does for `slots[hint]` only: the other slots are
    /// neither checked nor counted.
    ///
    /// # Panics
    /// For the reasons of [`bulk_fill`](Self::bulk_fill), and if `hint` is not within `slots`.
    #[track_caller]
    fn bulk_fill_range<T: BulkItem<Source = Self>>(
        self,
        request: &BulkRequest<'_>,
        slots: &mut [Option<T>],
        hint: core::ops::Range<usize>,
    ) -> BulkOutcome {
        bulk::request::fill(&self, request, slots, hint, Location::caller())
    }

    /// Writes blocks into uninitialised memory, from its start on; nothing needs to be cleared before.
    ///
    /// # Shape
    /// The first [`new`](BulkOutcome::new) entries are initialised, and the caller must drop them.
    ///
    /// # Panics
    /// For the reasons of [`bulk_fill`](Self::bulk_fill).
    #[track_caller]
    fn bulk_write<T: BulkItem<Source = Self>>(
        self,
        request: &BulkRequest<'_>,
        room: &mut [MaybeUninit<T>],
    ) -> BulkOutcome {
        bulk::request::write(&self, request, room, Location::caller())
    }

    /// Appends up to `nr` blocks to `list`.
    ///
    /// # Panics
    /// For the reasons of [`bulk_fill`](Self::bulk_fill), and if the list belongs to another allocator.
    #[track_caller]
    fn bulk_list<T: BulkItem<Source = Self>>(
        self,
        request: &BulkRequest<'_>,
        nr: usize,
        list: &mut PageList<T>,
    ) -> BulkOutcome {
        list.check_allocator(&self);
        bulk::request::append(&self, request, nr, list, Location::caller())
    }

    /// Writes the frame numbers of up to `pfns.len()` blocks to the first entries of `pfns`.
    ///
    /// # Shape
    /// The first [`new`](BulkOutcome::new) entries are the first frames of blocks of the request's order.
    /// The blocks belong to the caller, as if [`Folio::into_pfn`] had returned each number. The other
    /// entries keep their values.
    ///
    /// # Panics
    /// If the policy names a node that the allocator does not have.
    ///
    /// # Cost
    /// For single pages, one copy per page, as [`alloc_pfns_bulk`](Self::alloc_pfns_bulk), unless they are
    /// charged.
    ///
    /// # Examples
    /// ```
    /// # use pagemill::request::Effort;
    /// # use pagemill::units::Pfn;
    /// # use pagemill::{AllocPages, BulkRequest, Gfp};
    /// # fn example<S: AllocPages + Copy>(frames: S) {
    /// let request = BulkRequest { effort: Effort::AllOrNothing, ..BulkRequest::new(Gfp::KERNEL) };
    /// let mut pfns = [Pfn::new(0); 64];
    /// if frames.bulk_pfns(&request, &mut pfns).short.is_none() {
    ///     // All numbers are from the call above, and are not used again.
    ///     unsafe { frames.free_pfns(&pfns) }.expect("frames of the map");
    /// }
    /// # }
    /// ```
    #[track_caller]
    fn bulk_pfns(self, request: &BulkRequest<'_>, pfns: &mut [Pfn]) -> BulkOutcome {
        bulk::request::pfns(&self, request, pfns, Location::caller())
    }

    /// Passes up to `nr` blocks to `take`, one by one; `take` may allocate, for instance to grow a
    /// vector.
    ///
    /// # Panics
    /// For the reasons of [`bulk_fill`](Self::bulk_fill).
    #[track_caller]
    fn bulk_each<T: BulkItem<Source = Self>>(
        self,
        request: &BulkRequest<'_>,
        nr: usize,
        take: impl FnMut(T),
    ) -> BulkOutcome {
        bulk::request::for_each(&self, request, nr, take, Location::caller())
    }

    /// Passes `nr` frames to `take` in as few blocks as can be had without reclaim. Takes the largest
    /// aligned blocks first from each of its policy's nodes, down to single pages, for which it makes
    /// the request's effort.
    ///
    /// So 64 KiB need one descriptor where memory allows it, and 16 in the worst case. The request's
    /// order is ignored; the result counts frames.
    ///
    /// # Panics
    /// For the reasons of [`bulk_fill`](Self::bulk_fill).
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
    /// One copy per page where 64 consecutive slots hold pages of one zone and migrate type, as a bulk
    /// call leaves them; otherwise as much as dropping each page.
    ///
    /// # Source
    /// `linux-6.12` `mm/swap.c` `release_pages`. Differs: Linux drops a reference to each page; an
    /// owned page here has only one.
    #[inline]
    fn release_pages(self, slots: &mut [Option<Page<Self>>]) -> usize {
        bulk::array::release(&self, slots)
    }
}

impl<S: PageSource> AllocPages for S {}

/// Frees every page of `list` that has no other holder, and returns their number.
///
/// All owned pages are freed. Shared pages with other owners stay on the list.
///
/// # Source
/// `series-v3` patch 2 `free_pages_bulk`. Differs: there, the list gives up its claim to the pages that
/// stay; here the list keeps it. The pages go to the per-CPU lists, not to the zone.
#[inline]
pub fn free_pages_bulk<T: Listable>(list: &mut PageList<T>) -> usize {
    list.free_unheld()
}
