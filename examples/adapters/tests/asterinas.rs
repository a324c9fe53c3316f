//! The adapter for Asterinas, beside a model: the original allocator builds only inside its kernel.

use core::alloc::Layout;

use pagemill::units::PAGE_SIZE;
use pagemill::{Config, Gfp};
use pagemill_adapters::asterinas::{GlobalFrameAllocator, OstdFrames};
use pagemill_testkit::{Rng, World, region, reserved};

const FIRST: usize = 1 << 18;
const NR: usize = 1 << 13;

/// Builds a machine whose frames are all reserved and can all be handed out.
fn world() -> World {
    let memory = [region(FIRST as u64, NR as u64, 0)];
    let reserved = [reserved(FIRST as u64, NR as u64)];
    World::new(&Config {
        reserved: &reserved,
        zone_dma32: false,
        min_free_bytes: Some(0),
        watermark_scale_factor: 0,
        // Lists would hand the page freed last to the next that wants one, wherever it is, and so leave
        // fewer long ranges free.
        pcp_high: Some(1),
        ..Config::new(&memory, 1)
    })
}

/// Makes the adapter as `ostd` uses it: behind a reference to any type.
fn with_frames(body: impl FnOnce(&World, &dyn GlobalFrameAllocator)) {
    let world = world();
    // SAFETY: 1., 2. the tests free what they allocated, and add the reserved memory once.
    let frames = unsafe { OstdFrames::new(world.frames(), Gfp::KERNEL) };
    body(&world, &frames);
}

fn add_all(world: &World, frames: &dyn GlobalFrameAllocator) {
    frames.add_free_memory(FIRST * PAGE_SIZE, NR * PAGE_SIZE);
    (0..NR).for_each(|_| world.hand_in());
}

fn layout(nr: usize, align: usize) -> Layout {
    Layout::from_size_align(nr * PAGE_SIZE, align * PAGE_SIZE).expect("small")
}

#[test]
fn memory_comes_in_pieces_and_leaves_whole() {
    with_frames(|world, frames| {
        assert_eq!(frames.alloc(layout(1, 1)), None, "all memory is reserved");
        for piece in 0..NR / 64 {
            frames.add_free_memory((FIRST + piece * 64) * PAGE_SIZE, 64 * PAGE_SIZE);
        }
        (0..NR).for_each(|_| world.hand_in());
        let held: Vec<_> =
            (0..NR / 1024).map(|_| frames.alloc(layout(1024, 1024)).unwrap()).collect();
        assert_eq!(frames.alloc(layout(1, 1)), None, "all memory is in use");
        for start in held {
            // In any order, in any number of calls.
            frames.dealloc(start + 512 * PAGE_SIZE, 512 * PAGE_SIZE);
            frames.dealloc(start, 511 * PAGE_SIZE);
            frames.dealloc(start + 511 * PAGE_SIZE, PAGE_SIZE);
        }
    });
}

#[test]
fn every_frame_is_handed_out() {
    with_frames(|world, frames| {
        add_all(world, frames);
        let mut held: Vec<_> = core::iter::from_fn(|| frames.alloc(layout(1, 1))).collect();
        assert_eq!(held.len(), NR);
        held.sort_unstable();
        held.dedup();
        assert_eq!(held.len(), NR, "no frame twice");
        held.into_iter().for_each(|start| frames.dealloc(start, PAGE_SIZE));
    });
}

#[test]
fn random_calls_agree_with_a_model() {
    for seed in 0..20 {
        with_frames(|world, frames| {
            add_all(world, frames);
            random_calls(seed, frames);
        });
    }
}

/// Allocates ranges and frees parts of them; the model is one flag for each frame.
fn random_calls(seed: u64, frames: &dyn GlobalFrameAllocator) {
    let mut rng = Rng::new(seed);
    let mut is_used = vec![false; NR];
    let mut held: Vec<(usize, usize)> = Vec::new();
    for _ in 0..3000 {
        if rng.chance(50) {
            let bits = rng.below(8);
            let (nr, align) = (1 + rng.below(1 << bits), 1 << rng.below(6));
            let start = frames.alloc(layout(nr, align));
            let nr_used = is_used.iter().filter(|&&used| used).count();
            assert!(
                start.is_some() || nr_used > NR / 2,
                "seed {seed}: {nr} frames, {nr_used} used"
            );
            let Some(start) = start else { continue };
            assert!(start.is_multiple_of(align * PAGE_SIZE), "seed {seed}: {start:#x}");
            let first = start / PAGE_SIZE - FIRST;
            for used in &mut is_used[first..first + nr] {
                assert!(!*used, "seed {seed}: {start:#x} + {nr} is in use");
                *used = true;
            }
            held.push((start, nr));
        } else if !held.is_empty() {
            let at = rng.below(held.len());
            let (start, nr) = held.swap_remove(at);
            let part = 1 + rng.below(nr);
            frames.dealloc(start, part * PAGE_SIZE);
            is_used[start / PAGE_SIZE - FIRST..][..part].fill(false);
            if part < nr {
                held.push((start + part * PAGE_SIZE, nr - part));
            }
        }
    }
    held.into_iter().for_each(|(start, nr)| frames.dealloc(start, nr * PAGE_SIZE));
}

#[test]
#[should_panic(expected = "is not in the allocator's memory map")]
fn frames_outside_of_the_map_are_refused() {
    with_frames(|_, frames| frames.dealloc(0, PAGE_SIZE));
}
