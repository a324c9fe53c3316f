//! Drain: the arena is allocated in batches and freed, in the same order and then shuffled.
//!
//! 1/32 of the arena stays free: below the low watermark, pagemill allocates page by page on its
//! slow path, which is a different experiment.

use super::{BLOCKS, Figure, NS, PAGES, Plan, Run, Turn};
use crate::runner::{BATCH, Drained, Order};

/// Measures every peer in order, then in random order, which may affect later drains.
pub(super) fn run(run: &mut Run<'_>) {
    in_order(run);
    let plan = run.plan;
    run.by_turns(2, |run, turn| {
        drain(run, turn, "drain-random", Order::Random(turn.seed(plan)));
    });
}

/// Measures every peer, freeing pages in the order of allocation.
pub(super) fn in_order(run: &mut Run<'_>) {
    flush_all(run);
    run.by_turns(2, |run, turn| {
        if turn.round == 0 {
            keep_whole(run, Turn { round: 1, ..turn }, "drain", "whole at first");
        }
        drain(run, turn, "drain", Order::Same);
    });
}

/// Frees the pages that peers cache for any thread, which the arena would lack.
pub(super) fn flush_all(run: &Run<'_>) {
    for thread in 0..run.threads.nr_threads() {
        for peer in 0..run.entries.len() {
            run.threads.run(thread, peer, |runner| runner.flush());
        }
    }
}

/// Returns how many pages are allocated.
pub(super) fn nr_drained(plan: &Plan) -> usize {
    plan.nr_pages - plan.nr_pages / 32
}

/// Drains the arena once.
pub(super) fn drain(run: &mut Run<'_>, turn: Turn, scenario: &'static str, order: Order) {
    let nr_pages = nr_drained(run.plan);
    let drained = run.threads.run(0, turn.peer, move |runner| runner.drain(nr_pages, order));
    let Drained { alloc_ns, free_ns, nr_pages } = drained;
    for (what, unit, value) in
        [("alloc", NS, alloc_ns), ("free", NS, free_ns), ("taken", PAGES, nr_pages as f64)]
    {
        run.keep(turn, Figure { scenario, n: BATCH, what, unit, value });
    }
    keep_whole(run, turn, scenario, "whole");
}

fn keep_whole(run: &mut Run<'_>, turn: Turn, scenario: &'static str, what: &'static str) {
    if let Some(nr) = run.threads.run(0, turn.peer, |runner| runner.nr_whole()) {
        let value = nr as f64;
        run.keep(turn, Figure { scenario, n: BATCH, what, unit: BLOCKS, value });
    }
}
