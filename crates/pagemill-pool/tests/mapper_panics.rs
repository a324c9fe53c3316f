//! A mapper that panics: no page goes back to the page allocator while it is mapped, and every page that
//! has not gone back is in flight.
#![cfg(not(loom))]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::collections::BTreeSet;
use core::cell::{Cell, RefCell};
use core::mem::ManuallyDrop;
use core::ops::Range;
use core::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use pagemill::units::{NodeId, Pfn};
use pagemill::{AllocPages, Gfp, Page};
use pagemill_pool::config::DmaParams;
use pagemill_pool::dma::{DmaAddr, DmaBlock, DmaDirection, DmaMapper};
use pagemill_pool::{PagePool, PoolFrags, PoolOwner, PoolPage, PoolParams, Returner};
use pagemill_testkit::{Frames, World};

/// A call of the mapper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Map,
    Unmap,
    Sync,
}

/// A mapper for one thread that knows which pages are mapped, and panics in one call.
#[derive(Debug, Default)]
struct Bomb {
    mapped: RefCell<BTreeSet<u64>>,
    /// Which call panics, and how many of its kind come before it.
    fuse: Cell<Option<(Call, usize)>>,
}

impl Bomb {
    fn light(&self, call: Call, after: usize) {
        self.fuse.set(Some((call, after)));
    }

    fn note(&self, call: Call) {
        match self.fuse.get() {
            Some((fatal, 0)) if fatal == call => {
                self.fuse.set(None);
                panic!("the mapper fails in {call:?}");
            }
            Some((fatal, after)) if fatal == call => self.fuse.set(Some((fatal, after - 1))),
            _ => {}
        }
    }

    fn is_mapped(&self, pfn: Pfn) -> bool {
        self.mapped.borrow().contains(&pfn.value())
    }
}

impl DmaMapper for Bomb {
    type Mapping = ();

    /// Panics after the page was mapped.
    fn map(&self, block: DmaBlock, _direction: DmaDirection) -> Option<()> {
        assert!(self.mapped.borrow_mut().insert(block.pfn.value()), "a mapped page was freed");
        self.note(Call::Map);
        Some(())
    }

    /// Panics before the page is unmapped.
    fn unmap(&self, block: DmaBlock, (): (), _direction: DmaDirection) {
        self.note(Call::Unmap);
        assert!(self.mapped.borrow_mut().remove(&block.pfn.value()), "it was mapped");
    }

    fn addr(&self, block: DmaBlock, (): ()) -> DmaAddr {
        DmaAddr::new(block.pfn.value())
    }

    fn sync_for_device(&self, block: DmaBlock, (): (), _bytes: Range<usize>) {
        assert!(self.is_mapped(block.pfn));
        self.note(Call::Sync);
    }
}

type Pool<'w> = PagePool<Page<Frames<'w>>, Bomb>;
type Owner<'p, 'w> = PoolOwner<&'p Pool<'w>>;
type Pages<'p, 'w> = Vec<PoolPage<&'p Pool<'w>>>;

fn params() -> PoolParams {
    let dma = DmaParams { sync_for_device: true, max_len: 4096, ..DmaParams::default() };
    PoolParams { dma, pool_size: 100, node: Some(NodeId::new(0)), ..PoolParams::new() }
}

fn take<'p, 'w>(owner: &mut Owner<'p, 'w>, nr: usize) -> Pages<'p, 'w> {
    let mut pages = Vec::new();
    assert_eq!(owner.alloc_bulk(nr, &mut pages), nr);
    pages
}

/// Every page that the allocator misses is mapped and in flight.
fn compare(world: &World, pool: &Pool<'_>, when: &str) {
    let nr_out = world.nr_out();
    assert_eq!(i64::from(pool.inflight()), nr_out.cast_signed(), "{when}");
    assert_eq!(pool.mapper().mapped.borrow().len() as u64, nr_out, "{when}");
}

/// Plays `step` with a mapper that panics in the call of kind `call` that follows `after` others, and
/// tells whether there was such a call.
fn explode(
    world: &World,
    call: Call,
    after: usize,
    step: impl for<'p, 'w> FnOnce(&mut Option<Owner<'p, 'w>>, Pages<'p, 'w>),
) -> bool {
    let pool = PagePool::new(&params(), &**world, Bomb::default()).expect("valid parameters");
    let mut owner = PoolOwner::claim(&pool);
    // 28 pages are in the cache, 60 in the ring, and 40 are out.
    let mut pages = take(owner.as_mut().expect("just claimed"), 100);
    pages.truncate(40);
    let when = format!("{call:?} after {after}");
    pool.mapper().light(call, after);
    let has_panicked = catch_unwind(AssertUnwindSafe(|| step(&mut owner, pages))).is_err();
    assert_eq!(pool.mapper().fuse.take().is_none(), has_panicked, "{when}");
    compare(world, &pool, &when);
    if let Some(mut owner) = owner {
        drop(take(&mut owner, 150));
        compare(world, &pool, &format!("{when}, used again"));
        let left = owner.shutdown().poll();
        assert_eq!(left.map_or(0, |left| left.inflight), pool.inflight(), "{when}");
    }
    compare(world, &pool, &format!("{when}, at the end"));
    let nr_leaked = 0..=if has_panicked { 64 } else { 0 };
    assert!(nr_leaked.contains(&pool.inflight()), "{when}: {} leaked", pool.inflight());
    has_panicked
}

/// Plays `step` once with a panic in each of the mapper's calls, and returns how many there are of
/// each kind.
fn explode_each(
    step: impl for<'p, 'w> Fn(&mut Option<Owner<'p, 'w>>, Pages<'p, 'w>),
) -> (usize, usize, usize) {
    let has_call = |call, after| {
        // Where pages are leaked, it would miss them.
        let world = ManuallyDrop::new(World::with_memory(1024, 1));
        let has_panicked = explode(&world, call, after, &step);
        if !has_panicked {
            drop(ManuallyDrop::into_inner(world));
        }
        has_panicked
    };
    let nr = |call| (0..).position(|after| !has_call(call, after)).expect("calls end");
    (nr(Call::Map), nr(Call::Unmap), nr(Call::Sync))
}

#[test]
#[cfg_attr(miri, ignore = "it leaks on purpose")]
fn a_refill_that_panics_frees_no_mapped_page() {
    let calls = explode_each(|owner, pages| {
        let owner = owner.as_mut().unwrap();
        // From the cache, from the ring, and then from the allocator.
        let more = take(owner, 28 + 60 + 1);
        drop((pages, more));
    });
    assert_eq!(calls, (64, 29, 64 + 28 + 60 + 1 + 40));
}

#[test]
#[cfg_attr(miri, ignore = "it leaks on purpose")]
fn returns_that_panic_free_no_mapped_page() {
    let calls = explode_each(|owner, mut pages| {
        let owner = owner.as_mut().unwrap();
        let returner = owner.returner();
        owner.put(pages.pop().unwrap());
        owner.put_used(pages.pop().unwrap(), 100);
        drop(pages.pop());
        owner.put_bulk(pages.drain(..5));
        // Where it is known how many there are, and where it is not.
        returner.put_bulk(pages.drain(..10));
        returner.put_bulk(pages.drain(..10).filter(|_| true));
        returner.release_bulk(pages.drain(..5));
        drop(pages.pop().map(PoolPage::detach));
        let shared = pages.pop().unwrap().share();
        let other = shared.page().clone();
        drop(shared);
        drop(other);
        drop(pages.pop().unwrap().share());
    });
    assert_eq!(calls, (0, 7, 2 + 1 + 5 + 20 + 1 + 4));
}

#[test]
#[cfg_attr(miri, ignore = "it leaks on purpose")]
fn pieces_that_panic_free_no_mapped_page() {
    let calls = explode_each(|owner, pages| {
        drop(pages);
        let owner = owner.as_mut().unwrap();
        let mut frags = PoolFrags::new();
        drop(frags.alloc(owner, 3000));
        let one = frags.alloc(owner, 3000).unwrap();
        let two = frags.alloc(owner, 3000).unwrap();
        owner.put_frag(one);
        drop((two, frags));
    });
    // The ring is full by then.
    assert_eq!(calls, (0, 1, 40 + 3));
}

/// The ring is emptied also where the mapper panics for a page of the cache, or of the ring.
#[test]
#[cfg_attr(miri, ignore = "it leaks on purpose")]
fn an_end_that_panics_frees_no_mapped_page_and_ends() {
    let calls = explode_each(|owner, pages| {
        drop(pages);
        drop(owner.take());
    });
    assert_eq!(calls, (0, 128, 40));
    let calls = explode_each(|owner, pages| {
        drop(owner.take());
        // Back after the end.
        drop(pages);
    });
    assert_eq!(calls, (0, 128, 0));
    let calls = explode_each(|owner, pages| {
        owner.as_mut().unwrap().set_node(None);
        drop(pages);
    });
    assert_eq!(calls, (0, 28, 40));
}

/// The ledger has room for 64 pages of the reserve.
#[test]
#[cfg_attr(miri, ignore = "it leaks on purpose, and takes every page of a world")]
fn a_page_of_the_reserve_that_is_leaked_leaves_no_entry_in_the_ledger() {
    // Never dropped: it would miss the leaked pages.
    let world: &'static World = Box::leak(Box::new(World::with_memory(8192, 1)));
    let params = PoolParams { gfp: Gfp::ATOMIC | Gfp::MEMALLOC, refill: 1, ..params() };
    let pool = PagePool::new(&params, &**world, Bomb::default()).unwrap();
    let mut owner = PoolOwner::claim(&pool).unwrap();
    let hog: Vec<_> = core::iter::from_fn(|| world.alloc_page(Gfp::ATOMIC)).collect();
    for nr_leaked in 1..=65 {
        pool.mapper().light(Call::Map, 0);
        assert!(catch_unwind(AssertUnwindSafe(|| owner.alloc().is_some())).is_err());
        assert_eq!(pool.inflight(), nr_leaked);
    }
    let page = owner.alloc().expect("the reserve has more, and the ledger room");
    drop((page, hog));
    assert_eq!((pool.inflight(), pool.stats().recycle.released_refcnt), (65, 1));
}

#[test]
fn pages_of_a_batch_return_if_the_iterator_that_yields_them_panics() {
    let world = World::with_memory(1024, 1);
    let pool = PagePool::new(&params(), &*world, Bomb::default()).unwrap();
    let mut owner = PoolOwner::claim(&pool).unwrap();
    let returner = owner.returner();
    let puts: [fn(&Returner<_>, &mut dyn Iterator<Item = _>); 2] =
        [|to, pages| to.put_bulk(pages), |to, pages| to.release_bulk(pages)];
    for put in puts {
        let nr_before = owner.nr_out();
        let mut pages = take(&mut owner, 10).into_iter();
        let mut at_most_five = core::iter::from_fn(|| {
            assert!(pages.len() > 5, "no more pages");
            pages.next()
        });
        let put = AssertUnwindSafe(|| put(&returner, &mut at_most_five));
        assert!(catch_unwind(put).is_err());
        assert_eq!(owner.nr_out(), nr_before + 5);
        compare(&world, &pool, "after the panic");
    }
}
