//! The search for a contiguous range, a number of times, and nothing else: for counting instructions.
//!
//! `contig_cost STATE NR_FRAMES N ROUNDS` allocates and frees a range of N of all `NR_FRAMES` frames, ROUNDS
//! times. STATE is the state of all frames:
//! - `fresh`: all are free.
//! - `aged`: 85 % are in use, by requests for 20 to 100 frames with random lifetimes.
//! - `holes`: every eighth frame is in use, so that no range of 8 frames or more is found.
//!
//! `contig_cost scattered NR_FRAMES N ROUNDS alloc|fill|run` takes and frees N single frames instead, while every
//! second frame is in use, by one call of `IndexAllocator::alloc` or `IndexAllocator::fill`, or by N of
//! `IndexAllocator::alloc_run`.
//!
//! The program's total for twice the rounds, less its total for the rounds, is what the path itself
//! costs: see "Contiguous ranges" in BENCHMARKING.md.

use std::env;
use std::process::ExitCode;

use pagemill_host::IndexAllocator;

/// An xorshift generator.
struct Rng(u64);

impl Rng {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
}

fn main() -> ExitCode {
    let args: Vec<_> = env::args().skip(1).collect();
    let number = |index: usize| args.get(index).and_then(|arg| arg.parse::<u64>().ok());
    let (Some(state), Some(nr_frames), Some(nr), Some(rounds)) =
        (args.first(), number(1), number(2), number(3))
    else {
        return usage();
    };
    let Ok(frames) = IndexAllocator::new(nr_frames) else { return usage() };
    let mut held = Vec::new();
    match state.as_str() {
        "fresh" => {}
        "aged" => age(&frames, &mut held),
        "holes" => {
            let Ok(mut rest) = frames.alloc_run(nr_frames) else { return usage() };
            while rest.nr_blocks() >= 8 {
                let (front, back) = rest.split_at(8);
                held.extend([front.split_at(7).1]);
                rest = back;
            }
        }
        "scattered" => {}
        _ => return usage(),
    }
    if state == "scattered" {
        return scattered(&frames, nr, rounds, args.get(4).map(String::as_str));
    }
    let nr_found = (0..rounds).filter(|_| frames.alloc_run(nr).is_ok()).count() as u64;
    drop(held);
    if nr_found == if state == "holes" && nr > 7 { 0 } else { rounds } {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Takes single frames.
fn scattered(frames: &IndexAllocator, nr: u64, rounds: u64, call: Option<&str>) -> ExitCode {
    let Ok(all) = frames.alloc_run(frames.nr_blocks()) else { return usage() };
    let held: Vec<_> = all.into_blocks().filter(|frame| frame.start() % 2 == 0).collect();
    let mut slots: Vec<_> = (0..nr).map(|_| None).collect();
    for _ in 0..rounds {
        let is_done = match call {
            Some("alloc") => frames.alloc(nr).is_ok(),
            Some("fill") => frames.fill(&mut slots).is_ok(),
            Some("run") => slots.iter_mut().all(|slot| {
                *slot = frames.alloc_run(1).ok();
                slot.is_some()
            }),
            _ => return usage(),
        };
        slots.fill_with(|| None);
        if !is_done {
            return ExitCode::FAILURE;
        }
    }
    drop(held);
    ExitCode::SUCCESS
}

/// Uses 85 % of the frames, after each was used twice.
fn age(frames: &IndexAllocator, held: &mut Vec<pagemill_host::index::Extent>) {
    let mut rng = Rng(1);
    let (total, mut taken) = (frames.nr_blocks(), 0);
    while taken < 3 * total {
        let nr = 20 + rng.below(81);
        while frames.nr_free() < total / 100 * 15 + nr {
            let which = usize::try_from(rng.below(held.len() as u64)).unwrap_or(0);
            held.swap_remove(which);
        }
        held.extend(frames.alloc(nr).unwrap_or_default());
        taken += nr;
    }
}

#[expect(clippy::print_stderr, reason = "a program for people")]
fn usage() -> ExitCode {
    eprintln!(
        "usage: contig_cost fresh|aged|holes NR_FRAMES N ROUNDS; all found, or none for holes\n\
         or: contig_cost scattered NR_FRAMES N ROUNDS alloc|fill|run"
    );
    ExitCode::FAILURE
}
