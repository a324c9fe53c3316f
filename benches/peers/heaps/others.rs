//! Heaps for one thread, over memory of their own: those of kernels, without a lock around them, and the limit.

use core::alloc::Layout;
use core::ptr::NonNull;

use anyhow::ensure;
use pagemill_host::ArenaConfig;
use pagemill_host::arena::Arena;
use talc::DefaultBinning;
use talc::base::Talc;
use talc::source::Manual;

use crate::heap::TestHeap;

/// Maps memory that stays mapped.
fn memory(len_bytes: u64) -> anyhow::Result<NonNull<[u8]>> {
    let arena = Box::leak(Box::new(Arena::map(&ArenaConfig::new(len_bytes))?));
    Ok(NonNull::slice_from_raw_parts(arena.base(), arena.len_bytes()))
}

/// Lists of free objects for each multiple of 8 bytes, linked through the objects, and nothing else: no check,
/// no page returns.
#[derive(Debug)]
pub(crate) struct Limit {
    /// `limit-free`: each leads to objects that are not in use and hold the next link.
    lists: [Option<NonNull<Link>>; NR_LISTS],
    fresh: NonNull<[u8]>,
}

type Link = Option<NonNull<u8>>;

/// Objects of up to 512 bytes.
const NR_LISTS: usize = 512 / 8 + 1;

impl Limit {
    /// Makes lists over `len_bytes`.
    ///
    /// # Errors
    /// The error of mapping the memory.
    pub(crate) fn new(len_bytes: u64) -> anyhow::Result<Self> {
        Ok(Self { lists: [None; NR_LISTS], fresh: memory(len_bytes)? })
    }

    fn list_of(layout: Layout) -> usize {
        layout.size().div_ceil(8)
    }

    #[cold]
    #[inline(never)]
    fn take_fresh(&mut self, list: usize) -> Option<NonNull<u8>> {
        let (start, left) = (self.fresh.cast::<u8>(), self.fresh.len());
        let size = list * 8;
        let left = left.checked_sub(size)?;
        // SAFETY: 1. in the memory: `size` is not above what was left.
        let next = unsafe { start.add(size) };
        self.fresh = NonNull::slice_from_raw_parts(next, left);
        Some(start)
    }
}

impl TestHeap for Limit {
    #[inline]
    unsafe fn alloc(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        let list = Self::list_of(layout);
        let Some(object) = self.lists.get(list).copied().flatten() else {
            return self.take_fresh(list);
        };
        // SAFETY: 1. initialised, used by nothing else: `limit-free`.
        let next = unsafe { object.read() };
        self.lists[list] = next.map(NonNull::cast);
        Some(object.cast())
    }

    #[inline]
    unsafe fn free(&mut self, object: NonNull<u8>, layout: Layout) {
        let link = object.cast::<Link>();
        let Some(list) = self.lists.get_mut(Self::list_of(layout)) else { return };
        // SAFETY: 1. at least 8 bytes, aligned to 8, since sizes are rounded up to 8; given up: the caller's
        // obligation.
        unsafe { link.write(list.map(NonNull::cast)) };
        *list = Some(link);
    }
}

/// talc, without a lock.
#[derive(Debug)]
pub(crate) struct TalcHeap(Talc<Manual, DefaultBinning>);

impl TalcHeap {
    /// Makes a heap of `len_bytes`.
    ///
    /// # Errors
    /// If the memory cannot be mapped, or is refused.
    pub(crate) fn new(len_bytes: u64) -> anyhow::Result<Self> {
        let memory = memory(len_bytes)?;
        let mut talc = Talc::new(Manual);
        // SAFETY: 1. readable, writable, used by nothing else, mapped for good: `memory`.
        let heap = unsafe { talc.claim(memory.cast::<u8>().as_ptr(), memory.len()) };
        ensure!(heap.is_some(), "talc refuses a heap of {len_bytes} bytes");
        Ok(Self(talc))
    }
}

impl TestHeap for TalcHeap {
    #[inline]
    unsafe fn alloc(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        // SAFETY: 1. the size is not zero: the caller's obligation.
        unsafe { self.0.allocate(layout) }
    }

    #[inline]
    unsafe fn free(&mut self, object: NonNull<u8>, layout: Layout) {
        // SAFETY: 1. from this heap with this layout, not used again: the caller's obligation.
        unsafe { self.0.deallocate(object.as_ptr(), layout) };
    }
}

/// rlsf: two-level segregated fit, without a lock.
#[derive(Debug)]
pub(crate) struct RlsfHeap(rlsf::Tlsf<'static, u32, u32, 24, 32>);

impl RlsfHeap {
    /// Makes a heap of `len_bytes`.
    ///
    /// # Errors
    /// If the memory cannot be mapped, or is refused.
    pub(crate) fn new(len_bytes: u64) -> anyhow::Result<Self> {
        let mut tlsf = rlsf::Tlsf::new();
        // SAFETY: 1. readable, writable, used by nothing else, mapped for good: `memory`.
        let inserted = unsafe { tlsf.insert_free_block_ptr(memory(len_bytes)?) };
        ensure!(inserted.is_some(), "rlsf refuses a heap of {len_bytes} bytes");
        Ok(Self(tlsf))
    }
}

impl TestHeap for RlsfHeap {
    #[inline]
    unsafe fn alloc(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        self.0.allocate(layout)
    }

    #[inline]
    unsafe fn free(&mut self, object: NonNull<u8>, layout: Layout) {
        // SAFETY: 1. from this heap with this alignment, not used again: the caller's obligation.
        unsafe { self.0.deallocate(object, layout.align()) };
    }
}

/// `linked_list_allocator`, without a lock.
pub(crate) struct LinkedList(linked_list_allocator::Heap);

impl LinkedList {
    /// Makes a heap of `len_bytes`.
    ///
    /// # Errors
    /// The error of mapping the memory.
    pub(crate) fn new(len_bytes: u64) -> anyhow::Result<Self> {
        let memory = memory(len_bytes)?;
        let mut heap = linked_list_allocator::Heap::empty();
        // SAFETY: 1. readable, writable, used by nothing else, mapped for good: `memory`. The heap is empty.
        unsafe { heap.init(memory.cast::<u8>().as_ptr(), memory.len()) };
        Ok(Self(heap))
    }
}

impl TestHeap for LinkedList {
    #[inline]
    unsafe fn alloc(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        self.0.allocate_first_fit(layout).ok()
    }

    #[inline]
    unsafe fn free(&mut self, object: NonNull<u8>, layout: Layout) {
        // SAFETY: 1. from this heap with this layout, not used again: the caller's obligation.
        unsafe { self.0.deallocate(object, layout) };
    }
}
