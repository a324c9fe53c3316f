//! Scenarios: the measurements, and the turns of the peers in them.

mod aged;
pub(crate) mod blocks;
mod drain;
mod handover;
mod orders;
mod pair;
pub(crate) mod scale;
mod steady;

use core::time::Duration;
use std::time::Instant;

use clap::ValueEnum;

use crate::bench_threads::BenchThreads;
use crate::rows::{Key, Rows};
use crate::runner::{Entry, THREADS_MAX};

/// The scenarios.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// One thread allocates N pages and frees them, repeatedly
    Steady,
    /// Two threads do the same at once, each on its own CPU, compared with one thread
    Pair,
    /// One thread allocates batches of 64, and a thread on another CPU frees them
    Handover,
    /// 31/32 of the arena is allocated in batches of 64 and freed, in the same and in random order
    Drain,
    /// Steady and drain again, after random churn
    Aged,
    /// Blocks of order 0 to 10: the arena allocated and freed, in the same and in random order, and one
    /// block repeatedly; by one thread and by two. Only when it is named
    Orders,
    /// The cost of a page with 1 to 16 threads at once, each on its own CPU. Only when it is named
    Scale,
    /// Requests for 20 to 100 of 524,288 block numbers, until they fail; other peers than the rest
    Blocks,
}

impl Scenario {
    /// Returns the name in options and reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Pair => "pair",
            Self::Handover => "handover",
            Self::Drain => "drain",
            Self::Aged => "aged",
            Self::Orders => "orders",
            Self::Scale => "scale",
            Self::Blocks => "blocks",
        }
    }

    /// Returns how many CPUs it needs.
    pub(crate) fn nr_cpus(self) -> usize {
        match self {
            Self::Pair | Self::Handover => 2,
            Self::Steady | Self::Drain | Self::Aged | Self::Orders | Self::Scale | Self::Blocks => {
                1
            }
        }
    }

    /// Returns how many CPUs it can use.
    pub(crate) fn nr_cpus_max(self) -> usize {
        if self == Self::Scale { THREADS_MAX } else { 2 }
    }
}

/// What to measure, and for how long.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The scenarios, in this order.
    pub(crate) scenarios: Vec<Scenario>,
    /// Pages per call, for steady.
    pub(crate) sizes: Vec<usize>,
    /// Pages in the arena.
    pub(crate) nr_pages: usize,
    /// Duration of one measurement, in scenarios that have a fixed duration.
    pub(crate) slice: Duration,
    /// Approximate duration of one scenario.
    pub(crate) share: Duration,
    /// Minimum number of rounds, even if they take longer.
    pub(crate) rounds_min: usize,
    /// Seed of the random choices.
    pub(crate) seed: u64,
}

/// A run: its plan, peers and threads, and the figures so far.
pub(crate) struct Run<'a> {
    /// What to measure, and for how long.
    pub(crate) plan: &'a Plan,
    /// The peers.
    pub(crate) entries: &'a [Entry],
    /// The threads.
    pub(crate) threads: &'a BenchThreads,
    /// The figures so far.
    pub(crate) rows: Rows,
}

impl Run<'_> {
    /// Carries out all scenarios.
    pub(crate) fn carry_out(&mut self) {
        let plan = self.plan;
        for &scenario in &plan.scenarios {
            if self.threads.nr_threads() < scenario.nr_cpus() {
                crate::output::note(&format!(
                    "{} needs two CPUs and was skipped: see --cpus",
                    scenario.name()
                ));
                continue;
            }
            match scenario {
                Scenario::Steady => steady::run(self),
                Scenario::Pair => pair::run(self),
                Scenario::Handover => handover::run(self),
                Scenario::Drain => drain::run(self),
                Scenario::Aged => aged::run(self),
                Scenario::Orders => orders::run(self),
                Scenario::Scale => scale::run(self),
                Scenario::Blocks => blocks::run(self),
            }
        }
    }

    /// Gives each peer a turn per round until the time of the scenario is over, divided by
    /// `nr_parts`. Each round begins with another peer.
    ///
    /// Round 0 warms up: its figures are not kept.
    fn by_turns(&mut self, nr_parts: u32, mut turn: impl FnMut(&mut Self, Turn)) {
        let (start, nr_peers) = (Instant::now(), self.entries.len());
        let share = self.plan.share / nr_parts;
        for round in 0.. {
            if round > self.plan.rounds_min && start.elapsed() >= share {
                return;
            }
            for place in 0..nr_peers {
                turn(self, Turn { round, peer: (round + place) % nr_peers });
            }
        }
    }

    /// Returns whether a scenario was measured with `n` pages per call.
    fn has(&self, scenario: &str, n: usize) -> bool {
        self.rows.iter().any(|(key, _)| (key.scenario, key.n) == (scenario, n))
    }

    /// Keeps a figure of a turn, except in round 0.
    fn keep(&mut self, turn: Turn, figure: Figure) {
        let Figure { scenario, n, what, unit, value } = figure;
        if turn.round > 0 {
            let key = Key { scenario, peer: self.entries[turn.peer].name, n, what, unit };
            self.rows.add(key, value);
        }
    }
}

/// The turn of a peer in a round.
#[derive(Clone, Copy, Debug)]
struct Turn {
    round: usize,
    peer: usize,
}

impl Turn {
    /// Returns a seed that is the same for all peers in this round.
    fn seed(self, plan: &Plan) -> u64 {
        plan.seed.wrapping_add(self.round as u64)
    }
}

/// The result of one measurement.
#[derive(Clone, Copy, Debug)]
struct Figure {
    scenario: &'static str,
    n: usize,
    what: &'static str,
    unit: &'static str,
    value: f64,
}

/// ns per page.
const NS: &str = "ns/page";
/// ns per block.
const NS_BLOCK: &str = "ns/block";
/// Millions of pages per second.
const MPPS: &str = "Mpages/s";
/// A ratio.
const RATIO: &str = "ratio";
/// Blocks of 2 MiB.
const BLOCKS: &str = "blocks";
/// Pages.
const PAGES: &str = "pages";

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;

    use pagemill_host::machine::Cpus;

    use super::*;
    use crate::peers;

    #[test]
    fn orders_and_scale_measure_every_load_of_every_peer_that_has_it() {
        let plan = Plan {
            scenarios: vec![Scenario::Orders, Scenario::Scale],
            sizes: vec![1],
            nr_pages: 16_384,
            slice: Duration::from_micros(50),
            share: Duration::ZERO,
            rounds_min: 1,
            seed: 1,
        };
        let names = ["pagemill-single", "buddy-system", "mimalloc", "mutex-vec"];
        let entries =
            Arc::new(peers::make(&names.map(str::to_owned), plan.nr_pages).expect("peers"));
        let mut cpus = Cpus::allowed().expect("the CPUs of this process");
        cpus.truncate(2);
        let threads = BenchThreads::new(&cpus, &entries).expect("threads on their CPUs");
        let mut run =
            Run { plan: &plan, entries: &entries, threads: &threads, rows: Rows::default() };
        run.carry_out();
        let of = |scenario: &str, peer: &str| {
            let is = |key: &Key| (key.scenario, key.peer) == (scenario, peer);
            run.rows.iter().filter(|(key, spread)| is(key) && spread.min > 0.0).count()
        };
        for name in &names[..3] {
            for scenario in ["bulk", "rand", "repeat"] {
                assert_eq!(of(scenario, name), 11 * cpus.len(), "{scenario} {name}");
            }
            assert_eq!(of("scale-order9", name), cpus.len());
        }
        for name in names {
            for scenario in ["scale-single", "scale-bulk", "scale-random"] {
                assert_eq!(of(scenario, name), cpus.len(), "{scenario} {name}");
            }
            assert_eq!(of("scale-handover", name), cpus.len() - 1);
        }
        assert_eq!(of("bulk", "mutex-vec") + of("scale-order9", "mutex-vec"), 0);
    }
}
