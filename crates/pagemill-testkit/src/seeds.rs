//! Random runs: one for each seed, and the seed of one that fails.

use core::fmt::Debug;
use core::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

/// Plays `nr_runs` runs, with seeds that depend on `name`, and returns what they return. The environment
/// variable `PAGEMILL_SEED` names a seed that is played alone.
///
/// `play` records each step before it takes it.
///
/// # Panics
/// If a run panics: with its seed and its last steps.
pub fn play_seeds<Step: Debug, T>(
    name: &str,
    nr_runs: u64,
    play: impl Fn(u64, &mut Vec<Step>) -> T,
) -> Vec<T> {
    let wanted = std::env::var("PAGEMILL_SEED").ok();
    let wanted = wanted.map(|seed| seed.parse().expect("PAGEMILL_SEED is a decimal number"));
    let seeds = || (0..nr_runs).map(|run| run * 1_000_003 + name.len() as u64).collect();
    let run = |seed| {
        let mut steps = Vec::new();
        catch_unwind(AssertUnwindSafe(|| play(seed, &mut steps))).unwrap_or_else(|_| {
            let nr = steps.len();
            let last = steps.split_off(nr.saturating_sub(5));
            panic!("{name}: PAGEMILL_SEED={seed} fails at step {nr}, the last of {last:#?}");
        })
    };
    wanted.map_or_else(seeds, |seed| vec![seed]).into_iter().map(run).collect()
}
