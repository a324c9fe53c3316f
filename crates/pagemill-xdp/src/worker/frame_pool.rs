//! Frame pool: the source of a worker's empty frames, a page pool or the page allocator.

use core::fmt;

use pagemill::source::PageSource;
use pagemill::{AllocPages, Gfp, Page, PageVec};
use pagemill_host::Host;
use pagemill_pool::config::PP_ALLOC_CACHE_REFILL;
use pagemill_pool::{PoolOwner, PoolPage, PoolRef};

use crate::packet::frame::Frame;

/// A supply of empty frames, for one thread.
pub trait FramePool {
    /// The frames that it supplies.
    type Frame: Frame;

    /// Appends up to `nr` frames, and returns how many.
    fn allocate(&mut self, frames: &mut Vec<Self::Frame>, nr: usize) -> usize;

    /// Takes all frames back.
    fn recycle(&mut self, frames: &mut Vec<Self::Frame>);
}

/// How many pages one call to the page allocator takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there are these two")]
pub enum Refill {
    /// One page.
    Single,
    /// As many pages as are wanted.
    #[default]
    Bulk,
}

impl Refill {
    /// Returns how many pages a page pool takes at a time, for
    /// [`PoolParams::refill`](pagemill_pool::PoolParams::refill) and [`PoolOwner::set_refill`].
    #[must_use]
    pub const fn nr_pages(self) -> usize {
        match self {
            Self::Single => 1,
            Self::Bulk => PP_ALLOC_CACHE_REFILL,
        }
    }
}

impl fmt::Display for Refill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Single => "single",
            Self::Bulk => "bulk",
        })
    }
}

/// A page pool as the source: frames come from the owner's cache, then from the ring through which
/// other threads return them, then from the page allocator.
///
/// A kept packet returns through the ring when it is dropped; a [`Returner`](pagemill_pool::Returner)
/// returns many at once.
impl<R, S> FramePool for PoolOwner<R>
where
    R: PoolRef<Block = Page<S>>,
    S: PageSource<Platform = Host>,
{
    type Frame = PoolPage<R>;

    #[inline]
    fn allocate(&mut self, frames: &mut Vec<PoolPage<R>>, nr: usize) -> usize {
        self.alloc_bulk(nr, frames)
    }

    #[inline]
    fn recycle(&mut self, frames: &mut Vec<PoolPage<R>>) {
        self.put_bulk(frames.drain(..));
    }
}

/// The page allocator itself as the source: every frame comes from it and returns to it.
#[derive(Debug)]
pub struct AllocatorPool<S: PageSource> {
    source: S,
    refill: Refill,
    batch: PageVec<S, BATCH>,
}

/// Maximum number of pages per call to the page allocator.
const BATCH: usize = 64;

/// Flags for the page allocator: without waiting for memory, because a thread that waits loses packets.
/// A page pool uses the same flags.
const GFP: Gfp = Gfp::ATOMIC.union(Gfp::NOWARN);

impl<S: PageSource<Platform = Host>> AllocatorPool<S> {
    /// Makes a source of frames from the allocator of `source`.
    pub fn new(source: S, refill: Refill) -> Self {
        Self { batch: PageVec::new(source.clone()), source, refill }
    }

    /// Changes how frames are allocated from now on.
    pub fn set_refill(&mut self, refill: Refill) {
        self.refill = refill;
    }
}

impl<S: PageSource<Platform = Host>> FramePool for AllocatorPool<S> {
    type Frame = Page<S>;

    fn allocate(&mut self, frames: &mut Vec<Page<S>>, nr: usize) -> usize {
        let before = frames.len();
        match self.refill {
            Refill::Single => {
                let page = || self.source.clone().alloc_page(GFP);
                frames.extend(core::iter::repeat_with(page).take(nr).map_while(|page| page));
            }
            Refill::Bulk => {
                let mut left = nr;
                while left > 0 {
                    let nr = left.min(BATCH);
                    let got = self.source.clone().alloc_pages_bulk_vec(GFP, nr, &mut self.batch);
                    frames.extend(core::iter::from_fn(|| self.batch.pop()));
                    if got == 0 {
                        break;
                    }
                    left -= got.min(left);
                }
            }
        }
        frames.len() - before
    }

    fn recycle(&mut self, frames: &mut Vec<Page<S>>) {
        match self.refill {
            Refill::Single => frames.clear(),
            Refill::Bulk => {
                for frame in frames.drain(..) {
                    if self.batch.is_full() {
                        self.batch.clear();
                    }
                    // There is room; a page without room would be freed on drop.
                    let _there_is_room = self.batch.push(frame);
                }
                self.batch.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pagemill::PageAllocator;
    use pagemill::reclaim::{ShrinkControl, Shrinker};
    use pagemill_host::{AllocatorConfig, ArenaConfig, allocator};

    use super::*;
    use crate::sync::{AtomicU32, Ordering};

    /// A cache that counts how often it was asked, and has nothing.
    struct Asked(AtomicU32);

    impl Shrinker for Asked {
        fn count(&self, _control: ShrinkControl) -> usize {
            // Relaxed: read by the thread that allocates, which is the one that asks.
            self.0.fetch_add(1, Ordering::Relaxed);
            1000
        }

        fn scan(&self, _nr: usize, _control: ShrinkControl) -> usize {
            0
        }
    }

    #[test]
    fn an_empty_allocator_is_neither_waited_for_nor_reclaimed_from() {
        static ASKED: Asked = Asked(AtomicU32::new(0));

        for refill in [Refill::Single, Refill::Bulk] {
            let frames: PageAllocator<Host> =
                allocator(&AllocatorConfig::new(ArenaConfig::new(4 << 20))).unwrap();
            let guard = frames.register_shrinker(&ASKED).unwrap();
            let mut pool = AllocatorPool::new(&frames, refill);
            let mut taken = Vec::new();
            assert!(pool.allocate(&mut taken, 2048) <= 1024);
            assert_eq!(pool.allocate(&mut taken, 1), 0, "{refill}: nothing is left");
            assert_eq!(ASKED.0.load(Ordering::Relaxed), 0, "{refill}: a shrinker was asked");
            pool.recycle(&mut taken);
            drop((pool, guard));
            assert_eq!(frames.nr_free_pages(), 1024);
        }
    }
}
