//! Steady: one thread allocates N pages and frees them, repeatedly.

use super::{Figure, NS, Run};

/// Measures every peer with every number of pages per call of the plan.
pub(super) fn run(run: &mut Run<'_>) {
    run_sizes(run, &run.plan.sizes);
}

/// Measures every peer with these numbers of pages per call.
pub(super) fn run_sizes(run: &mut Run<'_>, sizes: &[usize]) {
    let slice = run.plan.slice;
    run.by_turns(1, |run, turn| {
        for &n in sizes {
            let value =
                run.threads.run(0, turn.peer, move |runner| runner.steady(n, slice, turn.round));
            run.keep(turn, Figure { scenario: "steady", n, what: "both", unit: NS, value });
        }
    });
}
