//! What the peers are made to do, by turns.

mod aged;
mod drain;
mod handover;
mod pair;
mod steady;

use core::time::Duration;
use std::time::Instant;

use clap::ValueEnum;

use crate::crew::Crew;
use crate::rows::{Key, Rows};
use crate::seat::Entry;

/// The scenarios.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// One thread takes N pages and gives them back, again and again
    Steady,
    /// Two threads do so at once, each on its CPU, beside one alone
    Pair,
    /// One thread takes batches of 64, another on another CPU gives them back
    Handover,
    /// The whole arena is taken in batches of 64 and given back, in the same and in random order
    Drain,
    /// Steady and drain once more, after random churn
    Aged,
}

impl Scenario {
    /// Returns the name, as it is typed and told.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Pair => "pair",
            Self::Handover => "handover",
            Self::Drain => "drain",
            Self::Aged => "aged",
        }
    }

    /// Returns how many CPUs it needs.
    pub(crate) fn nr_cpus(self) -> usize {
        match self {
            Self::Pair | Self::Handover => 2,
            Self::Steady | Self::Drain | Self::Aged => 1,
        }
    }
}

/// How much is to be done.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// What, in this order.
    pub(crate) scenarios: Vec<Scenario>,
    /// Pages per call, for steady.
    pub(crate) sizes: Vec<usize>,
    /// Pages in the arena.
    pub(crate) nr_pages: usize,
    /// How long one measurement lasts, where that can be chosen.
    pub(crate) slice: Duration,
    /// How long one scenario lasts, about.
    pub(crate) share: Duration,
    /// Rounds of turns at least, whatever time they take.
    pub(crate) rounds_min: usize,
    /// What random choices begin with.
    pub(crate) seed: u64,
}

/// A run: who does what, and what was found so far.
pub(crate) struct Run<'a> {
    /// How much is to be done.
    pub(crate) plan: &'a Plan,
    /// Who takes part.
    pub(crate) entries: &'a [Entry],
    /// The threads.
    pub(crate) crew: &'a Crew,
    /// What was found.
    pub(crate) rows: Rows,
}

impl Run<'_> {
    /// Carries out all scenarios.
    pub(crate) fn carry_out(&mut self) {
        let plan = self.plan;
        for &scenario in &plan.scenarios {
            if self.crew.nr_threads() < scenario.nr_cpus() {
                crate::output::note(&format!(
                    "{} needs two CPUs and is left out: see --cpus",
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
            }
        }
    }

    /// Gives each peer a turn, round after round, each round beginning with another one, until the
    /// scenario's time, or one of `nr_parts` of it, is over.
    ///
    /// The first round warms up: what it finds is not kept, as `turn` is told.
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

    /// Tells whether a scenario was carried out with `n` pages per call.
    fn has(&self, scenario: &str, n: usize) -> bool {
        self.rows.iter().any(|(key, _)| (key.scenario, key.n) == (scenario, n))
    }

    /// Keeps a figure of a turn, unless it was to warm up.
    fn keep(&mut self, turn: Turn, figure: Figure) {
        let Figure { scenario, n, what, unit, value } = figure;
        if turn.round > 0 {
            let key = Key { scenario, peer: self.entries[turn.peer].name, n, what, unit };
            self.rows.add(key, value);
        }
    }
}

/// Whose turn it is.
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

/// What one measurement has found.
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
/// Millions of pages per second.
const MPPS: &str = "Mpages/s";
/// A quotient.
const RATIO: &str = "ratio";
/// Blocks of 2 MiB.
const BLOCKS: &str = "blocks";
/// Pages.
const PAGES: &str = "pages";
