//! The whole space of requests, at random: sink, effort, order, policy, account, faults, zeroing.
//!
//! After every step it is checked that what was promised came, that accounts, counters and the
//! table of owners add up to what is held, and in the end that nothing leaked. A failure names its
//! seed; `PAGEMILL_SEED=<seed>` then runs that one alone.
// One thread at a time: ThreadSanitizer can see no race here, and takes ten minutes for it.
#![cfg(not(pagemill_tsan))]

extern crate alloc;

mod payers;
mod player;
mod shape;
mod tally;
mod twins;

use pagemill::debug::FaultConfig;
use pagemill::request::Effort;
use pagemill::units::NodeId;
use pagemill::{Config, Gfp, Order};
use pagemill_testkit::{Machine, NORMAL, Rng, World, order, pages, play_seeds, region};
use player::{Contig, Player};
use shape::{Place, Shape, Sink};
use tally::Tally;

const RUNS: u64 = if cfg!(miri) { 1 } else { 12 };
const STEPS: usize = if cfg!(miri) { 8 } else { 1_500 };
const NR_ACCOUNTS: u32 = 5;

/// One step of a run.
#[derive(Clone, Copy, Debug)]
enum Op {
    Request(Shape),
    Series { gfp: Gfp, payer: Option<usize>, nr: usize },
    Contig(Contig),
    Free { which: usize, nr: usize, way: usize },
    Open { parent: Option<usize>, max: u64 },
    Close(usize),
    Limit(usize, u64),
    Faults(FaultConfig),
    Switch(u32),
    Drain,
}

/// What a run asks for, and how often.
struct Habits {
    rng: Rng,
    nr_cpus: u32,
    /// Bits of the nodes that have memory.
    nodes: u64,
    nr_max: usize,
    order_max: u8,
    nr_frames: usize,
}

impl Habits {
    fn payer(&mut self, player: &Player<'_>) -> Option<usize> {
        let open = player.payers.open_ones();
        (!open.is_empty() && self.rng.chance(50)).then(|| self.rng.pick(&open))
    }

    fn gfp(&mut self) -> Gfp {
        let mut gfp = self.rng.pick(&[
            Gfp::KERNEL,
            Gfp::KERNEL,
            Gfp::ATOMIC,
            Gfp::NOWAIT,
            Gfp::HIGHUSER_MOVABLE,
            Gfp::NOFS,
        ]);
        for (percent, flag) in [
            (20, Gfp::ZERO),
            (10, Gfp::RECLAIMABLE),
            (5, Gfp::DMA32),
            (5, Gfp::MEMALLOC),
            (3, Gfp::NOMEMALLOC),
            (10, Gfp::NORETRY),
            (10, Gfp::RETRY_MAYFAIL),
            (10, Gfp::THISNODE),
        ] {
            if self.rng.chance(percent) {
                gfp |= flag;
            }
        }
        gfp
    }

    fn place(&mut self) -> Place {
        let nodes = self.rng.next_u64() & self.nodes;
        let node = (0..8).filter(|node| self.nodes >> node & 1 != 0).collect::<Vec<u8>>();
        match self.rng.below(9) {
            0..3 => Place::Local,
            3 => Place::Preferred(self.rng.pick(&node)),
            4 => Place::PreferredMany(nodes),
            5 => Place::Bind(nodes),
            6 | 7 => Place::Interleave(nodes),
            _ => Place::Weighted(nodes),
        }
    }

    fn shape(&mut self, player: &Player<'_>) -> Shape {
        use Sink::{Complete, Each, Exactly, Extents, Fill, List, Numbers, Range, Write};
        let sinks = [Fill, Fill, Range, Write, List, Each, Extents, Numbers, Complete, Exactly];
        let sink = self.rng.pick(&sinks);
        let folios = self.rng.chance(40);
        let order = match self.rng.below(11) {
            _ if !folios => Order::ZERO,
            number => order(u8::try_from(number).expect("small") % self.order_max),
        };
        let nr = self.rng.below(self.nr_max + 1) >> (order.value() / 2);
        let gfp = self.gfp();
        let payer = self.payer(player);
        let by_flag = payer.is_some() && self.rng.chance(30);
        let patience =
            self.rng.chance(30).then(|| u32::try_from(self.rng.below(6)).expect("small"));
        // Without the means to stop it, a single thread would wait for itself.
        let nofail = patience.is_some() && self.rng.chance(20);
        let shape = Shape {
            sink,
            folios,
            gfp: gfp
                | if by_flag { Gfp::ACCOUNT } else { Gfp::empty() }
                | if nofail { Gfp::NOFAIL } else { Gfp::empty() },
            order,
            effort: self.rng.pick(&[Effort::Fast, Effort::TryHard, Effort::AllOrNothing]),
            place: self.place(),
            payer,
            by_flag,
            patience,
            nr,
            full: self.rng.pick(&[0, 1, 7]),
        };
        shape.as_sink_allows()
    }

    fn contig(&mut self, player: &Player<'_>) -> Contig {
        let nr = 1 + self.rng.below(self.nr_max);
        let payer = self.payer(player);
        let by_flag = payer.is_some() && self.rng.chance(30);
        Contig {
            gfp: self.gfp() | if by_flag { Gfp::ACCOUNT } else { Gfp::empty() },
            nr,
            min: if self.rng.chance(50) { nr } else { 1 + self.rng.below(nr) },
            align: 1 << self.rng.below(6),
            limit: self.rng.chance(20).then(|| self.rng.below(self.nr_frames) as u64),
            exact: self.rng.chance(25).then(|| self.rng.below(self.nr_frames) as u64),
            payer,
            by_flag,
            cut: self.rng.below(nr + 1),
        }
    }

    fn op(&mut self, player: &Player<'_>) -> Op {
        let open = player.payers.open_ones();
        let max = self.rng.below(self.nr_frames) as u64;
        let max = self.rng.pick(&[u64::MAX, max, max, max / 4]);
        match self.rng.below(100) {
            0..45 => Op::Request(self.shape(player)),
            45..48 => Op::Contig(self.contig(player)),
            48..51 => {
                let (gfp, payer) = (self.gfp(), self.payer(player));
                Op::Series { gfp, payer, nr: self.rng.below(self.nr_max + 1) }
            }
            51..88 => {
                let nr = self.rng.pick(&[1, 5, 60, player.nr_held() / 2 + 1]);
                Op::Free { which: self.rng.below(1 << 20), nr, way: self.rng.below(7) }
            }
            88..91 => {
                let parent = self.rng.chance(70).then(|| open.first().copied()).flatten();
                let parent = if self.rng.chance(50) { parent } else { open.last().copied() };
                Op::Open { parent, max }
            }
            91 if !open.is_empty() => Op::Close(self.rng.pick(&open)),
            92 if !open.is_empty() => Op::Limit(self.rng.pick(&open), max),
            93 | 94 => Op::Faults(self.rng.pick(&[
                FaultConfig::NEVER,
                FaultConfig::NEVER,
                FaultConfig::nth(3),
                FaultConfig { probability: 300_000, times: 5, ..FaultConfig::EVERY },
                FaultConfig { interval: 2, min_order: order(1), times: 3, ..FaultConfig::EVERY },
            ])),
            95 => Op::Drain,
            _ => Op::Switch(u32::try_from(self.rng.below(64)).expect("small") % self.nr_cpus),
        }
    }
}

fn step(player: &mut Player<'_>, op: Op) {
    match op {
        Op::Request(shape) => player.request(&shape),
        Op::Series { gfp, payer, nr } => player.series(gfp, payer, nr),
        Op::Contig(contig) => player.contig(&contig),
        Op::Free { which, nr, way } => player.free(which, nr, way),
        Op::Open { parent, max } => player.payers.open(parent, max),
        Op::Close(payer) => player.payers.close(payer),
        Op::Limit(payer, max) => player.payers.set_max(payer, max),
        Op::Faults(config) => player.inject(&config),
        Op::Switch(cpu) => player.switch(cpu),
        Op::Drain => player.drain(),
    }
    player.check();
}

/// Plays one run and returns what was seen.
fn run(seed: u64, config: &Config<'_>, ops: &mut Vec<Op>) -> Tally {
    let config = &Config { nr_zone_shards: Some(1 << (seed % 3)), ..*config };
    let mut rng = Rng::new(seed);
    let nr_frames = config.memory.iter().map(|region| region.len_bytes >> 12).sum::<u64>();
    let nr_frames = usize::try_from(nr_frames).expect("a small world");
    let world = World::on(Machine::new(config.nr_cpus), config);
    let cpu_nodes: Vec<u8> = (0..64)
        .map(|cpu| config.cpu_nodes.get(cpu).copied().unwrap_or(config.memory[0].node).value())
        .collect();
    let room = usize::try_from(NR_ACCOUNTS).expect("a few");
    let mut player = Player::new(&world, &cpu_nodes, config.page_owner, room);
    let mut habits = Habits {
        nr_cpus: config.nr_cpus,
        nodes: config.memory.iter().fold(0, |nodes, region| nodes | 1 << region.node.value()),
        nr_max: rng.pick(&[8, 70, 300, nr_frames]),
        order_max: rng.pick(&[1, 3, 6, 11]),
        nr_frames,
        rng,
    };
    for _ in 0..STEPS {
        let op = habits.op(&player);
        ops.push(op);
        step(&mut player, op);
    }
    player.finish()
}

/// Plays random runs in the world of `config`.
fn play(name: &str, config: &Config<'_>) {
    let config = Config { nr_accounts: NR_ACCOUNTS, ..*config };
    let tallies = play_seeds(name, RUNS, |seed, ops| run(seed, &config, ops));
    if tallies.len() as u64 == RUNS && !cfg!(miri) {
        let mut sum = Tally::default();
        tallies.into_iter().for_each(|tally| sum.add(tally));
        sum.check_coverage();
    }
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn one_zone_with_lists_of_one_page() {
    let memory = [region(NORMAL, 1024, 0)];
    let (pcp_high, min_free_bytes) = (Some(1), Some(pages(100)));
    let page_owner = true;
    let config = Config { pcp_high, min_free_bytes, page_owner, ..Config::new(&memory, 2) };
    play("one zone with lists of one page", &config);
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn two_nodes() {
    let memory = [region(NORMAL, 1024, 0), region(NORMAL + 1024, 1024, 1)];
    let cpu_nodes = [0, 1, 1].map(NodeId::new);
    let config = Config { cpu_nodes: &cpu_nodes, page_owner: true, ..Config::new(&memory, 3) };
    play("two nodes", &config);
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn three_nodes_with_low_and_movable_memory() {
    let memory = [
        region(NORMAL - 1024, 2048, 0),
        region(NORMAL + 1024, 1024, 1),
        region(NORMAL + 2048, 1024, 2),
    ];
    let cpu_nodes = [0, 1, 2].map(NodeId::new);
    let config = Config {
        cpu_nodes: &cpu_nodes,
        movable_bytes: pages(512),
        lowmem_reserve_ratio: [64, 32, 16, 0],
        ..Config::new(&memory, 3)
    };
    play("three nodes with low and movable memory", &config);
}

#[test]
fn a_world_of_a_few_frames() {
    let memory = [region(NORMAL - 8, 40, 0)];
    let config = Config { pcp_high: Some(2), page_owner: true, ..Config::new(&memory, 2) };
    play("a world of a few frames", &config);
}
