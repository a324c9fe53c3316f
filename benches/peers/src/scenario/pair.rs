//! Pair: two threads allocate and free pages at the same time, compared with one thread.

use super::{Figure, NS, RATIO, Run};

/// Pages per call.
const SIZES: [usize; 2] = [1, 64];

/// Measures one thread, then two, in each turn; each ratio compares figures of the same turn.
pub(super) fn run(run: &mut Run<'_>) {
    let slice = run.plan.slice * 2;
    run.by_turns(1, |run, turn| {
        for n in SIZES {
            let alone =
                run.threads.run(0, turn.peer, move |runner| runner.steady(n, slice, turn.round));
            let (first, second) = run.threads.run_two(
                turn.peer,
                move |runner| runner.steady(n, slice, turn.round),
                move |runner| runner.steady(n, slice, turn.round),
            );
            let two = f64::midpoint(first, second);
            for (what, unit, value) in
                [("one", NS, alone), ("two", NS, two), ("ratio", RATIO, two / alone)]
            {
                run.keep(turn, Figure { scenario: "pair", n, what, unit, value });
            }
        }
    });
}
