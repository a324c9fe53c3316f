//! Bulk calls onto a page list.

use super::engine::{Sink, Wanted};
use crate::base::gfp::Gfp;
use crate::base::raw_page::RawPage;
use crate::base::units::NodeId;
use crate::page::list::PageList;
use crate::page::owned::Listable;
use crate::page::page::Page;
use crate::page::source::PageSource;
use crate::page_alloc::allocator::Site;

/// Appends up to `nr` pages; see [`AllocPages::alloc_pages_bulk_list`](crate::AllocPages).
#[inline]
#[track_caller]
pub(crate) fn alloc<S: PageSource>(
    source: &S,
    gfp: Gfp,
    node: Option<NodeId>,
    nr: usize,
    list: &mut PageList<Page<S>>,
    site: Site,
) -> usize {
    list.check_allocator(source);
    if nr == 0 {
        return 0;
    }
    let wanted = Wanted { claim: nr, new: nr };
    source.allocator().alloc_at_least_one(gfp, node, wanted, list, site).new_pages()
}

impl<T: Listable> Sink for PageList<T> {
    #[inline]
    fn accept(&mut self, pages: &[RawPage]) {
        self.extend_raw(pages);
    }
}
