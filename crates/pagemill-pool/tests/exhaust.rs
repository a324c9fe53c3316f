//! Every sequence of operations in a small world: a ring of two places, refills of one or two.
#![cfg(not(loom))]
#![forbid(unsafe_code)]

extern crate alloc;

#[expect(dead_code, reason = "other tests use the rest")]
mod common;

use common::player::{Op, Player};
use pagemill::units::NodeId;
use pagemill_pool::dma::{ArenaOffsets, FaultyMapper};
use pagemill_pool::{PagePool, PoolParams};
use pagemill_testkit::World;

/// Operations in a sequence.
const LEN: u32 = 6;

/// What the next operation may be; those on pages apply to the one that came first or last.
fn choices(nr_out: usize) -> Vec<Op> {
    let mut ops = vec![
        Op::Alloc,
        Op::SetRefill(1),
        Op::FailMaps(1),
        Op::FailAllocs(true),
        Op::FailAllocs(false),
        Op::SetNode(1),
        Op::SetNode(0),
    ];
    if nr_out > 0 {
        ops.extend([Op::Put(0), Op::Drop(0), Op::Detach(0), Op::Share { at: 0, held: true }]);
    }
    if nr_out > 1 {
        ops.extend([Op::DropBulk(2), Op::PutBulk(2)]);
    }
    ops
}

#[test]
fn all_short_sequences_do_what_the_model_does() {
    let world = common::world();
    let nr_sequences = extend(&world, &mut Vec::new());
    assert!(nr_sequences > 100_000, "{nr_sequences}");
}

/// Plays all sequences that begin with `ops`, and returns how many there were.
fn extend(world: &World, ops: &mut Vec<Op>) -> usize {
    let params =
        PoolParams { pool_size: 2, refill: 2, node: Some(NodeId::new(0)), ..PoolParams::new() };
    let mapper = FaultyMapper::new(ArenaOffsets::new(World::BASE));
    let pool = PagePool::new(&params, &**world, mapper).expect("valid parameters");
    let mut player = Player::new(world, &pool);
    player.play(Op::SetRefill(2));
    ops.iter().for_each(|&op| player.play(op));
    let nr_out = player.nr_out();
    player.finish();
    let mut nr_sequences = 1;
    if ops.len() < LEN as usize {
        for op in choices(nr_out) {
            ops.push(op);
            nr_sequences += extend(world, ops);
            ops.pop();
        }
    }
    nr_sequences
}
