//! Scale: the cost of a page with 1, 2, 4, 8 and 16 threads at the same time, each on its own CPU.
//!
//! The loads: pages singly and 64 at a time, batches of 64 that another thread frees, blocks of order 9, and
//! pages that return in random order. Numbers of threads beyond the CPUs are left out.

use super::drain::{flush_all, nr_drained};
use super::{Figure, NS, NS_BLOCK, Run, Turn};
use crate::runner::{BATCH, Order, Runner};

/// Numbers of threads, with their names in the figures.
pub(crate) const THREADS: [(usize, &str); 5] = [(1, "1"), (2, "2"), (4, "4"), (8, "8"), (16, "16")];

/// The order of a huge page.
const HUGE: u8 = 9;

/// Measures every peer.
pub(super) fn run(run: &mut Run<'_>) {
    flush_all(run);
    let nr_threads = run.threads.nr_threads();
    run.by_turns(1, |run, turn| {
        for (nr, what) in THREADS.into_iter().filter(|(nr, _)| *nr <= nr_threads) {
            steady(run, turn, nr, what);
            handover(run, turn, nr, what);
            huge(run, turn, nr, what);
            random(run, turn, nr, what);
        }
    });
}

fn steady(run: &mut Run<'_>, turn: Turn, nr: usize, what: &'static str) {
    let slice = run.plan.slice;
    for (scenario, n) in [("scale-single", 1), ("scale-bulk", BATCH)] {
        let values = run.threads.run_many(nr, turn.peer, |_| {
            move |runner: &mut dyn Runner| runner.steady(n, slice, turn.round)
        });
        run.keep(turn, Figure { scenario, n, what, unit: NS, value: mean(&values) });
    }
}

/// Every second thread allocates for its neighbour: ns per page and pair.
fn handover(run: &mut Run<'_>, turn: Turn, nr: usize, what: &'static str) {
    if nr < 2 || !run.entries[turn.peer].crosses {
        return;
    }
    let slice = run.plan.slice;
    let rates = run.threads.run_many(nr, turn.peer, |thread| {
        move |runner: &mut dyn Runner| {
            if thread % 2 == 0 {
                runner.produce(thread / 2, slice);
                return None;
            }
            Some(runner.consume(thread / 2))
        }
    });
    let rates: Vec<f64> = rates.into_iter().flatten().collect();
    let (n, value) = (BATCH, 1e3 / mean(&rates));
    run.keep(turn, Figure { scenario: "scale-handover", n, what, unit: NS, value });
}

fn huge(run: &mut Run<'_>, turn: Turn, nr: usize, what: &'static str) {
    let slice = run.plan.slice;
    let values = run.threads.run_many(nr, turn.peer, |_| {
        move |runner: &mut dyn Runner| runner.repeat_block(HUGE, slice)
    });
    if let Some(values) = values.into_iter().collect::<Option<Vec<f64>>>() {
        let (n, value) = (1 << HUGE, mean(&values));
        run.keep(turn, Figure { scenario: "scale-order9", n, what, unit: NS_BLOCK, value });
    }
}

/// Each thread allocates its share of the arena and frees it in random order.
fn random(run: &mut Run<'_>, turn: Turn, nr: usize, what: &'static str) {
    let (share, seed) = (nr_drained(run.plan) / nr, turn.seed(run.plan));
    let drained = run.threads.run_many(nr, turn.peer, |thread| {
        let order = Order::Random(seed.wrapping_add(thread as u64));
        move |runner: &mut dyn Runner| runner.drain(share, order)
    });
    let sums: Vec<f64> = drained.iter().map(|one| one.alloc_ns + one.free_ns).collect();
    let (n, value) = (BATCH, mean(&sums));
    run.keep(turn, Figure { scenario: "scale-random", n, what, unit: NS, value });
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
