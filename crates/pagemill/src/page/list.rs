//! Page lists: linked through the allocator's per-frame metadata, without memory of their own.

use core::fmt;

use crate::base::raw_page::{Difference, RawPage};
use crate::base::sync::Ordering;
use crate::base::units::{Order, Pfn};
use crate::memmap::links::Link;
use crate::page::owned::sealed::Sealed;
use crate::page::owned::{Listable, Owned, Unowned};
use crate::page::page::Folio;
use crate::page::shared::SharedPage;
use crate::page::source::PageSource;
use crate::page_alloc::allocator::PageAllocator;
use crate::percpu::pcp::{Batch, write_pages};
use crate::platform::platform::Platform;

impl<S: PageSource> Sealed for SharedPage<S> {}

impl<S: PageSource> Listable for SharedPage<S> {
    type Source = S;

    const IS_SOLE: bool = false;

    fn from_unowned(source: S, Unowned(raw): Unowned) -> Self {
        Self::delist(source, raw)
    }

    fn is_last(source: &S, raw: RawPage) -> bool {
        Self::is_only_owner(source, raw)
    }
}

/// A queue of pages, first in, first out; dropping it drops them.
///
/// `one-list`: a frame has one link, so it is on one list at most. For an owned page, ownership
/// ensures that; for a shared page, a bit in its count.
/// `list-links`: from `first`, `len - 1` links lead to `last`; the link of `last` is not read.
pub struct PageList<T: Listable> {
    /// The first and last page; `None` exactly if the list is empty.
    ends: Option<(RawPage, RawPage)>,
    len: usize,
    source: T::Source,
}

impl<T: Listable> PageList<T> {
    /// Makes an empty list for pages of one allocator.
    #[must_use]
    pub const fn new(source: T::Source) -> Self {
        Self { ends: None, len: 0, source }
    }

    /// Returns the number of pages.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there is no page.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Removes and returns the first page.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        self.ends?;
        // First: a clone that panics leaves the page to the list.
        let source = self.source.clone();
        let raw = self.pop_raw()?;
        Some(T::from_unowned(source, Unowned(raw)))
    }

    /// Appends all pages of `other`.
    ///
    /// # Panics
    /// If the lists belong to different allocators.
    ///
    /// # Cost
    /// Constant.
    #[track_caller]
    pub fn append(&mut self, other: &mut Self) {
        self.check_allocator(&other.source);
        if let Some((first, last)) = other.ends.take() {
            let len = core::mem::take(&mut other.len);
            self.link_chain(first, last, len);
        }
    }

    /// Frees every page that has no other holder, and returns their number; the other pages stay.
    ///
    /// # Cost
    /// Consecutive pages that return to the same list are moved there together.
    #[inline]
    pub(crate) fn free_unheld(&mut self) -> usize {
        if !T::IS_SOLE {
            return self.free_some();
        }
        let nr = self.len;
        match self.ends {
            Some((only, _)) if nr == 1 && only.order() == Order::ZERO => {
                (self.ends, self.len) = (None, 0);
                self.source.allocator().free_single(only);
            }
            Some(_) => self.free_all(),
            // The source of an empty list may have no allocator yet.
            None => {}
        }
        nr
    }

    /// Frees all pages, of which the list is the only holder.
    #[inline(never)]
    fn free_all(&mut self) {
        let allocator = self.source.allocator();
        let mut links = LinkTable::new(allocator);
        while let Some((first, last)) = self.ends {
            let mut batch = Batch::new();
            let mut difference = Difference::NONE;
            let (class, nr) = (first.class(), self.len.min(Batch::CAPACITY));
            let mut page = first;
            batch.push(page).expect("the batch is empty");
            let others = core::iter::from_fn(|| {
                page = links.next(page);
                difference = difference.or(class.difference(Some(page)));
                Some(page)
            });
            batch.push_with(nr - 1, |room| write_pages(room, others));
            // They leave the list first: if freeing them panics, the list still has the pages behind.
            self.len -= nr;
            self.ends = (self.len > 0).then(|| (links.next(page), last));
            if difference.is_none() && first.order() == Order::ZERO {
                allocator.free_pages_of(class, batch.as_slice());
            } else {
                allocator.free_pages(batch.as_slice());
            }
        }
    }

    /// Frees the pages that have no other holder.
    fn free_some(&mut self) -> usize {
        let (mut freed, mut left) = (0, self.len);
        while left > 0 {
            let mut batch = Batch::new();
            let nr = left.min(Batch::CAPACITY);
            for _ in 0..nr {
                let Some(raw) = self.pop_raw() else { break };
                if T::is_last(&self.source, raw) {
                    batch.push(raw).expect("room for `nr` pages");
                } else {
                    self.link_chain(raw, raw, 1);
                }
            }
            left -= nr;
            self.source.allocator().free_pages(batch.as_slice());
            freed += batch.as_slice().len();
        }
        freed
    }

    /// Appends raw pages that the allocator of this list handed out.
    #[inline]
    pub(crate) fn extend_raw(&mut self, pages: &[RawPage]) {
        match *pages {
            [] => {}
            [page] => self.link_chain(page, page, 1),
            [first, ref rest @ ..] => {
                let mut last = first;
                let mut links = LinkTable::new(self.source.allocator());
                for &page in rest {
                    // Relaxed: only the list's owner accesses its links (`one-list`).
                    links.of(last).store(page.word(), Ordering::Relaxed);
                    last = page;
                }
                self.link_chain(first, last, pages.len());
            }
        }
    }

    #[inline]
    fn pop_raw(&mut self) -> Option<RawPage> {
        let (first, last) = self.ends?;
        self.len -= 1;
        self.ends = if self.len == 0 {
            None
        } else {
            Some((LinkTable::new(self.source.allocator()).next(first), last))
        };
        Some(first)
    }

    #[track_caller]
    pub(crate) fn check_allocator(&self, source: &T::Source) {
        assert!(
            self.source.is_same(source),
            "the pages and the list belong to different allocators"
        );
    }

    /// Appends a chain of linked pages.
    #[inline]
    fn link_chain(&mut self, first: RawPage, last: RawPage, len: usize) {
        let (head, before) = match self.ends {
            None => (first, 0),
            Some((head, tail)) => {
                // Relaxed: as in `extend_raw`.
                let mut links = LinkTable::new(self.source.allocator());
                links.of(tail).store(first.word(), Ordering::Relaxed);
                (head, self.len)
            }
        };
        self.ends = Some((head, last));
        self.len = before + len;
    }
}

/// The links of one span and one class of pages: those of the page that was looked up last.
///
/// A page's link is found by one subtraction and one comparison, which checks the span, the class and the
/// table's bounds at once.
struct LinkTable<'a, P: Platform> {
    allocator: &'a PageAllocator<P>,
    /// The word that a page of the class has if it is the first of the span.
    first: u64,
    links: &'static [Link],
}

impl<'a, P: Platform> LinkTable<'a, P> {
    /// Starts with no links.
    #[inline]
    fn new(allocator: &'a PageAllocator<P>) -> Self {
        Self { allocator, first: 0, links: &[] }
    }

    /// Returns a page's link.
    #[inline]
    fn of(&mut self, page: RawPage) -> &'static Link {
        let index = |first: u64| usize::try_from(page.word().wrapping_sub(first));
        if let Some(link) = index(self.first).ok().and_then(|index| self.links.get(index)) {
            return link;
        }
        *self = Self::look_up(self.allocator, page);
        let index = index(self.first).expect("a span has 2^32 frames at most");
        &self.links[index]
    }

    /// Returns the page that a page's link names.
    #[inline]
    fn next(&mut self, page: RawPage) -> RawPage {
        // Relaxed: only the list's owner accesses its links (`one-list`).
        let next = self.of(page).load(Ordering::Relaxed);
        RawPage::from_word(next).expect("list-links: a link names a page")
    }

    /// Returns the table for pages of the span and class of `page`.
    #[inline(never)]
    fn look_up(allocator: &'a PageAllocator<P>, page: RawPage) -> Self {
        let span = allocator.span_of(page);
        let first = page.class().at(Pfn::new(span.start)).word();
        Self { allocator, first, links: allocator.frames().links(span.frames()) }
    }
}

impl<T: Owned> PageList<T> {
    /// Appends a page or block.
    ///
    /// # Panics
    /// If the item belongs to another allocator.
    #[track_caller]
    pub fn push(&mut self, item: T) {
        self.check_allocator(item.its_source());
        let (raw, _) = item.take_apart();
        self.link_chain(raw, raw, 1);
    }
}

impl<S: PageSource> PageList<SharedPage<S>> {
    /// Appends a shared page.
    ///
    /// # Errors
    /// Returns the page if another owner of the same frame is on a list already.
    ///
    /// # Panics
    /// If the page belongs to another allocator.
    #[track_caller]
    pub fn try_push(&mut self, page: SharedPage<S>) -> Result<(), SharedPage<S>> {
        self.check_allocator(page.source());
        let raw = page.enlist()?;
        self.link_chain(raw, raw, 1);
        Ok(())
    }
}

impl<S: PageSource> PageList<Folio<S>> {
    /// Removes the first block and returns it as a raw page.
    pub(crate) fn pop_link(&mut self) -> Option<RawPage> {
        self.pop_raw()
    }
}

impl<T: Owned> Extend<T> for PageList<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, items: I) {
        items.into_iter().for_each(|item| self.push(item));
    }
}

impl<T: Listable> Iterator for PageList<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.pop()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len, Some(self.len))
    }
}

impl<T: Listable> ExactSizeIterator for PageList<T> {}

impl<T: Listable> Drop for PageList<T> {
    fn drop(&mut self) {
        self.free_unheld();
        // A page that others hold stays on the list; only the list's own claim to it ends here.
        while let Some(page) = self.pop() {
            drop(page);
        }
    }
}

impl<T: Listable> fmt::Debug for PageList<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageList").field("len", &self.len).finish_non_exhaustive()
    }
}
