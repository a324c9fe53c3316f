//! Pool reference: how a page handle reaches its pool, by reference, `Arc` or the name of a static.

use alloc::sync::Arc;
use core::fmt;
use core::marker::PhantomData;

use pagemill::TakeBack;

use crate::block::Block;
use crate::dma::DmaMapper;
use crate::pool::{Item, PagePool};

/// How pages reach their pool: a reference, an [`Arc`], or the [`Named`] of a static.
///
/// Each page carries one. A reference or an `Arc` makes a page handle two words, and an `Arc` costs a
/// reference count per page. A [`Named`] is empty, so a handle is one word smaller.
pub trait PoolRef: Clone {
    /// The kind of block that the pool recycles.
    type Block: Block;
    /// The pool's mapper.
    type Mapper: DmaMapper;

    /// Whether the holder of each page is recorded; see [`Tracked`].
    const TRACKS: bool = false;

    /// Returns the pool: the same one each time.
    fn pool(&self) -> &PagePool<Self::Block, Self::Mapper>;

    /// Returns whether `other` reaches the same pool.
    #[inline]
    fn is_same(&self, other: &Self) -> bool {
        core::ptr::eq(self.pool(), other.pool())
    }
}

impl<B: Block, M: DmaMapper> PoolRef for &PagePool<B, M> {
    type Block = B;
    type Mapper = M;

    #[inline]
    fn pool(&self) -> &PagePool<B, M> {
        self
    }
}

/// Reaches a pool like `R`, and the pool records which call took each page, so that a shutdown that
/// waits can report who has pages.
///
/// Costs a lock and a table entry per page. Pools without it do not even check for it.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "a wrapper and nothing else")]
pub struct Tracked<R>(pub R);

impl<R: PoolRef> PoolRef for Tracked<R> {
    type Block = R::Block;
    type Mapper = R::Mapper;
    const TRACKS: bool = true;

    #[inline]
    fn pool(&self) -> &PagePool<R::Block, R::Mapper> {
        self.0.pool()
    }

    #[inline]
    fn is_same(&self, other: &Self) -> bool {
        self.0.is_same(&other.0)
    }
}

impl<B: Block, M: DmaMapper> PoolRef for Arc<PagePool<B, M>> {
    type Block = B;
    type Mapper = M;

    #[inline]
    fn pool(&self) -> &PagePool<B, M> {
        self
    }
}

/// Names a static that holds a pool, as the parameter of [`Named`].
///
/// # Examples
/// ```
/// use std::sync::OnceLock;
/// use pagemill::{OnceAllocator, Page, Static, StaticAllocator};
/// use pagemill_host::{AllocatorConfig, ArenaConfig, Host, allocator};
/// use pagemill_pool::{Named, NamedPool, NoDma, PagePool, PoolOwner, PoolPage, PoolParams};
///
/// static ALLOCATOR: OnceAllocator<Host> = OnceAllocator::new();
/// enum Frames {}
/// impl StaticAllocator for Frames {
///     type Platform = Host;
///     const ALLOCATOR: &'static OnceAllocator<Host> = &ALLOCATOR;
/// }
///
/// static POOL: OnceLock<PagePool<Page<Static<Frames>>>> = OnceLock::new();
/// enum Rx {}
/// impl NamedPool for Rx {
///     type Block = Page<Static<Frames>>;
///     type Mapper = NoDma;
///     fn pool() -> &'static PagePool<Page<Static<Frames>>> {
///         POOL.get().expect("made before the first page")
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let frames = allocator(&AllocatorConfig::new(ArenaConfig::new(64 << 20)))?;
/// ALLOCATOR.set(frames).expect("set once");
/// let pool = PagePool::new(&PoolParams::new(), Static::new(), NoDma)?;
/// POOL.set(pool).expect("set once");
/// let mut owner = PoolOwner::claim(Named::<Rx>::new()).expect("the pool has no owner yet");
/// let page: PoolPage<_> = owner.alloc().expect("there is memory");
/// assert_eq!(size_of_val(&Some(page)), 8);
/// # Ok(()) }
/// ```
pub trait NamedPool: 'static {
    /// The kind of block that the pool recycles.
    type Block: Block;
    /// The pool's mapper.
    type Mapper: DmaMapper;

    /// Returns the static: the same one each time.
    fn pool() -> &'static PagePool<Self::Block, Self::Mapper>;
}

/// Reaches the pool in the static that `T` names; it has no size.
pub struct Named<T>(PhantomData<fn(T) -> T>);

impl<T> Named<T> {
    /// Names the static.
    #[must_use]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T> Clone for Named<T> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Named<T> {}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Named<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Named")
    }
}

impl<T: NamedPool> PoolRef for Named<T> {
    type Block = T::Block;
    type Mapper = T::Mapper;

    #[inline]
    fn pool(&self) -> &PagePool<T::Block, T::Mapper> {
        T::pool()
    }

    #[inline]
    fn is_same(&self, _other: &Self) -> bool {
        true
    }
}

/// The home of a pool page: recycles the page when it is dropped.
#[derive(Clone, Debug)]
pub(crate) struct ToPool<R>(pub(crate) R);

impl<R: PoolRef> TakeBack<Item<R::Block, R::Mapper>> for ToPool<R> {
    #[inline]
    fn take_back(&self, item: Item<R::Block, R::Mapper>) {
        self.0.pool().put(item);
    }
}
