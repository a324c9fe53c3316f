//! Ring page: an owned page or folio that the kernel may fill.

use core::fmt;

use pagemill::source::PageSource;
use pagemill::units::PAGE_SIZE;
use pagemill::{Folio, Page};
use pagemill_host::Host;
use pagemill_pool::providers::BlockBytes;
use pagemill_pool::{PoolPage, PoolRef};

/// An owned page or folio that a ring can give to the kernel; dropping it frees or recycles it.
///
/// Sealed: while the kernel has the page it may write to its [`bytes`](Self::bytes), so an implementation
/// must be the only way to access them.
///
/// `'static`: a ring that is forgotten ([`core::mem::forget`]) keeps its pages for ever, and the memory
/// that they are in must stay mapped as long. So their allocator is reached by an
/// [`Arc`](alloc::sync::Arc), as a [`SharedAllocator`](pagemill_host::SharedAllocator), or is in a static.
pub trait RingPage: fmt::Debug + sealed::Sealed + 'static {
    /// Returns the number of bytes, without accessing them: the same one each time.
    fn len_bytes(&self) -> usize;

    /// Returns the bytes of the page.
    fn bytes(&self) -> &[u8];

    /// Returns the bytes of the page, for writing.
    fn bytes_mut(&mut self) -> &mut [u8];
}

impl<S: PageSource<Platform = Host> + 'static> RingPage for Page<S> {
    #[inline]
    fn len_bytes(&self) -> usize {
        PAGE_SIZE
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        self.as_bytes_mut()
    }
}

/// For data that are needed in one piece, such as 1 MiB; it needs memory that is not fragmented.
impl<S: PageSource<Platform = Host> + 'static> RingPage for Folio<S> {
    #[inline]
    fn len_bytes(&self) -> usize {
        PAGE_SIZE << self.order().value()
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        self.as_bytes_mut()
    }
}

/// When dropped, on any thread, it returns through the pool's ring.
impl<R> RingPage for PoolPage<R>
where
    R: PoolRef<Block: RingPage + BlockBytes<Bytes: AsRef<[u8]> + AsMut<[u8]>>> + 'static,
{
    #[inline]
    fn len_bytes(&self) -> usize {
        (**self).len_bytes()
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        self.as_bytes().as_ref()
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        self.as_bytes_mut().as_mut()
    }
}

mod sealed {
    //! Marks the types that may be pages of a ring.

    use super::{Folio, Page, PageSource, PoolPage, PoolRef};

    /// Sealed: other crates cannot add pages.
    #[expect(unnameable_types, reason = "that is what keeps others from implementing it")]
    pub trait Sealed {}

    impl<S: PageSource> Sealed for Page<S> {}
    impl<S: PageSource> Sealed for Folio<S> {}
    impl<R: PoolRef> Sealed for PoolPage<R> {}
}
