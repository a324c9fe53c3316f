//! What a pool promises, one test each; those about a bug that Linux shipped name its number in the
//! list of `crates/pagemill/tests/upstream`.
#![cfg(not(loom))]
#![forbid(unsafe_code)]

extern crate alloc;

#[expect(dead_code, reason = "other tests use the rest")]
mod common;

use alloc::sync::Arc;
use core::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Mutex;

use common::world;
use pagemill::machine::DirectMap;
use pagemill::units::NodeId;
use pagemill::{AllocPages, Folio, Gfp, Order, Page};
use pagemill_pool::config::DmaParams;
use pagemill_pool::dma::{ArenaOffsets, FaultyMapper, NoDma};
use pagemill_pool::providers::MemoryProvider;
use pagemill_pool::sources::Tracked;
use pagemill_pool::{PagePool, PoolError, PoolOwner, PoolPage, PoolParams};
use pagemill_testkit::{Frames, SharedWorld, World};

fn pool(world: &World) -> PagePool<Page<Frames<'_>>> {
    PagePool::new(&PoolParams::new(), &**world, NoDma).expect("valid parameters")
}

fn offsets() -> FaultyMapper<ArenaOffsets> {
    FaultyMapper::new(ArenaOffsets::new(World::BASE))
}

/// Pages that C code keeps as blocks stay in flight, and are recycled when they come back.
#[test]
fn a_page_that_left_as_a_block_comes_back_to_its_pool() {
    let world = world();
    let pool = pool(&world);
    let mut owner = PoolOwner::claim(&pool).unwrap();
    let (one, two) = (owner.alloc().unwrap().into_block(), owner.alloc().unwrap().into_block());
    assert_eq!((owner.nr_out(), pool.inflight()), (2, 64));
    let pfn = one.pfn();
    owner.put(PoolPage::from_block(one, &pool));
    drop(PoolPage::from_block(two, &pool));
    assert_eq!((owner.nr_out(), pool.inflight()), (0, 64));
    assert_eq!((owner.stats().recycle.cached, owner.stats().recycle.ring), (1, 1));
    assert_eq!(owner.alloc().map(|page| page.pfn()), Some(pfn));
    assert!(owner.shutdown().is_complete());
}

/// 2.24: the refill ran although the cache was not empty, and overflowed it.
#[test]
fn the_cache_is_refilled_only_when_it_is_empty_and_never_overflows() {
    let world = world();
    let pool = pool(&world);
    let mut owner = PoolOwner::claim(&pool).unwrap();
    let first = owner.alloc().unwrap();
    assert_eq!(owner.nr_cached(), 63, "64 came, one is out");
    let mut pages = Vec::from([first]);
    owner.alloc_bulk(200, &mut pages);
    let in_ring = pages.split_off(80);
    let nr_in_ring = in_ring.len();
    owner.returner().put_bulk(in_ring);
    owner.put_bulk(pages);
    let full = owner.nr_cached();
    assert!(full > 100 && full <= 128);
    // The ring has pages, but the cache is emptied first.
    let mut pages = Vec::new();
    owner.alloc_bulk(full, &mut pages);
    assert_eq!((owner.nr_cached(), owner.stats().alloc.refill), (0, 0));
    pages.extend(owner.alloc());
    assert_eq!((owner.nr_cached(), owner.stats().alloc.refill), (63, 1));
    owner.alloc_bulk(200, &mut pages);
    owner.put_bulk(pages);
    assert_eq!(owner.nr_cached(), 128, "full to the last place");
    assert!(owner.stats().recycle.cache_full > 0);
    assert!(nr_in_ring > 64);
}

/// 2.23: an error path freed more, or less, than it had got.
#[test]
fn a_page_that_cannot_be_mapped_is_freed_and_only_that_one() {
    let world = world();
    let pool = PagePool::new(&PoolParams::new(), &*world, offsets()).unwrap();
    let mut owner = PoolOwner::claim(&pool).unwrap();
    pool.mapper().fail(0b1011);
    let page = owner.alloc().unwrap();
    assert_eq!((owner.nr_cached(), pool.inflight(), pool.mapper().nr_mapped()), (60, 61, 61));
    assert_eq!(owner.stats().alloc.slow, 1);
    assert_eq!(world.nr_out(), 61);
    let mut rest = Vec::new();
    owner.alloc_bulk(60, &mut rest);
    pool.mapper().fail(u64::MAX);
    assert!(owner.alloc().is_none(), "pages came, but none could be mapped");
    assert_eq!((owner.stats().alloc.slow, pool.inflight(), world.nr_out()), (1, 61, 61));
    drop((page, rest));
}

/// A partial result of the bulk allocator is taken as it is.
#[test]
#[cfg_attr(miri, ignore = "takes minutes: it takes every page of a world")]
fn a_refill_takes_what_the_allocator_can_spare() {
    let world = world();
    let mut hog: Vec<_> = core::iter::from_fn(|| world.alloc_page(Gfp::KERNEL)).collect();
    hog.truncate(hog.len() - 100);
    let pool = pool(&world);
    let mut owner = PoolOwner::claim(&pool).unwrap();
    let mut pages = Vec::new();
    let got = owner.alloc_bulk(10_000, &mut pages);
    assert!((100..400).contains(&got), "{got}");
    assert_eq!(owner.stats().alloc.fast + owner.stats().alloc.slow, got as u64);
    assert!(owner.alloc().is_none());
    world.fail_all(true);
    assert!(owner.alloc().is_none());
    world.fail_all(false);
}

/// 2.10: with accounts, a bulk call returns one page at a time; the pool continues with that.
#[test]
fn a_refill_of_one_serves_one() {
    let world = world();
    let params = PoolParams { refill: 1, ..PoolParams::new() };
    let pool = PagePool::new(&params, &*world, NoDma).unwrap();
    let mut owner = PoolOwner::claim(&pool).unwrap();
    let pages: Vec<_> = (0..5).map(|_| owner.alloc().unwrap()).collect();
    assert_eq!((owner.stats().alloc.slow, owner.nr_cached(), pool.inflight()), (5, 0, 5));
    drop(pages);
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes: it takes every page of a world")]
fn pages_from_the_reserve_are_not_recycled() {
    let world = world();
    let gfp = Gfp::ATOMIC | Gfp::MEMALLOC;
    let pool = PagePool::new(&PoolParams { gfp, ..PoolParams::new() }, &*world, NoDma).unwrap();
    let mut owner = PoolOwner::claim(&pool).unwrap();
    let mut hog: Vec<_> = core::iter::from_fn(|| world.alloc_page(Gfp::ATOMIC)).collect();
    let mut pages = Vec::new();
    let ordinary = owner.alloc_bulk(300, &mut pages);
    assert!(ordinary < 300, "no more than 64 may come from the reserve");
    // The last ones came one by one, and go straight back.
    let last = pages.split_off(pages.len() - 20);
    for (nr, page) in last.into_iter().enumerate() {
        match nr % 3 {
            0 => owner.put(page),
            1 => drop(page),
            _ => owner.returner().put_bulk([page]),
        }
    }
    let stats = owner.stats();
    assert_eq!(stats.recycle.released_refcnt, 20);
    assert_eq!((stats.recycle.cached, stats.recycle.ring, owner.nr_cached()), (0, 0, 0));
    drop(pages);
    hog.clear();
    // Once all of them are back, pages are recycled as ever.
    let page = owner.alloc().unwrap();
    owner.put(page);
    assert_eq!(owner.stats().recycle.cached, 1);
    assert!(owner.shutdown().is_complete());
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes: it takes every page of a world")]
fn a_pool_whose_pages_may_not_come_from_the_reserve_gets_none() {
    let world = world();
    let pool = pool(&world);
    let mut owner = PoolOwner::claim(&pool).unwrap();
    let hog: Vec<_> = core::iter::from_fn(|| world.alloc_page(Gfp::ATOMIC)).collect();
    assert!(owner.alloc().is_none());
    drop(hog);
}

#[test]
fn pages_of_another_node_are_given_up_one_each_refill() {
    let world = world();
    let params = PoolParams { node: Some(NodeId::new(0)), ..PoolParams::new() };
    let pool = PagePool::new(&params, &*world, NoDma).unwrap();
    let mut owner = PoolOwner::claim(&pool).unwrap();
    let mut pages = Vec::new();
    owner.alloc_bulk(3, &mut pages);
    assert!(pages.iter().all(|page| page.node() == NodeId::new(0)));
    owner.returner().put_bulk(pages);
    owner.set_node(Some(NodeId::new(1)));
    assert_eq!((owner.nr_cached(), pool.inflight()), (0, 3), "the cache is given up");
    for waived in 1..=3 {
        let page = owner.alloc().unwrap();
        assert_eq!(page.node(), NodeId::new(1));
        let mut rest = Vec::new();
        owner.alloc_bulk(63, &mut rest);
        assert_eq!(owner.stats().alloc.waive, waived);
        drop((page.detach(), rest.into_iter().map(PoolPage::detach).collect::<Vec<_>>()));
    }
    assert_eq!(owner.stats().alloc.refill, 0);
}

/// Linux looks at the node of pages from the ring alone, and keeps those that come back directly.
#[test]
fn pages_of_another_node_are_not_recycled_by_any_way_back() {
    let world = world();
    let params = PoolParams { node: Some(NodeId::new(0)), ..PoolParams::new() };
    let pool = PagePool::new(&params, &*world, NoDma).unwrap();
    let mut owner = PoolOwner::claim(&pool).unwrap();
    let mut pages = Vec::new();
    owner.alloc_bulk(4, &mut pages);
    owner.put(pages.pop().unwrap());
    assert_eq!((owner.stats().recycle.cached, owner.stats().alloc.waive), (1, 0));
    owner.set_node(Some(NodeId::new(1)));
    owner.put(pages.pop().unwrap());
    owner.put_bulk(pages);
    assert_eq!((owner.stats().recycle.cached, owner.stats().alloc.waive), (1, 3));
    assert_eq!((owner.nr_cached(), pool.inflight()), (0, 0));
    let page = owner.alloc().unwrap();
    owner.put(page);
    assert_eq!((owner.stats().recycle.cached, owner.stats().alloc.waive), (2, 3));
    // Back on the first node, whose pages are welcome again.
    owner.set_node(Some(NodeId::new(0)));
    let page = owner.alloc().unwrap();
    owner.put(page);
    assert_eq!(owner.stats().recycle.cached, 3);
}

/// Where the pool's node has too few pages, the allocator helps out with those of another.
#[test]
fn pages_of_a_fallback_node_are_given_up() {
    let world = world();
    let node = Some(NodeId::new(0));
    let params = PoolParams { node, refill: 1, ..PoolParams::new() };
    let pool = PagePool::new(&params, &*world, NoDma).unwrap();
    let mut owner = PoolOwner::claim(&pool).unwrap();
    let own = owner.alloc().unwrap();
    let all = || world.alloc_page_node(NodeId::new(0), Gfp::KERNEL | Gfp::THISNODE);
    let hog: Vec<_> = core::iter::from_fn(all).collect();
    let other = owner.alloc().unwrap();
    assert_eq!([own.node(), other.node()], [0, 1].map(NodeId::new));
    owner.put(other);
    owner.put(own);
    assert_eq!((owner.stats().alloc.waive, owner.nr_cached()), (1, 1));
    drop(hog);
}

#[test]
fn a_shared_page_is_recycled_only_by_its_last_owner() {
    let world = world();
    let pool = pool(&world);
    let mut owner = PoolOwner::claim(&pool).unwrap();
    let alone = owner.alloc().unwrap().share();
    let held = owner.alloc().unwrap().share();
    let share = held.page().clone();
    let inflight = pool.inflight();
    drop(alone);
    drop(held);
    let stats = owner.stats();
    assert_eq!((stats.recycle.ring, stats.recycle.released_refcnt), (1, 1));
    assert_eq!(pool.inflight(), inflight - 1);
    assert_eq!(share.nr_owners(), 1, "the page is the other owner's now");
}

#[test]
fn folios_come_one_by_one_and_are_recycled() {
    let world = world();
    let order = Order::new(2).unwrap();
    let params = PoolParams { order, ..PoolParams::new() };
    assert_eq!(
        PagePool::<Page<_>>::new(&params, &*world, NoDma).unwrap_err(),
        PoolError::Order { order }
    );
    let pool = PagePool::of_folios(&params, &*world, offsets()).unwrap();
    let mut owner = PoolOwner::claim(&pool).unwrap();
    let mut one = owner.alloc().unwrap();
    let two = owner.alloc().unwrap();
    one.as_bytes_mut().fill(7);
    assert_eq!((one.as_bytes().len(), one.order()), (16384, order));
    owner.put(one);
    drop(two);
    let (one, two) = (owner.alloc().unwrap(), owner.alloc().unwrap());
    let alloc = owner.stats().alloc;
    assert_eq!((alloc.slow_high_order, alloc.slow, alloc.fast, alloc.refill), (2, 0, 1, 1));
    assert_eq!((pool.inflight(), pool.mapper().nr_mapped()), (2, 2));
    pool.mapper().fail(1);
    assert!(owner.alloc().is_none(), "one that cannot be mapped is none");
    drop((one, two));
    let single: PagePool<Folio<Frames<'_>>, _> =
        PagePool::of_folios(&PoolParams::new(), &*world, NoDma).unwrap();
    let mut owner = PoolOwner::claim(&single).unwrap();
    assert_eq!(owner.alloc().unwrap().order(), Order::ZERO);
}

#[test]
fn a_device_knows_pages_by_their_offset_and_gets_their_bytes_back() {
    let world = world();
    let dma = DmaParams { sync_for_device: true, offset: 256, max_len: 1500, ..Default::default() };
    let params = PoolParams { dma, ..PoolParams::new() };
    let pool = PagePool::new(&params, &*world, offsets()).unwrap();
    let mut owner = PoolOwner::claim(&pool).unwrap();
    let page = owner.alloc().unwrap();
    let mapped = pool.mapper().bytes_for_device();
    assert_eq!(mapped, 64 * 1500, "each page as it is mapped");
    let base = world.platform().frame_ptr(World::BASE).addr().get();
    let offset = page.as_bytes().as_ptr().addr() - base;
    assert_eq!(page.dma_addr().value(), (offset + 256) as u64);
    page.sync_for_cpu(0..60);
    assert_eq!(pool.mapper().bytes_for_cpu(), 60);
    owner.put_used(page, 100);
    assert_eq!(pool.mapper().bytes_for_device(), mapped + 100);
    drop(owner.alloc().unwrap());
    assert_eq!(pool.mapper().bytes_for_device(), mapped + 100 + 1500);
}

#[test]
#[should_panic(expected = "bytes 0..4096 to the CPU: the device has 0..3840 of a page")]
fn bytes_that_a_page_has_not_are_not_handed_to_the_cpu() {
    let world = world();
    let dma = DmaParams { offset: 256, ..Default::default() };
    let pool = PagePool::new(&PoolParams { dma, ..PoolParams::new() }, &*world, NoDma).unwrap();
    let page = PoolOwner::claim(&pool).unwrap().alloc().unwrap();
    page.sync_for_cpu(0..3840);
    page.sync_for_cpu(0..4096);
}

#[test]
fn a_page_of_another_pool_returns_to_its_own() {
    let world = world();
    let (one, two) = (pool(&world), pool(&world));
    let mut first = PoolOwner::claim(&one).unwrap();
    let mut second = PoolOwner::claim(&two).unwrap();
    let mut pages = Vec::new();
    first.alloc_bulk(4, &mut pages);
    let cached = second.nr_cached();
    second.put(pages.pop().unwrap());
    second.put_bulk(pages.drain(..2));
    second.returner().put_bulk(pages);
    assert_eq!((second.nr_cached(), second.stats().recycle.ring), (cached, 0));
    assert_eq!(first.stats().recycle.ring, 4);
    assert_eq!((one.inflight(), two.inflight()), (64, 0));
}

#[test]
fn a_pool_has_one_owner() {
    let world = world();
    let pool = pool(&world);
    let owner = PoolOwner::claim(&pool).unwrap();
    assert!(PoolOwner::claim(&pool).is_none());
    drop(owner);
    assert!(PoolOwner::claim(&pool).is_none(), "it has ended");
}

#[test]
fn a_shutdown_tells_who_has_the_pages_it_waits_for() {
    let world = world();
    let pool = Arc::new(pool(&world));
    let mut owner = PoolOwner::claim(Tracked(Arc::clone(&pool))).unwrap();
    let (one, line) = (owner.alloc().unwrap(), line!());
    let mut two = Vec::new();
    owner.alloc_bulk(2, &mut two);
    let third = owner.alloc().unwrap();
    owner.put(third);
    let mut draining = owner.shutdown();
    let out = draining.poll().unwrap();
    assert_eq!(out.inflight, 3);
    let sites: Vec<_> = out.holders.iter().map(|holder| holder.nr_pages).collect();
    assert_eq!(sites, [2, 1]);
    assert_eq!((out.holders[1].site.file(), out.holders[1].site.line()), (file!(), line));
    let text = out.to_string();
    assert!(text.starts_with("3 pages of the pool are still out: 2 taken at"), "{text}");
    let gave_up = draining.wait(|_| false).unwrap_err();
    assert_eq!(gave_up.inflight, 3);
    // The pages return although no thread waits for them.
    drop((one, two));
    assert_eq!((pool.inflight(), pool.holders().len()), (0, 0));
}

#[test]
fn a_shutdown_waits_for_pages_on_other_threads() {
    let world = world();
    let pool = pool(&world);
    let mut owner = PoolOwner::claim(&pool).unwrap();
    let mut pages = Vec::new();
    owner.alloc_bulk(100, &mut pages);
    std::thread::scope(|scope| {
        let (tell, told) = std::sync::mpsc::channel();
        let holder = scope.spawn(move || {
            while told.recv().is_ok() {
                drop(pages.pop());
            }
            assert!(pages.is_empty());
        });
        let mut last = 101;
        let pause = |out: &pagemill_pool::shutdown::Outstanding| {
            assert!(out.inflight <= last);
            if out.inflight < last {
                last = out.inflight;
                tell.send(()).unwrap();
            }
            std::thread::yield_now();
            true
        };
        owner.shutdown().wait(pause).unwrap();
        drop(tell);
        holder.join().unwrap();
    });
    assert_eq!(world.nr_out(), 0);
}

/// Lends pages that it has taken from the allocator long before.
#[derive(Clone)]
struct Lender {
    pages: Arc<Mutex<Vec<Page<SharedWorld>>>>,
    /// Whether pages that come back are kept.
    keeps: bool,
}

impl MemoryProvider<Page<SharedWorld>> for Lender {
    fn alloc(&self, nr: usize, take: &mut dyn FnMut(Page<SharedWorld>)) {
        let mut pages = self.pages.lock().expect("no test panicked");
        let from = pages.len().saturating_sub(nr);
        pages.drain(from..).for_each(take);
    }

    fn release(&self, page: Page<SharedWorld>) -> Option<Page<SharedWorld>> {
        if !self.keeps {
            return Some(page);
        }
        self.pages.lock().expect("no test panicked").push(page);
        None
    }
}

/// Has a page only for who asks twice.
struct Moody {
    nr_asked: Arc<Mutex<u32>>,
    page: Mutex<Option<Page<SharedWorld>>>,
}

impl MemoryProvider<Page<SharedWorld>> for Moody {
    fn alloc(&self, _nr: usize, take: &mut dyn FnMut(Page<SharedWorld>)) {
        let mut nr_asked = self.nr_asked.lock().expect("no test panicked");
        *nr_asked += 1;
        if *nr_asked > 1 {
            self.page.lock().expect("no test panicked").take().map(take);
        }
    }

    fn release(&self, page: Page<SharedWorld>) -> Option<Page<SharedWorld>> {
        Some(page)
    }
}

#[test]
fn memory_can_come_from_elsewhere() {
    let frames = SharedWorld::new(world());
    let nr_free = frames.nr_free_pages();
    let mapper = || FaultyMapper::new(ArenaOffsets::new(World::BASE));
    let dma = DmaParams { sync_for_device: true, max_len: 4096, ..Default::default() };
    let params = PoolParams { dma, ..PoolParams::new() };
    for keeps in [true, false] {
        let pages = (0..100).map(|_| frames.clone().alloc_page(Gfp::KERNEL).unwrap()).collect();
        let lender = Lender { pages: Arc::new(Mutex::new(pages)), keeps };
        let provider = Box::new(lender.clone());
        let pool = PagePool::with_provider(&params, frames.clone(), mapper(), provider).unwrap();
        let mut owner = PoolOwner::claim(&pool).unwrap();
        let mut out = Vec::new();
        assert_eq!(owner.alloc_bulk(200, &mut out), 100, "it has no more");
        assert_eq!((owner.stats().alloc.slow, pool.inflight()), (2, 100));
        drop(out);
        assert!(owner.shutdown().is_complete());
        let left = lender.pages.lock().unwrap().len();
        assert_eq!(left, if keeps { 100 } else { 0 });
    }
    // A provider is asked once, whatever the pool may take from the page allocator's reserve.
    let page = frames.clone().alloc_page(Gfp::KERNEL);
    let moody = Moody { nr_asked: Arc::default(), page: Mutex::new(page) };
    let nr_asked = Arc::clone(&moody.nr_asked);
    let params = PoolParams { gfp: Gfp::ATOMIC | Gfp::MEMALLOC, ..params };
    let pool = PagePool::with_provider(&params, frames.clone(), mapper(), Box::new(moody)).unwrap();
    let mut owner = PoolOwner::claim(&pool).unwrap();
    assert!(owner.alloc().is_none());
    assert_eq!(*nr_asked.lock().unwrap(), 1);
    let page = owner.alloc().expect("it has one the second time");
    owner.put(page);
    assert_eq!(owner.nr_cached(), 1, "recycled like any other");
    assert!(owner.shutdown().is_complete());
    drop(pool);
    frames.drain_all_pages();
    assert_eq!(frames.nr_free_pages(), nr_free);
    let lender = Lender { pages: Arc::default(), keeps: true };
    let provider = Box::new(lender);
    let refused = PagePool::with_provider(&PoolParams::new(), frames, mapper(), provider);
    assert_eq!(refused.unwrap_err(), PoolError::ProviderWithoutDma);
}

/// Lends two pages, and panics.
struct Failing(Lender);

impl MemoryProvider<Page<SharedWorld>> for Failing {
    fn alloc(&self, _nr: usize, take: &mut dyn FnMut(Page<SharedWorld>)) {
        self.0.alloc(2, take);
        panic!("the provider fails");
    }

    fn release(&self, page: Page<SharedWorld>) -> Option<Page<SharedWorld>> {
        self.0.release(page)
    }
}

#[test]
fn pages_of_a_provider_that_panics_return_to_it() {
    let frames = SharedWorld::new(world());
    let mapper = FaultyMapper::new(ArenaOffsets::new(World::BASE));
    let dma = DmaParams { sync_for_device: true, max_len: 4096, ..Default::default() };
    let params = PoolParams { dma, ..PoolParams::new() };
    let pages = (0..10).map(|_| frames.clone().alloc_page(Gfp::KERNEL).unwrap()).collect();
    let lender = Lender { pages: Arc::new(Mutex::new(pages)), keeps: true };
    let nr_lent = || 10 - lender.pages.lock().unwrap().len();
    let provider = Box::new(Failing(lender.clone()));
    let pool = PagePool::with_provider(&params, frames, mapper, provider).unwrap();
    let mut owner = PoolOwner::claim(&pool).unwrap();
    for _ in 0..2 {
        let result = catch_unwind(AssertUnwindSafe(|| owner.alloc().is_some()));
        assert!(result.is_err());
        assert_eq!((nr_lent(), pool.inflight()), (0, 0));
    }
    drop(owner);
    assert_eq!(nr_lent(), 0);
}

#[test]
fn who_may_do_what_is_said_by_types() {
    fn is_send<T: Send>() {}
    fn is_shared<T: Send + Sync + Clone>() {}
    type Pool = PagePool<Page<Frames<'static>>>;
    is_send::<PoolOwner<&'static Pool>>();
    is_send::<PoolPage<&'static Pool>>();
    is_send::<PoolPage<Arc<Pool>>>();
    is_send::<pagemill_pool::PoolFrag<&'static Pool>>();
    is_shared::<pagemill_pool::Returner<&'static Pool>>();
    is_shared::<pagemill_pool::Returner<Arc<Pool>>>();
}

type Packet<'p, 'w> = PoolPage<&'p PagePool<Page<Frames<'w>>, FaultyMapper<ArenaOffsets>>>;

#[test]
fn threads_return_pages_while_the_owner_takes_them_and_none_is_lost() {
    let world = World::with_memory(16_384, 1);
    let params = PoolParams { pool_size: 256, ..PoolParams::new() };
    let pool = PagePool::new(&params, &*world, offsets()).unwrap();
    let mut owner = PoolOwner::claim(&pool).unwrap();
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..3)
            .map(|kind| {
                let (send, receive) = std::sync::mpsc::sync_channel::<Vec<Packet<'_, '_>>>(4);
                let returner = owner.returner();
                scope.spawn(move || {
                    for (mut pages, turn) in receive.iter().zip((kind..255_u8).cycle()) {
                        for page in &mut pages {
                            page.as_bytes_mut()[0] = turn;
                        }
                        match turn % 3 {
                            0 => pages.clear(),
                            1 => returner.put_bulk(pages),
                            _ => drop(pages.into_iter().map(PoolPage::detach)),
                        }
                    }
                });
                send
            })
            .collect();
        for round in 0..if cfg!(miri) { 20 } else { 2_000 } {
            let mut pages = Vec::new();
            owner.alloc_bulk(1 + round % 100, &mut pages);
            pages.truncate(pages.len() - round % 2);
            if let Some(page) = pages.pop() {
                owner.put(page);
            }
            senders[round % 3].send(pages).unwrap();
        }
    });
    let stats = owner.stats();
    assert!(cfg!(miri) || stats.recycle.ring > 0 && stats.alloc.refill > 0);
    owner.shutdown().wait(|out| panic!("{out}")).unwrap();
    assert_eq!((pool.inflight(), pool.mapper().nr_mapped()), (0, 0));
}
