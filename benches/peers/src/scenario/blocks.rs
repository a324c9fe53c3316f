//! Blocks: requests for 20 to 100 of 524,288 block numbers, with random lifetimes, until they fail.
//!
//! Allocators of one run per request fail while blocks are free. The figures up to the first failure
//! of the offset allocator compare the lengths of runs; those behind it show how long runs are when
//! almost all blocks are in use.

use std::time::Instant;

use buddy_system_allocator::FrameAllocator;
use offset_allocator::Allocator;
use pagemill_host::IndexAllocator;

use super::Run;
use crate::blocks::{Blocks, NR_BLOCKS, Player, Trace};
use crate::rows::Key;

/// Names of the allocators, and how they are called.
pub(crate) const PEERS: [(&str, &str); 3] = [
    (IndexAllocator::NAME, IndexAllocator::NOTE),
    (Allocator::NAME, Allocator::NOTE),
    (FrameAllocator::NAME, FrameAllocator::NOTE),
];

/// Percentages of blocks in use around which the lengths of runs are measured, and their names.
pub(crate) const LEVELS: [(u32, &str); 3] =
    [(90, "run at 90 %"), (95, "run at 95 %"), (99, "run at 99 %")];

/// How often all blocks are requested for each hundredth by which the blocks in use grow.
const TURNOVER: f64 = 0.5;
/// The same for `--quick`.
const TURNOVER_QUICK: f64 = 0.02;

/// Measures all allocators by turns, with another trace in each round.
pub(super) fn run(run: &mut Run<'_>) {
    let (start, plan) = (Instant::now(), run.plan);
    let turnover = if plan.share.is_zero() { TURNOVER_QUICK } else { TURNOVER };
    for round in 0.. {
        if round >= plan.rounds_min && start.elapsed() >= plan.share {
            return;
        }
        let trace = Trace::new(plan.seed.wrapping_add(round as u64), turnover);
        let [own, offset, buddy] = [
            first_failure::<IndexAllocator>(run, &trace),
            first_failure::<Allocator>(run, &trace),
            first_failure::<FrameAllocator>(run, &trace),
        ];
        mean_run::<IndexAllocator>(run, &trace, offset);
        mean_run::<Allocator>(run, &trace, offset);
        levels(run, &trace);
        // Timed over the steps that all of them serve.
        let end = own.min(offset).min(buddy);
        time::<IndexAllocator>(run, &trace, end);
        time::<Allocator>(run, &trace, end);
        time::<FrameAllocator>(run, &trace, end);
    }
}

fn keep<B: Blocks>(run: &mut Run<'_>, what: &'static str, unit: &'static str, value: f64) {
    run.rows.add(Key { scenario: "blocks", peer: B::NAME, n: 60, what, unit }, value);
}

/// Measures the blocks in use when a request fails for the first time, and returns its step.
fn first_failure<B: Blocks>(run: &mut Run<'_>, trace: &Trace) -> usize {
    let mut player = Player::<B>::new(trace);
    let mut most = 0;
    while player.next < trace.steps.len() {
        most = most.max(player.used);
        let next = player.next + 1;
        if !player.play(next, u32::MAX) {
            most = player.used;
            break;
        }
    }
    keep::<B>(run, "in use at first failure", "%", 100.0 * f64::from(most) / f64::from(NR_BLOCKS));
    player.next
}

/// Measures the mean run of all requests up to a step.
fn mean_run<B: Blocks>(run: &mut Run<'_>, trace: &Trace, end: usize) {
    let mut player = Player::<B>::new(trace);
    if player.play(end, u32::MAX) {
        keep::<B>(run, "run", "blocks", player.sums.mean_run());
    }
}

/// Measures the mean run of pagemill's requests in the two hundredths up to each level.
fn levels(run: &mut Run<'_>, trace: &Trace) {
    let mut player = Player::<IndexAllocator>::new(trace);
    for (percent, what) in LEVELS {
        let blocks = |percent: u32| NR_BLOCKS / 100 * percent;
        let is_served = player.play(trace.steps.len(), blocks(percent - 2));
        let before = player.sums;
        if is_served && player.play(trace.steps.len(), blocks(percent)) {
            let mean = player.sums.since(before).mean_run();
            keep::<IndexAllocator>(run, what, "blocks", mean);
        }
    }
}

/// Measures the time of a block that is allocated and, for most of them, freed.
fn time<B: Blocks>(run: &mut Run<'_>, trace: &Trace, end: usize) {
    let mut player = Player::<B>::new(trace);
    let start = Instant::now();
    player.play(end, u32::MAX);
    let ns = start.elapsed().as_nanos() as f64;
    keep::<B>(run, "both", "ns/block", ns / player.sums.nr_blocks as f64);
}
