//! Short memory: sleeping workers give up their pages, and serve again with what comes back.

#![cfg(not(loom))]

mod common;

extern crate alloc;

use common::{ECHO, World, opaque};
use pagemill::source::PageSource as _;
use pagemill::{AllocPages as _, Gfp, Page};
use pagemill_host::SharedAllocator;
use pagemill_rpc::ServerConfig;
use pagemill_rpc::buffer::nr_request_pages;

/// Pages of the four workers of a world while they sleep.
fn nr_idle() -> u64 {
    let per_worker = 2 * nr_request_pages(ServerConfig::default().max_payload_bytes);
    4 * per_worker as u64
}

/// Returns how many pages the server holds.
fn nr_held(world: &World, hog: &[Page<SharedAllocator>]) -> u64 {
    world.nr_free_at_start() - world.frames.allocator().nr_free_pages() - hog.len() as u64
}

/// Makes a world whose workers have all their pages.
fn settled() -> World {
    let world = World::new();
    world.await_that("the workers have their pages", |world| nr_held(world, &[]) == nr_idle());
    world
}

/// Takes every page that an ordinary request can have.
fn take_all(frames: &SharedAllocator) -> Vec<Page<SharedAllocator>> {
    let gfp = Gfp::KERNEL | Gfp::NORETRY | Gfp::NOWARN;
    core::iter::from_fn(|| frames.clone().alloc_page(gfp)).collect()
}

#[test]
fn sleeping_workers_free_their_pages_when_memory_is_short() {
    let world = settled();
    let mut hog = Vec::new();
    // A worker that is just awake keeps its pages; it sleeps a moment later.
    world.await_that("the workers have no pages left", |world| {
        hog.extend(take_all(&world.frames));
        nr_held(world, &hog) == 0
    });
    drop(hog);
    let mut client = world.client();
    for _ in 0..20 {
        assert_eq!(client.call(ECHO, &opaque(b"again")).unwrap(), opaque(b"again"));
    }
}

/// A call that arrives while its worker has no pages is answered once there are some.
#[test]
fn a_call_waits_for_pages_and_is_not_lost() {
    let world = settled();
    let mut client = world.client();
    let mut hog = Vec::new();
    for round in 0..20_u32 {
        hog.extend(take_all(&world.frames));
        let bytes = round.to_be_bytes();
        let answer = std::thread::scope(|scope| {
            let call = scope.spawn(|| client.call(ECHO, &opaque(&bytes)));
            // The call is on its way, or waits.
            std::thread::yield_now();
            hog.clear();
            call.join().unwrap()
        });
        assert_eq!(answer.unwrap(), opaque(&bytes), "round {round}");
    }
}
