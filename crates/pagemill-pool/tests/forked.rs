//! A child of `fork` with a copy of a pool: nothing that it does reaches its parent's device or allocator.
#![cfg(not(loom))]
#![forbid(unsafe_code)]

use pagemill::units::NodeId;
use pagemill::{AllocPages, Gfp, Page, Platform};
use pagemill_pool::config::DmaParams;
use pagemill_pool::dma::{ArenaOffsets, FaultyMapper};
use pagemill_pool::providers::MemoryProvider;
use pagemill_pool::sources::Tracked;
use pagemill_pool::{PagePool, PoolFrags, PoolOwner, PoolPage, PoolParams, PoolRef};
use pagemill_testkit::{Frames, World};

type Mapper = FaultyMapper<ArenaOffsets>;
type Pool<'w> = PagePool<Page<Frames<'w>>, Mapper>;

fn params() -> PoolParams {
    let dma = DmaParams { sync_for_device: true, max_len: 4096, ..DmaParams::default() };
    PoolParams { dma, pool_size: 50, ..PoolParams::new() }
}

fn pool(world: &World) -> Pool<'_> {
    let mapper = FaultyMapper::new(ArenaOffsets::new(World::BASE));
    PagePool::new(&params(), &**world, mapper).expect("valid parameters")
}

/// Returns all that the mapper was asked for.
fn calls(mapper: &Mapper) -> [u64; 3] {
    [mapper.nr_mapped(), mapper.bytes_for_device(), mapper.bytes_for_cpu()]
}

/// Does as a child all that can be done with a pool, through `R`.
fn try_everything<'p, 'w: 'p, R>(world: &World, pool: &'p Pool<'w>, by: R)
where
    R: PoolRef<Block = Page<Frames<'w>>, Mapper = Mapper>,
{
    let mut owner = PoolOwner::claim(by).expect("it has no owner yet");
    let returner = owner.returner();
    // 28 pages are in the cache, 40 in the ring, and 60 are out.
    let mut pages = Vec::new();
    assert_eq!(owner.alloc_bulk(100, &mut pages), 100);
    pages.truncate(60);
    let mut frags = PoolFrags::new();
    let pieces: Vec<_> = (0..3).map(|_| frags.alloc(&mut owner, 1500).expect("memory")).collect();
    let before = (calls(pool.mapper()), pool.inflight(), world.nr_out());

    world.platform().abandon();
    let cached: Vec<_> = core::iter::from_fn(|| owner.alloc()).collect();
    assert_eq!(cached.len(), 26, "neither the ring nor the allocator is asked");
    drop(cached);
    assert!(frags.alloc(&mut owner, 3000).is_none());
    drop((pieces, frags));
    pages[0].sync_for_cpu(0..100);
    // More than the ring has room for.
    drop(pages.split_off(20));
    owner.put(pages.pop().expect("twenty"));
    owner.put_bulk(pages.drain(..2));
    returner.put_bulk(pages.drain(..2));
    returner.release_bulk(pages.drain(..2));
    let shared = pages.pop().expect("many").share();
    let other = shared.page().clone();
    drop(shared);
    owner.set_node(Some(NodeId::new(0)));
    assert_eq!(owner.nr_cached(), 0);
    assert_eq!(pool.holders(), []);
    let left = owner.shutdown().wait(|_| panic!("no page comes back to a child"));
    assert_eq!(left.map_err(|left| left.inflight), Err(before.1));
    drop(pages);
    assert_eq!((calls(pool.mapper()), pool.inflight(), world.nr_out()), before);
    drop(other);
}

#[test]
#[cfg_attr(miri, ignore = "it leaks on purpose")]
fn a_child_reaches_neither_the_device_nor_the_allocator() {
    for is_tracked in [false, true] {
        // Never dropped: it misses the pages that a child leaves alone.
        let world: &'static World = Box::leak(Box::new(World::with_memory(1024, 1)));
        let pool = pool(world);
        if is_tracked {
            try_everything(world, &pool, Tracked(&pool));
        } else {
            try_everything(world, &pool, &pool);
        }
        let before = calls(pool.mapper());
        assert_ne!(before[0], 0);
        drop(pool);
    }
}

#[test]
#[cfg_attr(miri, ignore = "it leaks on purpose")]
fn a_page_that_a_child_detaches_stays_mapped() {
    let world: &'static World = Box::leak(Box::new(World::with_memory(1024, 1)));
    let pool = pool(world);
    let page =
        PoolOwner::claim(&pool).and_then(|mut owner| owner.alloc()).expect("there is memory");
    world.platform().abandon();
    let before = calls(pool.mapper());
    drop(PoolPage::detach(page));
    assert_eq!(calls(pool.mapper()), before);
}

/// Lends pages of the allocator, but not to a child.
struct Lender(Frames<'static>);

impl MemoryProvider<Page<Frames<'static>>> for Lender {
    fn alloc(&self, nr: usize, take: &mut dyn FnMut(Page<Frames<'static>>)) {
        assert!(!self.0.platform().is_abandoned(), "a child asks its parent's provider");
        (0..nr).filter_map(|_| self.0.alloc_page(Gfp::KERNEL)).for_each(take);
    }

    fn release(&self, page: Page<Frames<'static>>) -> Option<Page<Frames<'static>>> {
        assert!(!self.0.platform().is_abandoned(), "a child gives pages to its parent's provider");
        Some(page)
    }
}

#[test]
#[cfg_attr(miri, ignore = "it leaks on purpose")]
fn a_child_does_not_reach_the_provider() {
    let world: &'static World = Box::leak(Box::new(World::with_memory(1024, 1)));
    let mapper = FaultyMapper::new(ArenaOffsets::new(World::BASE));
    let provider = Box::new(Lender(world));
    let pool = PagePool::with_provider(&params(), &**world, mapper, provider).unwrap();
    let mut owner = PoolOwner::claim(&pool).unwrap();
    let page = owner.alloc().unwrap();
    world.platform().abandon();
    let cached: Vec<_> = core::iter::from_fn(|| owner.alloc()).collect();
    assert_eq!(cached.len(), 63);
    owner.returner().release_bulk(cached);
    drop((owner, page));
}
