//! Pool reference: how a page handle reaches its pool, by reference, `Arc` or the name of a static.

use alloc::sync::Arc;
use core::fmt;
use core::marker::PhantomData;

use pagemill::recycling::TakeBack;
#[cfg(not(loom))]
use pagemill::sync::OnceCell;

use crate::block::Block;
use crate::dma::DmaMapper;
#[cfg(not(loom))]
use crate::dma::NoDma;
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

/// A static that receives its pool once, at run time; see [`static_pool`](crate::static_pool).
#[cfg(not(loom))]
pub struct OncePool<B: Block, M: DmaMapper = NoDma>(OnceCell<PagePool<B, M>>);

#[cfg(not(loom))]
impl<B: Block, M: DmaMapper> OncePool<B, M> {
    /// Makes a static without a pool.
    #[must_use]
    pub const fn new() -> Self {
        Self(OnceCell::new())
    }

    /// Stores the pool.
    ///
    /// # Errors
    /// Returns `pool` if there is one already, or if another thread is storing one.
    #[expect(clippy::result_large_err, reason = "called once; the caller keeps what it owns")]
    pub fn set(&self, pool: PagePool<B, M>) -> Result<(), PagePool<B, M>> {
        self.0.set(pool)
    }

    /// Returns the pool, if it has been stored.
    #[inline]
    pub fn get(&self) -> Option<&PagePool<B, M>> {
        self.0.get()
    }

    /// Returns the pool.
    ///
    /// # Panics
    /// If none has been stored.
    #[inline]
    pub fn get_stored(&self) -> &PagePool<B, M> {
        self.get().expect("the static has no pool yet: call OncePool::set before claiming it")
    }
}

#[cfg(not(loom))]
impl<B: Block, M: DmaMapper> Default for OncePool<B, M> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(not(loom))]
impl<B: Block, M: DmaMapper> fmt::Debug for OncePool<B, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OncePool").field("is_stored", &self.get().is_some()).finish()
    }
}

/// Declares a static that receives a pool at run time, and how pages reach it.
///
/// The first line declares a static of type [`OncePool`] for a pool of the blocks named there, with a
/// mapper if one follows, else with [`NoDma`]. The second one declares the name of a [`Named`], which
/// has no size, so that a page is one word. A `#[cfg]` goes before the macro call: on a line, it would
/// apply to a part of the items only.
///
/// # Examples
/// ```
/// use pagemill::Page;
/// use pagemill_host::{Host, HostAllocator};
/// use pagemill_pool::dma::NoDma;
/// use pagemill_pool::{PagePool, PoolOwner, PoolPage, PoolParams};
///
/// pagemill::static_allocator! {
///     static ALLOCATOR: Host;
///     type Frames;
/// }
///
/// pagemill_pool::static_pool! {
///     /// The pages of the receive queue.
///     static RX: Page<Frames>;
///     type Rx;
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// ALLOCATOR.set(HostAllocator::new(64 << 20)?.into_inner()).expect("set once");
/// RX.set(PagePool::new(&PoolParams::new(), Frames::new(), NoDma)?).expect("set once");
/// let mut owner = PoolOwner::claim(Rx::new()).expect("the pool has no owner yet");
/// let page: PoolPage<Rx> = owner.alloc().expect("there is memory");
/// assert_eq!(size_of_val(&Some(page)), 8);
/// # Ok(())
/// # }
/// ```
/// A page of one pool does not return to another:
/// ```compile_fail,E0308
/// # use pagemill::Page;
/// # use pagemill_host::Host;
/// # use pagemill_pool::{PoolOwner, PoolPage};
/// # pagemill::static_allocator! { static ALLOCATOR: Host; type Frames; }
/// pagemill_pool::static_pool! { static RX: Page<Frames>; type Rx; }
/// pagemill_pool::static_pool! { static OTHER: Page<Frames>; type Other; }
/// fn example(owner: &mut PoolOwner<Rx>, page: PoolPage<Other>) {
///     owner.put(page);
/// }
/// ```
/// The static takes no pool with another mapper:
/// ```compile_fail,E0308
/// # use pagemill::units::Pfn;
/// # use pagemill::Page;
/// # use pagemill_host::Host;
/// # use pagemill_pool::dma::ArenaOffsets;
/// # use pagemill_pool::{PagePool, PoolParams};
/// # pagemill::static_allocator! { static ALLOCATOR: Host; type Frames; }
/// pagemill_pool::static_pool! { static RX: Page<Frames>; type Rx; }
/// let mapper = ArenaOffsets::new(Pfn::new(1 << 20));
/// let pool = PagePool::new(&PoolParams::new(), Frames::new(), mapper).unwrap();
/// let _stored = RX.set(pool);
/// ```
#[cfg(not(loom))]
#[macro_export]
macro_rules! static_pool {
    (
        $(#[$static_attr:meta])* $static_vis:vis static $NAME:ident: $Block:ty;
        $($rest:tt)*
    ) => {
        $crate::static_pool! {
            $(#[$static_attr])* $static_vis static $NAME: $Block, $crate::dma::NoDma;
            $($rest)*
        }
    };
    (
        $(#[$static_attr:meta])* $static_vis:vis static $NAME:ident: $Block:ty, $Mapper:ty;
        $(#[$type_attr:meta])* $type_vis:vis type $Name:ident;
    ) => {
        $(#[$static_attr])*
        $static_vis static $NAME: $crate::sources::OncePool<$Block, $Mapper> = $crate::sources::OncePool::new();

        // In the namespace of types, where it names the static of the same name.
        #[doc(hidden)]
        #[allow(
            non_camel_case_types,
            clippy::exhaustive_enums,
            clippy::upper_case_acronyms,
            reason = "as the static is called"
        )]
        #[derive(Debug)]
        $type_vis enum $NAME {}

        impl $crate::sources::NamedPool for $NAME {
            type Block = $Block;
            type Mapper = $Mapper;

            #[inline]
            fn pool() -> &'static $crate::PagePool<$Block, $Mapper> {
                $NAME.get_stored()
            }
        }

        $(#[$type_attr])*
        $type_vis type $Name = $crate::sources::Named<$NAME>;
    };
}

/// Names a static that holds a pool, as the parameter of [`Named`].
///
/// [`static_pool`](crate::static_pool) implements it. Implement it by hand where the static is part of
/// something else.
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
