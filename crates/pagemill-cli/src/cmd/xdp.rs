//! `pagemill xdp`: packets through pages of an arena.

use std::thread;

use pagemill::{PageAllocator, PageSource};
use pagemill_host::Host;
use pagemill_xdp::{
    AllocatorPool, Device, Discard, Forward, Port, Refill, Sink, Socket, Worker, handover,
};

use super::bench::{progress_bar, warn_of_debug_build};
use super::fresh_allocator;
use crate::args::xdp::{XdpArgs, XdpCommand};
use crate::bench::frames;
use crate::interrupt::Interrupt;
use crate::output::{self, Output};
use crate::plan::xdp::{self as plan, BenchPlan, Fate, RunPlan};
use crate::report::xdp::{RunReport, TrialReport};
use crate::xdp::drive::{Totals, drain, drive};
use crate::xdp::supply::{Source, Supply, TakeBack, page_pool};
use crate::xdp::{holder, trial};

/// Carries out the command that was asked for.
///
/// # Errors
/// What is wrong with the options, and what the system refuses.
pub(crate) fn run(args: &XdpArgs) -> anyhow::Result<()> {
    match &args.command {
        XdpCommand::Redirect(args) => move_packets(plan::redirect(args)?),
        XdpCommand::Drop(args) => move_packets(plan::drop(args)?),
        XdpCommand::Stack(args) => move_packets(plan::stack(args)?),
        XdpCommand::Bench(args) => bench(plan::bench(args)?),
    }
}

fn move_packets(plan: RunPlan) -> anyhow::Result<()> {
    let interrupt = Interrupt::watch()?;
    // Before the arena is mapped: what is wrong with an interface is told at once.
    let input = Port::attach(plan.input.name, plan.port)?;
    let output = match plan.fate {
        Fate::Redirect(output) => Some((Port::to_send(output.name, plan.port)?, output.queue)),
        Fate::Drop | Fate::Stack(_) => None,
    };
    let source = frames::install(fresh_allocator(plan.arena)?);
    if let Some(pool_ring) = plan.pool_ring {
        let pool = page_pool(source, plan.refill, pool_ring)?;
        move_from(&input, output, pool, plan, &interrupt)?;
    } else {
        let pool = AllocatorPool::new(source, plan.refill);
        move_from(&input, output, pool, plan, &interrupt)?;
    }
    whole(source)
}

/// Moves packets whose frames come from `pool`.
fn move_from<P: Supply>(
    input: &Port,
    output: Option<(Port, u32)>,
    pool: P,
    plan: RunPlan,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let open = |port: &Port, queue| -> anyhow::Result<Socket<P::Frame>> {
        Ok(Socket::open(port, queue, Source::new(), &plan.socket)?)
    };
    let socket = open(input, plan.input.queue)?;
    let output = output.map(|(port, queue)| open(&port, queue)).transpose()?;
    // Now that nothing is in the way: an error is to be the only line.
    let notices = [input.notice(), socket.notice(), output.as_ref().and_then(Socket::notice)];
    notices.iter().flatten().for_each(|notice| output::note(&notice.to_string()));
    let (pool, report) = match (plan.fate, output) {
        (Fate::Redirect(_), Some(output)) => {
            watch(Worker::new(socket, pool, Forward::new(output))?, &plan, interrupt)
        }
        (Fate::Stack(hold), _) => thread::scope(|scope| {
            let (to, inbox) = handover(HANDOVER_BATCHES);
            let mut back = pool.back();
            back.set_refill(plan.refill);
            scope.spawn(move || holder::hold(&inbox, hold, |spent| back.take_back(spent)));
            watch(Worker::new(socket, pool, to)?, &plan, interrupt)
        }),
        (Fate::Redirect(_) | Fate::Drop, _) => {
            watch(Worker::new(socket, pool, Discard)?, &plan, interrupt)
        }
    }?;
    // Now that nobody has packets.
    conclude(pool, report, plan.json)
}

/// Runs until it is over, with a line each second, and returns the pool and what was seen.
fn watch<D, P, S>(
    mut worker: Worker<D, P, S>,
    plan: &RunPlan,
    interrupt: &Interrupt,
) -> anyhow::Result<(P, RunReport)>
where
    D: Device,
    P: Supply<Frame = D::Frame>,
    S: Sink<D::Frame>,
{
    let for_people = is_for_people(plan.json.as_ref());
    let mut report = RunReport::new(plan.refill);
    if for_people {
        output::print(&RunReport::heading())?;
    }
    let each = |totals: &Totals| {
        let line = report.sample(*totals);
        if for_people { Ok(output::print(&line)?) } else { Ok(()) }
    };
    let ended = drive(&mut worker, plan.duration, interrupt, each);
    let drained = drain(&mut worker);
    let (pool, closed) = worker.close();
    let totals = ended?;
    drained.and(closed)?;
    report.end(totals);
    Ok((pool, report))
}

/// Ends the pool, and reports.
fn conclude<P: Supply>(pool: P, mut report: RunReport, json: Option<Output>) -> anyhow::Result<()> {
    let for_people = is_for_people(json.as_ref());
    let ended = pool.end();
    report.end_pool(ended.as_ref().err().map_or(0, |out| out.inflight));
    if let Some(output) = json {
        output.write(&report.to_json()?)?;
    }
    if for_people {
        output::print(&report.to_string())?;
    }
    Ok(ended?)
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
    let report = TrialReport::new(plan.trial, plan.pool_ring, results?);
    let for_people = is_for_people(plan.json.as_ref());
    if let Some(output) = plan.json {
        output.write(&report.to_json()?)?;
    }
    if for_people {
        output::print(&report.to_string())?;
    }
    whole(source)
}

/// Checks that every page is back.
fn whole(source: Source) -> anyhow::Result<()> {
    let allocator: &PageAllocator<Host> = source.allocator();
    let (nr_free, nr_pages) = (allocator.nr_free_pages(), allocator.platform().nr_pages());
    anyhow::ensure!(nr_free == nr_pages, "{} of {nr_pages} pages got lost", nr_pages - nr_free);
    Ok(())
}

/// Batches on their way to the thread that keeps packets.
const HANDOVER_BATCHES: usize = 256;
