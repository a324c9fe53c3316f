//! Index allocator: numbers of equal blocks, for memory that this process cannot address and for things
//! that are no memory.
//!
//! A [`PageAllocator`] never touches the frames that it manages, so its frame numbers can stand for
//! blocks of anything: of a GPU's memory, of a disk, of a device's slots. Block n is frame n of a platform
//! without memory.

use alloc::alloc::{alloc_zeroed, dealloc};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::alloc::Layout;
use core::cmp::Reverse;
use core::fmt;
use core::ops::Range;
use core::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::{self, ThreadId};

use pagemill::contig::{ContigRequest, FrameRange};
use pagemill::handles::RawPage;
use pagemill::machine::{Claim, Claimed};
use pagemill::request::Effort;
use pagemill::setup::{ConfigError, MemoryRegion};
use pagemill::source::PageSource;
use pagemill::units::{CpuId, NodeId, PAGE_SHIFT, Pfn, PhysAddr};
use pagemill::validate::BookError;
use pagemill::{AllocPages, BulkRequest, Config, Gfp, Page, PageAllocator, Platform};
use thiserror::Error;

/// Spins before a thread that waits for a lock yields its CPU.
const SPINS_BEFORE_YIELD: u32 = 100;

/// How many calls of the reclaim callback in a row may leave no more free blocks than before, although
/// it returns a number above zero, until the request fails.
const MAX_NR_FRUITLESS: u32 = 256;

/// Up to this number of runs, a request gets the fewest possible. Each may cost a search of all blocks.
const MAX_NR_SEARCHED: u64 = 16;

/// An allocator of block numbers from zero on; the caller chooses what a block is.
///
/// It returns owned handles ([`Extent`]) of adjacent blocks and never touches what the numbers stand for.
/// A clone is another handle of the same allocator. Extents keep the allocator alive.
///
/// # Concurrency
/// Any thread may allocate and free. Requests for one run of adjacent blocks, and frees, proceed side by
/// side. A request that needs several runs waits until no other request runs. A request never fails because
/// of blocks that another request takes and returns.
///
/// A lock guards the blocks. A search releases it after at most 32 groups of 512 blocks.
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

/// The platform of block numbers: no memory, and one set of per-CPU lists, which stay empty.
///
/// Blocks in these lists would be missing in the zone, where runs of adjacent blocks are searched for.
#[derive(Debug)]
struct Numbers;

impl Platform for Numbers {
    fn nr_cpus(&self) -> u32 {
        1
    }

    fn pin(&self) -> CpuId {
        CpuId::new(0)
    }

    unsafe fn try_claim<'a>(&self, _claim: &'a Claim) -> Option<Claimed<'a>> {
        // All requests go to the zone, as if another thread used the lists.
        None
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

    /// Allocates exactly `nr` blocks in the fewest possible runs of adjacent blocks, longest first, if 16
    /// runs are enough.
    ///
    /// Returns one extent if a run of `nr` blocks is free, and an empty list for zero. If more than 16 runs
    /// are needed, it takes runs of any lengths, largest aligned pieces first, and joins pieces that are
    /// adjacent. Use [`fill`](Self::fill) for single blocks from any places.
    ///
    /// # Errors
    /// [`IndexError::Exhausted`]; nothing is allocated then.
    ///
    /// # Cost
    /// For `nr` up to 512, usually a look at no more than 20 groups of 512 blocks. If no run of `nr` blocks
    /// is free, up to 17 searches, each linear in the number of groups. If more than 16 runs are needed,
    /// usually two searches, and approximately 1,250 instructions for each run, allocated and freed
    /// ("Contiguous ranges" in BENCHMARKING.md).
    pub fn alloc(&self, nr: u64) -> Result<Vec<Extent>, IndexError> {
        self.retry(Need { nr, run: 1 }, || self.try_alloc(nr), |free| self.exhausted(nr, free))
    }

    /// Fills the empty slots with extents of one block each, from any places.
    ///
    /// Takes blocks from the groups that are already most used, which keeps long runs of free blocks for
    /// other requests. The numbers are in no particular order.
    ///
    /// # Errors
    /// [`IndexError::Exhausted`]; no slot is filled then.
    ///
    /// # Cost
    /// Does not search. Approximately 920 instructions for each block, allocated and freed ("Contiguous
    /// ranges" in BENCHMARKING.md).
    ///
    /// # Examples
    /// ```
    /// use pagemill_host::IndexAllocator;
    ///
    /// # fn main() -> Result<(), pagemill_host::index::IndexError> {
    /// let blocks = IndexAllocator::new(64)?;
    /// let mut table = [const { None }; 5];
    /// blocks.fill(&mut table)?;
    /// assert!(table.iter().all(|slot| slot.as_ref().is_some_and(|block| block.nr_blocks() == 1)));
    /// // Frees one of the blocks.
    /// table[3] = None;
    /// assert_eq!(blocks.nr_free(), 60);
    /// # Ok(())
    /// # }
    /// ```
    pub fn fill(&self, slots: &mut [Option<Extent>]) -> Result<(), IndexError> {
        let nr = slots.iter().filter(|slot| slot.is_none()).count();
        let need = Need { nr: nr as u64, run: 1 };
        let blocks =
            self.retry(need, || self.try_fill(nr), |free| self.exhausted(need.nr, free))?;
        let empty = slots.iter_mut().filter(|slot| slot.is_none());
        empty.zip(blocks).for_each(|(slot, block)| *slot = Some(block));
        Ok(())
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
        let request = ContigRequest { min: as_usize(min), ..ContigRequest::new(GFP, as_usize(nr)) };
        source.alloc_contig_with(&request).ok().map(Extent)
    }

    /// Takes a run of `nr` blocks while other requests do so, too; takes nothing if there is none.
    fn take_beside_others(&self, nr: u64) -> Option<Extent> {
        let _shared = self.0.requests.read().unwrap_or_else(PoisonError::into_inner);
        self.take(nr, nr)
    }

    /// Takes `nr` blocks while no other request takes any, if as many are free.
    fn take_alone<T>(&self, nr: u64, take: impl FnOnce() -> Option<T>) -> Option<T> {
        let _alone = self.0.requests.write().unwrap_or_else(PoisonError::into_inner);
        if self.nr_free() < nr { None } else { take() }
    }

    fn try_alloc_run(&self, nr: u64) -> Option<Extent> {
        let taken = self.take_beside_others(nr);
        taken.or_else(|| self.take_alone(nr, || self.take(nr, nr)))
    }

    fn try_alloc(&self, nr: u64) -> Option<Vec<Extent>> {
        if nr == 0 {
            return Some(Vec::new());
        }
        match self.take_beside_others(nr) {
            Some(extent) => Some(vec![extent]),
            None => self.take_alone(nr, || self.take_runs(nr)),
        }
    }

    /// Takes `nr` blocks: the longest runs first as long as [`MAX_NR_SEARCHED`] may be enough, pieces of
    /// any lengths otherwise.
    fn take_runs(&self, nr: u64) -> Option<Vec<Extent>> {
        let (mut extents, mut left, mut longest) = (Vec::new(), nr, nr);
        for nr_runs in (1..=MAX_NR_SEARCHED).rev() {
            if left == 0 || longest.saturating_mul(nr_runs) < left {
                break;
            }
            // A search for a length that there is often ends at once.
            let extent = self.take(1, left.min(longest))?;
            longest = extent.nr_blocks();
            left -= longest;
            extents.push(extent);
        }
        if left > 0 {
            extents.extend(self.take_pieces(left)?);
            extents.sort_by_key(|extent| Reverse(extent.nr_blocks()));
        }
        Some(extents)
    }

    /// Takes `nr` blocks in aligned pieces, the largest first, and joins those that are adjacent.
    fn take_pieces(&self, nr: u64) -> Option<Vec<Extent>> {
        let mut pieces = Vec::new();
        let take = |piece| pieces.push(FrameRange::from(piece));
        let outcome = Source(self.0.clone()).bulk_extents(&ALL, as_usize(nr), take);
        if outcome.short.is_some() {
            return None;
        }
        pieces.sort_unstable_by_key(FrameRange::pfn);
        let mut extents: Vec<Extent> = Vec::new();
        for piece in pieces {
            let piece = match extents.last_mut() {
                Some(last) => last.append(Extent(piece)),
                None => Err(Extent(piece)),
            };
            extents.extend(piece.err());
        }
        Some(extents)
    }

    fn try_fill(&self, nr: usize) -> Option<Vec<Extent>> {
        self.take_alone(nr as u64, || {
            let mut blocks = Vec::with_capacity(nr);
            let take = |block: Page<Source>| blocks.push(Extent(block.into()));
            let outcome = Source(self.0.clone()).bulk_each(&ALL, nr, take);
            outcome.short.is_none().then_some(blocks)
        })
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

/// Flags of all requests: the migrate type that all pageblocks begin with, so that none of them is passed
/// over in a first search.
const GFP: Gfp = Gfp::MOVABLE;

/// A bulk request, all or nothing.
const ALL: BulkRequest<'_> = BulkRequest { effort: Effort::AllOrNothing, ..BulkRequest::new(GFP) };

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

    /// Appends the blocks of `other` to this extent, if they come right behind its own.
    ///
    /// # Errors
    /// `other`, if its first block is not the one behind this extent's last, or if it is of another
    /// allocator. An extent without blocks is never refused, and one to which blocks are appended becomes
    /// `other`.
    pub fn append(&mut self, other: Self) -> Result<(), Self> {
        self.0.append(other.0).map_err(Self)
    }

    /// Splits the extent into extents of one block each.
    pub fn into_blocks(self) -> impl ExactSizeIterator<Item = Self> {
        self.0.into_pages().map(|page| Self(page.into()))
    }

    /// Makes a counted extent: the last of its clones frees the blocks.
    ///
    /// To free each block when its own last owner is dropped, take the extent apart first:
    /// [`into_blocks`](Self::into_blocks).
    #[must_use]
    pub fn share(self) -> SharedExtent {
        let blocks = self.blocks();
        SharedExtent { extent: Arc::new(self), blocks }
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

/// An [`Extent`] with several owners, or a [slice](Self::slice) of one.
///
/// The last owner that is dropped, of the extent or of any slice, frees all blocks of the extent.
#[derive(Clone)]
pub struct SharedExtent {
    extent: Arc<Extent>,
    /// All blocks of the extent, or those of the slice.
    blocks: Range<u64>,
}

impl SharedExtent {
    /// Returns the number of the first block.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.blocks.start
    }

    /// Returns the number of blocks.
    #[must_use]
    pub fn nr_blocks(&self) -> u64 {
        self.blocks.end - self.blocks.start
    }

    /// Returns the numbers of the blocks.
    #[must_use]
    pub fn blocks(&self) -> Range<u64> {
        self.blocks.clone()
    }

    /// Returns another owner, for a part of the blocks: those at positions `part`, counted from zero.
    ///
    /// It keeps all blocks of the extent in use, not only those of the part.
    ///
    /// # Panics
    /// If `part` ends before it starts or behind the last block.
    #[track_caller]
    #[must_use]
    pub fn slice(&self, part: Range<u64>) -> Self {
        let nr = self.nr_blocks();
        assert!(
            part.start <= part.end && part.end <= nr,
            "slice of blocks {} to {}: allowed are parts of 0 to {nr}",
            part.start,
            part.end
        );
        let blocks = self.start() + part.start..self.start() + part.end;
        Self { extent: self.extent.clone(), blocks }
    }

    /// Returns the number of owners, those of slices included. Other threads may change it at any time.
    #[must_use]
    pub fn nr_owners(&self) -> usize {
        Arc::strong_count(&self.extent)
    }

    /// Returns the whole extent, also for a slice, if this is its only owner.
    ///
    /// # Errors
    /// This owner, if there are others.
    pub fn try_unshare(self) -> Result<Extent, Self> {
        let Self { extent, blocks } = self;
        Arc::try_unwrap(extent).map_err(|extent| Self { extent, blocks })
    }
}

impl fmt::Debug for SharedExtent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedExtent({:?})", self.blocks())
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
