//! What a pool notes about its pages, on every way that a page can take: which bytes the device was
//! given, who has the page, whether it came from the reserve.
#![cfg(not(loom))]
#![forbid(unsafe_code)]

extern crate alloc;

#[expect(dead_code, reason = "other tests use the rest")]
mod common;

use common::world;
use pagemill::{AllocPages, Gfp, Page};
use pagemill_pool::config::DmaParams;
use pagemill_pool::dma::{ArenaOffsets, FaultyMapper};
use pagemill_pool::sources::Tracked;
use pagemill_pool::{PagePool, PoolFrags, PoolOwner, PoolPage, PoolParams, PoolRef};
use pagemill_testkit::{Frames, World};

type Pool<'w> = PagePool<Page<Frames<'w>>, FaultyMapper<ArenaOffsets>>;

/// Bytes of a page that the device uses.
const USED: u64 = 1000;

fn pool(world: &World, params: PoolParams) -> Pool<'_> {
    let dma = DmaParams { sync_for_device: true, max_len: 1000, ..Default::default() };
    let mapper = FaultyMapper::new(ArenaOffsets::new(World::BASE));
    PagePool::new(&PoolParams { dma, ..params }, &**world, mapper).expect("valid parameters")
}

fn take<R: PoolRef>(owner: &mut PoolOwner<R>, nr: usize) -> Vec<PoolPage<R>> {
    let mut pages = Vec::new();
    assert_eq!(owner.alloc_bulk(nr, &mut pages), nr);
    pages
}

/// Hides how many there are, so that they are collected before places in the ring are claimed.
fn uncounted<T>(pages: Vec<T>) -> impl Iterator<Item = T> {
    pages.into_iter().filter(|_| true)
}

/// A way back into the pool, and how many pages it is for.
type Way<R> = (&'static str, usize, fn(&mut PoolOwner<R>, Vec<PoolPage<R>>));

/// Ways on which each page is recycled.
fn ways_back<'w, R>() -> [Way<R>; 9]
where
    R: PoolRef<Block = Page<Frames<'w>>>,
{
    [
        ("put", 1, |owner, pages| pages.into_iter().for_each(|page| owner.put(page))),
        ("drop", 1, |_, pages| drop(pages)),
        ("returner", 1, |owner, pages| {
            pages.into_iter().for_each(|page| owner.returner().put(page));
        }),
        ("one by the batch", 1, |owner, pages| owner.returner().put_bulk(pages)),
        ("a batch", 64, |owner, pages| owner.returner().put_bulk(pages)),
        ("two batches", 100, |owner, pages| owner.returner().put_bulk(pages)),
        ("uncounted batches", 100, |owner, pages| owner.returner().put_bulk(uncounted(pages))),
        ("more than the cache holds", 200, |owner, pages| owner.put_bulk(pages)),
        ("the last share", 1, |_, pages| {
            pages.into_iter().for_each(|page| {
                let shared = page.share();
                drop(shared.page().clone());
                drop(shared);
            });
        }),
    ]
}

/// Takes a way, and compares the bytes that the device was given with those it has to be given.
fn check_sync<'w, R>(
    pool: &Pool<'w>,
    mut owner: PoolOwner<R>,
    ways: impl IntoIterator<Item = Way<R>>,
) where
    R: PoolRef<Block = Page<Frames<'w>>, Mapper = FaultyMapper<ArenaOffsets>>,
{
    for (name, nr, way) in ways {
        let pages = take(&mut owner, nr);
        let before = pool.mapper().bytes_for_device();
        way(&mut owner, pages);
        let given = pool.mapper().bytes_for_device() - before;
        assert_eq!(given, nr as u64 * USED, "{name}: {nr} pages");
        assert_eq!(pool.inflight(), i32::try_from(pool.mapper().nr_mapped()).expect("few"));
    }
    assert!(owner.shutdown().is_complete());
}

#[test]
fn each_page_that_returns_is_given_to_the_device_again() {
    let world = world();
    let pool = pool(&world, PoolParams::new());
    check_sync(&pool, PoolOwner::claim(&pool).expect("the pool has no owner yet"), ways_back());
}

#[test]
fn each_page_that_returns_to_a_tracked_pool_is_given_to_the_device_again() {
    let world = world();
    let pool = pool(&world, PoolParams::new());
    let owner = PoolOwner::claim(Tracked(&pool)).expect("the pool has no owner yet");
    check_sync(&pool, owner, ways_back());
}

#[test]
fn pieces_are_given_to_the_device_again_with_their_page() {
    let world = world();
    let pool = pool(&world, PoolParams::new());
    let mut owner = PoolOwner::claim(&pool).expect("the pool has no owner yet");
    for is_direct in [false, true] {
        let mut frags = PoolFrags::new();
        let piece = frags.alloc(&mut owner, 100).expect("there is memory");
        drop(frags);
        let before = pool.mapper().bytes_for_device();
        if is_direct {
            owner.put_frag(piece);
        } else {
            drop(piece);
        }
        assert_eq!(pool.mapper().bytes_for_device(), before + USED);
    }
}

#[test]
fn a_page_of_which_little_was_used_is_given_to_the_device_in_part() {
    let world = world();
    let pool = pool(&world, PoolParams::new());
    let mut owner = PoolOwner::claim(&pool).expect("the pool has no owner yet");
    for (used, given) in [(0, 0), (60, 60), (1000, 1000), (5000, 1000)] {
        let page = take(&mut owner, 1).pop().expect("one");
        let before = pool.mapper().bytes_for_device();
        owner.put_used(page, used);
        assert_eq!(pool.mapper().bytes_for_device(), before + given);
    }
}

#[test]
fn a_page_that_left_the_pool_has_no_holder() {
    let world = world();
    // Room for two in the ring, so that most of a batch leaves the pool.
    let params = PoolParams { pool_size: 2, ..PoolParams::new() };
    let pool = pool(&world, params);
    let mut owner = PoolOwner::claim(Tracked(&pool)).expect("the pool has no owner yet");
    for (name, nr, way) in ways_back() {
        let pages = take(&mut owner, nr);
        assert_eq!(pool.holders().iter().map(|holder| holder.nr_pages).sum::<usize>(), nr);
        way(&mut owner, pages);
        assert!(pool.holders().is_empty(), "{name}: {:?}", pool.holders());
    }
    let ways_out: [Way<Tracked<&Pool<'_>>>; 4] = [
        ("release", 70, |owner, pages| owner.returner().release_bulk(pages)),
        ("detach", 3, |_, pages| {
            drop(pages.into_iter().map(PoolPage::detach).collect::<Vec<_>>());
        }),
        ("a share that others have", 1, |_, pages| {
            pages.into_iter().for_each(|page| {
                let shared = page.share();
                let other = shared.page().clone();
                drop(shared);
                drop(other);
            });
        }),
        ("pieces", 1, |owner, pages| {
            drop(pages);
            let piece = PoolFrags::new().alloc(owner, 10).expect("there is memory");
            drop(piece);
        }),
    ];
    for (name, nr, way) in ways_out {
        let pages = take(&mut owner, nr);
        way(&mut owner, pages);
        assert!(pool.holders().is_empty(), "{name}: {:?}", pool.holders());
    }
    assert!(owner.shutdown().is_complete());
}

/// Parameters of a pool that may have pages from the reserve.
fn reserved() -> PoolParams {
    PoolParams { gfp: Gfp::ATOMIC | Gfp::MEMALLOC, ..PoolParams::new() }
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes: it takes every page of a world")]
fn a_page_from_the_reserve_that_cannot_be_mapped_leaves_no_entry() {
    let world = world();
    let pool = pool(&world, reserved());
    let mut owner = PoolOwner::claim(&pool).expect("the pool has no owner yet");
    let mut hog: Vec<_> = core::iter::from_fn(|| world.alloc_page(Gfp::ATOMIC)).collect();
    for _ in 0..10 {
        pool.mapper().fail(u64::MAX);
        assert!(owner.alloc().is_none());
        // The page went to the CPU's list, from which every request may take it.
        hog.extend(core::iter::from_fn(|| world.alloc_page(Gfp::ATOMIC)));
    }
    pool.mapper().fail(0);
    let mut pages: Vec<_> = core::iter::from_fn(|| owner.alloc()).collect();
    let nr = pages.len();
    assert!(nr > 0, "the reserve is empty");
    assert_eq!(pool.inflight(), i32::try_from(nr).expect("at most 64"));
    pages.clear();
    hog.clear();
    assert_eq!(owner.stats().recycle.released_refcnt, nr as u64);
    // No page that comes now is taken for one of the reserve; the last that were freed come first.
    pages.extend(take(&mut owner, 128));
    owner.put_bulk(pages);
    let recycle = owner.stats().recycle;
    assert_eq!((recycle.released_refcnt, recycle.cached), (nr as u64, 128));
    assert!(owner.shutdown().is_complete());
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes: it takes every page of a world")]
fn a_page_from_the_reserve_is_forgotten_whichever_way_it_leaves() {
    for index in 0..5 {
        leaves_and_comes_again(index);
    }
}

fn leaves_and_comes_again(index: usize) {
    let world = world();
    let pool = pool(&world, reserved());
    let mut owner = PoolOwner::claim(&pool).expect("the pool has no owner yet");
    let ways: [Way<&Pool<'_>>; 5] = [
        ("detach", 1, |_, pages| {
            drop(pages.into_iter().map(PoolPage::detach).collect::<Vec<_>>());
        }),
        ("release", 1, |owner, pages| owner.returner().release_bulk(pages)),
        ("put", 1, |owner, pages| owner.put_bulk(pages)),
        ("uncounted", 1, |owner, pages| owner.returner().put_bulk(uncounted(pages))),
        ("a share that others have", 1, |_, pages| {
            pages.into_iter().for_each(|page| {
                let shared = page.share();
                let other = shared.page().clone();
                drop(shared);
                drop(other);
            });
        }),
    ];
    let (name, nr, way) = ways[index];
    let mut hog: Vec<_> = core::iter::from_fn(|| world.alloc_page(Gfp::ATOMIC)).collect();
    let pages = take(&mut owner, nr);
    way(&mut owner, pages);
    hog.clear();
    let released = owner.stats().recycle.released_refcnt;
    // The same frames come again, and are ordinary ones.
    let pages = take(&mut owner, 128);
    owner.put_bulk(pages);
    let recycle = owner.stats().recycle;
    assert_eq!((recycle.released_refcnt, owner.nr_cached()), (released, 128), "{name}");
    assert!(owner.shutdown().is_complete());
}
