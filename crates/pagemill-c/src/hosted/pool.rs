//! Page pools of a process: creates, finds and destroys them; takes pages out and returns them.

use core::sync::atomic::Ordering;

use pagemill::handles::RawPage;
use pagemill::units::{PAGE_SIZE, Pfn};
use pagemill::{Order, Page, PageAllocator};
use pagemill_host::Host;
use pagemill_pool::dma::NoDma;
use pagemill_pool::{PagePool, PoolOwner, PoolPage, PoolParams, Returner};

use super::fail;
use super::handles::{Handles, NR_HANDLES, Refused};
use super::process::{Count, Hosted, Process, check_out, failed, hosted};
use crate::calls::{self, export};
use crate::error::Code;
use crate::types::{Handle, PageWord, PoolParamsView, PoolStatsView};

type Frames = &'static PageAllocator<Host>;
type Pages = PagePool<Page<Frames>>;
type PoolRef = &'static Pages;

#[expect(clippy::disallowed_types, reason = "not part of the core: loom has no business here")]
type UnsafeCell<T> = core::cell::UnsafeCell<T>;

/// A pool that C code created.
struct Pool {
    /// Made from a box by `create`; nothing refers to it once `owner` is dropped and no page is out.
    pages: PoolRef,
    /// The address of a variable of the thread that owns the pool.
    thread: Count,
    /// Used by that thread alone: `pool-owner`.
    owner: UnsafeCell<PoolOwner<PoolRef>>,
    allocator: &'static Hosted,
    /// Only if the allocator records the owners of its pages.
    pages_out: Option<PagesOut>,
}

/// The pages that are out of a pool: a bit for each frame of the allocator.
struct PagesOut {
    base: Pfn,
    words: Box<[Count]>,
}

impl PagesOut {
    fn new(frames: &PageAllocator<Host>) -> Self {
        let host = frames.platform();
        let nr_words = (host.memory().len_bytes() / PAGE_SIZE).div_ceil(usize::BITS as usize);
        let words = (0..nr_words).map(|_| Count::new(0)).collect();
        Self { base: host.base_pfn(), words }
    }

    /// Returns the word of a frame, and its bit in the word.
    fn bit(&self, pfn: Pfn) -> (&Count, usize) {
        let index =
            usize::try_from(pfn.value() - self.base.value()).expect("a frame of the memory");
        let bits = usize::BITS as usize;
        (&self.words[index / bits], 1 << (index % bits))
    }

    fn take_out(&self, pfn: Pfn) {
        let (word, bit) = self.bit(pfn);
        // Relaxed: the page is passed to the thread that returns it by other means.
        word.fetch_or(bit, Ordering::Relaxed);
    }

    /// Returns whether the page was out.
    fn put_back(&self, pfn: Pfn) -> bool {
        let (word, bit) = self.bit(pfn);
        // Relaxed: as in `take_out`.
        word.fetch_and(!bit, Ordering::Relaxed) & bit != 0
    }
}

/// `PagePool` would reduce a larger size to this, as Linux's page pool did.
const RING_SIZE_MAX: u32 = 16384;

static POOLS: Handles<Pool, 2> = Handles::new();

std::thread_local! {
    /// Its address tells a thread from all others that exist.
    static THREAD: u8 = const { 0 };
}

#[inline]
fn this_thread() -> usize {
    THREAD.with(|here| (&raw const *here).addr())
}

#[inline]
fn pool(call: &'static str, handle: Handle) -> &'static Pool {
    match POOLS.find(handle) {
        // SAFETY:
        // 1. The object exists: `handle-live`. It is not destroyed during the call: `c-arguments`.
        Some(pool) => unsafe { &*pool },
        None => no_pool(call, handle),
    }
}

/// Calls `body` with the owner of a pool, or ends the process if another thread owns it.
#[inline]
fn as_owner<R>(
    call: &'static str,
    pool: &Pool,
    body: impl FnOnce(&mut PoolOwner<PoolRef>) -> R,
) -> R {
    // Relaxed: equal only if this thread stored it, or another one that no longer exists; whoever passes a
    // pool to another thread orders the two by other means.
    if pool.thread.load(Ordering::Relaxed) != this_thread() {
        other_thread(call);
    }
    // SAFETY:
    // 1. Exclusive: only the owning thread comes here (`pool-owner`), and `body` calls no C code.
    body(unsafe { &mut *pool.owner.get() })
}

#[cold]
#[inline(never)]
fn other_thread(call: &str) -> ! {
    fail::misuse(
        call,
        format_args!(
            "another thread owns the pool; allowed is the thread that created it, or called \
             pagemill_pool_adopt last"
        ),
    )
}

#[cold]
#[inline(never)]
fn no_pool(call: &str, handle: Handle) -> ! {
    let why = match POOLS.refused(handle) {
        Refused::Null => "is null",
        Refused::Gone => "was destroyed",
        Refused::Unknown => "was not returned by pagemill_pool_create",
    };
    fail::misuse(
        call,
        format_args!(
            "pool {handle:p} {why}; allowed are handles of pagemill_pool_create until \
             pagemill_pool_destroy"
        ),
    )
}

/// # Safety
/// `params` is null or as for [`calls::read_struct`]; `out` is null or valid for writes.
unsafe fn create(
    call: &'static str,
    allocator: Handle,
    params: *const PoolParamsView,
    out: *mut Handle,
) -> i32 {
    let hosted = hosted(call, allocator);
    check_out(call, "pool", out);
    let mut wanted = PoolParams::new();
    if !params.is_null() {
        // SAFETY:
        // 1. Guaranteed by the caller.
        let view = unsafe { calls::read_struct::<Process, _>(call, "params", params) };
        calls::check_reserved::<Process>(call, "params", view.reserved);
        if view.ring_size > RING_SIZE_MAX {
            let given = view.ring_size;
            let what = format_args!("ring_size {given}: allowed are 0 to {RING_SIZE_MAX}");
            return failed(Code::CONFIG, &what).0;
        }
        wanted.pool_size = view.ring_size as usize;
        if view.refill != 0 {
            wanted.refill = view.refill as usize;
        }
        if view.gfp != 0 {
            wanted.gfp = calls::flags::<Process>(call, view.gfp);
        }
    }
    let pages = match Pages::new(&wanted, &hosted.frames, NoDma) {
        Ok(pages) => Box::into_raw(Box::new(pages)),
        Err(error) => return failed(Code::CONFIG, &error).0,
    };
    // SAFETY:
    // 1. Made from a box above. It is freed by `free`, after everything that refers to it.
    let shared: PoolRef = unsafe { &*pages };
    let owner = PoolOwner::claim(shared).expect("a new pool has no owner");
    // Relaxed: `destroy` of the allocator is ordered behind this call by the caller.
    hosted.nr_pools.fetch_add(1, Ordering::Relaxed);
    let (thread, owner) = (Count::new(this_thread()), UnsafeCell::new(owner));
    let pages_out = hosted.has_owners.then(|| PagesOut::new(&hosted.frames));
    let pool = Pool { pages: shared, thread, owner, allocator: hosted, pages_out };
    let object = Box::into_raw(Box::new(pool));
    let Some(handle) = POOLS.add(object) else {
        // SAFETY:
        // 1. Made from a box above, and not entered; no page is out.
        unsafe { free(object) };
        return failed(Code::CONFIG, &format_args!("{NR_HANDLES} pools exist: destroy one")).0;
    };
    // SAFETY:
    // 1. Aligned and not null: checked above. Valid for writes: guaranteed by the caller.
    unsafe { out.write(handle) };
    Code::OK.0
}

/// Frees a pool with all its pages.
///
/// # Safety
/// `create` made it, it is in no table, and none of its pages is out.
unsafe fn free(object: *mut Pool) {
    // SAFETY:
    // 1. Guaranteed by the caller.
    let pool = unsafe { Box::from_raw(object) };
    let Pool { pages, owner, allocator, .. } = *pool;
    drop(owner);
    let pages: *const Pages = pages;
    // SAFETY:
    // 1. Made from a box by `create`. The owner is gone, and the caller guarantees that no page is out.
    drop(unsafe { Box::from_raw(pages.cast_mut()) });
    // Release pairs with the Acquire in `destroy` of the allocator: the pool is gone before that.
    allocator.nr_pools.fetch_sub(1, Ordering::Release);
}

fn destroy(call: &'static str, handle: Handle) -> i32 {
    let pool = pool(call, handle);
    let is_forked = pagemill::Platform::is_abandoned(pool.allocator.frames.platform());
    if as_owner(call, pool, |owner| owner.nr_out()) != 0 && !is_forked {
        return Code::BUSY.0;
    }
    let Some(object) = POOLS.remove(handle) else { no_pool(call, handle) };
    // SAFETY:
    // 1. Made by `create`, and removed from the table. No page is out: checked above, by the owner. In a
    //    child of fork, the pages that are out are the parent's.
    unsafe { free(object) };
    Code::OK.0
}

fn adopt(call: &'static str, handle: Handle) {
    // Relaxed: the caller orders the calls of the owner before and of the one after.
    pool(call, handle).thread.store(this_thread(), Ordering::Relaxed);
}

#[inline]
fn take_out(pool: &Pool, page: PoolPage<PoolRef>) -> RawPage {
    let raw = page.into_block().into_raw();
    if let Some(out) = &pool.pages_out {
        out.take_out(raw.pfn());
    }
    raw
}

/// Makes a page of the pool of a word, or ends the process.
///
/// # Safety
/// The caller owns the page, which came from this pool.
#[inline]
unsafe fn page(call: &'static str, pool: &Pool, word: PageWord) -> PoolPage<PoolRef> {
    let frames: Frames = &pool.allocator.frames;
    let raw: RawPage = calls::block::<Process>(call, frames, word);
    if raw.order() != Order::ZERO {
        fail::misuse(
            call,
            format_args!("page {word:#x} is a block; allowed are pages of the pool"),
        );
    }
    if let Some(out) = &pool.pages_out
        && !out.put_back(raw.pfn())
    {
        fail::misuse(
            call,
            format_args!(
                "page {word:#x} is not out of the pool: it was returned already, or the pool did not \
                 allocate it; allowed are pages of the pool, each once"
            ),
        );
    }
    // SAFETY:
    // 1. The word names a page of the allocator: just checked. Only one owner is made of it: guaranteed by
    //    the caller.
    let page = unsafe { Page::from_raw(frames, raw) };
    PoolPage::from_block(page, pool.pages)
}

fn alloc(call: &'static str, handle: Handle) -> PageWord {
    let pool = pool(call, handle);
    as_owner(call, pool, |owner| {
        owner.alloc().map_or(0, |page| take_out(pool, page).to_bits().get())
    })
}

/// # Safety
/// As for [`calls::slots`].
unsafe fn alloc_bulk(call: &'static str, handle: Handle, nr: usize, pages: *mut PageWord) -> usize {
    let pool = pool(call, handle);
    // SAFETY:
    // 1. Guaranteed by the caller.
    let slots = unsafe { calls::slots::<Process>(call, nr, pages) };
    as_owner(call, pool, |owner| {
        for (at, slot) in slots.iter_mut().enumerate() {
            if slot.is_none() {
                let Some(page) = owner.alloc() else { return at };
                *slot = Some(take_out(pool, page));
            }
        }
        slots.len()
    })
}

/// # Safety
/// As for [`page`].
unsafe fn put(call: &'static str, handle: Handle, word: PageWord) {
    let pool = pool(call, handle);
    if word == 0 {
        return;
    }
    // SAFETY:
    // 1. Guaranteed by the caller.
    let page = unsafe { page(call, pool, word) };
    as_owner(call, pool, |owner| owner.put(page));
}

/// # Safety
/// As for [`calls::slots`] and, for each entry, [`page`].
unsafe fn put_bulk(call: &'static str, handle: Handle, nr: usize, pages: *mut PageWord) {
    let pool = pool(call, handle);
    // SAFETY:
    // 1. Guaranteed by the caller.
    let slots = unsafe { calls::slots::<Process>(call, nr, pages) };
    let taken = slots.iter_mut().filter_map(Option::take).map(|raw| {
        // SAFETY:
        // 1. Guaranteed by the caller.
        unsafe { page(call, pool, raw.to_bits().get()) }
    });
    Returner::new(pool.pages).put_bulk(taken);
}

/// # Safety
/// As for [`calls::write_struct`].
unsafe fn get_stats(call: &'static str, handle: Handle, stats: *mut PoolStatsView) {
    let (counters, nr_out) =
        as_owner(call, pool(call, handle), |owner| (owner.stats(), owner.nr_out()));
    let view = PoolStatsView {
        size: 0,
        alloc_fast: counters.alloc.fast,
        alloc_slow: counters.alloc.slow,
        alloc_empty: counters.alloc.empty,
        alloc_refill: counters.alloc.refill,
        recycle_cached: counters.recycle.cached,
        recycle_cache_full: counters.recycle.cache_full,
        recycle_ring: counters.recycle.ring,
        recycle_ring_full: counters.recycle.ring_full,
        nr_out: nr_out as u64,
    };
    // SAFETY:
    // 1. Guaranteed by the caller.
    unsafe { calls::write_struct::<Process, _>(call, "stats", stats, &view) };
}

export! { Process;
    fn pagemill_pool_create(
        allocator: Handle, params: *const PoolParamsView, out: *mut Handle,
    ) -> i32 = create;
    fn pagemill_pool_destroy(pool: Handle) -> i32 = destroy;
    fn pagemill_pool_adopt(pool: Handle) = adopt;
    fn pagemill_pool_alloc(pool: Handle) -> PageWord = alloc;
    fn pagemill_pool_alloc_bulk(pool: Handle, nr: usize, pages: *mut PageWord) -> usize = alloc_bulk;
    fn pagemill_pool_put(pool: Handle, page: PageWord) = put;
    fn pagemill_pool_return(pool: Handle, nr: usize, pages: *mut PageWord) = put_bulk;
    fn pagemill_pool_get_stats(pool: Handle, stats: *mut PoolStatsView) = get_stats;
}
