//! `Page` and `Folio`: a handle with one owner, which frees its frame or block on drop.

use core::fmt;
use core::marker::PhantomData;
use core::mem::{self, ManuallyDrop, MaybeUninit};
use core::ptr::{self, NonNull};

use crate::base::raw_page::{Class, Difference, RawPage, Words};
use crate::base::units::{NodeId, Order, PAGE_SIZE, Pfn, PhysAddr};
use crate::page::source::PageSource;
use crate::page_alloc::by_pfn::PfnError;
use crate::percpu::pcp::write_pages;
use crate::platform::platform::DirectMap;

/// A block that is in use, and how its allocator is reached: what all owning handles are made of.
///
/// `raw` is the word of a frame or block that this handle owns, alone or with others (`handle-unique`,
/// `shared-count`), and that is not freed before the handle is dropped. `K` says what the drop does.
pub(crate) struct Handle<S: PageSource, K: Release> {
    raw: RawPage,
    source: S,
    kind: PhantomData<K>,
}

/// What becomes of a block whose handle is dropped.
pub(crate) trait Release {
    fn release<S: PageSource>(source: &S, raw: RawPage);
}

/// Handles of this kind have no other owner beside them.
trait Sole: Release {}

/// Frees a single page.
pub(crate) enum FreePage {}

impl Sole for FreePage {}

impl Release for FreePage {
    #[inline]
    fn release<S: PageSource>(source: &S, raw: RawPage) {
        source.allocator().free_single(raw);
    }
}

/// Frees a block of any order.
pub(crate) enum FreeFolio {}

impl Sole for FreeFolio {}

impl Release for FreeFolio {
    #[inline]
    fn release<S: PageSource>(source: &S, raw: RawPage) {
        source.allocator().free_folio(raw);
    }
}

impl<S: PageSource, K: Release> Handle<S, K> {
    /// Makes the handle of a block that no other handle owns alone.
    #[inline]
    pub(crate) fn new(source: S, raw: RawPage) -> Self {
        Self { raw, source, kind: PhantomData }
    }

    /// Gives up the block without releasing it.
    #[inline]
    pub(crate) fn into_parts(self) -> (RawPage, S) {
        let this = ManuallyDrop::new(self);
        // SAFETY: 1. valid to read: a reference. 2. not dropped twice: `this` never is.
        let source = unsafe { ptr::read(&raw const this.source) };
        (this.raw, source)
    }

    #[inline]
    pub(crate) fn raw(&self) -> RawPage {
        self.raw
    }

    #[inline]
    pub(crate) fn source(&self) -> &S {
        &self.source
    }

    #[inline]
    fn node(&self) -> NodeId {
        self.source.allocator().node_of(self.raw)
    }
}

impl<S: PageSource<Platform: DirectMap>, K: Release> Handle<S, K> {
    /// Returns the bytes of the block.
    #[inline]
    fn bytes(&self) -> &[u8] {
        // SAFETY: 1. valid, aligned and contiguous: DirectMap; a block lies in one region. 2. not
        // written meanwhile: its owners, of whom this one is borrowed, write only if they are alone.
        unsafe { self.bytes_ptr().as_ref() }
    }

    /// Returns the bytes of the block, for writing, if this is its only owner for as long as it lives.
    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8]
    where
        K: Sole,
    {
        // SAFETY: 1. valid, aligned and contiguous: as in `bytes`. 2. exclusive: `K` says that there is
        // no other owner, and this one is borrowed uniquely.
        unsafe { self.bytes_ptr().as_mut() }
    }

    /// Returns the bytes of the first page.
    #[inline]
    pub(crate) fn first_page(&self) -> &[u8; PAGE_SIZE] {
        self.bytes().first_chunk().expect("a block has at least one page")
    }

    /// Returns the bytes of the first page, for writing.
    #[inline]
    fn first_page_mut(&mut self) -> &mut [u8; PAGE_SIZE]
    where
        K: Sole,
    {
        self.bytes_mut().first_chunk_mut().expect("a block has at least one page")
    }

    #[inline]
    fn bytes_ptr(&self) -> NonNull<[u8]> {
        let first = self.source.allocator().platform().frame_ptr(self.raw.pfn());
        NonNull::slice_from_raw_parts(first, PAGE_SIZE << self.raw.order().value())
    }
}

impl<S: PageSource, K: Release> Drop for Handle<S, K> {
    #[inline]
    fn drop(&mut self) {
        K::release(&self.source, self.raw);
    }
}

/// One frame and the right to use it; dropping it frees the frame.
///
/// It cannot be freed twice, used after it was freed, or leaked by an early return. With a
/// [`Static`](crate::source::Static) source it is 8 bytes, and so is `Option<Page>`.
///
/// Sharing is explicit: [`share`](Self::share) makes a counted
/// [`SharedPage`](crate::handles::SharedPage).
///
/// # Examples
/// A page cannot be made a second time out of the handle of one that is still owned:
/// ```compile_fail,E0133
/// # use pagemill::handles::Listable;
/// # use pagemill::source::PageSource;
/// # use pagemill::Page;
/// # fn example<S: PageSource>(page: Page<S>, source: S) {
/// let raw = page.into_raw();
/// let one = <Page<S> as Listable>::from_unowned(source, raw);
/// # }
/// ```
/// Nor pass for a page of another static:
/// ```compile_fail,E0308
/// # use pagemill::source::{PageSource, Static};
/// # use pagemill::Page;
/// # struct Of<T>(T);
/// # fn example(page: Page<Static<Of<for<'a> fn(&'a u8)>>>)
/// # where Static<Of<for<'a> fn(&'a u8)>>: PageSource, Static<Of<fn(&'static u8)>>: PageSource {
/// let other: Page<Static<Of<fn(&'static u8)>>> = page;
/// # }
/// ```
/// It cannot be freed twice, nor used after it was freed:
/// ```compile_fail,E0382
/// # use pagemill::{AllocPages, Gfp};
/// # fn example<S: AllocPages>(frames: S) {
/// let page = frames.alloc_page(Gfp::KERNEL).unwrap();
/// drop(page);
/// drop(page);
/// # }
/// ```
/// Nor can it outlive an allocator that it borrows:
/// ```compile_fail,E0505
/// # use pagemill::{AllocPages, Gfp, PageAllocator, Platform};
/// # fn example<P: Platform>(allocator: PageAllocator<P>) {
/// let page = allocator.alloc_page(Gfp::KERNEL);
/// drop(allocator);
/// drop(page);
/// # }
/// ```
pub struct Page<S: PageSource>(Handle<S, FreePage>);

/// Returns the number of a block that is given up, after recording who pays for it.
#[inline]
fn into_pfn<S: PageSource>(source: &S, raw: RawPage) -> Pfn {
    if raw.is_charged() {
        source.allocator().keep_charge(raw);
    }
    raw.pfn()
}

impl<S: PageSource> Page<S> {
    /// Makes the owner of a page that [`into_raw`](Self::into_raw) gave up.
    ///
    /// # Panics
    /// If `raw` is a block of order above zero.
    ///
    /// # Safety
    /// `raw` was returned by [`into_raw`](Self::into_raw) of a page of the same allocator, or made of its
    /// [bits](RawPage::from_bits), and only one owner is made of it.
    #[inline]
    #[track_caller]
    pub unsafe fn from_raw(source: S, raw: RawPage) -> Self {
        assert!(raw.order() == Order::ZERO, "{raw:?} is not a single page: use Folio::from_raw");
        Self::new(source, raw)
    }

    /// Makes the owner of a frame of which only the number is known.
    ///
    /// For page tables, heaps and C code that have no room for a [`RawPage`]. The page returns to the
    /// list of its pageblock's migrate type. If [`into_pfn`](Self::into_pfn) gave it up, it is charged to
    /// the account that it was charged to.
    ///
    /// # Errors
    /// If the frame is not in the allocator's memory map, or is reserved; see
    /// [`hand_in`](crate::AllocPages::hand_in). Nothing has changed then.
    ///
    /// # Panics
    /// With [`page_owner`](crate::Config::page_owner), if the frame is free, with the call that allocated
    /// it last.
    ///
    /// # Safety
    /// The caller owns the frame and gives it up: [`into_pfn`](Self::into_pfn), [`Folio::into_pfn`],
    /// [`FrameRange::into_pfn`](crate::contig::FrameRange::into_pfn) or
    /// [`alloc_pfns_bulk`](crate::AllocPages::alloc_pfns_bulk) returned its number or that of the frames
    /// around it.
    ///
    /// The word that [`into_raw`](Self::into_raw) returned is not enough: it holds the page's charge. Use
    /// [`from_raw`](Self::from_raw).
    ///
    /// # Cost
    /// A search for the frame's zone, which begins at the largest, and one load from the pageblock's
    /// metadata.
    ///
    /// # Source
    /// `linux-6.12` `mm/page_alloc.c` `__free_pages`, `get_pfnblock_migratetype`
    #[inline]
    #[track_caller]
    pub unsafe fn from_pfn(source: S, pfn: Pfn) -> Result<Self, PfnError> {
        let raw = source.allocator().take_over(pfn)?;
        Ok(Self::new(source, raw))
    }

    /// Gives up the ownership without freeing the frame, and returns the frame's number.
    ///
    /// The allocator remembers the account of a charged page, so that the charge ends when the frame is
    /// freed by its number.
    ///
    /// # Cost
    /// None for a page without an account. For a charged one, two words are written.
    ///
    /// # Examples
    /// ```
    /// # use pagemill::handles::PfnError;
    /// # use pagemill::{AllocPages, Gfp, Page};
    /// # fn example<S: AllocPages + Copy>(frames: S) -> Result<(), PfnError> {
    /// let page = frames.alloc_page(Gfp::KERNEL).expect("there is memory");
    /// let entry = page.into_pfn().start().value() | 1; // a page table entry
    ///
    /// let pfn = pagemill::units::PhysAddr::new(entry).pfn();
    /// // The entry owned the frame, and is not used again.
    /// drop(unsafe { Page::from_pfn(frames, pfn) }?);
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    #[must_use = "the frame leaks unless it is taken over again"]
    pub fn into_pfn(self) -> Pfn {
        let (raw, source) = self.into_parts();
        into_pfn(&source, raw)
    }

    /// Gives up the ownership without freeing the frame.
    #[inline]
    #[must_use = "the frame leaks unless it is taken over again"]
    pub fn into_raw(self) -> RawPage {
        self.into_parts().0
    }

    #[inline]
    pub(crate) fn into_parts(self) -> (RawPage, S) {
        self.0.into_parts()
    }

    /// Makes the owner of `raw`, which the allocator of `source` has just handed out.
    #[inline]
    pub(crate) fn new(source: S, raw: RawPage) -> Self {
        Self(Handle::new(source, raw))
    }

    #[inline]
    pub(crate) fn raw(&self) -> RawPage {
        self.0.raw
    }

    /// Whether a slot is exactly the word of its page, or zero: `page-word`.
    ///
    /// Evaluated by the compiler, which guarantees no layout but exposes the one that it chose: the
    /// slot has the size of a word, the page's word at its beginning, and zero where there is no page.
    const IS_WORD: bool =
        size_of::<Option<Self>>() == size_of::<u64>() && mem::offset_of!(Self, 0.raw) == 0 && {
            let none = ManuallyDrop::new(None::<Self>);
            // SAFETY: 1. valid to read: `none` has the size of a `u64`. 2. initialised: the slot is
            // one word without padding, so the bits of the word distinguish `None` from pages.
            unsafe { (&raw const none).cast::<u64>().read_unaligned() == 0 }
        };

    /// Returns the frame's number.
    #[inline]
    #[must_use]
    pub fn pfn(&self) -> Pfn {
        self.0.raw.pfn()
    }

    /// Returns the node that the frame is on.
    #[inline]
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.0.node()
    }

    /// Returns the address of the frame's first byte.
    #[inline]
    #[must_use]
    pub fn phys_addr(&self) -> PhysAddr {
        self.pfn().start()
    }

    /// Returns how the allocator is reached.
    #[inline]
    pub fn source(&self) -> &S {
        self.0.source()
    }
}

/// Slots to be freed together.
///
/// `full-slots`: each of them holds a page of one class and one allocator.
pub(crate) struct FullSlots<'a, S: PageSource>(&'a mut [Option<Page<S>>]);

impl<'a, S: PageSource> FullSlots<'a, S> {
    /// Returns the class of the pages, and the slots if all of them hold a page of that class and of
    /// the allocator of `source`.
    #[inline]
    pub(crate) fn check(source: &S, slots: &'a mut [Option<Page<S>>]) -> Option<(Class, Self)> {
        let class = slots.first()?.as_ref()?.raw().class();
        let difference = |slot: &Option<Page<S>>| class.difference(slot.as_ref().map(Page::raw));
        let differences = slots.iter().fold(Difference::NONE, |sum, slot| sum.or(difference(slot)));
        let is_same =
            |slot: &Option<Page<S>>| slot.as_ref().is_none_or(|p| p.source().is_same(source));
        // Where a page is one word, its type names the allocator.
        let is_one = differences.is_none() && (Page::<S>::IS_WORD || slots.iter().all(is_same));
        is_one.then_some((class, Self(slots)))
    }

    /// Moves the next pages out of their slots into all of `room`, and returns it.
    ///
    /// # Panics
    /// If there are too few.
    ///
    /// # Cost
    /// Copies and clears words, if `page-word` holds. The compiler's code for that is the fastest that
    /// the machine has.
    #[inline]
    pub(crate) fn take_into<'r>(
        &mut self,
        room: &'r mut [MaybeUninit<RawPage>],
    ) -> &'r mut [RawPage] {
        let (now, later) = mem::take(&mut self.0).split_at_mut(room.len());
        self.0 = later;
        if const { Page::<S>::IS_WORD } {
            let words = ptr::from_mut(now) as *mut [Option<RawPage>];
            // SAFETY: 1. valid, exclusive: the borrow of the slots. 2. of the same layout: `page-word`,
            // and an `Option<RawPage>` is a word that is zero for `None`, as for all transparent types
            // around a non-zero number. 3. pages are passed by hand: copied and cleared by `take_words`.
            let words = unsafe { &mut *words };
            // SAFETY: 1. as long: split there. 2. each word is a page: `full-slots`.
            return unsafe { take_words(words, room) };
        }
        for (entry, slot) in room.iter_mut().zip(now) {
            // SAFETY: 1. the slot holds a page: `full-slots`.
            entry.write(unsafe { slot.take().unwrap_unchecked() }.into_raw());
        }
        // SAFETY: 1. initialised: every entry was just written.
        unsafe { room.assume_init_mut() }
    }
}

/// Moves pages out of `words` into all of `room`, and returns it.
///
/// # Safety
/// Both are of one length, and every word is a page.
#[inline]
unsafe fn take_words<'r>(
    words: &mut [Option<RawPage>],
    room: &'r mut [MaybeUninit<RawPage>],
) -> &'r mut [RawPage] {
    let from = words.as_ptr().cast::<MaybeUninit<RawPage>>();
    // SAFETY: 1. as long: guaranteed by the caller. 2. apart: both are borrowed uniquely.
    unsafe { from.copy_to_nonoverlapping(room.as_mut_ptr(), room.len()) };
    words.fill(None);
    // SAFETY: 1. initialised: every entry was just written, with a page, as the caller guarantees.
    unsafe { room.assume_init_mut() }
}

/// Slots of page words to be freed together.
///
/// `full-slots`: each of them holds a page of one class.
pub(crate) struct FullWords<'a>(&'a mut [Option<RawPage>]);

impl<'a> FullWords<'a> {
    /// Returns the slots if the words of all of them are among `words`.
    #[inline]
    pub(crate) fn check(words: Words, slots: &'a mut [Option<RawPage>]) -> Option<Self> {
        words.have_all(slots).then_some(Self(slots))
    }

    /// Returns the slots if all of them hold a page of `class` at a frame for which `is_allowed` is true.
    pub(crate) fn check_each(
        class: Class,
        slots: &'a mut [Option<RawPage>],
        mut is_allowed: impl FnMut(Pfn) -> bool,
    ) -> Option<Self> {
        let is_full = |slot: &Option<RawPage>| {
            slot.is_some_and(|page| page.class() == class && is_allowed(page.pfn()))
        };
        slots.iter().all(is_full).then_some(Self(slots))
    }

    /// Does what [`FullSlots::take_into`] does.
    #[inline]
    pub(crate) fn take_into<'r>(
        &mut self,
        room: &'r mut [MaybeUninit<RawPage>],
    ) -> &'r mut [RawPage] {
        let (now, later) = mem::take(&mut self.0).split_at_mut(room.len());
        self.0 = later;
        // SAFETY: 1. as long: split there. 2. each word is a page: `full-slots`.
        unsafe { take_words(now, room) }
    }
}

impl<S: PageSource<Platform: DirectMap>> Page<S> {
    /// Returns the bytes of the frame, with what its last user left in them.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; PAGE_SIZE] {
        self.0.first_page()
    }

    /// Returns the bytes of the frame, for writing.
    #[inline]
    #[must_use]
    pub fn as_bytes_mut(&mut self) -> &mut [u8; PAGE_SIZE] {
        self.0.first_page_mut()
    }
}

impl<S: PageSource> fmt::Debug for Page<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Page(pfn {})", self.pfn())
    }
}

/// 2^order adjacent frames, aligned to their size, and the right to use them.
///
/// Dropping it frees all of them at once.
pub struct Folio<S: PageSource>(Handle<S, FreeFolio>);

impl<S: PageSource> Folio<S> {
    /// Makes the owner of a block that [`into_raw`](Self::into_raw) gave up.
    ///
    /// # Safety
    /// `raw` was returned by [`into_raw`](Self::into_raw) or [`Page::into_raw`] of a block of the
    /// same allocator, or made of its [bits](RawPage::from_bits), and only one owner is made of it.
    #[inline]
    pub unsafe fn from_raw(source: S, raw: RawPage) -> Self {
        Self::new(source, raw)
    }

    /// Gives up the ownership without freeing the frames.
    #[inline]
    #[must_use = "the frames leak unless they are taken over again"]
    pub fn into_raw(self) -> RawPage {
        self.into_parts().0
    }

    /// Makes the owner of `raw`, which the allocator of `source` has just handed out.
    #[inline]
    pub(crate) fn new(source: S, raw: RawPage) -> Self {
        Self(Handle::new(source, raw))
    }

    /// Returns how the allocator is reached.
    #[inline]
    pub fn source(&self) -> &S {
        self.0.source()
    }

    #[inline]
    pub(crate) fn into_parts(self) -> (RawPage, S) {
        self.0.into_parts()
    }

    #[inline]
    pub(crate) fn raw(&self) -> RawPage {
        self.0.raw
    }

    /// Returns the number of the first frame.
    #[inline]
    #[must_use]
    pub fn pfn(&self) -> Pfn {
        self.0.raw.pfn()
    }

    /// Returns the node that the frames are on.
    #[inline]
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.0.node()
    }

    /// Returns the address of the first byte.
    #[inline]
    #[must_use]
    pub fn phys_addr(&self) -> PhysAddr {
        self.pfn().start()
    }

    /// Returns the number of frames as a power of two.
    #[inline]
    #[must_use]
    pub fn order(&self) -> Order {
        self.0.raw.order()
    }

    /// Makes the owner of a block of which only the first frame's number is known.
    ///
    /// The block need not have been allocated as one: its frames may come from larger blocks, smaller
    /// ones and single pages. If all of them are charged to one account, the block is; if only some are,
    /// or to several accounts, the charges end.
    ///
    /// # Errors
    /// If a frame is not in the allocator's memory map or is reserved, if `pfn` is not a multiple of
    /// 2^`order`, or if the frames are in several zones. Nothing has changed then.
    ///
    /// # Panics
    /// As [`Page::from_pfn`].
    ///
    /// # Safety
    /// The caller owns all frames of the block and gives them up, as for [`Page::from_pfn`].
    ///
    /// # Cost
    /// As [`Page::from_pfn`]; one step per frame if its pageblock has reserved frames, or charged ones
    /// that were given up by their numbers.
    #[inline]
    #[track_caller]
    pub unsafe fn from_pfn(source: S, pfn: Pfn, order: Order) -> Result<Self, PfnError> {
        let raw = source.allocator().take_over_block(pfn, order)?;
        Ok(Self::new(source, raw))
    }

    /// Gives up the ownership without freeing the frames, and returns the first frame's number.
    ///
    /// Keep the [order](Self::order) too: the allocator does not remember it. The frames can be freed
    /// as one block, as single pages, or as ranges of any length by
    /// [`free_pfn_range`](crate::AllocPages::free_pfn_range).
    ///
    /// # Cost
    /// None for a block without an account. For a charged one, a word is written for each frame.
    #[inline]
    #[must_use = "the frames leak unless they are taken over again"]
    pub fn into_pfn(self) -> Pfn {
        let (raw, source) = self.into_parts();
        into_pfn(&source, raw)
    }

    /// Splits the block into its single pages, which are then freed one by one.
    ///
    /// # Source
    /// `linux-6.12` `mm/page_alloc.c` `split_page`
    pub fn split(self) -> FolioPages<S> {
        let (raw, source) = self.into_parts();
        let start = raw.pfn().value();
        FolioPages {
            class: Class::new(raw.list(), Order::ZERO).charged_to(raw.class().account()),
            pfns: start..start + raw.order().nr_pages() as u64,
            source,
        }
    }
}

impl<S: PageSource<Platform: DirectMap>> Folio<S> {
    /// Returns the bytes of the frames, with what their last users left in them.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    /// Returns the bytes of the frames, for writing.
    #[inline]
    #[must_use]
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        self.0.bytes_mut()
    }
}

impl<S: PageSource> fmt::Debug for Folio<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Folio(pfn {}, order {})", self.pfn(), self.order())
    }
}

/// Iterator over the single pages of a [`Folio`]; dropping it frees those not taken.
#[must_use = "dropping this frees the pages that were not taken"]
pub struct FolioPages<S: PageSource> {
    class: Class,
    pfns: core::ops::Range<u64>,
    source: S,
}

impl<S: PageSource> Iterator for FolioPages<S> {
    type Item = Page<S>;

    fn next(&mut self) -> Option<Page<S>> {
        if self.pfns.is_empty() {
            return None;
        }
        // First: a clone that panics leaves the page to this iterator, which frees it.
        let source = self.source.clone();
        let pfn = Pfn::new(self.pfns.next()?);
        Some(Page::new(source, self.class.at(pfn)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.pfns.size_hint()
    }
}

impl<S: PageSource> ExactSizeIterator for FolioPages<S> {}

impl<S: PageSource> Drop for FolioPages<S> {
    fn drop(&mut self) {
        let (class, nr) = (self.class, self.len());
        let mut pages = self.pfns.by_ref().map(|pfn| class.at(Pfn::new(pfn)));
        self.source.allocator().free_class(class, nr, |room| write_pages(room, &mut pages));
    }
}

impl<S: PageSource> fmt::Debug for FolioPages<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FolioPages").field("pfns", &self.pfns).finish_non_exhaustive()
    }
}
