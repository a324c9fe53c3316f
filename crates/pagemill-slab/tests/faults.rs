//! Each allocation of pages fails in turn, in everything that allocates: nothing is lost, and what failed can
//! be tried again.

#![cfg(not(loom))]

use core::alloc::Layout;

use pagemill::Gfp;
use pagemill::debug::{Event, FaultConfig};
use pagemill_slab::errors::{CacheError, SlabsError};
use pagemill_slab::{Cache, CacheConfig, Heap, HeapConfig, Refill, Slabs, TypedCache};
use pagemill_testkit::{Traces, World, order, set_cpu, traced};

/// Calls `body` with a world in which request number `n` for pages fails, for each `n` until none fails, and
/// returns how many did.
fn each_fault(nr_frames: u64, mut body: impl FnMut(&World)) -> u64 {
    for n in 1.. {
        let world = World::with_memory(nr_frames, 1);
        world.inject_faults(&FaultConfig::nth(n));
        let events = traced(Traces::Events, || body(&world));
        let has_failed = events.iter().any(|event| matches!(event, Event::FaultInjected { .. }));
        world.inject_faults(&FaultConfig::NEVER);
        assert_eq!(world.nr_out(), 0, "memory is back to the last page");
        if !has_failed {
            return n - 1;
        }
    }
    unreachable!("some request is the last")
}

#[test]
fn a_table_a_cache_and_its_objects() {
    for (refill, slab_order) in [
        (Refill::Single, None),
        (Refill::Bulk, None),
        (Refill::Split, None),
        (Refill::Bulk, Some(order(2))),
        (Refill::Split, Some(order(1))),
    ] {
        let nr_failed = each_fault(512, |world| {
            let slabs = match Slabs::new(world.frames()) {
                Ok(slabs) => slabs,
                Err(error) => return assert!(matches!(error, SlabsError::NoMemory(_))),
            };
            let config =
                CacheConfig { refill, order: slab_order, ..CacheConfig::new("faults", 200, 8) };
            let cache = match Cache::new(&slabs, &config) {
                Ok(cache) => cache,
                Err(error) => return assert!(matches!(error, CacheError::NoMemory { .. })),
            };
            let mut slots = [None; 300];
            let mut got = 0;
            for slot in &mut slots {
                *slot = cache.alloc(Gfp::KERNEL);
                got += usize::from(slot.is_some());
            }
            assert!(got >= 299, "{got}: a request that failed was the last of its call");
            // SAFETY: 1. from this cache, and not used again.
            assert_eq!(unsafe { cache.free_bulk(&mut slots) }, got);
        });
        // The table, the arrays, and one page at least.
        assert!(nr_failed >= 3, "{refill:?}: {nr_failed} requests");
    }
}

#[test]
#[cfg_attr(miri, ignore = "makes 40 heaps, which takes minutes; the tests of heap.rs run one each")]
fn a_heap_its_objects_and_their_growth() {
    let nr_failed = each_fault(2048, |world| {
        let Ok(slabs) = Slabs::new(world.frames()) else { return };
        let Ok(heap) = Heap::new(&slabs, &HeapConfig::new()) else { return };
        let layout = |size| Layout::from_size_align(size, 8).expect("small");
        let mut size = 8;
        let Some(mut object) = heap.alloc(Gfp::KERNEL, layout(size)) else { return };
        while size < 100_000 {
            let larger = size * 2;
            // SAFETY: 1. from this heap with this layout. 2. used again at its old place only if it did not move.
            match unsafe { heap.realloc(Gfp::KERNEL, object, layout(size), larger) } {
                Some(moved) => object = moved,
                None => break,
            }
            size = larger;
        }
        // SAFETY: 1. from this heap with this layout, and not used again.
        unsafe { heap.free_sized(object, layout(size)) };
    });
    assert!(nr_failed > 26, "{nr_failed} requests: the arrays alone are 26");
}

#[test]
fn a_box_returns_the_value_that_has_no_place() {
    let nr_failed = each_fault(256, |world| {
        let Ok(slabs) = Slabs::new(world.frames()) else { return };
        let Ok(cache) = TypedCache::<String, _>::new(&slabs, "name") else { return };
        match cache.alloc(Gfp::NOWAIT, String::from("value")) {
            Ok(name) => assert_eq!(name.into_inner(), "value"),
            Err(value) => assert_eq!(value, "value"),
        }
    });
    assert!(nr_failed >= 3, "{nr_failed} requests");
}

#[test]
fn slabs_are_single_pages_if_there_are_no_blocks() {
    let world = World::with_memory(256, 1);
    let slabs = Slabs::new(world.frames()).expect("there is memory");
    let config = CacheConfig { order: Some(order(3)), ..CacheConfig::new("blocks", 256, 8) };
    let cache = Cache::new(&slabs, &config).expect("there is memory");
    world.inject_faults(&FaultConfig { min_order: order(1), ..FaultConfig::EVERY });
    let single = cache.alloc(Gfp::NOWAIT).expect("single pages are left");
    // As many pages as one block has, so that the next refills need not ask for a block again.
    let info = cache.info();
    assert_eq!((info.num_slabs, info.pages, info.pagesperslab), (8, 8, 8));
    world.inject_faults(&FaultConfig::NEVER);
    let mut slots = [None; 200];
    assert_eq!(cache.alloc_bulk(Gfp::NOWAIT, &mut slots), 200);
    let info = cache.info();
    assert!(info.pages >= 16 && info.num_slabs < info.pages, "a block, too: {info:?}");
    // SAFETY: 1. from this cache, and not used again.
    unsafe { cache.free_bulk(&mut slots) };
    // SAFETY: 1. from this cache, and not used again.
    unsafe { cache.free(single) };
    cache.shrink();
    assert_eq!(cache.info().pages, 0);
}

#[test]
fn free_objects_of_other_cpus_are_found_before_a_request_fails() {
    let world = World::with_memory(256, 1);
    let slabs = Slabs::new(world.frames()).expect("there is memory");
    let cache = Cache::new(&slabs, &CacheConfig::new("others", 2048, 8)).expect("there is memory");
    let mut slots = [None; 10];
    assert_eq!(cache.alloc_bulk(Gfp::KERNEL, &mut slots), 10);
    // SAFETY: 1. from this cache, and not used again.
    unsafe { cache.free_bulk(&mut slots) };
    world.fail_all(true);
    set_cpu(1);
    let mut got = [None; 100];
    let nr = cache.alloc_bulk(Gfp::KERNEL, &mut got);
    assert!((10..100).contains(&nr), "{nr}: with those of CPU 0");
    assert!(cache.alloc(Gfp::KERNEL).is_none(), "there are no more");
    set_cpu(0);
    world.fail_all(false);
    // SAFETY: 1. from this cache, and not used again.
    unsafe { cache.free_bulk(&mut got) };
}
