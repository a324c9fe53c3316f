//! Page supply: where the empty pages of a ring come from, a page pool or the page allocator.

use core::fmt;
use core::iter;

use pagemill::source::PageSource;
use pagemill::units::PAGE_SIZE;
use pagemill::{AllocPages, Gfp, Order, Page, PageVec};
use pagemill_host::Host;
use pagemill_pool::config::PP_ALLOC_CACHE_REFILL;
use pagemill_pool::{PoolOwner, PoolPage, PoolRef};

use crate::pages::ring_page::RingPage;

/// A supply of empty pages, for one thread.
pub trait PageSupply {
    /// The pages that it supplies.
    type Page: RingPage;

    /// Appends up to `nr` pages, and returns how many.
    fn take(&mut self, nr: usize, pages: &mut Vec<Self::Page>) -> usize;

    /// Takes all pages back.
    fn put(&mut self, pages: &mut Vec<Self::Page>);
}

/// A page pool as the supply: pages come from the owner's cache, then from the pool's own ring, through
/// which other threads return them, then from the page allocator.
impl<R> PageSupply for PoolOwner<R>
where
    R: PoolRef + 'static,
    PoolPage<R>: RingPage,
{
    type Page = PoolPage<R>;

    #[inline]
    fn take(&mut self, nr: usize, pages: &mut Vec<PoolPage<R>>) -> usize {
        self.alloc_bulk(nr, pages)
    }

    #[inline]
    fn put(&mut self, pages: &mut Vec<PoolPage<R>>) {
        self.put_bulk(pages.drain(..));
    }
}

/// How an [`AllocatorSupply`] asks the page allocator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there are these three")]
pub enum Refill {
    /// One call for each page.
    Single,
    /// One call for up to 64 pages.
    #[default]
    Bulk,
    /// One call for a block of 64 pages (order 6), which is split. It needs memory that is not fragmented;
    /// pages beyond the wanted ones are kept for the next refill.
    Split,
}

impl fmt::Display for Refill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Single => "single",
            Self::Bulk => "bulk",
            Self::Split => "split",
        })
    }
}

/// The page allocator itself as the supply: every page comes from it and returns to it.
#[derive(Debug)]
pub struct AllocatorSupply<S: PageSource> {
    source: S,
    refill: Refill,
    batch: PageVec<S, BATCH>,
    /// Pages of a split block that no refill has taken yet.
    rest: Vec<Page<S>>,
}

/// Maximum number of pages per call to the page allocator.
const BATCH: usize = PP_ALLOC_CACHE_REFILL;

/// The order of a block that is split: a batch of pages.
const BLOCK: Order = match Order::new(6) {
    Ok(order) => order,
    Err(_) => panic!("a batch is no order"),
};

/// Flags for the page allocator: without waiting for memory, because all connections wait for the thread.
/// A page pool uses the same flags.
const GFP: Gfp = Gfp::ATOMIC.union(Gfp::NOWARN);

impl<S: PageSource<Platform = Host>> AllocatorSupply<S> {
    /// Makes a supply of pages from the allocator of `source`.
    pub fn new(source: S, refill: Refill) -> Self {
        Self { batch: PageVec::new(source.clone()), source, refill, rest: Vec::new() }
    }

    fn take_bulk(&mut self, nr: usize, pages: &mut Vec<Page<S>>) {
        let mut left = nr;
        while left > 0 {
            let nr = left.min(BATCH);
            let got = self.source.clone().alloc_pages_bulk_vec(GFP, nr, &mut self.batch);
            pages.extend(iter::from_fn(|| self.batch.pop()));
            if got == 0 {
                return;
            }
            left -= got.min(left);
        }
    }

    fn take_split(&mut self, nr: usize, pages: &mut Vec<Page<S>>) {
        for _ in 0..nr {
            if self.rest.is_empty() {
                let Some(block) = self.source.clone().alloc_pages(GFP, BLOCK) else { return };
                self.rest.extend(block.split());
            }
            pages.extend(self.rest.pop());
        }
    }
}

impl<S: PageSource<Platform = Host> + 'static> PageSupply for AllocatorSupply<S> {
    type Page = Page<S>;

    fn take(&mut self, nr: usize, pages: &mut Vec<Page<S>>) -> usize {
        let before = pages.len();
        match self.refill {
            Refill::Single => {
                let page = || self.source.clone().alloc_page(GFP);
                pages.extend(iter::repeat_with(page).take(nr).map_while(|page| page));
            }
            Refill::Bulk => self.take_bulk(nr, pages),
            Refill::Split => self.take_split(nr, pages),
        }
        pages.len() - before
    }

    fn put(&mut self, pages: &mut Vec<Page<S>>) {
        if self.refill != Refill::Bulk {
            pages.clear();
            return;
        }
        for page in pages.drain(..) {
            if self.batch.is_full() {
                self.batch.clear();
            }
            // There is room; a page without room would be freed on drop.
            let _there_is_room = self.batch.push(page);
        }
        self.batch.clear();
    }
}

const _: () = assert!(PAGE_SIZE << BLOCK.value() == BATCH * PAGE_SIZE);
