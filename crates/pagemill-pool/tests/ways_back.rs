//! Pages that come back at the wrong moment: while their pool ends, or from an interrupt handler.
#![cfg(not(loom))]
#![forbid(unsafe_code)]

extern crate alloc;

#[expect(dead_code, reason = "other tests use the rest")]
mod common;

#[expect(clippy::disallowed_types, reason = "loom does not run this test")]
use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering;

use common::world;
use pagemill::{AllocPages, Gfp};
use pagemill_pool::dma::NoDma;
use pagemill_pool::sources::Tracked;
use pagemill_pool::{PagePool, PoolOwner, PoolPage, PoolParams, Returner};
use pagemill_testkit::interrupted_by;

/// The pool stays alive, as one in a static does, and is not used after it was ended.
#[test]
fn a_return_that_meets_the_end_of_a_pool_loses_no_page() {
    const NR_PAGES: usize = 100;
    let world = world();
    let nr_rounds = if cfg!(miri) { 4 } else { 2_000 };
    let mut pools = Vec::new();
    for round in 0..nr_rounds {
        let pool = PagePool::new(&PoolParams::new(), &*world, NoDma).unwrap();
        let mut owner = PoolOwner::claim(&pool).unwrap();
        let mut pages = Vec::new();
        assert_eq!(owner.alloc_bulk(2 * NR_PAGES, &mut pages), 2 * NR_PAGES);
        let others = pages.split_off(NR_PAGES);
        #[expect(clippy::disallowed_types, reason = "loom does not run this test")]
        let nr_back = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let (pool, nr_back) = (&pool, &nr_back);
            let count = |page: PoolPage<_>| {
                drop(page);
                nr_back.fetch_add(1, Ordering::Relaxed);
            };
            scope.spawn(move || pages.into_iter().for_each(count));
            scope.spawn(move || {
                for page in others {
                    Returner::new(pool).put_bulk([page]);
                    nr_back.fetch_add(1, Ordering::Relaxed);
                }
            });
            // At another moment in each round.
            while nr_back.load(Ordering::Relaxed) < round % (2 * NR_PAGES) {
                core::hint::spin_loop();
            }
            drop(owner);
        });
        assert_eq!(pool.inflight(), 0, "in round {round}");
        pools.push(pool);
        if pools.len() == 50 {
            assert_eq!(world.nr_out(), 0, "by round {round}");
            pools.clear();
        }
    }
}

/// What a panic leaves unfilled in the ring is passed over, also after the end.
#[test]
fn a_batch_that_panics_while_its_pool_ends_hides_no_page() {
    let world = world();
    let pool = PagePool::new(&PoolParams::new(), &*world, NoDma).unwrap();
    let mut owner = PoolOwner::claim(&pool).unwrap();
    let mut pages = Vec::new();
    owner.alloc_bulk(6, &mut pages);
    let (mut owner, mut behind) = (Some(owner), pages.pop());
    let mut nr = 0;
    let batch = (0..5).map(|_| {
        nr += 1;
        if nr == 3 {
            // This page's place is behind those that the batch has claimed.
            drop(behind.take());
            drop(owner.take());
            assert_ne!(pool.inflight(), 0, "the place of this batch's next page hides it");
            panic!("no more pages");
        }
        pages.pop().expect("five")
    });
    let put = core::panic::AssertUnwindSafe(|| Returner::new(&pool).put_bulk(batch));
    assert!(std::panic::catch_unwind(put).is_err());
    drop(pages);
    assert_eq!(pool.inflight(), 0);
}

/// A handler that returns pages, while what it interrupts is about to use the ledger.
#[test]
fn an_interrupt_handler_may_return_pages_that_need_attention() {
    let world = world();
    let gfp = Gfp::ATOMIC | Gfp::MEMALLOC;
    let params = PoolParams { gfp, refill: 1, ..PoolParams::new() };
    let pool = PagePool::new(&params, &*world, NoDma).unwrap();
    let mut owner = PoolOwner::claim(Tracked(&pool)).unwrap();
    let hog: Vec<_> = core::iter::from_fn(|| world.alloc_page(Gfp::ATOMIC)).collect();
    let mut pages = Vec::new();
    assert_eq!(owner.alloc_bulk(30, &mut pages), 30, "from the reserve");
    let mut late = pages.split_off(20);
    let mut nr_handled = 0;
    let mut handler = || {
        if let Some(page) = late.pop() {
            nr_handled += 1;
            drop(page);
        }
    };
    interrupted_by(&mut handler, || {
        while pages.len() > 10 {
            drop(pages.pop());
            owner.put(pages.pop().expect("more than ten"));
            assert!(!pool.holders().is_empty());
        }
    });
    assert_eq!(nr_handled, 10);
    drop((pages, late, hog));
    assert_eq!((pool.inflight(), pool.holders().len()), (0, 0));
}
