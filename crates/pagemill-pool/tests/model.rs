//! Random operations on a pool and on a naive one: results and all counters compared at each step.
//!
//! `PAGEMILL_SEED=<seed>` runs one seed alone.
#![cfg(not(loom))]
#![forbid(unsafe_code)]

extern crate alloc;

mod common;

use std::panic::catch_unwind;

use common::player::{Op, Player};
use common::world;
use pagemill::units::NodeId;
use pagemill_pool::dma::{ArenaOffsets, FaultyMapper};
use pagemill_pool::{PagePool, PoolParams};
use pagemill_testkit::{Rng, World};

const NR_SEEDS: u64 = 60;
const NR_STEPS: usize = 2_000;
/// Pages out at once: more than cache and small rings hold, fewer than a node has.
const MAX_OUT: usize = 400;

#[test]
fn a_pool_does_what_a_naive_one_does() {
    let seeds = match std::env::var("PAGEMILL_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..NR_SEEDS,
    };
    for seed in seeds {
        let outcome = catch_unwind(|| run(seed));
        assert!(outcome.is_ok(), "PAGEMILL_SEED={seed} fails: see above");
    }
}

fn run(seed: u64) {
    let mut rng = Rng::new(seed);
    let world = world();
    let pool_size = [1, 2, 7, 64, 100, 128][rng.below(6)];
    let node = Some(NodeId::new(0));
    let params = PoolParams { pool_size, node, ..PoolParams::new() };
    let mapper = FaultyMapper::new(ArenaOffsets::new(World::BASE));
    let pool = PagePool::new(&params, &*world, mapper).expect("valid parameters");
    let mut player = Player::new(&world, &pool);
    // Each run has its own liking.
    let weights: [usize; 12] = core::array::from_fn(|_| rng.below(8));
    for _ in 0..NR_STEPS {
        if let Some(op) = choose(&mut rng, &weights, player.nr_out()) {
            player.play(op);
        }
    }
    player.finish();
}

fn choose(rng: &mut Rng, weights: &[usize; 12], nr_out: usize) -> Option<Op> {
    let nr = match rng.below(4) {
        0 => rng.below(200),
        _ => rng.below(20),
    };
    let room = MAX_OUT - nr_out.min(MAX_OUT);
    let some = nr.min(nr_out);
    let at = (nr_out > 0).then(|| rng.below(nr_out.max(1)));
    let mut ticket = rng.below(weights.iter().sum::<usize>() + 2);
    let kind = weights.iter().position(|&weight| {
        let found = ticket < weight;
        ticket = ticket.wrapping_sub(weight);
        found
    });
    Some(match kind {
        Some(0) if room > 0 => Op::Alloc,
        Some(1) => Op::AllocBulk(nr.min(room)),
        Some(2) => Op::Put(at?),
        Some(3) => Op::PutBulk(some),
        Some(4) => Op::Drop(at?),
        Some(5) => Op::DropBulk(some),
        Some(6) => Op::Detach(at?),
        Some(7) => Op::ReleaseBulk(some),
        Some(8) => Op::Share { at: at?, held: rng.below(2) == 0 },
        Some(9) => Op::SetRefill(1 + rng.below(64)),
        Some(10) => Op::FailMaps(if rng.below(2) == 0 { 0 } else { rng.next_u64() }),
        Some(11) => Op::FailAllocs(rng.below(3) == 0),
        Some(_) => return None,
        None => Op::SetNode(u8::from(rng.below(2) == 0)),
    })
}
