//! Orders: blocks of 2^order pages, one by one, for orders 0 to 10, as in the benchmarks of LLFree.
//!
//! *bulk* allocates the arena and frees it in the order of allocation, *rand* frees it in random order, and
//! *repeat* allocates one block and frees it. Each runs in one thread, and in two at the same time where
//! there are two CPUs: each thread has half of the arena then.

use super::drain::{flush_all, nr_drained};
use super::{Figure, NS_BLOCK, Run, Turn};
use crate::runner::{Order, Runner};

/// The largest order.
const ORDER_MAX: u8 = 10;

/// Numbers of threads, with their names in the figures.
const THREADS: [(usize, &str); 2] = [(1, "one"), (2, "two")];

/// Measures every peer that has blocks.
pub(super) fn run(run: &mut Run<'_>) {
    flush_all(run);
    let nr_threads = run.threads.nr_threads();
    run.by_turns(1, |run, turn| {
        for (nr, what) in THREADS.into_iter().filter(|(nr, _)| *nr <= nr_threads) {
            for power in 0..=ORDER_MAX {
                fill_and_free(run, turn, power, nr, what);
                repeat(run, turn, power, nr, what);
            }
        }
    });
}

/// Fills the arena with blocks and frees them, in both orders.
fn fill_and_free(run: &mut Run<'_>, turn: Turn, power: u8, nr: usize, what: &'static str) {
    let nr_blocks = (nr_drained(run.plan) / nr) >> power;
    let random = Order::Random(turn.seed(run.plan));
    for (scenario, order) in [("bulk", Order::Same), ("rand", random)] {
        let drained = run.threads.run_many(nr, turn.peer, |_| {
            move |runner: &mut dyn Runner| runner.blocks(power, nr_blocks, order)
        });
        let both = drained.into_iter().map(|drained| Some(drained?.alloc_ns + drained?.free_ns));
        keep(run, turn, Cell { scenario, power, what }, both);
    }
}

/// Allocates one block and frees it, repeatedly.
fn repeat(run: &mut Run<'_>, turn: Turn, power: u8, nr: usize, what: &'static str) {
    let slice = run.plan.slice;
    let repeated = run.threads.run_many(nr, turn.peer, |_| {
        move |runner: &mut dyn Runner| runner.repeat_block(power, slice)
    });
    keep(run, turn, Cell { scenario: "repeat", power, what }, repeated.into_iter());
}

/// What a figure belongs to.
#[derive(Clone, Copy)]
struct Cell {
    scenario: &'static str,
    power: u8,
    what: &'static str,
}

/// Keeps the mean of the threads' figures, unless the peer has no blocks.
fn keep(
    run: &mut Run<'_>,
    turn: Turn,
    Cell { scenario, power, what }: Cell,
    values: impl ExactSizeIterator<Item = Option<f64>>,
) {
    let nr = values.len() as f64;
    if let Some(sum) = values.sum::<Option<f64>>() {
        let (n, value) = (1 << power, sum / nr);
        run.keep(turn, Figure { scenario, n, what, unit: NS_BLOCK, value });
    }
}
