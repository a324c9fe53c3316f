//! Frames: owned pages of the arena, whose bytes a device reads and writes.

use pagemill::Page;
use pagemill::source::PageSource;
use pagemill::units::PAGE_SIZE;
use pagemill_host::Host;
use pagemill_pool::{PoolPage, PoolRef};

/// An owned page that a device can take and return; dropping it frees or recycles it.
///
/// Sealed: while a device has the frame, the kernel may write to its [`bytes`](Self::bytes), so an
/// implementation must be the only way to access them.
pub trait Frame: sealed::Sealed {
    /// How its allocator is reached.
    type Source: PageSource<Platform = Host>;

    /// Returns the bytes of the page.
    fn bytes(&self) -> &[u8; PAGE_SIZE];

    /// Returns the bytes of the page, for writing.
    fn bytes_mut(&mut self) -> &mut [u8; PAGE_SIZE];
}

impl<S: PageSource<Platform = Host>> Frame for Page<S> {
    type Source = S;

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
impl<R, S> Frame for PoolPage<R>
where
    R: PoolRef<Block = Page<S>>,
    S: PageSource<Platform = Host>,
{
    type Source = S;

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
    //! Marks the types that may be frames.

    use super::{Page, PageSource, PoolPage, PoolRef};

    /// Sealed: other crates cannot add frames.
    #[expect(unnameable_types, reason = "that is what keeps others from implementing it")]
    pub trait Sealed {}

    impl<S: PageSource> Sealed for Page<S> {}
    impl<R: PoolRef> Sealed for PoolPage<R> {}
}
