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
mod raw;
mod report;
mod rng;
mod rows;
mod scenario;
mod seat;

use alloc::sync::Arc;
use std::process::ExitCode;

use clap::Parser;

use crate::args::Args;
use crate::crew::Crew;
use crate::report::Context;
use crate::rows::Rows;
use crate::scenario::Run;

fn main() -> ExitCode {
    match run(&Args::parse()) {
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
    Ok(())
}
