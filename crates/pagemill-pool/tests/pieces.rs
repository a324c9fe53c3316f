//! Pages of a pool in pieces: whose bytes are whose, and which pages are used again.
#![cfg(not(loom))]
#![forbid(unsafe_code)]

extern crate alloc;

#[expect(dead_code, reason = "other tests use the rest")]
mod common;

use alloc::rc::Rc;
use alloc::sync::Arc;
use core::cell::RefCell;

use common::world;
use pagemill::units::NodeId;
use pagemill::{AllocPages, Gfp, Page};
use pagemill_pool::config::DmaParams;
use pagemill_pool::dma::{ArenaOffsets, FaultyMapper, NoDma};
use pagemill_pool::{PagePool, PoolFrag, PoolFrags, PoolOwner, PoolParams, PoolRef};
use pagemill_testkit::{Frames, World, set_cpu};

type Pool<'w> = PagePool<Page<Frames<'w>>>;

fn pool(world: &World) -> Pool<'_> {
    PagePool::new(&PoolParams::new(), &**world, NoDma).expect("valid parameters")
}

#[test]
fn pieces_of_a_page_are_apart_and_the_last_one_recycles_it() {
    let world = world();
    let pool = pool(&world);
    let mut owner = PoolOwner::claim(&pool).unwrap();
    let mut frags = PoolFrags::new();
    assert!(frags.alloc(&mut owner, 4097).is_none());
    let mut pieces: Vec<_> = (0..4).map(|_| frags.alloc(&mut owner, 1000).unwrap()).collect();
    for (piece, value) in pieces.iter_mut().zip(1..) {
        piece.as_bytes_mut().fill(value);
    }
    for (piece, value) in pieces.iter().zip(1_u8..) {
        assert!(piece.as_bytes().iter().all(|&byte| byte == value));
        assert_eq!((piece.as_bytes().len(), piece.offset() % 64), (1000, 0));
    }
    let pfn = pieces[0].pfn();
    assert!(pieces.iter().all(|piece| piece.pfn() == pfn));
    // All pieces return, two of them from another thread: the page is used again, and did not leave
    // the pool.
    let kept = pieces.split_off(2);
    std::thread::scope(|scope| scope.spawn(move || drop(kept)).join().unwrap());
    drop(pieces);
    let before = owner.stats();
    let again = frags.alloc(&mut owner, 1000).unwrap();
    let after = owner.stats();
    assert_eq!((again.pfn(), again.offset()), (pfn, 0));
    assert_eq!(after.recycle.cached, before.recycle.cached + 1);
    assert_eq!(after.alloc.fast, before.alloc.fast + 1);
    // One stays out: the next pieces are of another page, and the last one recycles it.
    let other = frags.alloc(&mut owner, 4000).unwrap();
    assert_ne!(other.pfn(), pfn);
    assert_eq!(owner.stats().recycle.ring, 0);
    owner.put_frag(again);
    assert_eq!(owner.stats().recycle.cached, after.recycle.cached + 1, "taken back directly");
    drop(frags);
    assert_eq!(owner.stats().recycle.ring, 0, "its piece is still out");
    drop(other);
    assert_eq!(owner.stats().recycle.ring, 1);
}

#[test]
fn threads_write_to_their_pieces_at_once() {
    let world = world();
    let pool = pool(&world);
    let mut owner = PoolOwner::claim(&pool).unwrap();
    let mut frags = PoolFrags::new();
    let rounds = if cfg!(miri) { 3 } else { 300 };
    for _ in 0..rounds {
        std::thread::scope(|scope| {
            for value in 0..4_u8 {
                let mut piece = frags.alloc(&mut owner, 1000).unwrap();
                scope.spawn(move || {
                    piece.as_bytes_mut().fill(value);
                    assert!(piece.as_bytes().iter().all(|&byte| byte == value));
                });
            }
        });
    }
    assert_eq!(owner.stats().alloc.slow, 1, "one page serves, once its pieces are back");
    drop(frags);
    assert!(owner.shutdown().is_complete());
}

/// A page that is begun anew is handed to the device as one is that comes back whole.
#[test]
fn pieces_are_of_pages_that_the_device_was_handed() {
    let world = world();
    let dma = DmaParams { sync_for_device: true, max_len: 4096, ..DmaParams::default() };
    let params = PoolParams { dma, ..PoolParams::new() };
    let mapper = FaultyMapper::new(ArenaOffsets::new(World::BASE));
    let pool = PagePool::new(&params, &*world, mapper).unwrap();
    let mut owner = PoolOwner::claim(&pool).unwrap();
    let mut frags = PoolFrags::new();
    let first = frags.alloc(&mut owner, 3000).unwrap();
    let (pfn, mapped) = (first.pfn(), pool.mapper().bytes_for_device());
    let page = (pfn.value() - World::BASE.value()) * 4096;
    assert_eq!(first.dma_addr().value(), page);
    let second = frags.alloc(&mut owner, 1000).unwrap();
    assert_eq!(second.dma_addr().value(), page + second.offset() as u64);
    drop((first, second));
    let again = frags.alloc(&mut owner, 3000).unwrap();
    assert_eq!(again.pfn(), pfn);
    assert_eq!(pool.mapper().bytes_for_device() - mapped, 4096);
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes: it takes every page of a world")]
fn a_page_of_the_reserve_is_not_begun_anew() {
    let world = world();
    let gfp = Gfp::ATOMIC | Gfp::MEMALLOC;
    let params = PoolParams { gfp, refill: 1, ..PoolParams::new() };
    let pool = PagePool::new(&params, &*world, NoDma).unwrap();
    let mut owner = PoolOwner::claim(&pool).unwrap();
    let hog: Vec<_> = core::iter::from_fn(|| world.alloc_page(Gfp::ATOMIC)).collect();
    let mut frags = PoolFrags::new();
    drop(frags.alloc(&mut owner, 3000).expect("the reserve has some"));
    drop(hog);
    let before = owner.stats();
    let piece = frags.alloc(&mut owner, 3000).unwrap();
    // The frame may be the same: as an ordinary one, that the allocator handed out again.
    let after = owner.stats();
    assert_eq!((before.recycle.released_refcnt, after.recycle.released_refcnt), (0, 1));
    assert_eq!(after.alloc.slow, before.alloc.slow + 1);
    assert_eq!(after.recycle.cached, 0);
    drop(piece);
    drop(frags.alloc(&mut owner, 3000));
    assert_eq!(owner.stats().recycle.cached, 1, "ordinary pages are begun anew");
}

/// Returns a pool that takes its pages from node `node`.
fn on_node(world: &World, node: u8) -> Pool<'_> {
    let params = PoolParams { node: Some(NodeId::new(node)), ..PoolParams::new() };
    PagePool::new(&params, &**world, NoDma).expect("valid parameters")
}

#[test]
fn pieces_follow_the_owner_to_another_node() {
    let world = world();
    let pool = on_node(&world, 0);
    let mut owner = PoolOwner::claim(&pool).unwrap();
    let (mut used_up, mut begun) = (PoolFrags::new(), PoolFrags::new());
    drop(used_up.alloc(&mut owner, 3000));
    let kept = begun.alloc(&mut owner, 64).unwrap();
    owner.set_node(Some(NodeId::new(1)));
    for _ in 0..10 {
        for (frags, len) in [(&mut used_up, 3000), (&mut begun, 64)] {
            assert_eq!(frags.alloc(&mut owner, len).unwrap().node(), NodeId::new(1));
        }
    }
    assert_eq!(kept.node(), NodeId::new(0));
    owner.put_frag(kept);
    assert_eq!(owner.stats().alloc.waive, 2, "both pages of the old node");
}

/// Without refills, which would notice it.
#[test]
fn pieces_follow_a_thread_to_another_node() {
    let nodes = [NodeId::new(0), NodeId::new(1)];
    let world = World::with_cpus_on(4096, 2, &nodes);
    let params = PoolParams { refill: 1, ..PoolParams::new() };
    let pool = PagePool::new(&params, &*world, NoDma).unwrap();
    let mut owner = PoolOwner::claim(&pool).unwrap();
    let mut frags = PoolFrags::new();
    for (nr_moves, cpu) in [0, 1, 0].into_iter().enumerate() {
        set_cpu(cpu);
        for _ in 0..3 {
            let piece = frags.alloc(&mut owner, 3000).unwrap();
            assert_eq!(piece.node(), nodes[cpu as usize]);
            owner.put_frag(piece);
        }
        assert_eq!(owner.stats().alloc.waive, nr_moves as u64);
    }
}

#[test]
fn pieces_are_of_the_pool_whose_owner_is_asked() {
    let world = world();
    let (one, two) = (on_node(&world, 0), on_node(&world, 1));
    let mut first = PoolOwner::claim(&one).unwrap();
    let mut second = PoolOwner::claim(&two).unwrap();
    let mut frags = PoolFrags::new();
    for turn in 0..6 {
        let (owner, pool) = if turn % 2 == 0 { (&mut first, &one) } else { (&mut second, &two) };
        let piece = frags.alloc(owner, 1000).unwrap();
        assert!(core::ptr::eq(*piece.pool(), pool));
        assert_eq!(Some(piece.node()), pool.params().node);
        if turn % 3 == 0 {
            // Given to the wrong one, it returns to its own.
            first.put_frag(piece);
        }
    }
    drop(frags);
    for (owner, pool) in [(first, &one), (second, &two)] {
        assert!(owner.shutdown().is_complete());
        assert_eq!(pool.inflight(), 0);
    }
}

/// Where memory is short, what fits into the page at hand is still handed out.
#[test]
fn a_page_with_bytes_left_stays_at_hand_where_there_is_no_other() {
    let world = world();
    let params = PoolParams { refill: 1, ..PoolParams::new() };
    let pool = PagePool::new(&params, &*world, NoDma).unwrap();
    let mut owner = PoolOwner::claim(&pool).unwrap();
    let mut frags = PoolFrags::new();
    let first = frags.alloc(&mut owner, 3000).unwrap();
    world.fail_all(true);
    assert!(frags.alloc(&mut owner, 2000).is_none());
    assert_eq!(frags.alloc(&mut owner, 1000).unwrap().pfn(), first.pfn());
    world.fail_all(false);
}

/// A way to reach a pool that owns something, and counts how many there are.
struct Owning<'p, 'w> {
    pool: &'p Pool<'w>,
    count: Rc<()>,
    log: RefCell<Vec<u8>>,
}

impl Clone for Owning<'_, '_> {
    fn clone(&self) -> Self {
        let count = Rc::clone(&self.count);
        Self { pool: self.pool, count, log: RefCell::new(vec![0; 40]) }
    }
}

impl<'w> PoolRef for Owning<'_, 'w> {
    type Block = Page<Frames<'w>>;
    type Mapper = NoDma;

    fn pool(&self) -> &Pool<'w> {
        self.pool
    }
}

/// Copied bit by bit, its vector would be freed once for each piece.
#[test]
fn every_piece_has_a_way_to_its_pool_of_its_own() {
    let world = world();
    let pool = pool(&world);
    let count = Rc::new(());
    let log = RefCell::default();
    let mut owner =
        PoolOwner::claim(Owning { pool: &pool, count: Rc::clone(&count), log }).unwrap();
    let mut frags = PoolFrags::new();
    let pieces: Vec<_> = (0..3).map(|_| frags.alloc(&mut owner, 100).unwrap()).collect();
    assert_eq!(Rc::strong_count(&count), 1 + 1 + 1 + 3, "owner, page, three pieces");
    *pieces[0].pool().log.borrow_mut() = vec![1; 4000];
    assert_eq!(pieces[1].pool().log.borrow().len(), 40);
    drop(pieces);
    drop(frags);
    assert_eq!(Rc::strong_count(&count), 1 + 1);
    assert_eq!(owner.stats().recycle.ring, 1);
    drop(owner);
    assert_eq!((Rc::strong_count(&count), pool.inflight()), (1, 0));
}

/// The last piece holds the last claim to the pool.
#[test]
fn a_piece_keeps_its_pool_alive() {
    let world = world();
    let pool = Arc::new(pool(&world));
    let mut owner = PoolOwner::claim(Arc::clone(&pool)).unwrap();
    let mut piece = PoolFrags::new().alloc(&mut owner, 100).unwrap();
    drop(owner.shutdown());
    let weak = Arc::downgrade(&pool);
    drop(pool);
    piece.as_bytes_mut().fill(1);
    assert!(weak.upgrade().is_some());
    drop(piece);
    assert!(weak.upgrade().is_none());
}

#[test]
fn pieces_can_be_sent_where_their_pool_can() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<PoolFrag<&'static Pool<'static>>>();
    is_shared::<PoolFrag<Arc<Pool<'static>>>>();
}
