//! The arena is taken in batches and given back: in the order in which it came, then shuffled.
//!
//! All but a 32nd of it: below its low watermark, pagemill gives single pages, slowly, to those who
//! cannot wait, and that is another experiment.

use super::{BLOCKS, Figure, NS, PAGES, Plan, Run, Turn};
use crate::seat::{BATCH, Drained, Order};

/// Measures every peer in one order, then in the other, which may leave its mark on later drains.
pub(super) fn run(run: &mut Run<'_>) {
    in_order(run);
    let plan = run.plan;
    run.by_turns(2, |run, turn| {
        drain(run, turn, "drain-random", Order::Random(turn.seed(plan)));
    });
}

/// Measures every peer in the order in which pages come.
pub(super) fn in_order(run: &mut Run<'_>) {
    rest_all(run);
    run.by_turns(2, |run, turn| {
        if turn.round == 0 {
            keep_whole(run, Turn { round: 1, ..turn }, "drain", "whole at first");
        }
        drain(run, turn, "drain", Order::Same);
    });
}

/// Lets all threads give back what peers keep for them, which would be missing from the arena.
pub(super) fn rest_all(run: &Run<'_>) {
    for thread in 0..run.crew.nr_threads() {
        for peer in 0..run.entries.len() {
            run.crew.ask(thread, peer, |seat| seat.rest());
        }
    }
}

/// Returns how many pages are taken.
pub(super) fn nr_drained(plan: &Plan) -> usize {
    plan.nr_pages - plan.nr_pages / 32
}

/// Drains the arena once.
pub(super) fn drain(run: &mut Run<'_>, turn: Turn, scenario: &'static str, order: Order) {
    let nr_pages = nr_drained(run.plan);
    let drained = run.crew.ask(0, turn.peer, move |seat| seat.drain(nr_pages, order));
    let Drained { alloc_ns, free_ns, nr_pages } = drained;
    for (what, unit, value) in
        [("alloc", NS, alloc_ns), ("free", NS, free_ns), ("taken", PAGES, nr_pages as f64)]
    {
        run.keep(turn, Figure { scenario, n: BATCH, what, unit, value });
    }
    keep_whole(run, turn, scenario, "whole");
}

fn keep_whole(run: &mut Run<'_>, turn: Turn, scenario: &'static str, what: &'static str) {
    if let Some(nr) = run.crew.ask(0, turn.peer, |seat| seat.nr_whole()) {
        let value = nr as f64;
        run.keep(turn, Figure { scenario, n: BATCH, what, unit: BLOCKS, value });
    }
}
