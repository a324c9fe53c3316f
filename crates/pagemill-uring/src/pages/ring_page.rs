//! Ring page: an owned page that the kernel may fill.

use pagemill::Page;
use pagemill::source::PageSource;
use pagemill::units::PAGE_SIZE;
use pagemill_host::Host;
use pagemill_pool::{PoolPage, PoolRef};

/// An owned page that a ring can give to the kernel; dropping it frees or recycles it.
///
/// Sealed: while the kernel has the page it may write to its [`bytes`](Self::bytes), so an implementation
/// must be the only way to access them.
///
/// `'static`: a ring that is forgotten ([`core::mem::forget`]) keeps its pages for ever, and the memory
/// that they are in must stay mapped as long. So their allocator is reached by an
/// [`Arc`](std::sync::Arc), as a [`SharedAllocator`](pagemill_host::SharedAllocator), or is in a static.
pub trait RingPage: sealed::Sealed + 'static {
    /// Returns the bytes of the page.
    fn bytes(&self) -> &[u8; PAGE_SIZE];

    /// Returns the bytes of the page, for writing.
    fn bytes_mut(&mut self) -> &mut [u8; PAGE_SIZE];
}

impl<S: PageSource<Platform = Host> + 'static> RingPage for Page<S> {
    #[inline]
    fn bytes(&self) -> &[u8; PAGE_SIZE] {
        self.as_bytes()
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8; PAGE_SIZE] {
        self.as_bytes_mut()
    }
}

/// When dropped, on any thread, it returns through the pool's ring.
impl<R, S> RingPage for PoolPage<R>
where
    R: PoolRef<Block = Page<S>> + 'static,
    S: PageSource<Platform = Host> + 'static,
{
    #[inline]
    fn bytes(&self) -> &[u8; PAGE_SIZE] {
        self.as_bytes()
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8; PAGE_SIZE] {
        self.as_bytes_mut()
    }
}

mod sealed {
    //! Marks the types that may be pages of a ring.

    use super::{Page, PageSource, PoolPage, PoolRef};

    /// Sealed: other crates cannot add pages.
    #[expect(unnameable_types, reason = "that is what keeps others from implementing it")]
    pub trait Sealed {}

    impl<S: PageSource> Sealed for Page<S> {}
    impl<R: PoolRef> Sealed for PoolPage<R> {}
}
