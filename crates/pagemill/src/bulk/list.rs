//! Bulk allocation onto a list.

use super::engine::{Sink, Wanted};
use crate::gfp::Gfp;
use crate::handle::RawPage;
use crate::list::PageList;
use crate::page::Page;
use crate::source::PageSource;
use crate::units::NodeId;

/// Appends up to `nr` pages; see [`AllocPages::alloc_pages_bulk_list`](crate::AllocPages).
#[inline]
pub(crate) fn alloc<S: PageSource>(
    source: &S,
    gfp: Gfp,
    node: Option<NodeId>,
    nr: usize,
    list: &mut PageList<Page<S>>,
) -> usize {
    list.check_allocator(source);
    if nr > 1 {
        let wanted = Wanted { claim: nr, new: nr };
        let new = source.allocator().alloc_bulk(gfp, node, wanted, list);
        if new > 0 {
            return new;
        }
    }
    if nr == 0 {
        return 0;
    }
    match source.allocator().alloc_single(gfp, node) {
        Some(raw) => {
            list.extend_raw(&[raw]);
            1
        }
        None => 0,
    }
}

impl<S: PageSource> Sink for PageList<Page<S>> {
    #[inline]
    fn accept(&mut self, pages: &[RawPage]) {
        self.extend_raw(pages);
    }
}
