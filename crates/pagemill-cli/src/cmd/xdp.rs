//! `pagemill xdp`: packets through pages of an arena.

use core::time::Duration;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;

use anyhow::{Context as _, anyhow};
use pagemill::PageAllocator;
use pagemill::source::PageSource;
use pagemill_host::Host;
use pagemill_xdp::frames::{AllocatorPool, Refill};
use pagemill_xdp::sinks::{Discard, Forward, handover};
use pagemill_xdp::{Device, Interface, Sink, Socket, Worker, XdpError};

use super::fresh::fresh_allocator;
use super::progress::{progress_bar, warn_of_debug_build};
use super::status::serve;
use crate::args::xdp::{Endpoint, XdpArgs, XdpCommand};
use crate::interrupt::Interrupt;
use crate::output::{self, Output};
use crate::plan::xdp::{self as plan, BenchPlan, Fate, Polling, RunPlan};
use crate::report::xdp::{RunReport, TrialReport};
use crate::xdp::drive::{Ended, LatestTotals, Totals, drive};
use crate::xdp::status::{self, ShownTotals};
use crate::xdp::supply::{Source, Supply, TakeBack, page_pool};
use crate::xdp::{holder, trial};
use pagemill_bench::frames;

/// Carries out the command that was asked for.
///
/// # Errors
/// What is wrong with the options, and what the system refuses.
pub(crate) fn run(args: &XdpArgs) -> anyhow::Result<()> {
    let result = match &args.command {
        XdpCommand::Redirect(args) => plan::redirect(args).and_then(move_packets),
        XdpCommand::Drop(args) => plan::drop(args).and_then(move_packets),
        XdpCommand::Stack(args) => plan::stack(args).and_then(move_packets),
        XdpCommand::Bench(args) => plan::bench(args).and_then(bench),
    };
    result.map_err(with_options)
}

/// Adds the options that do what the library's error recommends.
fn with_options(error: anyhow::Error) -> anyhow::Error {
    let options = match error.downcast_ref::<XdpError>() {
        Some(XdpError::Mtu { .. }) => "--multi-buffer",
        Some(XdpError::ArenaTooSmall { .. }) => "--arena, --ring",
        Some(XdpError::LockedMemory { .. }) => "--arena",
        Some(XdpError::NoNativeMode { .. }) => "--mode generic",
        Some(XdpError::NoZeroCopy { .. }) => "--copy copy",
        _ => return error,
    };
    anyhow!("{error:#} ({options})")
}

fn move_packets(plan: RunPlan) -> anyhow::Result<()> {
    let interrupt = Interrupt::watch()?;
    // Before the arena is mapped: what is wrong with an interface is told at once.
    let named = |option, endpoint: Endpoint| move || format!("{option} {}", endpoint.name);
    let input = Interface::attach(plan.input.name, plan.interface)
        .with_context(named("--in", plan.input))?;
    let output = match plan.fate {
        Fate::Redirect(output) => {
            let interface = Interface::to_send(output.name, plan.interface)
                .with_context(named("--out", output))?;
            Some((interface, output.queue))
        }
        Fate::Drop | Fate::Stack(_) => None,
    };
    let source = frames::install(fresh_allocator(plan.arena)?);
    let shown = ShownTotals::default();
    let status = status::status(source, plan.input, plan.fate, &shown);
    let _status = serve(plan.status.as_deref(), status).unwrap_or_else(|error| {
        let error = output::one_line(&error.into());
        output::note(&format!("warning: {error}; pagemill top does not find this process"));
        None
    });
    if let Some(pool_ring) = plan.pool_ring {
        let pool = page_pool(source, plan.refill, pool_ring)?;
        move_from(&input, output, pool, plan, (&interrupt, &shown))?;
    } else {
        let pool = AllocatorPool::new(source, plan.refill);
        move_from(&input, output, pool, plan, (&interrupt, &shown))?;
    }
    whole(source)
}

/// Moves packets whose frames come from `pool`.
fn move_from<P: Supply>(
    input: &Interface,
    output: Option<(Interface, u32)>,
    pool: P,
    plan: RunPlan,
    (interrupt, shown): (&Interrupt, &ShownTotals),
) -> anyhow::Result<()> {
    // Before sockets are open, which packets are waiting for: the other end of a virtual pair is
    // looked for among the namespaces of all processes.
    // Without checksums, only packets that leave again are a problem.
    let checksums = output.as_ref().and_then(|_leave| input.checksums());
    let of_port = [input.other_queues(plan.input.queue), checksums];
    let open = |interface: &Interface, queue| -> anyhow::Result<Socket<P::Frame>> {
        Ok(Socket::open(interface, queue, Source::new(), &plan.socket)?)
    };
    let socket = open(input, plan.input.queue)?;
    let output = output.map(|(interface, queue)| open(&interface, queue)).transpose()?;
    // Now that nothing is in the way: an error is to be the only line.
    let of_sockets = [input.notice(), socket.notice(), output.as_ref().and_then(Socket::notice)];
    of_sockets
        .iter()
        .chain(&of_port)
        .flatten()
        .for_each(|notice| output::note(&notice.to_string()));
    let run = match (plan.fate, output) {
        (Fate::Redirect(_), Some(output)) => {
            watch(Worker::new(socket, pool, Forward::new(output))?, &plan, interrupt, shown)
        }
        (Fate::Stack(hold), _) => thread::scope(|scope| {
            let (to, inbox) = handover(HANDOVER_BATCHES);
            let mut back = pool.back();
            back.set_refill(plan.refill);
            scope.spawn(move || holder::hold(&inbox, hold, |spent| back.take_back(spent)));
            watch(Worker::new(socket, pool, to)?, &plan, interrupt, shown)
        }),
        (Fate::Redirect(_) | Fate::Drop, _) => {
            watch(Worker::new(socket, pool, Discard)?, &plan, interrupt, shown)
        }
    }?;
    // Now that nobody has packets.
    conclude(run, plan.json)
}

/// A run that has ended, whatever ended it.
struct Run<P> {
    /// The pool, unless the thread that had it panicked.
    pool: Option<P>,
    report: RunReport,
    result: anyhow::Result<()>,
}

/// Moves packets on a thread of their own until it is over, and writes a line each second.
///
/// # Errors
/// Only what keeps the run from beginning.
fn watch<D, P, S>(
    worker: Worker<D, P, S>,
    plan: &RunPlan,
    interrupt: &Interrupt,
    shown: &ShownTotals,
) -> anyhow::Result<Run<P>>
where
    D: Device + Send,
    P: Supply<Frame = D::Frame>,
    S: Sink<D::Frame> + Send,
{
    let for_people = is_for_people(plan.json.as_ref());
    let mut report = RunReport::new(plan.fate, plan.refill);
    if for_people {
        output::print(&report.heading())?;
    }
    let latest = LatestTotals::default();
    let (running, ended) = channel::<()>();
    thread::scope(|scope| {
        let (polling, duration, latest) = (plan.polling, plan.duration, &latest);
        let mover =
            thread::Builder::new().name("packets".into()).spawn_scoped(scope, move || {
                let _until_this_ends = running;
                move_until_over(worker, duration, polling, interrupt, latest)
            })?;
        // Writing may take long, or fail: packets do not wait for it, and the report is for later.
        let mut printed = Ok(());
        loop {
            let is_running = ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout);
            if let Some(totals) = latest.take() {
                shown.set(totals);
                let line = report.sample(totals);
                if for_people && printed.is_ok() {
                    printed = output::print(&line);
                }
            }
            if printed.is_err() {
                interrupt.ask();
            }
            if !is_running {
                break;
            }
        }
        let (pool, moved) = match mover.join() {
            Ok((pool, totals, moved)) => {
                if let Some(line) = report.end(totals)
                    && for_people
                    && printed.is_ok()
                {
                    printed = output::print(&line);
                }
                (Some(pool), moved.map_err(anyhow::Error::from))
            }
            Err(_panic) => (None, Err(anyhow!("the thread that moves packets panicked"))),
        };
        Ok(Run { pool, report, result: moved.and(printed.map_err(anyhow::Error::from)) })
    })
}

/// Moves packets until it is over, and returns the pool with all frames back in it.
fn move_until_over<D, P, S>(
    mut worker: Worker<D, P, S>,
    duration: Option<Duration>,
    polling: Polling,
    interrupt: &Interrupt,
    latest: &LatestTotals,
) -> (P, Totals, Result<(), XdpError>)
where
    D: Device,
    P: Supply<Frame = D::Frame>,
    S: Sink<D::Frame>,
{
    let Ended { totals, result } = drive(&mut worker, duration, polling, interrupt, latest);
    let (pool, closed) = worker.close();
    (pool, totals, result.and(closed))
}

/// Ends the pool, and reports, also where an error ended the run.
fn conclude<P: Supply>(run: Run<P>, json: Option<Output>) -> anyhow::Result<()> {
    let Run { pool, mut report, mut result } = run;
    let for_people = is_for_people(json.as_ref());
    if let Some(pool) = pool {
        let ended = pool.end();
        report.end_pool(ended.as_ref().err().map_or(0, |out| out.inflight));
        result = first(result, ended.map_err(anyhow::Error::from));
    }
    if let Err(error) = &result {
        report.end_by(error);
    }
    if let Some(output) = json {
        let written = report.to_json().and_then(|text| output.write(&text));
        result = first(result, written);
    }
    if for_people {
        result = first(result, output::print(&report.to_string()).map_err(anyhow::Error::from));
    }
    result
}

/// Returns the first error of two; one that follows another gets a line of its own.
fn first(one: anyhow::Result<()>, other: anyhow::Result<()>) -> anyhow::Result<()> {
    match (one, other) {
        (Ok(()), other) => other,
        (Err(first), Ok(())) => Err(first),
        (Err(first), Err(second)) => {
            // The reader is gone: that is neither news nor worth a line.
            if !output::is_broken_pipe(&second) {
                output::note(&output::one_line(&second));
            }
            Err(first)
        }
    }
}

/// Tells whether the standard output is for people.
fn is_for_people(json: Option<&Output>) -> bool {
    !json.is_some_and(Output::is_stdout)
}

fn bench(plan: BenchPlan) -> anyhow::Result<()> {
    let interrupt = Interrupt::watch()?;
    warn_of_debug_build();
    let source = frames::install(fresh_allocator(plan.arena)?);
    let progress = progress_bar(plan.trial.nr_pairs as usize);
    let results = if let Some(pool_ring) = plan.pool_ring {
        let pool = page_pool(source, Refill::Bulk, pool_ring)?;
        trial::run(&plan.trial, pool, &interrupt, || progress.inc(1))
    } else {
        let pool = AllocatorPool::new(source, Refill::Bulk);
        trial::run(&plan.trial, pool, &interrupt, || progress.inc(1))
    };
    progress.finish_and_clear();
    let (results, mut result) = results?;
    if !results.pairs.is_empty() {
        // Also of a trial that was cut short: what was measured is good.
        let report = TrialReport::new(plan.trial, plan.pool_ring, results);
        let for_people = is_for_people(plan.json.as_ref());
        if let Some(output) = plan.json {
            result = first(result, report.to_json().and_then(|text| output.write(&text)));
        }
        if for_people {
            result = first(result, output::print(&report.to_string()).map_err(Into::into));
        }
    }
    result?;
    whole(source)
}

/// Checks that every page is back.
fn whole(source: Source) -> anyhow::Result<()> {
    let allocator: &PageAllocator<Host> = source.allocator();
    let (nr_free, nr_pages) = (allocator.nr_free_pages(), allocator.platform().nr_pages());
    anyhow::ensure!(
        nr_free == nr_pages,
        "{} of {nr_pages} pages were not freed",
        nr_pages - nr_free
    );
    Ok(())
}

/// How often to look for totals to report.
const LOOK: Duration = Duration::from_millis(100);
/// Batches on their way to the thread that keeps packets.
const HANDOVER_BATCHES: usize = 256;
