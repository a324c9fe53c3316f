//! Objects on the move between CPUs: a producer and a consumer, random threads, interrupts, shrinkers.

#![cfg(not(loom))]

use core::ptr::NonNull;
use std::sync::mpsc;
use std::thread;

use pagemill::{AllocPages, Gfp};
use pagemill_host::HostAllocator;
use pagemill_slab::{Cache, CacheConfig, Slabs, TypedCache};
use pagemill_testkit::{Frames, Rng, World, interrupted_by, order, set_cpu};

const NR_OBJECTS: usize = if cfg!(miri) { 200 } else { 200_000 };

/// An object on its way to another thread.
struct Parcel(NonNull<u8>);

// SAFETY: 1. the object is the parcel's, and memory that any thread may use.
unsafe impl Send for Parcel {}

fn pass_on<S>(cache: &Cache<'_, S>, set_cpu: impl Fn(u32) + Sync) -> usize
where
    S: pagemill::source::PageSource<Platform: pagemill::machine::DirectMap>,
    for<'c> Cache<'c, S>: Sync,
{
    let (send, receive) = mpsc::sync_channel::<Parcel>(100);
    let mut most = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            set_cpu(1);
            for Parcel(object) in receive {
                // SAFETY: 1. from this cache, and not used again.
                unsafe { cache.free(object) };
            }
            set_cpu(0);
        });
        set_cpu(0);
        for number in 0..NR_OBJECTS {
            let object = cache.alloc(Gfp::KERNEL).expect("the consumer frees as many");
            assert!(send.send(Parcel(object)).is_ok(), "the consumer lives");
            if number % 1000 == 0 {
                most = most.max(cache.info().pages);
            }
        }
        drop(send);
    });
    most
}

#[test]
fn a_producer_and_a_consumer_do_not_grow() {
    let world = World::with_memory(1024, 1);
    let slabs = Slabs::new(world.frames()).expect("there is memory");
    let cache = Cache::new(&slabs, &CacheConfig::new("parcel", 64, 8)).expect("there is memory");
    let most = pass_on(&cache, set_cpu);
    // 100 in the channel, and 12 arrays of 64: under 900 objects, which are 14 pages; a refill takes up to 16.
    assert!(most <= 48, "{most} pages");
    assert_eq!(cache.info().active_objs, 0);
    drop(cache);
    drop(slabs);
}

#[test]
#[cfg(not(miri))]
fn a_producer_and_a_consumer_do_not_grow_on_real_cpus() {
    let frames = HostAllocator::new(64 << 20).expect("64 MiB can be mapped");
    let slabs = Slabs::new(&*frames).expect("there is memory");
    let cache = Cache::new(&slabs, &CacheConfig::new("parcel", 64, 8)).expect("there is memory");
    let most = pass_on(&cache, |_| ());
    assert!(most <= 64, "{most} pages");
    assert_eq!(cache.info().active_objs, 0);
    cache.shrink();
    assert_eq!(cache.info().pages, 0);
}

#[test]
#[cfg(not(miri))]
fn threads_exchange_objects_that_keep_their_bytes() {
    const NR_THREADS: u64 = 4;
    let frames = HostAllocator::new(64 << 20).expect("64 MiB can be mapped");
    let slabs = Slabs::new(&*frames).expect("there is memory");
    let cache = TypedCache::<u64, _>::new(&slabs, "number").expect("there is memory");
    let slots: Vec<_> = (0..64).map(|_| std::sync::Mutex::new(None)).collect();
    thread::scope(|scope| {
        for thread in 0..NR_THREADS {
            let (cache, slots) = (&cache, &slots);
            scope.spawn(move || {
                let mut rng = Rng::new(thread);
                for _ in 0..50_000 {
                    let number = rng.next_u64();
                    let new = cache.alloc(Gfp::KERNEL, number).expect("there is memory");
                    let slot = &slots[rng.below(slots.len())];
                    let old = slot.lock().expect("no thread panics").replace((number, new));
                    if let Some((number, old)) = old {
                        assert_eq!(*old, number, "another wrote to the object");
                    }
                    if rng.below(10_000) == 0 {
                        cache.shrink();
                    }
                }
            });
        }
    });
    let in_use = slots.iter().filter(|slot| slot.lock().expect("unlocked").is_some()).count();
    assert_eq!(cache.info().active_objs, in_use);
    drop(slots);
    cache.shrink();
    assert_eq!(cache.info().pages, 0);
}

#[test]
fn an_interrupt_handler_allocates_and_frees_wherever_it_comes() {
    let world = World::with_memory(1024, 1);
    let slabs = Slabs::new(world.frames()).expect("there is memory");
    let cache = Cache::new(&slabs, &CacheConfig::new("handler", 256, 8)).expect("there is memory");
    let mut held: Vec<NonNull<u8>> = Vec::new();
    let mut nr = 0;
    let mut handler = || {
        nr += 1;
        match held.pop() {
            // SAFETY: 1. from this cache, and not used again.
            Some(object) if nr % 3 == 0 => unsafe { cache.free(object) },
            Some(object) => held.extend([object].into_iter().chain(cache.alloc(Gfp::ATOMIC))),
            None => held.extend(cache.alloc(Gfp::ATOMIC)),
        }
    };
    interrupted_by(&mut handler, || {
        for _ in 0..if cfg!(miri) { 3 } else { 200 } {
            let mut slots = [None; 50];
            slots.iter_mut().for_each(|slot| *slot = cache.alloc(Gfp::KERNEL));
            for object in slots.into_iter().flatten() {
                // SAFETY: 1. from this cache, and not used again.
                unsafe { cache.free(object) };
            }
            cache.shrink();
        }
    });
    assert!(nr > 3, "{nr} interrupts");
    assert_eq!(cache.info().active_objs, held.len());
    for object in held {
        // SAFETY: 1. from this cache, and not used again.
        unsafe { cache.free(object) };
    }
}

#[test]
fn cpus_that_share_arrays_use_them_one_at_a_time() {
    let memory = [pagemill_testkit::region(pagemill_testkit::NORMAL, 1024, 0)];
    let machine = pagemill_testkit::Machine::with_memory(4, pagemill_testkit::NORMAL, 1024);
    let world = World::on(machine, &pagemill::Config::new(&memory, 2));
    let slabs = Slabs::new(world.frames()).expect("there is memory");
    let cache = Cache::new(&slabs, &CacheConfig::new("shared", 64, 8)).expect("there is memory");
    set_cpu(3);
    let objects: Vec<_> = (0..100).filter_map(|_| cache.alloc(Gfp::KERNEL)).collect();
    assert_eq!((objects.len(), cache.info().active_objs), (100, 100));
    assert!(cache.info().cached_objs > 0, "arrays are used");
    for object in objects {
        // SAFETY: 1. from this cache, and not used again.
        unsafe { cache.free(object) };
    }
    set_cpu(0);
}

#[test]
fn a_shrinker_returns_pages_to_a_request_that_needs_them() {
    let world: &'static World = Box::leak(Box::new(World::with_memory(512, 1)));
    let slabs: &'static Slabs<Frames<'static>> =
        Box::leak(Box::new(Slabs::new(world.frames()).expect("there is memory")));
    let cache: &'static Cache<'static, Frames<'static>> =
        Box::leak(Box::new(Cache::new(slabs, &CacheConfig::new("spare", 1024, 8)).expect("valid")));
    let registered = world.register_shrinker(cache).expect("the first");
    let objects: Vec<_> = (0..100).filter_map(|_| cache.alloc(Gfp::KERNEL)).collect();
    for object in objects {
        // SAFETY: 1. from this cache, and not used again.
        unsafe { cache.free(object) };
    }
    let spare = cache.info().pages;
    assert!(spare > 20, "{spare} pages");
    let mut pages: Vec<_> = core::iter::from_fn(|| world.alloc_page(Gfp::NOWAIT)).collect();
    assert_eq!(cache.info().pages, spare, "that request may not reclaim");
    pages.extend((0..spare).map(|_| world.alloc_page(Gfp::KERNEL).expect("from the cache")));
    assert_eq!(cache.info().pages, 0);
    drop(registered);
    drop(pages);
    world.drain_all_pages();
}

#[test]
fn slabs_that_hold_objects_stay_when_their_cache_is_dropped() {
    let world: &'static World = Box::leak(Box::new(World::with_memory(512, 1)));
    let slabs = Slabs::new(world.frames()).expect("there is memory");
    let before = world.nr_out();
    let config = CacheConfig { order: Some(order(1)), ..CacheConfig::new("leak", 1000, 8) };
    let cache = Cache::new(&slabs, &config).expect("there is memory");
    let object = cache.alloc(Gfp::KERNEL).expect("there is memory");
    // SAFETY: 1. an object of 1000 bytes, ours.
    unsafe { object.write_bytes(7, 1000) };
    drop(cache);
    assert_eq!(world.nr_out(), before + 2, "the slab of the object");
    // SAFETY: 1. an object of 1000 bytes.
    let last = unsafe { object.add(999) };
    // SAFETY: 1. still ours: its slab was not freed.
    assert_eq!(unsafe { last.read() }, 7);
}
