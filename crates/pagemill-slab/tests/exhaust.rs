//! Every sequence of operations in a small world: arrays of one object, two CPUs, slabs of two objects.

#![cfg(not(loom))]

mod common;

use common::{Player, Step};
use pagemill_slab::{Cache, CacheConfig, Checks, Slabs};
use pagemill_testkit::{World, set_cpu};

/// The operations, of which `LENGTH` make a sequence.
const STEPS: [Step; 6] =
    [Step::Cpu(1), Step::Cpu(0), Step::Alloc, Step::AllocBulk(3), Step::Free(0), Step::Shrink];
const LENGTH: u32 = if cfg!(miri) { 2 } else { 7 };

fn play_all(config: &CacheConfig) {
    let world = World::with_memory(256, 1);
    let slabs = Slabs::new(world.frames()).expect("there is memory");
    let cache = Cache::new(&slabs, config).expect("a valid configuration");
    let before = world.nr_out();
    let nr = STEPS.len().pow(LENGTH);
    for sequence in 0..nr {
        set_cpu(0);
        let mut player = Player::new(&cache);
        let mut rest = sequence;
        for _ in 0..LENGTH {
            player.play(STEPS[rest % STEPS.len()]);
            rest /= STEPS.len();
        }
        player.end();
        // Nothing is left in the cache, so the next sequence begins where this one began. Counting the
        // allocator's pages takes long.
        if sequence % 1000 == 0 {
            assert_eq!(world.nr_out(), before, "sequence {sequence}");
        }
    }
    assert_eq!(world.nr_out(), before);
    set_cpu(0);
}

#[test]
fn every_sequence_with_arrays_of_one_object() {
    play_all(&CacheConfig { array: Some(1), ..CacheConfig::new("two in a slab", 2048, 8) });
}

#[test]
fn every_sequence_without_arrays_and_with_poison() {
    play_all(&CacheConfig { checks: Checks::Poison, ..CacheConfig::new("one in a slab", 2048, 8) });
}
