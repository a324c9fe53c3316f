//! Index allocator: numbers of equal blocks, for memory that this process cannot address and for things
//! that are no memory.
//!
//! A [`PageAllocator`] never touches the frames that it manages, so its frame numbers can stand for
//! blocks of anything: of a GPU's memory, of a disk, of a device's slots. Here block n is frame n, on a
//! platform without memory.

use alloc::alloc::{alloc_zeroed, dealloc};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::alloc::Layout;
use core::fmt;
use core::ops::Range;
use core::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::{self, ThreadId};

use pagemill::contig::{ContigRequest, FrameRange};
use pagemill::handles::RawPage;
use pagemill::setup::{ConfigError, MemoryRegion};
use pagemill::source::PageSource;
use pagemill::units::{CpuId, NodeId, PAGE_SHIFT, Pfn, PhysAddr};
use pagemill::validate::BookError;
use pagemill::{AllocPages, Config, Gfp, PageAllocator, Platform};
use thiserror::Error;

/// Spins before a thread that waits for a lock yields its CPU.
const SPINS_BEFORE_YIELD: u32 = 100;

/// How many calls of the reclaim callback in a row may leave no more free blocks than before, although
/// it returns a number above zero, until the request fails.
const MAX_NR_FRUITLESS: u32 = 256;

/// An allocator of block numbers from zero on; the size of a block is the caller's.
///
/// It returns owned handles ([`Extent`]) of adjacent blocks and never touches what the numbers stand for.
/// A clone is another handle of the same allocator. Extents keep the allocator alive.
///
/// # Concurrency
/// Any thread may allocate and free. Requests for one run of adjacent blocks, and frees, go on side by
/// side; a request that must take several runs waits until it is the only request. A shard's lock guards
/// the blocks. A search releases it after at most 32 groups of 512 blocks.
///
/// # Cost
/// 13 bytes of address space per block, of which the allocator touches approximately 0.3.
///
/// # Examples
/// The blocks of a cache of 16 KiB each in the memory of a GPU, for a request of 70 blocks:
/// ```
/// use pagemill_host::IndexAllocator;
/// use pagemill_host::index::IndexError;
///
/// const BLOCK_BYTES: u64 = 16 << 10;
///
/// # fn main() -> Result<(), IndexError> {
/// let blocks = IndexAllocator::new(524_288)?;
/// // As few runs of adjacent blocks as there can be: one, as long as there is one of 70.
/// let extents = blocks.alloc(70)?;
/// assert_eq!(extents.len(), 1);
/// for extent in &extents {
///     let (offset, len) = (extent.start() * BLOCK_BYTES, extent.nr_blocks() * BLOCK_BYTES);
///     println!("copy {len} bytes to offset {offset}");
/// }
/// // Dropping them frees the blocks.
/// drop(extents);
/// assert_eq!(blocks.nr_free(), 524_288);
/// # Ok(())
/// # }
/// ```
/// A block cannot be freed twice:
/// ```compile_fail,E0382
/// # let blocks = pagemill_host::IndexAllocator::new(8).unwrap();
/// let extent = blocks.alloc_run(1).unwrap();
/// drop(extent);
/// drop(extent);
/// ```
#[derive(Clone)]
pub struct IndexAllocator(Arc<Inner>);

struct Inner {
    // Dropped in this order: the allocator lives in the metadata.
    allocator: PageAllocator<Numbers>,
    _metadata: Metadata,
    nr_blocks: u64,
    reclaim: Option<Box<Reclaim>>,
    /// Threads in the reclaim callback.
    reclaiming: Mutex<Vec<ThreadId>>,
    /// Read by requests that take one run, which other threads see taken in full or not at all. Written by
    /// a request that takes several runs, and before one fails: then no other request holds blocks that it
    /// may return.
    requests: RwLock<()>,
    /// Blocks whose owners were turned into numbers: first blocks of extents, their words and lengths.
    ///
    /// Not extents: these would keep the allocator alive.
    parked: Mutex<BTreeMap<u64, (RawPage, usize)>>,
}

/// A function that frees blocks and returns their number; see [`IndexAllocator::with_reclaim`].
type Reclaim = dyn Fn(Lack) -> u64 + Send + Sync;

/// What a request lacks when it calls the reclaim callback; see [`IndexAllocator::with_reclaim`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lack {
    /// Blocks that must be freed before the request can succeed; at least one. If enough blocks are free
    /// but not adjacent, one.
    pub nr: u64,
    /// Adjacent blocks that the request needs: its number of blocks for
    /// [`alloc_run`](IndexAllocator::alloc_run), one for all others.
    pub run: u64,
}

/// Why blocks could not be allocated or taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IndexError {
    /// An allocator of zero blocks was asked for.
    #[error(
        "an allocator of 0 blocks is not possible: allowed are 1 to {}",
        IndexAllocator::NR_BLOCKS_MAX
    )]
    NoBlocks,
    /// An allocator of too many blocks was asked for.
    #[error("an allocator of {nr_blocks} blocks is not possible: allowed are 1 to {max}")]
    TooManyBlocks {
        /// The number of blocks.
        nr_blocks: u64,
        /// The largest number allowed.
        max: u64,
    },
    /// There is no memory for the allocator's metadata.
    #[error("no memory for {bytes} bytes of metadata: use fewer blocks")]
    NoMemory {
        /// Size of the metadata.
        bytes: usize,
    },
    /// The metadata cannot be set up.
    #[error("cannot set up the metadata: {0}")]
    Config(#[from] ConfigError),
    /// A run of zero blocks was asked for.
    #[error("a run of 0 blocks is not possible: ask for at least 1")]
    EmptyRun,
    /// Fewer blocks are free than the request needs, also after reclaim.
    #[error(
        "{wanted} blocks were requested and {free} of {nr_blocks} are free: free some, or ask for fewer"
    )]
    Exhausted {
        /// Blocks that the request needs.
        wanted: u64,
        /// Blocks that were free when it failed.
        free: u64,
        /// Blocks that the allocator has.
        nr_blocks: u64,
    },
    /// No run of adjacent free blocks is long enough, also after reclaim.
    #[error(
        "no {wanted} adjacent blocks are free, though {free} in all: use IndexAllocator::alloc, which accepts several runs"
    )]
    NoRun {
        /// Blocks that the request needs.
        wanted: u64,
        /// Blocks that were free when it failed.
        free: u64,
    },
    /// A block that is to be taken back was not given up by [`Extent::into_numbers`], or was taken back
    /// already.
    #[error(
        "block {block} was not given up by Extent::into_numbers of this allocator, or was taken back already"
    )]
    NotGivenUp {
        /// The first such block.
        block: u64,
    },
}

/// The platform of block numbers: no memory, and one set of lists, which is not used.
#[derive(Debug)]
struct Numbers;

impl Platform for Numbers {
    fn nr_cpus(&self) -> u32 {
        1
    }

    fn pin(&self) -> CpuId {
        CpuId::new(0)
    }

    fn relax(&self, spins: u32) {
        if spins < SPINS_BEFORE_YIELD { core::hint::spin_loop() } else { thread::yield_now() }
    }

    unsafe fn zero_pages(&self, _first: Pfn, _nr_pages: usize) {}
}

/// Memory of the allocator's tables.
struct Metadata {
    memory: NonNull<u8>,
    layout: Layout,
}

// SAFETY: 1. the memory belongs to its one owner, and any thread may free it.
unsafe impl Send for Metadata {}

// SAFETY: 1. `&Metadata` allows nothing.
unsafe impl Sync for Metadata {}

impl Metadata {
    fn new(layout: Layout) -> Result<Self, IndexError> {
        // SAFETY: 1. not of size zero: an allocator always has tables.
        let memory = unsafe { alloc_zeroed(layout) };
        let memory = NonNull::new(memory).ok_or(IndexError::NoMemory { bytes: layout.size() })?;
        Ok(Self { memory, layout })
    }
}

impl Drop for Metadata {
    fn drop(&mut self) {
        // SAFETY: 1. allocated by `new`, with this layout. 2. freed once: only here.
        unsafe { dealloc(self.memory.as_ptr(), self.layout) };
    }
}

/// How extents reach their allocator.
#[derive(Clone)]
struct Source(Arc<Inner>);

// SAFETY: 1. same allocator in each call: an `Arc` and its clones refer to one value.
unsafe impl PageSource for Source {
    type Platform = Numbers;

    fn allocator(&self) -> &PageAllocator<Numbers> {
        &self.0.allocator
    }
}

impl IndexAllocator {
    /// Largest number of blocks of one allocator.
    pub const NR_BLOCKS_MAX: u64 = u32::MAX as u64;

    /// Makes an allocator of blocks 0 to `nr_blocks - 1`, all free.
    ///
    /// # Errors
    /// If `nr_blocks` is zero or more than [`NR_BLOCKS_MAX`](Self::NR_BLOCKS_MAX), or if there is no memory
    /// for the metadata.
    pub fn new(nr_blocks: u64) -> Result<Self, IndexError> {
        Self::build(nr_blocks, None)
    }

    /// Makes an allocator that calls `reclaim` when a request finds too few blocks.
    ///
    /// `reclaim` receives what the request [lacks](Lack), frees some blocks by dropping extents, and returns
    /// how many. The request then tries again, and calls `reclaim` until it succeeds or `reclaim` returns
    /// zero. It also fails after 256 calls in a row that left no more blocks free than before.
    ///
    /// Requests that `reclaim` itself makes of this allocator fail without another call of it.
    ///
    /// # Concurrency
    /// `reclaim` runs in the thread that makes the request, and the allocator holds no lock meanwhile.
    /// Several threads may be in it at once. Do not hold a lock that `reclaim` takes while you call
    /// [`alloc`](Self::alloc) or [`alloc_run`](Self::alloc_run): the thread would wait for itself.
    ///
    /// # Errors
    /// For the reasons of [`new`](Self::new).
    pub fn with_reclaim(
        nr_blocks: u64,
        reclaim: impl Fn(Lack) -> u64 + Send + Sync + 'static,
    ) -> Result<Self, IndexError> {
        Self::build(nr_blocks, Some(Box::new(reclaim)))
    }

    fn build(nr_blocks: u64, reclaim: Option<Box<Reclaim>>) -> Result<Self, IndexError> {
        let max = Self::NR_BLOCKS_MAX;
        match nr_blocks {
            0 => return Err(IndexError::NoBlocks),
            _ if nr_blocks > max => return Err(IndexError::TooManyBlocks { nr_blocks, max }),
            _ => {}
        }
        let len_bytes = nr_blocks << PAGE_SHIFT;
        let memory = [MemoryRegion { start: PhysAddr::new(0), len_bytes, node: NodeId::new(0) }];
        // Every block can be handed out: nothing is kept back. One shard, so that a search for the
        // tightest run sees all blocks.
        let config = Config {
            zone_dma32: false,
            min_free_bytes: Some(0),
            watermark_scale_factor: 0,
            lowmem_reserve_ratio: [0; 4],
            pcp_high: Some(1),
            nr_zone_shards: Some(1),
            ..Config::new(&memory, 1)
        };
        let metadata = Metadata::new(PageAllocator::<Numbers>::metadata_layout(&config)?)?;
        let tables = NonNull::slice_from_raw_parts(metadata.memory, metadata.layout.size());
        // SAFETY:
        // 1. The metadata is initialised, valid, used by nothing else, and outlives the allocator: they
        //    are dropped together, the allocator first.
        // 2. No other allocator manages these frames: they are numbers that stand for nothing here.
        let allocator = unsafe { PageAllocator::new(&config, tables, Numbers) }?;
        Ok(Self(Arc::new(Inner {
            allocator,
            _metadata: metadata,
            nr_blocks,
            reclaim,
            reclaiming: Mutex::default(),
            requests: RwLock::default(),
            parked: Mutex::default(),
        })))
    }

    /// Returns the number of blocks, free ones and others.
    #[must_use]
    pub fn nr_blocks(&self) -> u64 {
        self.0.nr_blocks
    }

    /// Returns the number of free blocks.
    ///
    /// # Concurrency
    /// Without a lock, so the result may be outdated.
    #[must_use]
    pub fn nr_free(&self) -> u64 {
        self.0.allocator.vmstat().nr_free_pages
    }

    /// Allocates exactly `nr` blocks (for zero, an empty list), in as long runs of adjacent blocks as there are, the longest first:
    /// in one run if there is one of `nr`.
    ///
    /// # Errors
    /// [`IndexError::Exhausted`]; nothing is allocated then.
    ///
    /// # Cost
    /// For `nr` up to 512, usually a look at no more than 20 groups of 512 blocks. For each run that the
    /// result has beyond the first, and for the first one if memory is fragmented, linear in the number of
    /// groups.
    pub fn alloc(&self, nr: u64) -> Result<Vec<Extent>, IndexError> {
        self.retry(Need { nr, run: 1 }, || self.try_alloc(nr), |free| self.exhausted(nr, free))
    }

    /// Allocates `nr` adjacent blocks.
    ///
    /// # Errors
    /// [`IndexError::EmptyRun`] if `nr` is zero, [`IndexError::Exhausted`] if fewer than `nr` blocks are
    /// free, or [`IndexError::NoRun`] if no run of `nr` blocks is free.
    pub fn alloc_run(&self, nr: u64) -> Result<Extent, IndexError> {
        if nr == 0 {
            return Err(IndexError::EmptyRun);
        }
        let refused = |free| {
            if free < nr {
                self.exhausted(nr, free)
            } else {
                IndexError::NoRun { wanted: nr, free }
            }
        };
        self.retry(Need { nr, run: nr }, || self.try_alloc_run(nr), refused)
    }

    /// Makes extents of blocks that [`Extent::into_numbers`] gave up.
    ///
    /// `numbers` is any part of the blocks of such extents, also across several of them.
    ///
    /// # Errors
    /// [`IndexError::NotGivenUp`] with the first block that was not given up, or was taken back already;
    /// nothing has changed then.
    ///
    /// # Cost
    /// Logarithmic in the number of extents that were given up, for each extent.
    pub fn take_back(&self, numbers: Range<u64>) -> Result<Vec<Extent>, IndexError> {
        let mut parked = self.0.parked.lock().unwrap_or_else(PoisonError::into_inner);
        let mut starts = Vec::new();
        let mut block = numbers.start;
        while block < numbers.end {
            let before = parked.range(..=block).next_back();
            let found = before.filter(|&(&start, &(_, nr))| block - start < nr as u64);
            let (&start, &(_, nr)) = found.ok_or(IndexError::NotGivenUp { block })?;
            starts.push(start);
            block = start + nr as u64;
        }
        let take = |start: u64| {
            let (first, nr) = parked.remove(&start)?;
            // SAFETY: 1. returned by `into_raw` of a range of this allocator, in `Inner::park`. 2. one
            // owner: it is no longer parked.
            let mut range = unsafe { FrameRange::from_raw(Source(self.0.clone()), first, nr) };
            let front = numbers.start.saturating_sub(start);
            let mut middle = range.split_off(as_usize(front));
            let len = numbers.end.min(start + nr as u64) - (start + front);
            let back = middle.split_off(as_usize(len));
            park(&mut parked, range);
            park(&mut parked, back);
            Some(Extent(middle))
        };
        Ok(starts.into_iter().filter_map(take).collect())
    }

    /// Checks that all books of the allocator agree; see [`PageAllocator::validate`].
    ///
    /// # Errors
    /// The first value that is wrong.
    pub fn validate(&self) -> Result<(), BookError> {
        self.0.allocator.validate()
    }

    /// Takes the longest run of up to `nr` blocks, at least `min`.
    fn take(&self, min: u64, nr: u64) -> Option<Extent> {
        let source = Source(self.0.clone());
        let request =
            ContigRequest { min: as_usize(min), ..ContigRequest::new(Gfp::empty(), as_usize(nr)) };
        source.alloc_contig_with(&request).ok().map(Extent)
    }

    /// Takes one run of up to `nr` blocks, at least `min`, while other requests do so, too. Takes nothing
    /// if fewer than `nr` blocks are free, so that a request that must fail takes no blocks from others.
    fn take_beside_others(&self, min: u64, nr: u64) -> Option<Extent> {
        let _shared = self.0.requests.read().unwrap_or_else(PoisonError::into_inner);
        if self.nr_free() < nr { None } else { self.take(min, nr) }
    }

    fn try_alloc_run(&self, nr: u64) -> Option<Extent> {
        self.take_beside_others(nr, nr).or_else(|| {
            let _alone = self.0.requests.write().unwrap_or_else(PoisonError::into_inner);
            if self.nr_free() < nr { None } else { self.take(nr, nr) }
        })
    }

    fn try_alloc(&self, nr: u64) -> Option<Vec<Extent>> {
        if nr == 0 {
            return Some(Vec::new());
        }
        if let Some(extent) = self.take_beside_others(nr, nr) {
            return Some(vec![extent]);
        }
        let _alone = self.0.requests.write().unwrap_or_else(PoisonError::into_inner);
        let mut extents = Vec::new();
        let mut left = nr;
        while left > 0 {
            if self.nr_free() < left {
                return None;
            }
            let extent = self.take(1, left)?;
            left -= extent.nr_blocks();
            extents.push(extent);
        }
        Some(extents)
    }

    /// Makes attempts as long as the callback frees blocks.
    fn retry<T>(
        &self,
        need: Need,
        attempt: impl Fn() -> Option<T>,
        refused: impl FnOnce(u64) -> IndexError,
    ) -> Result<T, IndexError> {
        if need.nr > self.0.nr_blocks {
            return Err(refused(self.nr_free()));
        }
        let mut nr_fruitless = 0;
        loop {
            if let Some(result) = attempt() {
                return Ok(result);
            }
            let before = self.nr_free();
            if nr_fruitless == MAX_NR_FRUITLESS || self.reclaim(need) == 0 {
                return Err(refused(self.nr_free()));
            }
            nr_fruitless = if self.nr_free() > before { 0 } else { nr_fruitless + 1 };
        }
    }

    /// Asks the callback for the blocks that a request lacks, unless it made that request.
    fn reclaim(&self, need: Need) -> u64 {
        /// Ends the call of the callback, also if it panics.
        struct End<'a>(&'a Inner, ThreadId);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.reclaiming().retain(|&thread| thread != self.1);
            }
        }
        let Some(reclaim) = &self.0.reclaim else { return 0 };
        let thread = thread::current().id();
        {
            let mut reclaiming = self.0.reclaiming();
            if reclaiming.contains(&thread) {
                return 0;
            }
            reclaiming.push(thread);
        }
        let _end = End(&self.0, thread);
        // At least one: if enough blocks are free, they are not adjacent.
        let nr = need.nr.saturating_sub(self.nr_free()).max(1);
        reclaim(Lack { nr, run: need.run })
    }

    fn exhausted(&self, wanted: u64, free: u64) -> IndexError {
        IndexError::Exhausted { wanted, free, nr_blocks: self.0.nr_blocks }
    }
}

/// What a request needs: a number of blocks, in runs of at least `run`.
#[derive(Clone, Copy)]
struct Need {
    nr: u64,
    run: u64,
}

impl Inner {
    fn reclaiming(&self) -> MutexGuard<'_, Vec<ThreadId>> {
        self.reclaiming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for IndexAllocator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexAllocator")
            .field("nr_blocks", &self.0.nr_blocks)
            .field("nr_free", &self.nr_free())
            .finish_non_exhaustive()
    }
}

/// Adjacent blocks and the right to use them; dropping it frees them.
pub struct Extent(FrameRange<Source>);

impl Extent {
    /// Returns the number of the first block.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.0.pfn().value()
    }

    /// Returns the number of blocks.
    #[must_use]
    pub fn nr_blocks(&self) -> u64 {
        self.0.nr_pages() as u64
    }

    /// Returns the numbers of the blocks.
    #[must_use]
    pub fn blocks(&self) -> Range<u64> {
        self.start()..self.start() + self.nr_blocks()
    }

    /// Splits the extent into its first `nr` blocks and the others; either part may be empty.
    ///
    /// # Panics
    /// If the extent has fewer blocks.
    #[track_caller]
    #[must_use = "a part that is dropped is freed"]
    pub fn split_at(self, nr: u64) -> (Self, Self) {
        assert!(nr <= self.nr_blocks(), "split at block {nr}: the extent has {}", self.nr_blocks());
        let (front, back) = self.0.split_at(as_usize(nr));
        (Self(front), Self(back))
    }

    /// Makes a counted extent: the last of its clones frees the blocks.
    ///
    /// To share each block by itself, [split](Self::split_at) the extent first.
    #[must_use]
    pub fn share(self) -> SharedExtent {
        SharedExtent(Arc::new(self))
    }

    /// Gives up the ownership, for tables that have room for numbers only.
    /// [`IndexAllocator::take_back`] makes an owner again; until then, the blocks stay in use.
    #[must_use = "the blocks stay in use until they are taken back by their numbers"]
    pub fn into_numbers(self) -> Range<u64> {
        let blocks = self.blocks();
        let inner = self.0.source().0.clone();
        park(&mut inner.parked.lock().unwrap_or_else(PoisonError::into_inner), self.0);
        blocks
    }
}

impl fmt::Debug for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Extent({:?})", self.blocks())
    }
}

/// An [`Extent`] with several owners; the last one that is dropped frees the blocks.
#[derive(Clone, Debug)]
pub struct SharedExtent(Arc<Extent>);

impl SharedExtent {
    /// Returns the number of the first block.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.0.start()
    }

    /// Returns the number of blocks.
    #[must_use]
    pub fn nr_blocks(&self) -> u64 {
        self.0.nr_blocks()
    }

    /// Returns the numbers of the blocks.
    #[must_use]
    pub fn blocks(&self) -> Range<u64> {
        self.0.blocks()
    }

    /// Returns the number of owners, which other threads may change at any time.
    #[must_use]
    pub fn nr_owners(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    /// Returns the extent if this is its only owner.
    ///
    /// # Errors
    /// This owner, if there are others.
    pub fn try_unshare(self) -> Result<Extent, Self> {
        Arc::try_unwrap(self.0).map_err(Self)
    }
}

/// Keeps the blocks of a range in use without an owner.
fn park(parked: &mut BTreeMap<u64, (RawPage, usize)>, range: FrameRange<Source>) {
    if range.nr_pages() > 0 {
        let start = range.pfn().value();
        parked.insert(start, range.into_raw());
    }
}

/// Returns a number of blocks as a number of frames; more than there are for one that is too large.
fn as_usize(nr: u64) -> usize {
    usize::try_from(nr).unwrap_or(usize::MAX)
}
