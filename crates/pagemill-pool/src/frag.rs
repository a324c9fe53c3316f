//! Pieces of pages, for packets that are far smaller than a page.

use core::fmt;

use pagemill::{Carver, Fragment, OwnsBytes, PAGE_SIZE};

use crate::owner::PoolOwner;
use crate::page::{Owned, PoolPage};
use crate::pool::{Home, PoolRef};

/// Pieces begin at a multiple of this, so that no two share a cache line.
///
/// # Source
/// `linux-6.12` `include/linux/dma-mapping.h` `dma_get_cache_alignment`
pub const FRAG_ALIGN: usize = 64;

/// A page of a pool that is being handed out in pieces.
///
/// # Examples
/// ```
/// # use pagemill_host::{AllocatorConfig, ArenaConfig, allocator};
/// # use pagemill_pool::*;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let frames = allocator(&AllocatorConfig::new(ArenaConfig::new(64 << 20)))?;
/// # let pool = PagePool::new(&PoolParams::new(), &frames, NoDma)?;
/// # let mut owner = PoolOwner::claim(&pool).expect("nobody has it yet");
/// let mut frags = PoolFrags::new();
/// let mut one = frags.alloc(&mut owner, 1500).expect("there is memory");
/// let two = frags.alloc(&mut owner, 1500).expect("there is memory");
/// one.as_bytes_mut().fill(1);
/// assert_eq!((one.block().pfn(), two.offset()), (two.block().pfn(), 1536));
/// # Ok(()) }
/// ```
///
/// # Source
/// `linux-6.12` `net/core/page_pool.c` `page_pool_alloc_frag_netmem`
pub struct PoolFrags<R: PoolRef<Block: OwnsBytes>>(Option<Carver<Owned<R>>>);

/// Some bytes of a page of a pool; dropping the last piece of a page recycles the page.
pub struct PoolFrag<R: PoolRef<Block: OwnsBytes>>(Fragment<Owned<R>>);

impl<R: PoolRef<Block: OwnsBytes>> PoolFrags<R> {
    /// Has no page yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(None)
    }

    /// Hands out `len` bytes: of the page at hand if they fit there, else of another.
    ///
    /// A page whose pieces have all come back is begun anew, which counts as `cached` and `fast`.
    ///
    /// # Errors
    /// `None` if there is no memory, and for more bytes than a block of the pool has.
    #[track_caller]
    pub fn alloc(&mut self, owner: &mut PoolOwner<R>, len: usize) -> Option<PoolFrag<R>> {
        if len > PAGE_SIZE << owner.pool().pool().params().order.value() {
            return None;
        }
        if let Some(carver) = &mut self.0 {
            if let Some(frag) = carver.carve(len, FRAG_ALIGN) {
                return Some(PoolFrag(frag));
            }
            if carver.reset() {
                owner.count_reuse();
                return carver.carve(len, FRAG_ALIGN).map(PoolFrag);
            }
        }
        let carver = self.0.insert(Carver::new(owner.alloc()?.into_owned()));
        carver.carve(len, FRAG_ALIGN).map(PoolFrag)
    }
}

impl<R: PoolRef<Block: OwnsBytes>> Default for PoolFrags<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: PoolRef<Block: OwnsBytes>> PoolOwner<R> {
    /// Lets go of a piece, and takes its page back directly if it was the last.
    pub fn put_frag(&mut self, frag: PoolFrag<R>) {
        if let Some(owned) = frag.0.into_owner() {
            self.put(PoolPage::from_owned(owned));
        }
    }
}

impl<R: PoolRef<Block: OwnsBytes>> PoolFrag<R> {
    /// Returns the bytes, with whatever their last user left in them.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Returns the bytes, to be changed.
    #[inline]
    #[must_use]
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        self.0.as_bytes_mut()
    }

    /// Returns where in the page they begin.
    #[inline]
    #[must_use]
    pub fn offset(&self) -> usize {
        self.0.offset()
    }

    /// Returns the page that they are of.
    #[inline]
    pub fn block(&self) -> &R::Block {
        &self.0.owner().0
    }

    /// Returns how the pool is reached.
    #[inline]
    pub fn pool(&self) -> &R {
        let Home(pool) = self.0.owner().home();
        pool
    }
}

impl<R: PoolRef<Block: OwnsBytes>> fmt::Debug for PoolFrags<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PoolFrags").field(&self.0).finish()
    }
}

impl<R: PoolRef<Block: OwnsBytes>> fmt::Debug for PoolFrag<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
