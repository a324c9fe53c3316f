//! What an object of the heap costs: larson's loop, as the other heaps are measured with.

use alloc::alloc::{alloc, dealloc};
use alloc::vec;
use core::alloc::Layout;
use core::hint::black_box;
use core::ptr::NonNull;

use super::measure::Hundredths;
use crate::frames::allocator;
use crate::random::Random;
use crate::ticks::Clock;

/// Objects at a time.
const NR_SLOTS: usize = 1024;
/// Frees and allocations in one run.
const PAIRS: u64 = 10_000;
/// Runs before those that count: they fill the slots.
const WARM_UP: usize = 2;
/// Runs that count; the shortest is free of interrupts.
const RUNS: usize = 5;
/// Limit of a free and an allocation, with their two claims on the CPU: what they cost when it was set, and 5 %
/// for other compilers. The aim is 60.
const PAIR_MAX: Hundredths = Hundredths(9700);

/// Prints what a free and an allocation cost, and under a clock that counts instructions checks the limit.
pub(super) fn run(clock: Clock) {
    let empty = cost(clock, &mut Nothing);
    let claims = less(cost(clock, &mut Claims), empty);
    let pair = less(cost(clock, &mut Heap), empty);
    let unit = clock.unit();
    println!(
        "heap: {pair} {unit} to free one of {NR_SLOTS} objects of 8 to 512 bytes and to allocate another, \
         {claims} of them for two claims"
    );
    if clock.counts_instructions {
        println!("      limit {PAIR_MAX}");
        assert!(pair <= PAIR_MAX, "a free and an allocation cost more than their limit");
    }
}

fn less(one: Hundredths, other: Hundredths) -> Hundredths {
    Hundredths(one.0.saturating_sub(other.0))
}

/// What the loop calls.
trait Calls {
    /// # Safety
    /// The layout's size is not zero.
    unsafe fn alloc(&mut self, layout: Layout) -> NonNull<u8>;

    /// # Safety
    /// The object is from `alloc` with this layout, and not used again.
    unsafe fn free(&mut self, object: NonNull<u8>, layout: Layout);
}

/// No call: what the loop costs.
struct Nothing;

/// A claim on the CPU for each call, as the heap makes it.
struct Claims;

/// The global allocator.
struct Heap;

impl Calls for Nothing {
    #[inline]
    unsafe fn alloc(&mut self, layout: Layout) -> NonNull<u8> {
        layout.dangling_ptr()
    }

    #[inline]
    unsafe fn free(&mut self, object: NonNull<u8>, _layout: Layout) {
        black_box(object);
    }
}

impl Calls for Claims {
    #[inline]
    unsafe fn alloc(&mut self, layout: Layout) -> NonNull<u8> {
        black_box(allocator().try_claim_cpu_at_once().map(|claim| claim.index()));
        layout.dangling_ptr()
    }

    #[inline]
    unsafe fn free(&mut self, object: NonNull<u8>, _layout: Layout) {
        black_box(allocator().try_claim_cpu_at_once().map(|claim| claim.index()));
        black_box(object);
    }
}

impl Calls for Heap {
    #[inline]
    unsafe fn alloc(&mut self, layout: Layout) -> NonNull<u8> {
        // SAFETY: 1. the size is not zero: the caller's obligation.
        let object = unsafe { alloc(layout) };
        NonNull::new(object).expect("there is memory")
    }

    #[inline]
    unsafe fn free(&mut self, object: NonNull<u8>, layout: Layout) {
        // SAFETY: 1. from `alloc` with this layout, not used again: the caller's obligation.
        unsafe { dealloc(object.as_ptr(), layout) };
    }
}

/// Returns the ticks of a free and an allocation, with the loop.
fn cost(clock: Clock, calls: &mut impl Calls) -> Hundredths {
    let mut random = Random::new(1);
    let mut slots = vec![None; NR_SLOTS];
    let mut least = u64::MAX;
    for run in 0..WARM_UP + RUNS {
        let ticks = clock.ticks(|| larson(calls, &mut random, &mut slots));
        if run >= WARM_UP {
            least = least.min(ticks);
        }
    }
    for (object, layout) in slots.into_iter().flatten() {
        // SAFETY: 1. from `alloc` with this layout. 2. not used again.
        unsafe { calls.free(object, layout) };
    }
    Hundredths(least * 100 / PAIRS)
}

type Slot = Option<(NonNull<u8>, Layout)>;

#[inline(never)]
fn larson(calls: &mut impl Calls, random: &mut Random, slots: &mut [Slot]) {
    for _ in 0..PAIRS {
        let slot = &mut slots[random.length_below(NR_SLOTS)];
        if let Some((object, layout)) = slot.take() {
            // SAFETY: 1. from `alloc` with this layout. 2. not used again: the slot is empty.
            unsafe { calls.free(object, layout) };
        }
        let layout =
            Layout::from_size_align(8 + random.length_below(505), 8).expect("a small size");
        // SAFETY: 1. at least 8 bytes.
        *slot = Some((unsafe { calls.alloc(layout) }, layout));
    }
}
