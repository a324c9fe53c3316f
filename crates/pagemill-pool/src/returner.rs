//! Returner: returns pages to a pool from any thread, in batches through the recycle ring.

use arrayvec::ArrayVec;

use crate::block::Block;
use crate::dma::DmaMapper;
use crate::page::PoolPage;
use crate::pool::{BATCH, Batch, Item, PagePool};
use crate::pool_ref::PoolRef;

/// Returns pages to a pool through its ring; can be cloned, shared and sent.
///
/// Dropping a page returns that one page; this returns many at once.
#[derive(Clone, Debug)]
pub struct Returner<R>(pub(crate) R);

impl<R: PoolRef> Returner<R> {
    /// Makes a returner of pages for any thread.
    pub const fn new(pool: R) -> Self {
        Self(pool)
    }

    /// Returns a page.
    #[inline]
    pub fn put(&self, page: PoolPage<R>) {
        drop(page);
    }

    /// Returns pages, 64 by one claim in the ring; pages of other pools go to theirs.
    ///
    /// # Cost
    /// One atomic operation per 64 pages. Pages that do not fit into the ring go to the page allocator
    /// together.
    ///
    /// # Source
    /// `linux-6.12` `net/core/page_pool.c` `page_pool_put_page_bulk`
    pub fn put_bulk(&self, pages: impl IntoIterator<Item = PoolPage<R>>) {
        put_bulk(&self.0, pages);
    }

    /// Releases pages to the page allocator, 64 at a time: for pages that will not be needed soon.
    pub fn release_bulk(&self, pages: impl IntoIterator<Item = PoolPage<R>>) {
        release_bulk(&self.0, pages);
    }
}

/// Releases pages to the page allocator, a batch at a time.
fn release_bulk<R: PoolRef>(to: &R, pages: impl IntoIterator<Item = PoolPage<R>>) {
    let (pool, mut pages) = (to.pool(), pages.into_iter());
    loop {
        let mut collected = Collected::new(pool, PagePool::release_batch);
        let batch = own(to, &mut pages, |page| drop(page.detach())).take(BATCH);
        collected.batch.extend(batch);
        if collected.batch.is_empty() {
            return;
        }
    }
}

/// Returns pages through the ring, a batch at a time.
pub(crate) fn put_bulk<R: PoolRef>(to: &R, pages: impl IntoIterator<Item = PoolPage<R>>) {
    let (pool, mut pages) = (to.pool(), pages.into_iter());
    loop {
        // If the number of pages is known, places are claimed first; else the pages are collected.
        let known = pages.size_hint().0.min(BATCH);
        let done = if known > 1 { pool.put_run(known, &mut own(to, &mut pages, drop)) } else { 0 };
        if done > 1 && done == known {
            continue;
        }
        let nr = if known > 1 { known - done } else { BATCH };
        let mut collected = Collected::new(pool, PagePool::put_batch);
        collected.batch.extend(own(to, &mut pages, drop).take(nr));
        if collected.batch.is_empty() {
            return;
        }
    }
}

/// Items that return to the pool on drop: also if the caller's iterator panics.
struct Collected<'p, B: Block, M: DmaMapper> {
    pool: &'p PagePool<B, M>,
    batch: Batch<B, M>,
    put: fn(&PagePool<B, M>, &mut Batch<B, M>),
}

impl<'p, B: Block, M: DmaMapper> Collected<'p, B, M> {
    #[inline]
    fn new(pool: &'p PagePool<B, M>, put: fn(&PagePool<B, M>, &mut Batch<B, M>)) -> Self {
        Self { pool, batch: ArrayVec::new(), put }
    }
}

impl<B: Block, M: DmaMapper> Drop for Collected<'_, B, M> {
    #[inline]
    fn drop(&mut self) {
        if !self.batch.is_empty() {
            (self.put)(self.pool, &mut self.batch);
        }
    }
}

/// Yields the items of the pages of one pool; passes pages of other pools to `stranger`.
#[inline]
fn own<R: PoolRef>(
    to: &R,
    pages: &mut impl Iterator<Item = PoolPage<R>>,
    mut stranger: impl FnMut(PoolPage<R>),
) -> impl Iterator<Item = Item<R::Block, R::Mapper>> {
    pages.filter_map(move |page| {
        if page.pool().is_same(to) {
            return Some(page.into_item());
        }
        stranger(page);
        None
    })
}
