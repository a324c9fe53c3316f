//! All sequences of a few operations in worlds of a few frames, compared with the naive model.
//!
//! Faults that need a certain order of operations do not need many of them.
// One thread at a time: ThreadSanitizer can see no race here, and takes ten minutes for it.
#![cfg(not(pagemill_tsan))]

extern crate alloc;

#[expect(dead_code, reason = "other tests use the rest")]
mod common;

use common::naive::Naive;
use common::player::{LAST, Op, Player, Tally};
use pagemill::{Config, Gfp};
use pagemill_testkit::{World, order, pages, region};

/// Frames 0 to 7 of the worlds are the last ones below 4 GiB.
const START: u64 = (1 << 20) - 8;

/// Plays `first` and then every sequence of `len` operations of `alphabet`, and returns how many there were.
fn play_all(config: &Config<'_>, first: &[Op], alphabet: &[Op], len: u32) -> (usize, Tally) {
    let mut tally = Tally::default();
    let nr_sequences = alphabet.len().pow(len);
    let naive = Naive::new(config, World::new(config).frames());
    for sequence in 0..nr_sequences {
        let world = World::new(config);
        let mut player = Player::new(&world, naive.clone());
        first.iter().for_each(|&op| player.step(op));
        let mut rest = sequence;
        for _ in 0..len {
            player.step(alphabet[rest % alphabet.len()]);
            rest /= alphabet.len();
        }
        tally += player.finish();
    }
    (nr_sequences, tally)
}

#[test]
fn pages_blocks_and_bulk_on_two_cpus_and_in_two_zones() {
    const LEN: u32 = if cfg!(miri) { 1 } else { 5 };
    let memory = [region(START, 16, 0)];
    let config = Config {
        pcp_high: Some(2),
        pcp_batch: Some(1),
        min_free_bytes: Some(pages(2)),
        lowmem_reserve_ratio: [0, 4, 0, 0],
        ..Config::new(&memory, 2)
    };
    let (gfp, node) = (Gfp::KERNEL, None);
    let alphabet = [
        Op::Single { gfp, node },
        Op::Array { gfp: Gfp::NOWAIT, node, len: 2, full: 0 },
        Op::Array { gfp, node, len: 4, full: 0b0010 },
        Op::Block { gfp, node, order: order(1) },
        Op::Free(0),
        Op::Free(LAST),
        Op::FreeBlock(0),
        Op::Drain,
        Op::Switch(1),
    ];
    let (nr_sequences, tally) = play_all(&config, &[], &alphabet, LEN);
    assert_eq!(nr_sequences, 9_usize.pow(LEN));
    assert!(cfg!(miri) || tally.bulk_of_one > 0 && tally.holes_filled > 0, "{tally:?}");
}

#[test]
fn owners_and_lists_of_shared_pages() {
    const LEN: u32 = if cfg!(miri) { 1 } else { 6 };
    let memory = [region(START, 8, 0)];
    let config = Config { pcp_high: Some(1), ..Config::new(&memory, 1) };
    let first = [Op::Single { gfp: Gfp::NOWAIT, node: None }, Op::Share(0), Op::CloneShared(0)];
    let alphabet = [
        Op::CloneShared(0),
        Op::DropShared(0),
        Op::Unshare(LAST),
        Op::Share(0),
        Op::Enlist(0),
        Op::Delist,
        Op::FreeSharedList,
    ];
    let (nr_sequences, tally) = play_all(&config, &first, &alphabet, LEN);
    assert_eq!(nr_sequences, 7_usize.pow(LEN));
    assert!(cfg!(miri) || tally.shared_kept_on_list > 0, "{tally:?}");
}
