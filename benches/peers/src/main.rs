//! Compares pagemill with other page allocators: the same work, in alternating turns of one run.
//!
//! A [`Peer`](peer::Peer) allocates and frees pages. Each of the
//! [`BenchThreads`](bench_threads::BenchThreads) has a [`Runner`](runner::Runner) for each peer. A
//! [`Scenario`](scenario::Scenario) gives the peers turns.
#![deny(unsafe_code)]

extern crate alloc;

mod args;
mod bench_threads;
mod blocks;
mod keep;
mod output;
mod peer;
mod peers;
#[expect(unsafe_code, reason = "peers that return raw pointers; calls to C")]
mod raw;
mod report;
mod rows;
mod runner;
mod scenario;

use alloc::sync::Arc;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser};

use crate::args::Args;
use crate::bench_threads::BenchThreads;
use crate::report::Context;
use crate::rows::{Key, Rows, Spread};
use crate::scenario::Run;

fn main() -> ExitCode {
    let args = Args::parse();
    if let Err(line) = args.check() {
        Args::command().error(ErrorKind::ArgumentConflict, line).exit();
    }
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::note(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    if args.list {
        let names: Vec<_> = peers::names().collect();
        return Ok(output::print(&format!("{}\n", names.join("\n")))?);
    }
    keep::keep_memory()?;
    if cfg!(debug_assertions) {
        output::note(
            "warning: this is a debug build, whose figures mean nothing; build with --release",
        );
    }
    let plan = args.plan()?;
    let cpus = args.cpus(&plan)?;
    let entries = Arc::new(peers::make(&args.peer, plan.nr_pages)?);
    let context = Context::detect(&plan, &cpus, &entries);
    let threads = BenchThreads::new(&cpus, &entries)?;
    let mut run = Run { plan: &plan, entries: &entries, threads: &threads, rows: Rows::default() };
    run.carry_out();
    let rows = run.rows;
    if let Some(path) = &args.json {
        output::write(path, &report::json::document(&context, &rows)?)?;
    }
    if let Some(path) = &args.svg {
        output::write(path, &report::svg::picture(&context, &rows)?)?;
    }
    // If JSON or SVG goes to the standard output, nothing else may.
    let is_stdout = |path: &Option<_>| path.as_deref() == Some(std::path::Path::new("-"));
    if !is_stdout(&args.json) && !is_stdout(&args.svg) {
        output::print(&report::table::tables(&context, &rows))?;
    }
    warn_of_spreads(&rows);
    Ok(())
}

/// Warns if the quartiles of a figure are so far apart that its median means little.
fn warn_of_spreads(rows: &Rows) {
    let is_wide = |(_, spread): &(Key, Spread)| spread.relative() > RELATIVE_MAX;
    let widest = rows
        .iter()
        .filter(is_wide)
        .max_by(|(_, one), (_, other)| one.relative().total_cmp(&other.relative()));
    if let Some((Key { scenario, peer, n, what, .. }, spread)) = widest {
        output::note(&format!(
            "warning: {} of {} figures are spread widely (quartiles more than {:.0} % of the median \
             apart); the widest is {scenario} {peer} {n} {what} with {:.0} %: other work disturbed \
             the measurement; measure again on a quiet machine, or for longer",
            rows.iter().filter(is_wide).count(),
            rows.iter().count(),
            100.0 * RELATIVE_MAX,
            100.0 * spread.relative(),
        ));
    }
}

/// Largest distance between quartiles without a warning, as a share of the median.
const RELATIVE_MAX: f64 = 0.5;
