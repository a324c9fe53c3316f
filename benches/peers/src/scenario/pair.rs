//! Two threads take pages and give them back at the same time, beside one alone.

use super::{Figure, NS, RATIO, Run};

/// Pages per call.
const SIZES: [usize; 2] = [1, 64];

/// Measures one thread, then two, in each turn; a ratio is of figures from one turn.
pub(super) fn run(run: &mut Run<'_>) {
    let slice = run.plan.slice * 2;
    run.by_turns(1, |run, turn| {
        for n in SIZES {
            let alone = run.crew.ask(0, turn.peer, move |seat| seat.steady(n, slice, turn.round));
            let (first, second) = run.crew.ask_two(
                turn.peer,
                move |seat| seat.steady(n, slice, turn.round),
                move |seat| seat.steady(n, slice, turn.round),
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
