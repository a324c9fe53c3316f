//! Wrong frees and wrong writes: what is found, when, and by which check.

#![cfg(not(loom))]

use core::alloc::Layout;
use core::panic::AssertUnwindSafe;
use core::ptr::NonNull;
use std::panic::catch_unwind;

use pagemill::Gfp;
use pagemill_slab::{Cache, CacheConfig, Checks, Heap, HeapConfig, Slabs};
use pagemill_testkit::{Frames, World};

type WorldCache<'w> = Cache<'w, Frames<'w>>;

/// Runs `body` with a cache, and returns its panic's message. Objects that it leaves out leak.
fn message(config: CacheConfig, body: impl FnOnce(&WorldCache<'_>)) -> String {
    let world = Box::leak(Box::new(World::with_memory(1024, 1)));
    let slabs = Box::leak(Box::new(Slabs::new(world.frames()).expect("there is memory")));
    let cache = Box::leak(Box::new(Cache::new(slabs, &config).expect("a valid configuration")));
    let panic = catch_unwind(AssertUnwindSafe(|| body(cache))).expect_err("it panics");
    match panic.downcast::<String>() {
        Ok(message) => *message,
        Err(panic) => (*panic.downcast::<&str>().expect("a message")).to_string(),
    }
}

fn config(checks: Checks) -> CacheConfig {
    CacheConfig { checks, array: Some(4), ..CacheConfig::new("victim", 48, 8) }
}

fn alloc(cache: &WorldCache<'_>) -> NonNull<u8> {
    cache.alloc(Gfp::KERNEL).expect("there is memory")
}

/// Frees objects one by one.
///
/// # Safety
/// They are what a test passes.
unsafe fn free(cache: &WorldCache<'_>, objects: impl IntoIterator<Item = NonNull<u8>>) {
    for object in objects {
        // SAFETY: 1. not an obligation that these tests keep: they show what happens then. What is freed wrongly
        // is not used.
        unsafe { cache.free(object) };
    }
}

/// Writes where a bug would: to an object's red zone, or to an object that was freed.
fn write(object: NonNull<u8>, at: usize) {
    // SAFETY: 1. in the slab.
    let byte = unsafe { object.add(at) };
    // SAFETY: 1. valid; nothing uses the byte but the check that it was not written.
    unsafe { byte.write(1) };
}

#[test]
fn an_address_outside_of_all_frames_is_refused_at_once() {
    let message = message(config(Checks::Owner), |cache| {
        let mut local = 0_u64;
        // SAFETY: 1. refused.
        unsafe { free(cache, [NonNull::from(&mut local).cast()]) };
    });
    assert!(message.contains("cache victim: "), "{message}");
    assert!(message.ends_with("it is not in a frame of the allocator"), "{message}");
}

#[test]
fn a_page_that_is_no_slab_is_refused_at_once() {
    let message = message(config(Checks::Owner), |cache| {
        let object = alloc(cache);
        // 200 frames away from the only slab.
        let other = object.map_addr(|address| address.saturating_add(200 << 12));
        // SAFETY: 1. refused.
        unsafe { free(cache, [other]) };
    });
    assert!(message.contains("it is in no slab"), "{message}");
}

#[test]
fn an_object_of_another_cache_is_refused_at_once() {
    let message = message(config(Checks::Owner), |cache| {
        let other = Cache::new(cache.slabs(), &CacheConfig::new("other", 48, 8)).expect("valid");
        let object = alloc(&other);
        // SAFETY: 1. refused.
        unsafe { free(cache, [object]) };
    });
    assert!(message.contains("it is an object of another cache"), "{message}");
}

#[test]
fn the_middle_of_an_object_is_refused_when_it_leaves_the_array() {
    for checks in [Checks::Off, Checks::Owner] {
        let message = message(config(checks), |cache| {
            let objects: Vec<_> = (0..16).map(|_| alloc(cache)).collect();
            let middle = objects[0].map_addr(|address| address.saturating_add(16));
            // SAFETY: 1. what is freed wrongly is not handed out again: nothing is allocated.
            unsafe { free(cache, [middle]) };
            cache.shrink();
        });
        assert!(message.contains("it is not the start of an object"), "{message}");
    }
}

#[test]
fn without_checks_a_foreign_address_is_refused_when_it_leaves_the_array() {
    let message = message(config(Checks::Off), |cache| {
        let mut local = 0_u64;
        // SAFETY: 1. not handed out again: nothing is allocated.
        unsafe { free(cache, [NonNull::from(&mut local).cast()]) };
        cache.shrink();
    });
    assert!(message.ends_with("it is not in a frame of the allocator"), "{message}");
}

#[test]
fn an_object_that_was_never_allocated_is_refused() {
    let message = message(config(Checks::Owner), |cache| {
        let object = alloc(cache);
        cache.shrink();
        // The slab has 85 objects, and at most 5 were ever taken.
        let first = object.addr().get() & !0xfff;
        let fresh =
            object.map_addr(|_| core::num::NonZero::new(first + 80 * 48).expect("not zero"));
        // SAFETY: 1. not handed out again: nothing is allocated.
        unsafe { free(cache, [fresh]) };
        cache.shrink();
    });
    assert!(message.contains("is freed twice, or was never allocated"), "{message}");
}

#[test]
fn an_object_that_is_freed_twice_in_a_row_is_found_when_it_leaves_the_array() {
    let message = message(config(Checks::Owner), |cache| {
        let [object, _other] = [alloc(cache), alloc(cache)];
        // SAFETY: 1. not used again, and not handed out: nothing is allocated.
        unsafe { free(cache, [object, object]) };
        cache.shrink();
    });
    assert!(message.contains("is freed twice"), "{message}");
}

#[test]
fn with_red_zones_every_double_free_is_found_at_once() {
    for checks in [Checks::RedZone, Checks::Poison] {
        let message = message(config(checks), |cache| {
            let objects = [alloc(cache), alloc(cache), alloc(cache)];
            // SAFETY: 1. the second free of the first object is refused.
            unsafe { free(cache, [objects[0], objects[1], objects[0]]) };
        });
        assert!(message.contains("the object of 48 bytes at"), "{message}");
        assert!(message.contains("is freed twice"), "{message}");
    }
}

#[test]
fn with_red_zones_an_overrun_is_found_when_the_object_is_freed() {
    for (at, checks) in [(48, Checks::RedZone), (55, Checks::Poison)] {
        let message = message(config(checks), |cache| {
            let object = alloc(cache);
            write(object, at);
            // SAFETY: 1. refused.
            unsafe { free(cache, [object]) };
        });
        assert!(
            message.ends_with(&format!("was written behind its end, at byte {at}")),
            "{message}"
        );
    }
}

#[test]
fn with_red_zones_an_overrun_while_free_is_found_when_the_object_is_taken() {
    let message = message(config(Checks::RedZone), |cache| {
        let object = alloc(cache);
        // SAFETY: 1. from this cache, and freed once.
        unsafe { free(cache, [object]) };
        write(object, 50);
        alloc(cache);
    });
    assert!(
        message.contains("was written behind its end while it was free, at byte 50"),
        "{message}"
    );
}

#[test]
fn with_poison_a_write_after_a_free_is_found_when_the_object_is_taken() {
    let message = message(config(Checks::Poison), |cache| {
        let object = alloc(cache);
        // SAFETY: 1. from this cache, and freed once.
        unsafe { free(cache, [object]) };
        write(object, 7);
        alloc(cache);
    });
    assert!(message.contains("was written after it was freed, at byte 7"), "{message}");
}

#[test]
fn without_poison_an_impossible_link_is_found_when_the_object_is_taken() {
    let message = message(CacheConfig { array: Some(0), ..config(Checks::Owner) }, |cache| {
        let objects = [alloc(cache), alloc(cache)];
        // SAFETY: 1. from this cache, and freed once.
        unsafe { free(cache, objects) };
        // SAFETY: 1. an object that nothing uses: what a bug would do.
        unsafe { objects[1].cast::<u64>().write(0xdead_beef) };
        alloc(cache);
    });
    assert!(
        message.contains("was written after it was freed: its link is 0xdeadbeef"),
        "{message}"
    );
}

/// Runs `body` with a heap, and returns its panic's message.
fn heap_message(body: impl FnOnce(&Heap<'_, Frames<'_>>)) -> String {
    let world = Box::leak(Box::new(World::with_memory(2048, 1)));
    let slabs = Box::leak(Box::new(Slabs::new(world.frames()).expect("there is memory")));
    let heap = Box::leak(Box::new(Heap::new(slabs, &HeapConfig::new()).expect("there is memory")));
    let panic = catch_unwind(AssertUnwindSafe(|| body(heap))).expect_err("it panics");
    *panic.downcast::<String>().expect("a message")
}

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).expect("small")
}

#[test]
fn a_heap_refuses_an_object_with_another_layout() {
    let message = heap_message(|heap| {
        let object = heap.alloc(Gfp::KERNEL, layout(100)).expect("there is memory");
        // SAFETY: 1. refused.
        unsafe { heap.free_sized(object, layout(200)) };
    });
    assert!(message.contains("kmalloc-224") && message.contains("another cache"), "{message}");
    let message = heap_message(|heap| {
        let object = heap.alloc(Gfp::KERNEL, layout(100_000)).expect("there is memory");
        // SAFETY: 1. refused.
        unsafe { heap.free_sized(object, layout(200)) };
    });
    assert!(message.contains("is a large object, which is freed by its heap"), "{message}");
    let message = heap_message(|heap| {
        let object = heap.alloc(Gfp::KERNEL, layout(100)).expect("there is memory");
        // SAFETY: 1. refused.
        unsafe { heap.free_sized(object, layout(100_000)) };
    });
    assert!(message.contains("was allocated with another layout"), "{message}");
}

#[test]
fn a_heap_refuses_a_large_object_twice_and_addresses_inside_of_it() {
    let message = heap_message(|heap| {
        let object = heap.alloc(Gfp::KERNEL, layout(10_000)).expect("there is memory");
        // SAFETY: 1. freed once; the second time is refused.
        unsafe { heap.free(object) };
        // SAFETY: 1. refused.
        unsafe { heap.free(object) };
    });
    assert!(message.contains("was freed before"), "{message}");
    for at in [8, 4096] {
        let message = heap_message(|heap| {
            let object = heap.alloc(Gfp::KERNEL, layout(10_000)).expect("there is memory");
            // SAFETY: 1. in the object.
            let inside = unsafe { object.add(at) };
            // SAFETY: 1. refused.
            unsafe { heap.free(inside) };
        });
        assert!(message.contains("it is not the start of an object of this heap"), "{message}");
    }
}
