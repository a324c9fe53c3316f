//! Bulk calls that write frame numbers.

use core::mem;

use super::engine::{Sink, Wanted};
use crate::base::gfp::Gfp;
use crate::base::raw_page::RawPage;
use crate::base::units::Pfn;
use crate::page::source::PageSource;
use crate::page_alloc::allocator::Site;

/// Writes the numbers of new pages; see
/// [`AllocPages::alloc_pfns_bulk`](crate::AllocPages::alloc_pfns_bulk).
#[inline]
pub(crate) fn alloc<S: PageSource>(source: &S, gfp: Gfp, pfns: &mut [Pfn], site: Site) -> usize {
    let nr = pfns.len();
    if nr == 0 {
        return 0;
    }
    let wanted = Wanted { claim: nr, new: nr };
    let mut numbers = Numbers { room: pfns, source };
    source.allocator().alloc_at_least_one(gfp, None, wanted, &mut numbers, site).new_pages()
}

/// A sink that keeps the numbers of the first frames of blocks.
pub(super) struct Numbers<'a, S> {
    pub(super) room: &'a mut [Pfn],
    pub(super) source: &'a S,
}

impl<S: PageSource> Sink for Numbers<'_, S> {
    #[inline]
    fn accept(&mut self, pages: &[RawPage]) {
        let (filled, rest) = mem::take(&mut self.room).split_at_mut(pages.len());
        for (pfn, page) in filled.iter_mut().zip(pages) {
            *pfn = page.pfn();
        }
        self.room = rest;
        // The pages of one call have one payer.
        if pages.first().is_some_and(|page| page.is_charged()) {
            pages.iter().for_each(|&page| self.source.allocator().keep_charge(page));
        }
    }
}
