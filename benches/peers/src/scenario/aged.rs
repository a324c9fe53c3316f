//! Aged: steady and drain after random churn of the arena.
//!
//! The figures for comparison are measured first, unless an earlier scenario did so: a peer that
//! keeps the order in which pages were freed stays aged.

use super::drain::{drain, flush_all, in_order, nr_drained};
use super::{Figure, NS, Run, steady};
use crate::runner::{BATCH, Order};

/// Measures every peer after churn.
pub(super) fn run(run: &mut Run<'_>) {
    let plan = run.plan;
    if !run.has("steady", BATCH) {
        steady::run_sizes(run, &[BATCH]);
    }
    if !run.has("drain", BATCH) {
        in_order(run);
    }
    flush_all(run);
    run.by_turns(1, |run, turn| {
        let (seed, nr_pages, slice) = (turn.seed(plan), nr_drained(plan), plan.slice);
        run.threads.run(0, turn.peer, move |runner| runner.age(nr_pages, seed));
        let value =
            run.threads.run(0, turn.peer, move |runner| runner.steady(BATCH, slice, turn.round));
        let (scenario, n) = ("aged", BATCH);
        run.keep(turn, Figure { scenario, n, what: "steady", unit: NS, value });
        run.threads.run(0, turn.peer, move |runner| runner.end_age(seed ^ 1));
        drain(run, turn, scenario, Order::Same);
    });
}
