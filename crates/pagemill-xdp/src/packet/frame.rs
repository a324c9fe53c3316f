//! Frames: pages of the arena, owned, whose bytes a device reads and writes.

use pagemill::{PAGE_SIZE, Page, PageSource};
use pagemill_host::Host;
use pagemill_pool::{PoolPage, PoolRef};

/// An owned page that a device can take and give back; dropping it frees or recycles it.
///
/// Sealed: a device lets the kernel write where [`bytes`](Self::bytes) are for as long as it has
/// the frame, so an implementation must be the one way to them.
pub trait Frame: sealed::Sealed {
    /// How its allocator is reached.
    type Source: PageSource<Platform = Host>;

    /// Returns the bytes of the page.
    fn bytes(&self) -> &[u8; PAGE_SIZE];

    /// Returns the bytes of the page, to be changed.
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

/// Dropped, it returns through the pool's ring, from whichever thread has it.
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
    //! Who may be a frame.

    use super::{Page, PageSource, PoolPage, PoolRef};

    /// Keeps other crates from adding frames.
    #[expect(unnameable_types, reason = "that is what keeps others from implementing it")]
    pub trait Sealed {}

    impl<S: PageSource> Sealed for Page<S> {}
    impl<R: PoolRef> Sealed for PoolPage<R> {}
}
