//! Compares pagemill's heap with other heaps: instructions of single threads, two threads by turns, and caches
//! on fragmented memory.
#![deny(unsafe_code)]

extern crate alloc;

mod count;
#[expect(unsafe_code, reason = "objects that are raw pointers")]
mod fragmented;
#[expect(unsafe_code, reason = "objects that are raw pointers")]
mod heap;
#[expect(unsafe_code, reason = "heaps with raw pointers")]
mod others;
#[expect(unsafe_code, reason = "an unsafe trait: the global allocator")]
mod ours;
#[expect(unsafe_code, reason = "objects that are raw pointers")]
mod paths;
mod random;
mod spread;
#[expect(unsafe_code, reason = "objects that are raw pointers")]
mod threads;

use core::time::Duration;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::fragmented::Case;
use crate::paths::{HeapName, Path};
use crate::threads::{SharedHeap, Work};

/// Compare pagemill's heap with other heaps
#[derive(Debug, Parser)]
#[command(name = "pagemill-heaps", version)]
struct Arguments {
    #[command(subcommand)]
    command: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Count the instructions of an allocation and its free, for all heaps; needs valgrind
    Count,
    /// Let two threads allocate and free, and give the heaps turns
    Threads {
        /// Duration of the whole run, in seconds; at least three turns
        #[arg(long, value_name = "S", default_value_t = 120)]
        seconds: u64,
        /// Steps of each thread in a turn
        #[arg(long, value_name = "N", default_value_t = 200_000)]
        steps: usize,
    },
    /// Measure caches on memory of which only single pages are left; needs valgrind
    Fragmented {
        /// Duration without counting instructions, in seconds; at least three turns
        #[arg(long, value_name = "S", default_value_t = 30)]
        seconds: u64,
    },
    /// Walk one path of `count`, and print nothing
    Path {
        /// The heap
        heap: HeapName,
        /// The path
        path: Path,
        /// How often
        rounds: usize,
    },
    /// Do one kind of work of `threads`, and print nothing
    Work {
        /// The heap
        heap: SharedHeap,
        /// What the threads do
        work: Work,
        /// Steps of each thread
        steps: usize,
    },
    /// Run one case of `fragmented`, and print nothing
    Case {
        #[command(flatten)]
        case: Case,
        /// How often
        rounds: usize,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ignored = writeln!(io::stderr(), "pagemill-heaps: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: What) -> anyhow::Result<()> {
    let table = match command {
        What::Count => count::table()?,
        What::Threads { seconds, steps } => threads::table(Duration::from_secs(seconds), steps)?,
        What::Fragmented { seconds } => fragmented::table(Duration::from_secs(seconds))?,
        What::Path { heap, path, rounds } => return paths::walk(heap, path, rounds),
        What::Work { heap, work, steps } => return threads::work_once(heap, work, steps),
        What::Case { case, rounds } => return fragmented::run_once(case, rounds),
    };
    Ok(io::stdout().lock().write_all(table.as_bytes())?)
}
