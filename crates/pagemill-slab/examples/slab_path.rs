//! One path of the slab, a number of times, and nothing else: for counting instructions.
//!
//! `slab_path OP ROUNDS` runs OP in ROUNDS rounds. OP is one of these:
//! - `larson`: frees the object in one of 1,024 slots and allocates another there, of 8 to 512 bytes;
//! - `larson-unchecked`: the same without the check of owners;
//! - `larson-cache`: the same with objects of 64 bytes from one cache;
//! - `fixed`: allocates an object of 64 bytes and frees it;
//! - `claim`: claims the CPU and releases it, twice, as a pair of `larson` does;
//! - `loop`: the loop of `larson` without the two calls;
//! - `grow-SIZES-REFILL`: allocates 65,536 objects and frees them; SIZES is `64`, `512`, or `mixed` for 8 to
//!   512 bytes, and REFILL is `single`, `bulk` or `split`.
//!
//! The program's total for twice the rounds, less its total for the rounds, is what the path itself costs;
//! `ci/instructions.sh` does that with callgrind.

use core::alloc::Layout;
use core::hint::black_box;
use core::ptr::NonNull;
use std::env;
use std::process::ExitCode;

use pagemill::Gfp;
use pagemill::source::PageSource;
use pagemill_host::{AllocatorConfig, ArenaConfig, Host, allocator};
use pagemill_slab::{Cache, CacheConfig, Checks, Heap, HeapConfig, Refill, Slabs};

pagemill::static_allocator! {
    static ALLOCATOR: Host;
    type Frames;
}

const SLOTS: usize = 1024;
const GROWN: usize = 1 << 16;

/// Sizes and slots that depend on nothing but their number.
struct Random(u64);

impl Random {
    #[inline]
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    #[inline]
    fn slot(&mut self) -> (usize, Layout) {
        let random = self.next();
        let size = 8 + usize::try_from(random >> 40).unwrap_or(0) % 505;
        let slot = usize::try_from(random & 0xffff_ffff).unwrap_or(0) % SLOTS;
        (slot, layout(size))
    }
}

#[inline]
fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).expect("a small size")
}

fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    let op = args.next().unwrap_or_default();
    let Some(rounds) = args.next().and_then(|arg| arg.parse::<usize>().ok()) else {
        return ExitCode::from(2);
    };
    let arena = AllocatorConfig::new(ArenaConfig::new(1 << 30));
    let stored = allocator(&arena).is_ok_and(|allocator| ALLOCATOR.set(allocator).is_ok());
    if !stored {
        return ExitCode::FAILURE;
    }
    let refill = match op.rsplit('-').next() {
        Some("single") => Refill::Single,
        Some("split") => Refill::Split,
        _ => Refill::Bulk,
    };
    let slabs = Slabs::new(Frames::new()).expect("there is memory for a table");
    let checks = if op.ends_with("-unchecked") { Checks::Off } else { Checks::Owner };
    let config = HeapConfig { refill, checks, ..HeapConfig::new() };
    let heap = Heap::new(&slabs, &config).expect("there is memory for arrays");
    let cache = Cache::new(&slabs, &CacheConfig::new("64", 64, 8)).expect("there is memory");
    match op.as_str() {
        "larson" | "larson-unchecked" => larson(&heap, rounds),
        "larson-cache" => larson_cache(&cache, rounds),
        "fixed" => fixed(&heap, rounds),
        "claim" => claim(rounds),
        "loop" => empty_loop(rounds),
        _ => match op.strip_prefix("grow-").and_then(|op| op.split_once('-')) {
            Some(("64", _)) => grow(&heap, rounds, |_| layout(64)),
            Some(("512", _)) => grow(&heap, rounds, |_| layout(512)),
            Some(("mixed", _)) => grow(&heap, rounds, |random| random.slot().1),
            _ => return ExitCode::from(2),
        },
    }
    ExitCode::SUCCESS
}

type Slot = Option<(NonNull<u8>, Layout)>;

#[inline(never)]
fn larson(heap: &Heap<'_, Frames>, rounds: usize) {
    let mut random = Random(1);
    let mut slots: Vec<Slot> = vec![None; SLOTS];
    for _ in 0..rounds {
        let (slot, layout) = random.slot();
        if let Some((object, layout)) = slots[slot] {
            // SAFETY: 1. from this heap with this layout. 2. not used again: the slot is overwritten.
            unsafe { heap.free_sized(object, layout) };
        }
        let object = heap.alloc(Gfp::KERNEL, layout).expect("there is memory");
        slots[slot] = Some((object, layout));
    }
    for (object, layout) in slots.into_iter().flatten() {
        // SAFETY: 1. from this heap with this layout. 2. not used again.
        unsafe { heap.free_sized(object, layout) };
    }
}

#[inline(never)]
fn larson_cache(cache: &Cache<'_, Frames>, rounds: usize) {
    let mut random = Random(1);
    let mut slots: [Option<NonNull<u8>>; SLOTS] = [None; SLOTS];
    for _ in 0..rounds {
        let (slot, _) = random.slot();
        if let Some(object) = slots[slot] {
            // SAFETY: 1. from this cache. 2. not used again: the slot is overwritten.
            unsafe { cache.free(object) };
        }
        slots[slot] = cache.alloc(Gfp::KERNEL);
    }
    // SAFETY: 1. from this cache. 2. not used again.
    unsafe { cache.free_bulk(&mut slots) };
}

#[inline(never)]
fn empty_loop(rounds: usize) {
    let mut random = Random(1);
    let mut slots: Vec<Slot> = vec![None; SLOTS];
    for _ in 0..rounds {
        let (slot, layout) = random.slot();
        if let Some(before) = slots[slot] {
            black_box(before);
        }
        slots[slot] = Some((NonNull::dangling(), layout));
    }
    black_box(&slots);
}

#[inline(never)]
fn fixed(heap: &Heap<'_, Frames>, rounds: usize) {
    for _ in 0..rounds {
        let object = heap.alloc(Gfp::KERNEL, layout(64)).expect("there is memory");
        // SAFETY: 1. from this heap with this layout. 2. not used again.
        unsafe { heap.free_sized(black_box(object), layout(64)) };
    }
}

#[inline(never)]
fn claim(rounds: usize) {
    let source = Frames::new();
    for _ in 0..rounds {
        black_box(source.allocator().try_claim_cpu().map(|claim| claim.index()));
        black_box(source.allocator().try_claim_cpu().map(|claim| claim.index()));
    }
}

#[inline(never)]
fn grow(heap: &Heap<'_, Frames>, rounds: usize, mut next: impl FnMut(&mut Random) -> Layout) {
    let mut random = Random(1);
    let mut objects = Vec::with_capacity(GROWN);
    for _ in 0..rounds {
        for _ in 0..GROWN {
            let layout = next(&mut random);
            objects.push((heap.alloc(Gfp::KERNEL, layout).expect("there is memory"), layout));
        }
        for (object, layout) in objects.drain(..) {
            // SAFETY: 1. from this heap with this layout. 2. not used again.
            unsafe { heap.free_sized(object, layout) };
        }
    }
}
