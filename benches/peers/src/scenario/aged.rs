//! Steady and drain in an arena that random churn has gone over.
//!
//! What they are compared with is measured before, if it was not: a peer that keeps the order in which
//! pages came back stays aged.

use super::drain::{drain, in_order, nr_drained, rest_all};
use super::{Figure, NS, Run, steady};
use crate::seat::{BATCH, Order};

/// Measures every peer after churn.
pub(super) fn run(run: &mut Run<'_>) {
    let plan = run.plan;
    if !run.has("steady", BATCH) {
        steady::run_sizes(run, &[BATCH]);
    }
    if !run.has("drain", BATCH) {
        in_order(run);
    }
    rest_all(run);
    run.by_turns(1, |run, turn| {
        let (seed, nr_pages, slice) = (turn.seed(plan), nr_drained(plan), plan.slice);
        run.crew.ask(0, turn.peer, move |seat| seat.age(nr_pages, seed));
        let value = run.crew.ask(0, turn.peer, move |seat| seat.steady(BATCH, slice, turn.round));
        let (scenario, n) = ("aged", BATCH);
        run.keep(turn, Figure { scenario, n, what: "steady", unit: NS, value });
        run.crew.ask(0, turn.peer, move |seat| seat.end_age(seed ^ 1));
        drain(run, turn, scenario, Order::Same);
    });
}
