//! Bulk calls into a page vector.

use super::engine::{Sink, Wanted};
use crate::base::gfp::Gfp;
use crate::base::raw_page::RawPage;
use crate::page::page_vec::PageVec;
use crate::page::source::PageSource;
use crate::page_alloc::allocator::Site;

/// Appends up to `nr` pages; see [`AllocPages::alloc_pages_bulk_vec`](crate::AllocPages).
#[inline]
#[track_caller]
pub(crate) fn alloc<S: PageSource, const N: usize>(
    source: &S,
    gfp: Gfp,
    nr: usize,
    vec: &mut PageVec<S, N>,
    site: Site,
) -> usize {
    vec.check_allocator(source);
    if nr == 1 && !vec.is_full() {
        // Without a slice of one page, whose copy is a call.
        let page = source.allocator().alloc_single(gfp, None, site);
        return page.map_or(0, |page| {
            vec.push_one(page);
            1
        });
    }
    let nr = nr.min(vec.room());
    if nr == 0 {
        return 0;
    }
    let wanted = Wanted { claim: nr, new: nr };
    source.allocator().alloc_at_least_one(gfp, None, wanted, vec, site).new_pages()
}

impl<S: PageSource, const N: usize> Sink for PageVec<S, N> {
    #[inline]
    fn accept(&mut self, pages: &[RawPage]) {
        self.push_raw(pages);
    }
}
