//! Bulk allocation onto a list.

use super::engine::{Sink, Wanted};
use crate::allocator::Site;
use crate::gfp::Gfp;
use crate::handle::RawPage;
use crate::list::{Listable, PageList};
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
    site: Site,
) -> usize {
    list.check_allocator(source);
    if nr > 1 {
        let wanted = Wanted { claim: nr, new: nr };
        let allocator = source.allocator();
        let new = if allocator.is_unusual(gfp) {
            match allocator.alloc_bulk_unusual(gfp, node, wanted, list, site) {
                Ok(new) => new,
                Err(_) => return 0,
            }
        } else {
            allocator.alloc_bulk_usual(gfp, node, wanted, list)
        };
        if new > 0 {
            return new;
        }
    }
    if nr == 0 {
        return 0;
    }
    match source.allocator().alloc_single(gfp, node, site) {
        Some(raw) => {
            list.extend_raw(&[raw]);
            1
        }
        None => 0,
    }
}

impl<T: Listable> Sink for PageList<T> {
    #[inline]
    fn accept(&mut self, pages: &[RawPage]) {
        self.extend_raw(pages);
    }
}
