//! Objects that meet on their way between CPUs, in every order that two forced switches of thread allow.
//!
//! Arrays hold one object, so that each second call goes through the depot or the slabs. The arrays of a CPU
//! have a cell that loom follows: two threads in them at once are found even if no object is lost.
#![cfg(loom)]

extern crate alloc;

use alloc::alloc::{alloc, dealloc};
use alloc::sync::Arc;
use core::alloc::Layout;
use core::ptr::NonNull;

use loom::model::Builder;
use loom::thread;
use pagemill::machine::DirectMap;
use pagemill::setup::MemoryRegion;
use pagemill::source::PageSource;
use pagemill::units::{CpuId, NodeId, PAGE_SHIFT, PAGE_SIZE, Pfn, PhysAddr};
use pagemill::{Config, Gfp, PageAllocator, Platform};
use pagemill_slab::{Cache, CacheConfig, Slabs};

loom::thread_local! {
    static CPU: core::cell::Cell<u32> = core::cell::Cell::new(0);
}

const NR_FRAMES: usize = 8;
const FIRST: u64 = 1 << 20;

/// Two CPUs, each of whose threads says which one it runs on, and frames with bytes.
struct Machine(NonNull<u8>);

// SAFETY: 1. frames are used by their owners only.
unsafe impl Send for Machine {}
// SAFETY: 1. the same fact as for `Send`.
unsafe impl Sync for Machine {}

impl Platform for Machine {
    fn nr_cpus(&self) -> u32 {
        2
    }

    fn pin(&self) -> CpuId {
        CpuId::new(CPU.with(core::cell::Cell::get))
    }

    fn relax(&self, _spins: u32) {
        thread::yield_now();
    }

    unsafe fn zero_pages(&self, _: Pfn, _: usize) {}
}

// SAFETY: 1. one zeroed allocation in which frames are consecutive.
unsafe impl DirectMap for Machine {
    fn frame_ptr(&self, pfn: Pfn) -> NonNull<u8> {
        let index = usize::try_from(pfn.value() - FIRST).expect("a frame of the world");
        assert!(index < NR_FRAMES, "a frame of the world");
        // SAFETY: 1. in bounds: checked.
        unsafe { self.0.add(index * PAGE_SIZE) }
    }
}

fn run_on(cpu: u32) {
    CPU.with(|current| current.set(cpu));
}

/// Memory with a layout, freed on drop.
struct Memory(NonNull<u8>, Layout);

impl Memory {
    fn new(layout: Layout) -> Self {
        // SAFETY: 1. size above zero: all callers'.
        let memory = NonNull::new(unsafe { alloc(layout) }).expect("there is memory");
        // SAFETY: 1. valid for writes: just allocated with this size.
        unsafe { memory.write_bytes(0, layout.size()) };
        Self(memory, layout)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: 1. allocated with this layout, and not used any more.
        unsafe { dealloc(self.0.as_ptr(), self.1) };
    }
}

/// An allocator with its memory, which checks at its end that all frames came back.
struct World {
    allocator: PageAllocator<Machine>,
    _metadata: Memory,
    _frames: Memory,
}

// SAFETY: 1. only the allocator uses the memory, and all threads may use the allocator.
unsafe impl Send for World {}
// SAFETY: 1. the same fact as for `Send`.
unsafe impl Sync for World {}

impl World {
    fn new() -> Frames {
        let start = PhysAddr::new(FIRST << PAGE_SHIFT);
        let len_bytes = (NR_FRAMES as u64) << PAGE_SHIFT;
        let memory = [MemoryRegion { start, len_bytes, node: NodeId::new(0) }];
        let config = Config {
            pcp_high: Some(1),
            pcp_batch: Some(1),
            min_free_bytes: Some(0),
            watermark_scale_factor: 0,
            ..Config::new(&memory, 2)
        };
        let layout = PageAllocator::<Machine>::metadata_layout(&config).expect("a valid world");
        let metadata = Memory::new(layout);
        let frames = Layout::from_size_align(NR_FRAMES * PAGE_SIZE, PAGE_SIZE).expect("small");
        let frames = Memory::new(frames);
        let slice = NonNull::slice_from_raw_parts(metadata.0, layout.size());
        // SAFETY: 1. initialised, valid, not used otherwise: just allocated, and freed after the allocator.
        // 2. frames not used otherwise: just allocated.
        let allocator = unsafe { PageAllocator::new(&config, slice, Machine(frames.0)) };
        let allocator = allocator.expect("a valid world");
        Frames(Arc::new(Self { allocator, _metadata: metadata, _frames: frames }))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.allocator.drain_all_pages();
            assert_eq!(self.allocator.nr_free_pages(), NR_FRAMES as u64, "frames were lost");
        }
    }
}

/// Reaches the allocator of a world, and keeps it alive.
#[derive(Clone)]
struct Frames(Arc<World>);

// SAFETY: 1. same allocator in each call: clones share one world.
unsafe impl PageSource for Frames {
    type Platform = Machine;

    fn allocator(&self) -> &PageAllocator<Machine> {
        &self.0.allocator
    }
}

type WorldCache = Cache<'static, Frames>;

/// An object on its way to another thread.
struct Parcel(NonNull<u8>);

// SAFETY: 1. the object is the parcel's, and memory that any thread may use.
unsafe impl Send for Parcel {}

/// A cache that threads share, and the table behind it.
struct Shared {
    cache: Option<WorldCache>,
    slabs: *mut Slabs<Frames>,
}

// SAFETY: 1. caches and tables may be shared; the pointer is used by the drop alone.
unsafe impl Send for Shared {}
// SAFETY: 1. the same fact as for `Send`.
unsafe impl Sync for Shared {}

impl Shared {
    fn new() -> Arc<Self> {
        let slabs = Box::into_raw(Box::new(Slabs::new(World::new()).expect("there is memory")));
        let config = CacheConfig { array: Some(1), ..CacheConfig::new("loom", 1024, 8) };
        // SAFETY: 1. alive until the drop of this, which drops the cache first.
        let cache = Cache::new(unsafe { &*slabs }, &config).expect("there is memory");
        Arc::new(Self { cache: Some(cache), slabs })
    }

    fn alloc(&self) -> NonNull<u8> {
        let object = self.cache().alloc(Gfp::NOWAIT).expect("there is memory");
        // SAFETY: 1. an object of this size, just allocated.
        unsafe { object.cast::<u64>().write(7) };
        object
    }

    fn free(&self, object: NonNull<u8>) {
        // SAFETY: 1. from this cache, and not used again by the tests.
        unsafe { self.cache().free(object) };
    }

    fn cache(&self) -> &WorldCache {
        self.cache.as_ref().expect("until it is dropped")
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let in_use = self.cache().info().active_objs;
        drop(self.cache.take());
        // SAFETY: 1. made by `new`, and borrowed by the cache only, which is dropped.
        drop(unsafe { Box::from_raw(self.slabs) });
        if !std::thread::panicking() {
            assert_eq!(in_use, 0, "objects are in use");
        }
    }
}

/// Runs `body` in every order, and checks that there was more than one.
fn every_order(body: impl Fn() + Sync + Send + 'static) {
    #[expect(clippy::disallowed_types, reason = "counts runs of the model, not inside of it")]
    let runs = Arc::new(core::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let mut builder = Builder::new();
    builder.max_branches = 20_000;
    builder.check(move || {
        counted.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
        run_on(0);
        body();
    });
    let runs = runs.load(core::sync::atomic::Ordering::Relaxed);
    assert!(runs > 1, "{runs} orders");
    println!("{runs} orders");
}

#[test]
fn an_object_that_another_cpu_frees_is_handed_out_once() {
    every_order(|| {
        let shared = Shared::new();
        let [first, second] = [shared.alloc(), shared.alloc()].map(Parcel);
        let other = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            run_on(1);
            let [Parcel(first), Parcel(second)] = [first, second];
            other.free(first);
            other.free(second);
            Parcel(other.alloc())
        });
        let [a, b] = [shared.alloc(), shared.alloc()];
        let Parcel(c) = thread.join().expect("it does not panic");
        assert!(a != b && b != c && a != c, "an object was handed out twice");
        [a, b, c].into_iter().for_each(|object| shared.free(object));
    });
}

#[test]
fn full_arrays_of_one_cpu_reach_another_through_the_depot() {
    every_order(|| {
        let shared = Shared::new();
        let objects = [shared.alloc(), shared.alloc(), shared.alloc()].map(Parcel);
        let other = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            run_on(1);
            objects.into_iter().for_each(|Parcel(object)| other.free(object));
        });
        let a = shared.alloc();
        thread.join().expect("it does not panic");
        let pages = shared.cache().info().pages;
        let b = shared.alloc();
        assert!(a != b && shared.cache().info().pages == pages, "no growth");
        [a, b].into_iter().for_each(|object| shared.free(object));
    });
}

#[test]
fn a_shrink_leaves_the_arrays_that_another_thread_uses() {
    every_order(|| {
        let shared = Shared::new();
        let first = Parcel(shared.alloc());
        let other = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            run_on(1);
            let Parcel(first) = first;
            other.free(first);
            Parcel(other.alloc())
        });
        shared.cache().shrink();
        let Parcel(object) = thread.join().expect("it does not panic");
        shared.free(object);
        shared.cache().shrink();
        assert_eq!(shared.cache().info().pages, 0);
    });
}

#[test]
fn two_threads_with_one_cpu_use_its_arrays_one_at_a_time() {
    every_order(|| {
        let shared = Shared::new();
        let other = Arc::clone(&shared);
        let first = Parcel(shared.alloc());
        let thread = thread::spawn(move || {
            run_on(0);
            let Parcel(first) = first;
            other.free(first);
        });
        let object = shared.alloc();
        thread.join().expect("it does not panic");
        shared.free(object);
    });
}
