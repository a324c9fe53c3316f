//! `pagemill bench`: measures, and reports in the ways that were asked for.

use std::path::Path;

use pagemill::PageAllocator;
use pagemill::source::PageSource;
use pagemill_host::debug::{Traced, Tracer, traced_allocator};
use pagemill_host::machine::{Cpus, Machine};
use pagemill_host::{AllocatorConfig, ArenaConfig, Host};

use super::fresh::{fresh_allocator, told};
use super::peers;
use super::progress::{progress_bar, warn_of_debug_build};
use super::saved;
use crate::args::bench::{BenchArgs, ExperimentArgs};
use crate::output::{self, Output};
use crate::plan::bench::{
    self as plan, BulkPlan, FragPlan, LatencyPlan, NfsPlan, PoolPlan, RpcPlan, UsersPlan,
};

use pagemill_bench::Size;
use pagemill_bench::bulk::experiment::{pcp_batch, pcp_high};
use pagemill_bench::frag::Kinds;
use pagemill_bench::latency::holds::{HoldMeter, longest_gap};
use pagemill_bench::latency::timed_frames;
use pagemill_bench::nfs::load;
use pagemill_bench::nfs::own::{OwnFolder, OwnServer};
use pagemill_bench::nfs::proto::Credential;
use pagemill_bench::nfs::sink::{self, Written};
use pagemill_bench::nfs::target::Target;
use pagemill_bench::refill::RefillRow;
use pagemill_bench::report::Context;
use pagemill_bench::report::frag::FragReport;
use pagemill_bench::report::latency::LatencyReport;
use pagemill_bench::report::nfs::NfsReport;
use pagemill_bench::report::pool::PoolReport;
use pagemill_bench::report::refill::RefillReport;
use pagemill_bench::report::users::UsersReport;
use pagemill_bench::{Clock, Results, Spread, frames};

/// Carries out the experiment that was asked for, or the quick selection.
///
/// # Errors
/// What is wrong with the options, and what the system refuses.
pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<()> {
    match args.experiment() {
        ExperimentArgs::Bulk(args) => bulk(plan::bulk(&args)?),
        ExperimentArgs::Frag(args) => frag(plan::frag(&args)?),
        ExperimentArgs::Latency(args) => latency(plan::latency(&args)?),
        ExperimentArgs::Nfs(args) => nfs(plan::nfs(&args)?),
        ExperimentArgs::Rpc(args) => rpc(plan::rpc(&args)?),
        ExperimentArgs::Pool(args) => pool(plan::pool(&args)?),
        ExperimentArgs::Users(args) => users(plan::users(&args)?),
        ExperimentArgs::Peers(args) => peers::become_it(&args.rest),
        ExperimentArgs::Compare(args) => saved::compare(plan::compare(&args)?),
        ExperimentArgs::Export(args) => saved::export(plan::export(&args)?),
    }
}

fn bulk(plan: BulkPlan) -> anyhow::Result<()> {
    let frames = fresh_allocator(plan.arena)?;
    let context = timed(&frames, plan.experiment);
    let source = frames::install(frames);
    let progress = progress_bar(context.experiment.nr_steps());
    let results = context.experiment.run(source, context.clock, || progress.inc(1))?;
    progress.finish_and_clear();
    report(&context, &results, plan.json, plan.svg)?;
    warn_of_spreads(results.figures());
    Ok(())
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
    let (experiment, clock) = (&context.experiment, context.clock);
    let rows = experiment.run(source, clock, || progress.inc(1))?;
    let timed = timed_frames::install_timed(traced(plan.arena, HoldMeter::new(clock))?);
    let meter = timed.allocator().platform().tracer();
    let holds = experiment.run_holds(timed, meter, clock, || progress.inc(1))?;
    // Last, since from here on this thread keeps to that CPU.
    Cpus::pin_to(experiment.probe_cpu)?;
    let gap = longest_gap(clock, experiment.turn_time());
    progress.finish_and_clear();
    let report = LatencyReport { context, rows, holds, gap };
    tell(plan.json, || report.to_json(), || report.to_string())
}

fn nfs(plan: NfsPlan) -> anyhow::Result<()> {
    let NfsPlan { experiment, mut targets, credential, with_sinks, json } = plan;
    // Dropped at the end, which ends the servers. Before any thread is started, because the sandbox
    // is for threads and processes that are started in it.
    let _own =
        if targets.is_empty() { Some(own_servers(&credential, &mut targets)?) } else { None };
    let source = load::source(experiment.source_len())?;
    if with_sinks {
        for (name, written) in [("sink", Written::Dropped), ("copying sink", Written::Copied)] {
            let address = sink::start(source.try_clone()?, experiment.source_len(), written)?;
            targets.push(Target::sink(name, address));
        }
    }
    let progress = progress_bar(experiment.nr_steps(&targets));
    let rows = experiment.run(&targets, &source, || progress.inc(1))?;
    progress.finish_and_clear();
    warn_of_debug_build();
    let report = NfsReport { machine: Machine::detect(), experiment, rows };
    tell(json, || report.to_json(), || report.to_string())?;
    let rates = report
        .rows
        .iter()
        .map(|row| (format!("{} on {}", row.workload.name(), row.server), row.calls_per_s.clone()));
    warn_of_spreads(rates);
    Ok(())
}

fn pool(plan: PoolPlan) -> anyhow::Result<()> {
    let frames = fresh_allocator(plan.arena)?;
    let context = timed(&frames, plan.experiment);
    let owner = pagemill_bench::pool::install(frames::install(frames))?;
    let progress = progress_bar(context.experiment.nr_steps());
    let findings = context.experiment.run(owner, context.clock, || progress.inc(1))?;
    progress.finish_and_clear();
    let report = PoolReport { context, findings };
    tell(plan.json, || report.to_json(), || report.to_string())?;
    warn_of_spreads(report.findings.figures());
    Ok(())
}

fn users(plan: UsersPlan) -> anyhow::Result<()> {
    let frames = fresh_allocator(plan.arena)?;
    let context = timed(&frames, plan.experiment);
    let source = frames::install(frames);
    let progress = progress_bar(context.experiment.nr_steps());
    let findings = context.experiment.run(source, context.clock, || progress.inc(1))?;
    progress.finish_and_clear();
    let report = UsersReport { context, findings };
    tell(plan.json, || report.to_json(), || report.to_string())?;
    warn_of_spreads(report.findings.figures());
    Ok(())
}

fn rpc(plan: RpcPlan) -> anyhow::Result<()> {
    Cpus::pin_to(plan.cpu)?;
    let frames = fresh_allocator(plan.arena)?;
    let context = timed(&frames, plan.experiment);
    let source = frames::install(frames);
    let progress = progress_bar(context.experiment.nr_steps());
    let rows = context.experiment.run(&source, context.clock, || progress.inc(1))?;
    progress.finish_and_clear();
    let report = RefillReport { context, payload_bytes: plan.payload_bytes, rows };
    tell(plan.json, || report.to_json(), || report.to_string())?;
    warn_of_spreads(report.rows.iter().flat_map(RefillRow::figures));
    Ok(())
}

/// Starts our own servers and adds them to `targets`; they end when what is returned is dropped.
fn own_servers(
    credential: &Credential,
    targets: &mut Vec<Target>,
) -> anyhow::Result<(Vec<OwnServer>, OwnFolder)> {
    let folder = OwnFolder::in_sandbox()?;
    // Not by its path, which the sandbox may hide.
    let program = Path::new("/proc/self/exe");
    let mut servers = Vec::new();
    for refill in ["bulk", "single"] {
        let server = OwnServer::start(program, &folder, refill)?;
        targets.push(server.target(refill, &folder, credential)?);
        servers.push(server);
    }
    Ok((servers, folder))
}

/// As [`fresh_allocator`], and tells `tracer` what happens in it.
///
/// # Errors
/// As [`fresh_allocator`].
fn traced<T: Tracer>(arena: ArenaConfig, tracer: T) -> anyhow::Result<PageAllocator<Traced<T>>> {
    let traced = traced_allocator(&AllocatorConfig::new(arena), tracer);
    traced.map_err(|error| told(arena, error))
}

/// Notes the circumstances of an experiment in which time counts.
fn timed<E>(frames: &PageAllocator<Host>, experiment: E) -> Context<E> {
    warn_of_debug_build();
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

/// Warns where runs differ so much that their medians say little.
fn warn_of_spreads(figures: impl IntoIterator<Item = (String, Spread)>) {
    if let Some(line) = pagemill_bench::report::spread::warning(figures) {
        output::note(&line);
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
        output.write(&pagemill_bench::report::json::bulk(context, results)?)?;
    }
    if let Some(output) = svg {
        output.write(&pagemill_bench::report::svg::bulk(context, results)?)?;
    }
    if for_people {
        let table = pagemill_bench::report::table::bulk(context, results);
        let sentence = pagemill_bench::report::sentence::bulk(results);
        output::print(&format!("{table}\n{sentence}\n"))?;
    }
    Ok(())
}
