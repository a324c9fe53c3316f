//! `pagemill bench`: measures, and reports in the ways that were asked for.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pagemill_host::Machine;

use super::fresh_allocator;
use crate::args::BenchArgs;
use crate::bench::experiment::{pcp_batch, pcp_high};
use crate::bench::{Clock, Experiment, Results, frames};
use crate::output::{self, Output};
use crate::plan::{self, BulkPlan};
use crate::report::{self, Context};
use crate::size::Size;

/// Carries out the experiment that was asked for, or the quick selection.
///
/// # Errors
/// What is wrong with the options, and what the system refuses.
pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<()> {
    bulk(plan::bulk(&args.bulk())?)
}

fn bulk(plan: BulkPlan) -> anyhow::Result<()> {
    let frames = fresh_allocator(plan.arena)?;
    if cfg!(debug_assertions) {
        output::note(
            "THIS IS A DEBUG BUILD AND ITS FIGURES MEAN NOTHING: build it with cargo build --release",
        );
    }
    let clock = Clock::detect();
    let context = Context {
        machine: Machine::detect(),
        clock,
        arena: Size::of(plan.arena.len_bytes),
        arena_kind: frames.platform().memory().kind(),
        pcp_high: pcp_high(&frames),
        pcp_batch: pcp_batch(&frames),
        experiment: plan.experiment,
    };
    let source = frames::install(frames);
    let progress = progress_bar(&context.experiment);
    let results = context.experiment.run(source, clock, || progress.inc(1))?;
    progress.finish_and_clear();
    report(&context, &results, plan.json, plan.svg)
}

fn report(
    context: &Context,
    results: &Results,
    json: Option<Output>,
    svg: Option<Output>,
) -> anyhow::Result<()> {
    // What goes to the standard output for a program must be all that goes there.
    let for_people = ![&json, &svg].into_iter().flatten().any(Output::is_stdout);
    if let Some(output) = json {
        output.write(&report::json::bulk(context, results)?)?;
    }
    if let Some(output) = svg {
        output.write(&report::svg::bulk(context, results)?)?;
    }
    if for_people {
        let table = report::table::bulk(context, results);
        let sentence = report::sentence::bulk(results);
        output::print(&format!("{table}\n{sentence}\n"))?;
    }
    Ok(())
}

/// Makes the bar that shows how far the measurements are, on a terminal.
///
/// It is drawn between two measurements, by the thread that leads them, and never beside one.
fn progress_bar(experiment: &Experiment) -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(5);
    let bar = ProgressBar::with_draw_target(Some(experiment.nr_steps() as u64), target);
    let style = ProgressStyle::with_template("measuring {wide_bar} {pos}/{len}, {eta} left")
        .expect("the template is well-formed");
    bar.with_style(style)
}
