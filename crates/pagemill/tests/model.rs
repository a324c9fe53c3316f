//! Random operations on allocators of many shapes, each compared with a naive model.
//!
//! Results, frames, counters and free blocks are compared after every step. A failure names its
//! seed; `PAGEMILL_SEED=<seed>` then runs that one alone.
// One thread at a time: ThreadSanitizer can see no race here, and takes ten minutes for it.
#![cfg(not(pagemill_tsan))]

extern crate alloc;

#[expect(dead_code, reason = "other tests use the rest")]
mod common;

use common::naive::Naive;
use common::player::{Op, Player, Tally};
use pagemill::units::NodeId;
use pagemill::{Config, Gfp};
use pagemill_testkit::{NORMAL, Rng, World, order, pages, play_seeds, region, reserved};

const RUNS: u64 = if cfg!(miri) { 1 } else { 24 };
const STEPS: usize = if cfg!(miri) { 12 } else { 2_500 };
/// First frame above 16 MiB.
const DMA32: u64 = 1 << 12;

/// What a run asks for, and how often.
struct Habits {
    rng: Rng,
    weights: [usize; NR_OPS],
    nr_nodes: usize,
    nr_cpus: u32,
    /// The longest bulk request.
    bulk_max: usize,
    order_max: u8,
    /// Whether a request for one node may name a node that has nothing to give it.
    strict: bool,
}

const NR_OPS: usize = 34;

impl Habits {
    fn new(mut rng: Rng, config: &Config<'_>, naive: &Naive) -> Self {
        let mut weights = [0; NR_OPS];
        weights.fill_with(|| rng.pick(&[1, 1, 2, 5, 10]));
        // Emptying everything is rare, or nothing ever fills up.
        for rare in [12, 19, 22, 24, 30, 31, 32] {
            weights[rare] = rng.pick(&[0, 1, 2]);
        }
        Self {
            weights,
            nr_nodes: naive.nr_nodes(),
            nr_cpus: config.nr_cpus,
            bulk_max: rng.pick(&[3, 20, 70, 600]),
            order_max: rng.pick(&[1, 3, 9, 10]),
            strict: rng.chance(50),
            rng,
        }
    }

    fn gfp(&mut self) -> Gfp {
        let mut gfp = self.rng.pick(&[
            Gfp::KERNEL,
            Gfp::KERNEL,
            Gfp::ATOMIC,
            Gfp::NOWAIT,
            Gfp::HIGHUSER_MOVABLE,
            Gfp::HIGHUSER_MOVABLE,
            Gfp::USER,
        ]);
        for (percent, flag) in [
            (10, Gfp::ZERO),
            (10, Gfp::RECLAIMABLE),
            (5, Gfp::DMA),
            (10, Gfp::DMA32),
            (5, Gfp::MEMALLOC),
            (3, Gfp::NOMEMALLOC),
        ] {
            if self.rng.chance(percent) {
                gfp |= flag;
            }
        }
        if self.strict && self.rng.chance(20) {
            gfp |= Gfp::THISNODE;
        }
        gfp
    }

    fn node(&mut self) -> Option<u8> {
        let node = u8::try_from(self.rng.below(self.nr_nodes)).expect("at most 64");
        self.rng.chance(40).then_some(node)
    }

    fn mask(&mut self) -> u64 {
        match self.rng.below(4) {
            0 => 0,
            1 => u64::MAX,
            2 => self.rng.next_u64(),
            _ => u64::MAX << self.rng.below(64),
        }
    }

    fn op(&mut self) -> Op {
        let which = self.rng.below(1 << 20);
        let len = self.rng.below(self.bulk_max + 1);
        match self.rng.weighted(&self.weights) {
            0 => Op::Single { gfp: self.gfp(), node: self.node() },
            1 => {
                let order =
                    order(u8::try_from(self.rng.below(11)).expect("small") % self.order_max);
                Op::Block { gfp: self.gfp(), node: self.node(), order }
            }
            2 => Op::Array { gfp: self.gfp(), node: self.node(), len, full: 0 },
            3 => Op::Array { gfp: self.gfp(), node: self.node(), len, full: self.mask() },
            4 => Op::List { gfp: self.gfp(), node: self.node(), nr: len },
            5 => Op::Free(which),
            6 | 7 => Op::FreeBlock(which),
            8 => Op::Split { which, keep: self.rng.below(9) },
            9 | 10 => Op::Release { len, full: u64::MAX },
            11 => Op::Release { len, full: self.mask() },
            12 => Op::FreeList,
            13 => Op::Share(which),
            14 => Op::CloneShared(which),
            15 | 16 => Op::DropShared(which),
            17 => Op::Unshare(which),
            18 => Op::Enlist(which),
            19 => self.rng.pick(&[Op::Delist, Op::FreeSharedList]),
            20 => self.rng.pick(&[Op::ListPop, Op::ListPush(which)]),
            21 => Op::ListAppend(len.min(40)),
            22 => self.rng.pick(&[Op::Raw(which), Op::Bits(which), Op::HandIn(which)]),
            25 => self.rng.pick(&[Op::FromPfn(which), Op::FolioFromPfn(which)]),
            26 => Op::Numbers { gfp: self.gfp(), len, keep: self.mask() },
            27 => Op::FreeNumbers { which, len: self.rng.below(len.min(70) + 1) },
            28 | 29 => {
                let piece = self.rng.pick(&[1, 2, 5, 33, 64, 65, 200, 512, 1 + which % 1024]);
                Op::FreePieces { which, piece, blocks: self.rng.chance(50) }
            }
            30 => Op::HandInRanges { which, len },
            23 => Op::Switch(u32::try_from(which).expect("20 bits") % self.nr_cpus),
            31 => {
                let (nr, align) = (1 + len, 1 << self.rng.pick(&[0, 0, 0, 2, 6, 10]));
                let min = if self.rng.chance(30) { 1 + self.rng.below(nr) } else { nr };
                Op::Contig { gfp: self.gfp(), node: self.node(), nr, min, align }
            }
            32 => Op::Range { gfp: self.gfp(), which, nr: 1 + len % 7 },
            33 => Op::FreeRange {
                which,
                keep: self.rng.pick(&[0, 0, 1, 5, 20]),
                split: self.rng.chance(30),
            },
            _ => self.rng.pick(&[Op::Drain, Op::FromForeignPfn(which as u64)]),
        }
    }
}

/// Plays random runs in the world of `config`.
fn play(name: &str, config: &Config<'_>) {
    let tallies = play_seeds(name, RUNS, |seed, ops| {
        let nr_zone_shards = config.nr_zone_shards.or(Some(1 << (seed % 3)));
        let config = &Config { nr_zone_shards, ..*config };
        let world = World::new(config);
        let naive = Naive::new(config, world.frames());
        let mut habits = Habits::new(Rng::new(seed), config, &naive);
        let mut player = Player::new(&world, naive);
        for _ in 0..STEPS {
            let op = habits.op();
            ops.push(op);
            player.step(op);
        }
        player.finish()
    });
    if tallies.len() as u64 == RUNS && !cfg!(miri) {
        let mut sum = Tally::default();
        tallies.into_iter().for_each(|tally| sum += tally);
        check_coverage(sum);
    }
}

/// Checks that every outcome was seen often enough to be worth comparing.
fn check_coverage(tally: Tally) {
    let Tally { single, single_failed, block, block_failed, .. } = tally;
    let Tally { contig, contig_failed, range, .. } = tally;
    let Tally { bulk, bulk_of_one, bulk_failed, holes_filled, shared_kept_on_list, .. } = tally;
    let rarest = [
        single,
        single_failed,
        block,
        block_failed,
        contig,
        contig_failed,
        range,
        bulk,
        bulk_of_one,
        bulk_failed,
        holes_filled,
        shared_kept_on_list,
    ];
    assert!(rarest.iter().all(|&times| times >= 10), "rarely seen: {tally:?}");
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn one_zone() {
    let memory = [region(NORMAL, 2048, 0)];
    play("one zone", &Config::new(&memory, 2));
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn one_zone_with_tiny_lists() {
    let memory = [region(NORMAL, 1024, 0)];
    for high in 1..=4 {
        let pcp_high = Some(high);
        let config = Config { pcp_high, pcp_batch: Some(1), ..Config::new(&memory, 3) };
        play("one zone with tiny lists", &config);
    }
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn one_zone_with_lists_that_could_hold_it_all() {
    let memory = [region(NORMAL, 1536, 0)];
    let config = Config {
        pcp_high: Some(2048),
        pcp_batch: Some(64),
        min_free_bytes: Some(pages(0)),
        watermark_scale_factor: 0,
        ..Config::new(&memory, 2)
    };
    play("one zone with lists that could hold it all", &config);
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn all_four_kinds_of_zones() {
    let memory = [region(DMA32 - 1024, 2048, 0), region(NORMAL - 512, 2560, 0)];
    let config = Config {
        zone_dma: true,
        movable_bytes: pages(1024),
        min_free_bytes: Some(pages(200)),
        lowmem_reserve_ratio: [64, 32, 16, 0],
        ..Config::new(&memory, 2)
    };
    play("all four kinds of zones", &config);
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn two_nodes() {
    let memory = [region(NORMAL, 1024, 0), region(NORMAL + 1024, 1024, 1)];
    let cpu_nodes = [0, 1, 1].map(NodeId::new);
    let config = Config { cpu_nodes: &cpu_nodes, ..Config::new(&memory, 3) };
    play("two nodes", &config);
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn three_nodes_with_distances_and_a_fourth_without_memory() {
    let memory =
        [region(NORMAL - 1024, 1024, 0), region(NORMAL, 1024, 2), region(NORMAL + 2048, 1024, 3)];
    let cpu_nodes = [0, 1, 2, 3].map(NodeId::new);
    let distances = [10, 30, 20, 40, 30, 10, 25, 15, 20, 25, 10, 20, 40, 15, 20, 10];
    let config = Config {
        cpu_nodes: &cpu_nodes,
        distances: &distances,
        movable_bytes: pages(512),
        ..Config::new(&memory, 4)
    };
    play("three nodes with distances and a fourth without memory", &config);
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn holes_and_reserved_ranges() {
    // The second region begins in the pageblock in which the first one ends.
    let memory = [
        region(NORMAL + 7, 600, 0),
        region(NORMAL + 900, 700, 0),
        region(NORMAL + 4096, 33, 0),
        region(NORMAL + 5120, 1024, 0),
    ];
    let reserved = [
        reserved(NORMAL + 100, 31),
        reserved(NORMAL + 590, 400),
        reserved(NORMAL + 110, 60),
        reserved(NORMAL + 4096, 1),
        reserved(0, 10),
    ];
    let config = Config { reserved: &reserved, ..Config::new(&memory, 2) };
    play("holes and reserved ranges", &config);
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn shards_that_begin_inside_of_pairs() {
    // From an odd pageblock on; the second begins where the first ends; the third shares a pageblock.
    let memory = [
        region(NORMAL + 512, 1536, 0),
        region(NORMAL + 2048, 1024 + 512, 0),
        region(NORMAL + 4096 + 100, 300, 0),
        region(NORMAL + 4096 + 450, 2048, 0),
    ];
    for shards in [2, 4] {
        let config = Config { nr_zone_shards: Some(shards), ..Config::new(&memory, 4) };
        play("shards that begin inside of pairs", &config);
    }
}

#[test]
fn a_world_of_a_few_frames() {
    let memory = [region(NORMAL - 8, 21, 0)];
    let config = Config { pcp_high: Some(2), ..Config::new(&memory, 2) };
    play("a world of a few frames", &config);
}
