//! Where frames come from: a page pool, or the page allocator itself.

use anyhow::anyhow;
use pagemill::Page;
use pagemill::source::PageSource as _;
use pagemill_pool::dma::NoDma;
use pagemill_pool::shutdown::Outstanding;
use pagemill_pool::stats::PoolStats;
use pagemill_pool::{PagePool, PoolOwner, PoolParams, Returner};
use pagemill_xdp::FramePool;
use pagemill_xdp::frames::{AllocatorPool, Frame, Refill};

use pagemill_bench::frames::Frames;

/// The allocator that all pages come from.
pub(crate) type Source = Frames;

/// A supply of frames whose way to the page allocator can be changed, and which can tell what it
/// did.
pub(crate) trait Supply: FramePool<Frame: Frame<Source = Source> + Send> + Send {
    /// What takes frames back on another thread.
    type Back: TakeBack<Self::Frame>;

    /// Returns the way back for another thread.
    fn back(&self) -> Self::Back;

    /// Asks the page allocator for one page or for many from now on.
    fn set_refill(&mut self, refill: Refill);

    /// Returns how many frames are out of it, whichever device or thread has them.
    fn nr_out(&self) -> usize;

    /// Returns what the page pool has counted, if there is one.
    fn stats(&self) -> Option<PoolStats>;

    /// Ends it, once nobody returns frames any more.
    ///
    /// # Errors
    /// Pages that are still out.
    fn end(self) -> Result<(), Outstanding>;
}

/// Takes frames back on any thread.
pub(crate) trait TakeBack<F>: Send {
    /// Takes all frames back.
    fn take_back(&mut self, frames: &mut Vec<F>);

    /// Frees pages one by one or together from now on, where that is its choice.
    fn set_refill(&mut self, refill: Refill);
}

pagemill_pool::static_pool! {
    static POOL: Page<Source>;
    /// How frames reach the static, so that a frame is a handle of 8 bytes.
    pub(crate) type Rx;
}

/// Makes the page pool, with a ring of `ring_size`, and becomes its owner.
///
/// # Errors
/// If there was one already: a process has one.
pub(crate) fn page_pool(
    source: Source,
    refill: Refill,
    ring_size: u32,
) -> anyhow::Result<PoolOwner<Rx>> {
    let (pool_size, refill) = (ring_size as usize, refill.nr_pages());
    let params = PoolParams { pool_size, refill, ..PoolParams::new() };
    let pool = PagePool::new(&params, source, NoDma)?;
    POOL.set(pool).map_err(|_second| anyhow!("a process has one page pool"))?;
    PoolOwner::claim(Rx::new()).ok_or_else(|| anyhow!("the page pool has an owner already"))
}

impl Supply for PoolOwner<Rx> {
    type Back = Returner<Rx>;

    fn back(&self) -> Self::Back {
        self.returner()
    }

    fn set_refill(&mut self, refill: Refill) {
        Self::set_refill(self, refill.nr_pages());
    }

    fn nr_out(&self) -> usize {
        Self::nr_out(self)
    }

    fn stats(&self) -> Option<PoolStats> {
        Some(Self::stats(self))
    }

    fn end(self) -> Result<(), Outstanding> {
        // Whoever had pages has ended, so there is nothing to wait for.
        self.shutdown().wait(|_out| false)
    }
}

impl TakeBack<<PoolOwner<Rx> as FramePool>::Frame> for Returner<Rx> {
    fn take_back(&mut self, frames: &mut Vec<<PoolOwner<Rx> as FramePool>::Frame>) {
        self.put_bulk(frames.drain(..));
    }

    fn set_refill(&mut self, _refill: Refill) {
        // Through the ring many by one claim, and what finds no room there is freed together.
    }
}

impl Supply for AllocatorPool<Source> {
    type Back = Self;

    fn back(&self) -> Self {
        Self::new(Source::new(), Refill::Bulk)
    }

    fn set_refill(&mut self, refill: Refill) {
        Self::set_refill(self, refill);
    }

    fn nr_out(&self) -> usize {
        // Nothing else in this process allocates pages.
        let source = Source::new();
        let allocator = source.allocator();
        let nr_out = allocator.platform().nr_pages().saturating_sub(allocator.nr_free_pages());
        usize::try_from(nr_out).unwrap_or(usize::MAX)
    }

    fn stats(&self) -> Option<PoolStats> {
        None
    }

    fn end(self) -> Result<(), Outstanding> {
        Ok(())
    }
}

impl TakeBack<Page<Source>> for AllocatorPool<Source> {
    fn take_back(&mut self, frames: &mut Vec<Page<Source>>) {
        self.recycle(frames);
    }

    fn set_refill(&mut self, refill: Refill) {
        Self::set_refill(self, refill);
    }
}
