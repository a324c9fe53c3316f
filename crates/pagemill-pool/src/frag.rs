//! Fragments of pool pages, for packets that are far smaller than a page.

use core::fmt;
use core::mem::ManuallyDrop;

use pagemill::fragment::{Carver, Fragment, OwnsBytes};
use pagemill::recycling::{Returning, TakeBack};
use pagemill::units::{NodeId, PAGE_SIZE, Pfn};

use crate::dma::{DmaAddr, DmaBlock, DmaMapper};
use crate::owner::PoolOwner;
use crate::page::PoolPage;
use crate::pool_ref::PoolRef;

/// Alignment of fragments, so that no two share a cache line.
///
/// # Source
/// `linux-6.12` `include/linux/dma-mapping.h` `dma_get_cache_alignment`
pub const FRAG_ALIGN: usize = 64;

/// Hands out the pages of a pool in fragments.
///
/// # Examples
/// ```
/// # use pagemill_host::HostAllocator;
/// # use pagemill_pool::dma::NoDma;
/// # use pagemill_pool::{PagePool, PoolFrags, PoolOwner, PoolParams};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let frames = HostAllocator::new(64 << 20)?;
/// # let pool = PagePool::new(&PoolParams::new(), &frames, NoDma)?;
/// # let mut owner = PoolOwner::claim(&pool).expect("the pool has no owner yet");
/// let mut frags = PoolFrags::new();
/// let mut one = frags.alloc(&mut owner, 1500).expect("there is memory");
/// let two = frags.alloc(&mut owner, 1500).expect("there is memory");
/// one.as_bytes_mut().fill(1);
/// assert_eq!((one.pfn(), two.offset()), (two.pfn(), 1536));
/// # Ok(()) }
/// ```
/// A fragment gives no access to its page, whose bytes also belong to other fragments:
/// ```compile_fail,E0599
/// # use pagemill::machine::DirectMap;
/// # use pagemill::source::PageSource;
/// # use pagemill::{Page, Platform};
/// # use pagemill_pool::{PagePool, PoolFrag};
/// # fn example<S: PageSource<Platform: DirectMap>>(piece: PoolFrag<&PagePool<Page<S>>>) {
/// let page = piece.block().as_bytes();
/// # }
/// ```
///
/// # Source
/// `linux-6.12` `net/core/page_pool.c` `page_pool_alloc_frag_netmem`
pub struct PoolFrags<R: PoolRef<Block: OwnsBytes>>(
    Option<Returning<Carver<R::Block>, FragToPool<R>>>,
);

/// Some bytes of a pool page, owned; dropping the last fragment of a page recycles the page.
///
/// Each fragment has a clone of the [`PoolRef`]: with an `Arc`, each costs a reference count.
pub struct PoolFrag<R: PoolRef<Block: OwnsBytes>>(Returning<Fragment<R::Block>, FragToPool<R>>);

/// Returns a page to its pool once its last fragment is dropped.
struct FragToPool<R: PoolRef> {
    pool: R,
    mapping: <R::Mapper as DmaMapper>::Mapping,
}

impl<R: PoolRef> FragToPool<R> {
    /// Returns the DMA block of the page whose first frame is `pfn`.
    fn dma_block(&self, pfn: Pfn) -> DmaBlock {
        DmaBlock { pfn, len_bytes: PAGE_SIZE << self.pool.pool().params().order.value() }
    }

    fn put(&self, block: Option<R::Block>) {
        if let Some(block) = block {
            let item = (ManuallyDrop::new(block), self.mapping);
            self.pool.pool().put(item);
        }
    }
}

impl<R: PoolRef> Clone for FragToPool<R> {
    #[inline]
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), mapping: self.mapping }
    }
}

impl<R: PoolRef<Block: OwnsBytes>> TakeBack<Fragment<R::Block>> for FragToPool<R> {
    #[inline]
    fn take_back(&self, piece: Fragment<R::Block>) {
        self.put(piece.into_owner());
    }
}

impl<R: PoolRef<Block: OwnsBytes>> TakeBack<Carver<R::Block>> for FragToPool<R> {
    fn take_back(&self, carver: Carver<R::Block>) {
        self.put(carver.into_owner());
    }
}

impl<R: PoolRef<Block: OwnsBytes>> PoolFrags<R> {
    /// Starts without a page.
    #[must_use]
    pub const fn new() -> Self {
        Self(None)
    }

    /// Returns `len` bytes: of the current page if they fit there, else of a new one.
    ///
    /// A page that is used up, and whose fragments were all dropped, is recycled and counted as if by
    /// [`PoolOwner::put`] and [`PoolOwner::alloc`]. If the current page belongs to another pool than
    /// the owner's, or is on another node than the owner wants now, no more fragments are taken from
    /// it.
    ///
    /// # Errors
    /// `None` if there is no memory, and for more bytes than a block of the pool has.
    #[inline]
    #[track_caller]
    #[must_use = "a fragment that is dropped returns to the pool"]
    pub fn alloc(&mut self, owner: &mut PoolOwner<R>, len: usize) -> Option<PoolFrag<R>> {
        if let Some(at_hand) = &mut self.0
            && at_hand.home().pool.is_same(owner.pool())
            && owner.wants(|| at_hand.node())
            && let Some(piece) = carve(at_hand, len)
        {
            return Some(piece);
        }
        self.begin_anew(owner, len)
    }

    /// Returns `len` bytes of a page other than the current one.
    #[track_caller]
    fn begin_anew(&mut self, owner: &mut PoolOwner<R>, len: usize) -> Option<PoolFrag<R>> {
        if len > PAGE_SIZE << owner.pool().pool().params().order.value() {
            return None;
        }
        if let Some(at_hand) = &mut self.0
            && at_hand.reset()
        {
            let home = at_hand.home();
            if owner.recycle_in_place(&home.pool, home.dma_block(at_hand.pfn()), home.mapping) {
                return carve(at_hand, len);
            }
            let whole = self.0.take().map(Returning::into_parts);
            if let Some((carver, home)) = whole {
                owner.put_block(carver.into_owner(), home);
            }
        }
        // With fragments in use, the page stays current in case there is no other: fewer bytes may fit.
        let ((block, mapping), pool) = owner.alloc()?.into_owned().into_parts();
        let home = FragToPool { pool: pool.0, mapping };
        let carver = Carver::new(ManuallyDrop::into_inner(block));
        carve(self.0.insert(Returning::new(carver, home)), len)
    }
}

/// Carves some bytes of a page.
#[inline]
fn carve<R: PoolRef<Block: OwnsBytes>>(
    carver: &mut Returning<Carver<R::Block>, FragToPool<R>>,
    len: usize,
) -> Option<PoolFrag<R>> {
    let piece = carver.carve(len, FRAG_ALIGN)?;
    Some(PoolFrag(Returning::new(piece, carver.home().clone())))
}

impl<R: PoolRef<Block: OwnsBytes>> Default for PoolFrags<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: PoolRef<Block: OwnsBytes>> PoolOwner<R> {
    /// Takes a fragment back, and if it was the last one recycles its page directly.
    #[inline]
    pub fn put_frag(&mut self, frag: PoolFrag<R>) {
        let (piece, home) = frag.0.into_parts();
        self.put_block(piece.into_owner(), home);
    }

    /// Takes back a page that was carved, if there is one.
    #[inline]
    fn put_block(&mut self, block: Option<R::Block>, home: FragToPool<R>) {
        if let Some(block) = block {
            self.put(PoolPage::new((ManuallyDrop::new(block), home.mapping), home.pool));
        }
    }
}

impl<R: PoolRef<Block: OwnsBytes>> PoolFrag<R> {
    /// Returns the bytes, with what their last user left in them.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Returns the bytes, for writing.
    #[inline]
    #[must_use]
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        self.0.as_bytes_mut()
    }

    /// Returns the offset of the bytes in the page.
    #[inline]
    #[must_use]
    pub fn offset(&self) -> usize {
        self.0.offset()
    }

    /// Returns the number of the page's first frame.
    #[inline]
    #[must_use]
    pub fn pfn(&self) -> Pfn {
        self.0.pfn()
    }

    /// Returns the node that the page is on.
    #[inline]
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.0.node()
    }

    /// Returns the DMA address of the first byte.
    ///
    /// # Source
    /// `linux-6.12` `include/net/page_pool/helpers.h` `page_pool_get_dma_addr`, with the offset that
    /// its users add
    pub fn dma_addr(&self) -> DmaAddr {
        let home = self.0.home();
        let first = home.pool.pool().mapper().addr(home.dma_block(self.pfn()), home.mapping);
        DmaAddr::new(first.value() + self.offset() as u64)
    }

    /// Returns how the pool is reached.
    #[inline]
    pub fn pool(&self) -> &R {
        &self.0.home().pool
    }
}

impl<R: PoolRef<Block: OwnsBytes>> fmt::Debug for PoolFrags<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PoolFrags").field(&self.0.as_deref()).finish()
    }
}

impl<R: PoolRef<Block: OwnsBytes>> fmt::Debug for PoolFrag<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (*self.0).fmt(f)
    }
}
