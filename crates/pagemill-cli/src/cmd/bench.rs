//! `pagemill bench`: measures, and reports in the ways that were asked for.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pagemill::PageAllocator;
use pagemill_host::{Cpus, Host, Machine};

use super::fresh_allocator;
use crate::args::{BenchArgs, ExperimentArgs};
use crate::bench::experiment::{pcp_batch, pcp_high};
use crate::bench::frag::Kinds;
use crate::bench::{Clock, Results, frames};
use crate::output::{self, Output};
use crate::plan::{self, BulkPlan, FragPlan, LatencyPlan};
use crate::report::frag::FragReport;
use crate::report::latency::LatencyReport;
use crate::report::{self, Context};
use crate::size::Size;

/// Carries out the experiment that was asked for, or the quick selection.
///
/// # Errors
/// What is wrong with the options, and what the system refuses.
pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<()> {
    match args.experiment() {
        ExperimentArgs::Bulk(args) => bulk(plan::bulk(&args)?),
        ExperimentArgs::Frag(args) => frag(plan::frag(&args)?),
        ExperimentArgs::Latency(args) => latency(plan::latency(&args)?),
    }
}

fn bulk(plan: BulkPlan) -> anyhow::Result<()> {
    let frames = fresh_allocator(plan.arena)?;
    let context = timed(&frames, plan.experiment);
    let source = frames::install(frames);
    let progress = progress_bar(context.experiment.nr_steps());
    let results = context.experiment.run(source, context.clock, || progress.inc(1))?;
    progress.finish_and_clear();
    report(&context, &results, plan.json, plan.svg)
}

fn frag(plan: FragPlan) -> anyhow::Result<()> {
    Cpus::pin_to(plan.cpu)?;
    let mut lives = Vec::new();
    for kinds in [Kinds::One, Kinds::Two] {
        lives.push(plan.experiment.run(&fresh_allocator(plan.arena)?, kinds)?);
    }
    let report = FragReport::new(Size::of(plan.arena.len_bytes), plan.experiment, lives);
    tell(plan.json, || report.to_json(), || report.to_string())
}

fn latency(plan: LatencyPlan) -> anyhow::Result<()> {
    let frames = fresh_allocator(plan.arena)?;
    let context = timed(&frames, plan.experiment);
    let source = frames::install(frames);
    let progress = progress_bar(context.experiment.nr_steps());
    let rows = context.experiment.run(&source, context.clock, || progress.inc(1))?;
    progress.finish_and_clear();
    let report = LatencyReport { context, rows };
    tell(plan.json, || report.to_json(), || report.to_string())
}

/// Notes the circumstances of an experiment in which time counts.
fn timed<E>(frames: &PageAllocator<Host>, experiment: E) -> Context<E> {
    if cfg!(debug_assertions) {
        output::note(
            "THIS IS A DEBUG BUILD AND ITS FIGURES MEAN NOTHING: build it with cargo build --release",
        );
    }
    let memory = frames.platform().memory();
    Context {
        machine: Machine::detect(),
        clock: Clock::detect(),
        arena: Size::of(memory.len_bytes() as u64),
        arena_kind: memory.kind(),
        pcp_high: pcp_high(frames),
        pcp_batch: pcp_batch(frames),
        experiment,
    }
}

/// Writes figures for programs to `json`, and a text for people unless programs read there.
fn tell(
    json: Option<Output>,
    to_json: impl FnOnce() -> anyhow::Result<String>,
    to_text: impl FnOnce() -> String,
) -> anyhow::Result<()> {
    let for_people = !json.as_ref().is_some_and(Output::is_stdout);
    if let Some(output) = json {
        output.write(&to_json()?)?;
    }
    if for_people {
        output::print(&to_text())?;
    }
    Ok(())
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
fn progress_bar(nr_steps: usize) -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(5);
    let bar = ProgressBar::with_draw_target(Some(nr_steps as u64), target);
    let style = ProgressStyle::with_template("measuring {wide_bar} {pos}/{len}, {eta} left")
        .expect("the template is well-formed");
    bar.with_style(style)
}
