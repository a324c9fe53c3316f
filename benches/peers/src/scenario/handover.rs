//! Handover: one thread allocates batches and passes them through a ring to a thread on another
//! CPU, which frees them.

use super::{Figure, MPPS, Run};
use crate::runner::BATCH;

/// Measures every peer whose pages another thread may free.
pub(super) fn run(run: &mut Run<'_>) {
    let slice = run.plan.slice * 2;
    run.by_turns(1, |run, turn| {
        if run.entries[turn.peer].crosses {
            let ((), value) = run.threads.run_two(
                turn.peer,
                move |runner| runner.produce(0, slice),
                move |runner| runner.consume(0),
            );
            let what = "passed";
            run.keep(turn, Figure { scenario: "handover", n: BATCH, what, unit: MPPS, value });
        }
    });
}
