//! `Slabs`: the table that says of each frame which cache it belongs to.

use core::fmt;
use core::ptr::NonNull;

use pagemill::contig::{ContigError, FrameRange};
use pagemill::machine::DirectMap;
use pagemill::source::PageSource;
use pagemill::units::{PAGE_SHIFT, PAGE_SIZE, Pfn};
#[cfg(not(loom))]
use pagemill::{AllocPages, Gfp};

use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::tag::{CacheId, Kind, Tag};

/// The frames of an allocator, as object caches see them.
///
/// All caches and heaps of an allocator are made from one `Slabs`. Its table has 16 bytes for each frame
/// between the first and the last of the memory map, holes included. It leads from the address of an object
/// to the slab and the cache: slabs have no headers, so 16 objects of 256 bytes fill a page.
///
/// # Examples
/// ```
/// use pagemill_slab::{Cache, CacheConfig, Slabs};
///
/// # let frames = pagemill_host::HostAllocator::new(64 << 20)?;
/// let slabs = Slabs::new(&*frames)?;
/// let cache = Cache::new(&slabs, &CacheConfig::new("inode", 600, 8))?;
/// let inode = cache.alloc(pagemill::Gfp::KERNEL).expect("there is memory");
/// // The object is from this cache, and not used again.
/// unsafe { cache.free(inode) };
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Slabs<S: PageSource> {
    /// `frame-table`: points to one entry for each of `nr` frames, in `memory`; initialised, and accessed
    /// only by atomic operations until this is dropped.
    entries: NonNull<Entry>,
    nr: usize,
    first: Pfn,
    /// Address of the first frame's first byte.
    base: usize,
    nr_caches: AtomicU32,
    source: S,
    _memory: TableMemory<S>,
}

/// What is known of one frame.
#[repr(C, align(16))]
struct Entry {
    /// The frame's [`Tag`].
    tag: AtomicU64,
    /// The neighbours of a slab in its list, or the number of pages of a large object.
    links: AtomicU64,
}

#[cfg(not(loom))]
type TableMemory<S> = FrameRange<S>;
#[cfg(loom)]
type TableMemory<S> = (std::boxed::Box<[Entry]>, core::marker::PhantomData<FrameRange<S>>);

// SAFETY: 1. the entries are atomic (`frame-table`), and everything else may be shared if `S` may.
unsafe impl<S: PageSource + Sync> Sync for Slabs<S> where FrameRange<S>: Sync {}
// SAFETY: 1. the memory of the table is owned, and may be freed by any thread if that of `S` may.
unsafe impl<S: PageSource + Send> Send for Slabs<S> where FrameRange<S>: Send {}

/// The index of a frame in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame(u32);

/// Why there is no table.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum SlabsError {
    /// From the first frame to the last, there are more frames than the table can number.
    TooManyFrames {
        /// Their number.
        nr: u64,
        /// The most that is allowed.
        max: u64,
    },
    /// There is no room for the table: it takes one page for every 256 frames, all adjacent.
    NoMemory(ContigError),
}

impl fmt::Display for SlabsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyFrames { nr, max } => write!(
                f,
                "the memory map spans {nr} frames, and a table of slabs at most {max}: divide it between \
                 allocators"
            ),
            Self::NoMemory(error) => write!(f, "no memory for the table of slabs: {error}"),
        }
    }
}

impl core::error::Error for SlabsError {}

/// Most frames that a table has: an index and one that means "none" fit into half a word of links.
const MAX_NR_FRAMES: u64 = u32::MAX as u64;

impl<S: PageSource<Platform: DirectMap>> Slabs<S> {
    /// Makes the table for the frames of an allocator, in pages of that allocator.
    ///
    /// # Errors
    /// If the memory map is too large or no pages are free for the table. Nothing stays allocated then.
    ///
    /// # Cost
    /// Writes the table: one page for every 256 frames.
    pub fn new(source: S) -> Result<Self, SlabsError> {
        let zones = || source.allocator().zone_info();
        let first = zones().map(|zone| zone.start_pfn).min().unwrap_or(0);
        let end = zones().map(|zone| zone.start_pfn + zone.spanned).max().unwrap_or(0);
        let nr = end.saturating_sub(first);
        if nr > MAX_NR_FRAMES {
            return Err(SlabsError::TooManyFrames { nr, max: MAX_NR_FRAMES });
        }
        let first = Pfn::new(first);
        let nr = usize::try_from(nr).unwrap_or(usize::MAX);
        let (entries, memory) = table_memory(&source, nr).map_err(SlabsError::NoMemory)?;
        let base = source.allocator().platform().frame_ptr(first).addr().get();
        Ok(Self { entries, nr, first, base, nr_caches: AtomicU32::new(0), source, _memory: memory })
    }

    /// Returns how pages are allocated.
    #[inline]
    pub fn source(&self) -> &S {
        &self.source
    }

    #[inline]
    pub(crate) fn platform(&self) -> &S::Platform {
        self.source.allocator().platform()
    }

    /// Returns the first number of `nr` new caches; `None` if there were too many.
    pub(crate) fn new_ids(&self, nr: u32) -> Option<CacheId> {
        let next = |nr_before: u32| CacheId::first_of(nr, nr_before).map(|_| nr_before + nr);
        // Relaxed: only uniqueness matters.
        let (order, on_error) = (Ordering::Relaxed, Ordering::Relaxed);
        CacheId::first_of(nr, self.nr_caches.fetch_update(order, on_error, next).ok()?)
    }

    /// Returns the frame that holds `address`, if it is one of the allocator's.
    #[inline]
    pub(crate) fn frame_of(&self, address: usize) -> Option<Frame> {
        let index = address.wrapping_sub(self.base) >> PAGE_SHIFT;
        #[expect(clippy::cast_possible_truncation, reason = "below MAX_NR_FRAMES")]
        (index < self.nr).then_some(Frame(index as u32))
    }

    /// Returns the frame with this number.
    ///
    /// # Panics
    /// If its bytes are not as far from those of the first frame as their numbers are: the table finds
    /// frames by their addresses.
    pub(crate) fn frame(&self, pfn: Pfn) -> Frame {
        let address = self.platform().frame_ptr(pfn).addr().get();
        match self.frame_of(address) {
            Some(frame) if self.pfn(frame) == pfn && address & (PAGE_SIZE - 1) == 0 => frame,
            _ => panic!(
                "frame {pfn} is at {address:#x}: slabs need a linear direct map, in which frame {} is at \
                 {:#x}",
                self.first, self.base
            ),
        }
    }

    /// Returns the number of a frame.
    #[inline]
    pub(crate) fn pfn(&self, frame: Frame) -> Pfn {
        self.first.offset(u64::from(frame.0))
    }

    /// Returns the address of a frame's first byte.
    #[inline]
    pub(crate) fn start(&self, frame: Frame) -> NonNull<u8> {
        self.platform().frame_ptr(self.pfn(frame))
    }

    /// Returns a pointer to an object that is good for all of the object's slab. The user's may be good for a
    /// part of the object only: that of a `Box` is for the bytes of its value.
    ///
    /// `slab-exposed`: the provenance of each slab's bytes was exposed when the slab was made.
    #[inline]
    pub(crate) fn object(&self, object: NonNull<u8>) -> NonNull<u8> {
        let address = object.addr();
        // Miri checks strict provenance, under which exposed pointers cannot be used.
        if cfg!(miri) {
            let Some(frame) = self.frame_of(address.get()) else { return object };
            let in_page = address.get() & (PAGE_SIZE - 1);
            return self.start(frame).map_addr(|start| start.saturating_add(in_page));
        }
        NonNull::with_exposed_provenance(address)
    }

    /// Exposes the provenance of a block's bytes, for [`object`](Self::object).
    pub(crate) fn expose(&self, frame: Frame) {
        if !cfg!(miri) {
            self.start(frame).expose_provenance();
        }
    }

    /// Returns what a frame is.
    #[inline]
    pub(crate) fn tag(&self, frame: Frame) -> Tag {
        // Relaxed: a user that has an object also sees what was written before it was handed out, and the
        // state in the upper half is read under the cache's lock.
        Tag::from_bits(self.entry(frame).tag.load(Ordering::Relaxed))
    }

    /// Writes what a frame is; the caller owns it, or holds the lock of its cache.
    #[inline]
    pub(crate) fn set_tag(&self, frame: Frame, tag: Tag) {
        // Relaxed: as in `tag`.
        self.entry(frame).tag.store(tag.to_bits(), Ordering::Relaxed);
    }

    /// Returns the second word of a frame.
    #[inline]
    pub(crate) fn links(&self, frame: Frame) -> u64 {
        // Relaxed: as in `tag`.
        self.entry(frame).links.load(Ordering::Relaxed)
    }

    /// Writes the second word of a frame, as [`set_tag`](Self::set_tag) does the first.
    #[inline]
    pub(crate) fn set_links(&self, frame: Frame, links: u64) {
        // Relaxed: as in `tag`.
        self.entry(frame).links.store(links, Ordering::Relaxed);
    }

    /// Returns the first frame of the slab that `frame` is part of.
    pub(crate) fn head_of(&self, frame: Frame) -> Frame {
        match self.tag(frame).kind() {
            Kind::Tail(_, distance) => Frame(frame.0.saturating_sub(distance)),
            _ => frame,
        }
    }

    #[inline]
    fn entry(&self, frame: Frame) -> &Entry {
        let index = frame.0 as usize;
        assert!(index < self.nr, "a frame of the table");
        // SAFETY: 1. in bounds: checked. 2. one object: `frame-table`.
        let entry = unsafe { self.entries.add(index) };
        // SAFETY: 1. initialised, and not written except by atomic operations: `frame-table`. 2. alive: the
        // table is dropped with `self`.
        unsafe { entry.as_ref() }
    }
}

impl Frame {
    /// The index as half a word of links; zero means none.
    #[inline]
    pub(crate) fn to_link(frame: Option<Self>) -> u64 {
        frame.map_or(0, |frame| u64::from(frame.0) + 1)
    }

    /// The opposite of [`to_link`](Self::to_link).
    #[inline]
    pub(crate) fn from_link(link: u64) -> Option<Self> {
        #[expect(clippy::cast_possible_truncation, reason = "made from 32 bits")]
        link.checked_sub(1).map(|index| Self(index as u32))
    }

    /// Returns the frame `distance` behind this one.
    #[inline]
    pub(crate) fn behind(self, distance: u32) -> Self {
        Self(self.0 + distance)
    }
}

/// Allocates the table: zeroes, which are entries of frames that no cache has.
#[cfg(not(loom))]
fn table_memory<S: PageSource<Platform: DirectMap>>(
    source: &S,
    nr: usize,
) -> Result<(NonNull<Entry>, TableMemory<S>), ContigError> {
    let nr_pages = (nr * size_of::<Entry>()).div_ceil(PAGE_SIZE).max(1);
    let memory = source.clone().alloc_contig(Gfp::KERNEL, nr_pages, 1, None)?;
    let entries = source.allocator().platform().frame_ptr(memory.pfn()).cast::<Entry>();
    // Not by `Gfp::ZERO`: `zero_pages` is a method of a safe trait.
    // SAFETY: 1. valid for writes, aligned: adjacent frames (`DirectMap`), large enough. 2. exclusive:
    // `memory` owns them. 3. zeroes are valid entries.
    unsafe { entries.write_bytes(0, nr) };
    Ok((entries, memory))
}

#[cfg(loom)]
fn table_memory<S: PageSource<Platform: DirectMap>>(
    _source: &S,
    nr: usize,
) -> Result<(NonNull<Entry>, TableMemory<S>), ContigError> {
    let entry = |_| Entry { tag: AtomicU64::new(0), links: AtomicU64::new(0) };
    let mut entries: std::boxed::Box<[Entry]> = (0..nr).map(entry).collect();
    Ok((NonNull::from(&mut *entries).cast(), (entries, core::marker::PhantomData)))
}

impl<S: PageSource> fmt::Debug for Slabs<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slabs")
            .field("first", &self.first)
            .field("nr_frames", &self.nr)
            .finish_non_exhaustive()
    }
}
