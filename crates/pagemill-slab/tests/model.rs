//! Caches of many shapes beside a naive model, with the same random operations; also while allocations fail.

#![cfg(not(loom))]

mod common;

use common::{Player, Step};
use pagemill::debug::FaultConfig;
use pagemill_slab::{Cache, CacheConfig, Checks, Refill, Slabs};
use pagemill_testkit::{Rng, World, order, play_seeds};

fn random_config(rng: &mut Rng) -> CacheConfig {
    let size = rng.pick(&[1, 8, 24, 64, 100, 256, 600, 1024, 2048, 3000, 4096, 9000]);
    let config = CacheConfig::new("model", size, rng.pick(&[1, 8, 16, 64]));
    CacheConfig {
        order: rng.pick(&[None, None, Some(order(0)), Some(order(2)), Some(order(3))]),
        refill: rng.pick(&[Refill::Single, Refill::Bulk, Refill::Split]),
        array: rng.pick(&[None, Some(0), Some(1), Some(2), Some(5)]),
        checks: rng.pick(&[Checks::Off, Checks::Owner, Checks::RedZone, Checks::Poison]),
        ..config
    }
}

fn random_step(rng: &mut Rng) -> Step {
    match rng.weighted(&[10, 30, 2, 10, 30, 10, 1]) {
        0 => Step::Cpu(u32::try_from(rng.below(2)).expect("small")),
        1 => Step::Alloc,
        2 => Step::AllocZeroed,
        3 => Step::AllocBulk(rng.below(20)),
        4 => Step::Free(rng.below(1000)),
        5 => Step::FreeBulk(rng.below(40)),
        _ => Step::Shrink,
    }
}

/// Plays random steps in a world of `nr_frames`, and returns the largest number of objects.
fn play(seed: u64, nr_frames: u64, faults: bool, steps: &mut Vec<Step>) -> usize {
    let mut rng = Rng::new(seed);
    let world = World::with_memory(nr_frames, 1);
    let slabs = Slabs::new(world.frames()).expect("there is memory");
    let cache = Cache::new(&slabs, &random_config(&mut rng)).expect("a valid configuration");
    if faults {
        world.inject_faults(&FaultConfig { probability: 300_000, ..FaultConfig::EVERY });
    }
    let mut player = Player::new(&cache);
    let mut most = 0;
    for _ in 0..if cfg!(miri) { 40 } else { 400 } {
        let step = random_step(&mut rng);
        steps.push(step);
        player.play(step);
        most = most.max(player.nr_objects());
    }
    world.inject_faults(&FaultConfig::NEVER);
    player.end();
    drop(cache);
    drop(slabs);
    assert_eq!(world.nr_out(), 0, "memory is back to the last page");
    most
}

#[test]
fn a_cache_does_what_a_list_of_objects_does() {
    let nr_runs = if cfg!(miri) { 3 } else { 300 };
    let most = play_seeds("plenty", nr_runs, |seed, steps| play(seed, 2048, false, steps));
    assert!(most.iter().any(|&nr| nr > 10));
}

#[test]
fn a_cache_does_so_while_memory_runs_out() {
    let nr_runs = if cfg!(miri) { 3 } else { 200 };
    play_seeds("scarce", nr_runs, |seed, steps| play(seed, 64, false, steps));
}

#[test]
fn a_cache_does_so_while_allocations_of_pages_fail() {
    let nr_runs = if cfg!(miri) { 3 } else { 200 };
    play_seeds("faults", nr_runs, |seed, steps| play(seed, 512, true, steps));
}
