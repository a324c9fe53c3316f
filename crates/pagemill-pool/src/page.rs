//! Pool pages: the handles of pages that a pool has handed out, owned or shared.

use core::fmt;
use core::mem::ManuallyDrop;
use core::ops::{Deref, Range};

use pagemill::Page;
use pagemill::handles::SharedPage;
use pagemill::recycling::{Returning, TakeBack};
use pagemill::source::PageSource;

use crate::block::{Block, BlockBytes};
use crate::dma::{DmaAddr, DmaMapper, NoDma};
use crate::pool::{Item, PagePool};
use crate::pool_ref::{PoolRef, ToPool};

/// A page of a pool and the right to use it; dropping it recycles the page.
///
/// It can be kept indefinitely and sent to another thread. When dropped, on any thread, it returns
/// through the pool's ring; the owner can take it back directly with
/// [`PoolOwner::put`](crate::PoolOwner::put), which is faster.
///
/// It dereferences to the page or folio. With a [`Named`](crate::sources::Named) pool over a
/// [`Static`](pagemill::source::Static) allocator it is 8 bytes, and so is `Option<PoolPage>`.
pub struct PoolPage<R: PoolRef>(Owned<R>);

/// The value and home of a pool page's handle.
pub(crate) type Owned<R> =
    Returning<Item<<R as PoolRef>::Block, <R as PoolRef>::Mapper>, ToPool<R>>;

impl<R: PoolRef> PoolPage<R> {
    #[inline]
    pub(crate) fn new(item: Item<R::Block, R::Mapper>, pool: R) -> Self {
        Self(Returning::new(item, ToPool(pool)))
    }

    #[inline]
    pub(crate) fn into_owned(self) -> Owned<R> {
        self.0
    }

    #[inline]
    pub(crate) fn into_item(self) -> Item<R::Block, R::Mapper> {
        self.0.into_parts().0
    }

    /// Returns how the pool is reached.
    #[inline]
    pub fn pool(&self) -> &R {
        &self.0.home().0
    }

    /// Returns the DMA address of the first byte that the device may use.
    #[inline]
    pub fn dma_addr(&self) -> DmaAddr {
        let pool = self.pool().pool();
        let (block, mapping) = &*self.0;
        let first = pool.mapper().addr(block.dma_block(), *mapping);
        DmaAddr::new(first.value() + pool.params().dma.offset as u64)
    }

    /// Passes some bytes to the CPU, counted from the first byte that the device may use: to be called
    /// after the device has written them and before they are read.
    ///
    /// # Panics
    /// If the page has no such bytes.
    #[track_caller]
    pub fn sync_for_cpu(&self, bytes: Range<usize>) {
        self.pool().pool().sync_for_cpu(&self.0, bytes);
    }

    /// Detaches the page from the pool: it is unmapped, and is an ordinary page from then on.
    ///
    /// For users that keep pages permanently, or free them to the page allocator themselves.
    ///
    /// # Source
    /// `linux-6.12` `net/core/page_pool.c` `page_pool_release_page` of earlier versions
    #[must_use = "a page that is dropped is freed"]
    pub fn detach(self) -> R::Block {
        let (item, ToPool(pool)) = self.0.into_parts();
        pool.pool().detach(item)
    }
}

impl<R: PoolRef<Mapper = NoDma>> PoolPage<R> {
    /// Gives the page out of the program's types: it stays in flight until
    /// [`from_block`](Self::from_block) takes it back.
    ///
    /// For C code, which keeps pages as words. A block that is freed instead is lost to the pool: it stays
    /// in flight for ever. [`detach`](Self::detach) takes a page out of the pool's books.
    #[must_use = "the page stays in flight unless from_block takes it back"]
    #[inline]
    pub fn into_block(self) -> R::Block {
        ManuallyDrop::into_inner(self.into_item().0)
    }

    /// Takes back a block that [`into_block`](Self::into_block) of a page of the same pool gave out.
    ///
    /// A block that did not come from this pool makes its count of pages in flight wrong.
    #[inline]
    pub fn from_block(block: R::Block, pool: R) -> Self {
        Self::new((ManuallyDrop::new(block), ()), pool)
    }
}

impl<R: PoolRef<Block: BlockBytes>> PoolPage<R> {
    /// Returns the bytes, with what their last user left in them.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &<R::Block as BlockBytes>::Bytes {
        self.0.0.bytes()
    }

    /// Returns the bytes, for writing.
    #[inline]
    #[must_use]
    pub fn as_bytes_mut(&mut self) -> &mut <R::Block as BlockBytes>::Bytes {
        self.0.0.bytes_mut()
    }
}

impl<R: PoolRef> Deref for PoolPage<R> {
    type Target = R::Block;

    #[inline]
    fn deref(&self) -> &R::Block {
        &self.0.0
    }
}

impl<R: PoolRef> fmt::Debug for PoolPage<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PoolPage(pfn {})", self.0.0.first())
    }
}

/// A pool page that may have other owners: the pool's share of it.
///
/// Dropping it recycles the page if it has no other owner. Otherwise it releases the pool's share, and
/// the last of the other owners frees the page to the page allocator.
///
/// # Source
/// `linux-6.12` `net/core/page_pool.c` `__page_pool_put_page`
pub struct SharedPoolPage<R, S>(Returning<SharedItem<R, S>, SharedToPool<R>>)
where
    R: PoolRef<Block = Page<S>>,
    S: PageSource;

type SharedItem<R, S> = (SharedPage<S>, <<R as PoolRef>::Mapper as DmaMapper>::Mapping);

/// Returns the pool's share of a page to the pool.
struct SharedToPool<R>(R);

impl<R, S> PoolPage<R>
where
    R: PoolRef<Block = Page<S>>,
    S: PageSource,
{
    /// Turns the page into a shared one.
    #[must_use]
    pub fn share(self) -> SharedPoolPage<R, S> {
        let ((page, mapping), ToPool(pool)) = self.0.into_parts();
        let page = ManuallyDrop::into_inner(page);
        SharedPoolPage(Returning::new((page.share(), mapping), SharedToPool(pool)))
    }
}

impl<R, S> SharedPoolPage<R, S>
where
    R: PoolRef<Block = Page<S>>,
    S: PageSource,
{
    /// Returns the shared page; its clones are further owners.
    #[must_use]
    pub fn page(&self) -> &SharedPage<S> {
        &self.0.0
    }
}

impl<R, S> TakeBack<SharedItem<R, S>> for SharedToPool<R>
where
    R: PoolRef<Block = Page<S>>,
    S: PageSource,
{
    fn take_back(&self, (page, mapping): SharedItem<R, S>) {
        // Leaked if `pool` panics: the page is still mapped.
        let page = ManuallyDrop::new(page);
        let pool: &PagePool<Page<S>, R::Mapper> = self.0.pool();
        match ManuallyDrop::into_inner(page).try_unshare() {
            Ok(page) => pool.put((ManuallyDrop::new(page), mapping)),
            Err(shared) => pool.give_up_share(shared, mapping),
        }
    }
}

impl<S: PageSource, M: DmaMapper> PagePool<Page<S>, M> {
    /// Releases a page that has other owners.
    #[cold]
    fn give_up_share(&self, shared: SharedPage<S>, mapping: M::Mapping) {
        // Leaked if the mapper panics: otherwise the last other owner would free a page that is mapped.
        let shared = ManuallyDrop::new(shared);
        self.forget_shared(shared.pfn(), mapping);
        drop(ManuallyDrop::into_inner(shared));
    }
}

impl<R, S> fmt::Debug for SharedPoolPage<R, S>
where
    R: PoolRef<Block = Page<S>>,
    S: PageSource,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedPoolPage(pfn {})", self.page().pfn())
    }
}
