//! One thread takes batches, hands them over through a ring, and a thread on another CPU gives them
//! back.

use super::{Figure, MPPS, Run};
use crate::seat::BATCH;

/// Measures every peer whose pages may go back elsewhere.
pub(super) fn run(run: &mut Run<'_>) {
    let slice = run.plan.slice * 2;
    run.by_turns(1, |run, turn| {
        if run.entries[turn.peer].crosses {
            let ((), value) = run.crew.ask_two(
                turn.peer,
                move |seat| seat.produce(slice),
                move |seat| seat.consume(),
            );
            let what = "passed";
            run.keep(turn, Figure { scenario: "handover", n: BATCH, what, unit: MPPS, value });
        }
    });
}
