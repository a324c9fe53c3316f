//! The same work through pagemill and through what one would take instead, by turns in one run.
//!
//! A [`Peer`](peer::Peer) gives pages and takes them back; each thread of the [`Crew`](crew::Crew) has
//! a [`Seat`](seat::Seat) for each of them; a [`Scenario`](scenario::Scenario) lets them take turns.
#![deny(unsafe_code)]

extern crate alloc;

mod args;
mod crew;
mod keep;
mod output;
mod peer;
mod peers;
#[expect(unsafe_code, reason = "what is compared hands out pointers")]
mod raw;
mod report;
mod rows;
mod scenario;
mod seat;

use alloc::sync::Arc;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser};

use crate::args::Args;
use crate::crew::Crew;
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
        output::note("THIS IS A DEBUG BUILD AND ITS FIGURES MEAN NOTHING");
    }
    let (plan, cpus) = (args.plan()?, args.cpus()?);
    let entries = Arc::new(peers::make(&args.peer, plan.nr_pages)?);
    let context = Context::detect(&plan, &cpus, &entries);
    let crew = Crew::new(&cpus, &entries)?;
    let mut run = Run { plan: &plan, entries: &entries, crew: &crew, rows: Rows::default() };
    run.carry_out();
    let rows = run.rows;
    if let Some(path) = &args.json {
        output::write(path, &report::json::document(&context, &rows)?)?;
    }
    if let Some(path) = &args.svg {
        output::write(path, &report::svg::picture(&context, &rows)?)?;
    }
    // What goes to the standard output for a program must be all that goes there.
    let is_stdout = |path: &Option<_>| path.as_deref() == Some(std::path::Path::new("-"));
    if !is_stdout(&args.json) && !is_stdout(&args.svg) {
        output::print(&report::table::tables(&context, &rows))?;
    }
    warn_of_spreads(&rows);
    Ok(())
}

/// Warns where the middle half of the figures differs so much that their median says little.
fn warn_of_spreads(rows: &Rows) {
    let is_wide = |(_, spread): &(Key, Spread)| spread.relative() > RELATIVE_MAX;
    let widest = rows
        .iter()
        .filter(is_wide)
        .max_by(|(_, one), (_, other)| one.relative().total_cmp(&other.relative()));
    if let Some((Key { scenario, peer, n, what, .. }, spread)) = widest {
        output::note(&format!(
            "warning: {} of {} figures have quartiles apart by more than {:.0} % of their median, \
             {scenario} {peer} {n} {what} by {:.0} %: other work disturbed the measurement; \
             measure again on a quiet machine, or for longer",
            rows.iter().filter(is_wide).count(),
            rows.iter().count(),
            100.0 * RELATIVE_MAX,
            100.0 * spread.relative(),
        ));
    }
}

/// The widest distance between quartiles that passes without a warning, as a share of the median.
const RELATIVE_MAX: f64 = 0.5;
