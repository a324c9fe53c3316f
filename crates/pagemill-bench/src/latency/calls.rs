//! Latency of single calls beside a hog that allocates very many pages at once.
//!
//! A probe times calls one by one: alone, then beside a hog on another CPU, then beside one on its own
//! CPU. Two kinds of calls are measured separately:
//!
//! - *single*: `alloc_page`, thousands of pages before all are freed, so that most come from the CPU's
//!   list and some wait for its refill from the zone;
//! - *locked*: `alloc_pages` of order 4, which has no per-CPU lists, and the free of its result. Each of
//!   these calls takes the zone lock, so a call that meets a holder waits for it.
//!
//! Separate turns measure how long locks are *held*; see [`holds`](super::holds). The longest locked
//! call shows the effect on other threads. Such a wait can span several holds, ends with the call's own
//! work, and includes preemption by the scheduler.
//!
//! *calm* is the longest call in rounds in which the scheduler did not preempt the probe. It still
//! includes time that a host takes from a virtual machine, and preemption of the lock's holder.
//!
//! Calls follow each other immediately, so a pause of the thread is one long call among millions: it
//! shows in the maximum, and hardly in the percentiles.

use core::fmt;
use core::time::Duration;
use std::fs;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use pagemill::units::CpuId;
use pagemill::{AllocPages, Folio, Order, Page};
use pagemill_host::machine::Cpus;

use super::holds::{HoldMeter, Holds};
use super::waits::Waits;
use crate::bulk::workload::GFP;
use crate::clock::Clock;

/// The probe, the hog, and the duration.
#[derive(Clone, Debug)]
pub struct LatencyExperiment {
    /// The CPU of the probe, and of the hog that shares it.
    pub probe_cpu: CpuId,
    /// The CPU of the hog that has one to itself, where there are two.
    pub other_cpu: Option<CpuId>,
    /// Pages per call of the hog.
    pub hog_pages: usize,
    /// Maximum number of pages that the probe holds.
    pub probe_pages: usize,
    /// Approximate total duration; zero for a single round of each.
    pub time: Duration,
}

/// What runs beside the probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Company {
    /// Nothing.
    Alone,
    /// A hog on another CPU.
    OtherCpu,
    /// A hog on the probe's own CPU.
    SameCpu,
}

/// The work of the hog.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hogged {
    /// Number of calls that returned all pages.
    pub calls: u64,
    /// Total ticks of the allocations in these calls.
    ticks: u64,
}

/// The results in one company.
#[derive(Clone, Debug)]
pub struct LatencyRow {
    /// What ran beside the probe.
    pub company: Company,
    /// Allocations of single pages.
    pub single: Waits,
    /// Allocations that take the zone lock.
    pub locked: Waits,
    /// The longest of these in ticks, in rounds in which the scheduler did not preempt the probe;
    /// `None` if there was no such round, or the kernel does not report preemption.
    calm_max: Option<u64>,
    /// The work of the hog.
    pub hog: Hogged,
}

/// How long locks were held in one company, by probe and hog together.
#[derive(Clone, Debug)]
pub struct HoldRow {
    /// What ran beside the probe.
    pub company: Company,
    /// The holds.
    pub holds: Holds,
}

/// Maximum number of blocks of [`UNLISTED`] that the probe holds.
const LOCKED_BLOCKS: usize = 64;
/// Number of turns of each company, so that a disturbance affects all alike.
const NR_TURNS: u32 = 5;

impl LatencyExperiment {
    /// Returns the companies, in order.
    pub fn companies(&self) -> Vec<Company> {
        let other = self.other_cpu.map(|_| Company::OtherCpu);
        [Some(Company::Alone), other, Some(Company::SameCpu)].into_iter().flatten().collect()
    }

    /// Returns how many steps [`run`](Self::run) and [`run_holds`](Self::run_holds) report together.
    pub fn nr_steps(&self) -> usize {
        2 * self.companies().len() * NR_TURNS as usize
    }

    /// Returns the duration of one turn.
    pub fn turn_time(&self) -> Duration {
        self.time / u32::try_from(self.nr_steps()).expect("there are few steps")
    }

    /// Times calls to `source`, and calls `step` after each turn.
    ///
    /// # Errors
    /// If a thread cannot be bound to its CPU, or the arena runs out of pages.
    pub fn run<S: AllocPages + Copy + Send>(
        &self,
        source: S,
        clock: Clock,
        mut step: impl FnMut(),
    ) -> anyhow::Result<Vec<LatencyRow>> {
        let companies = self.companies();
        let mut rows: Vec<_> = companies.iter().map(|&company| LatencyRow::new(company)).collect();
        for _ in 0..NR_TURNS {
            for row in &mut rows {
                self.turn(source, clock, row, &|| {})?;
                step();
            }
        }
        Ok(rows)
    }

    /// Times the locks of `source`, whose events go to `meter`, and calls `step` after each turn.
    ///
    /// # Errors
    /// The errors of [`run`](Self::run).
    pub fn run_holds<S: AllocPages + Copy + Send>(
        &self,
        source: S,
        meter: &HoldMeter,
        clock: Clock,
        mut step: impl FnMut(),
    ) -> anyhow::Result<Vec<HoldRow>> {
        let companies = self.companies().into_iter();
        let mut rows: Vec<_> =
            companies.map(|company| HoldRow { company, holds: Holds::new() }).collect();
        for _ in 0..NR_TURNS {
            for row in &mut rows {
                let mut calls = LatencyRow::new(row.company);
                self.turn(source, clock, &mut calls, &|| meter.flush())?;
                row.holds.add(&meter.take());
                step();
            }
        }
        Ok(rows)
    }

    /// Runs probe and hog; each thread calls `at_end` when it is done.
    fn turn<S: AllocPages + Copy + Send>(
        &self,
        source: S,
        clock: Clock,
        row: &mut LatencyRow,
        at_end: &(impl Fn() + Sync),
    ) -> anyhow::Result<()> {
        let LatencyRow { company, single, locked, calm_max, hog: hogged } = row;
        let hog_cpu = match company {
            Company::Alone => None,
            Company::OtherCpu => self.other_cpu,
            Company::SameCpu => Some(self.probe_cpu),
        };
        thread::scope(|scope| {
            let hog = hog_cpu.map(|cpu| {
                let (running, is_running) = channel();
                let (enough, until) = channel();
                let nr = self.hog_pages;
                let work = move || {
                    let hogged = hog(source, clock, cpu, nr, &running, &until);
                    at_end();
                    hogged
                };
                (scope.spawn(work), is_running, enough)
            });
            let mut probed = Ok(());
            // A hog that fails reports its error when it is joined.
            if hog.as_ref().is_none_or(|(_, is_running, _)| is_running.recv().is_ok()) {
                let work = move || {
                    let probed = self.probe(source, clock, (single, locked, calm_max));
                    at_end();
                    probed
                };
                probed = scope.spawn(work).join().expect(PANICKED);
            }
            if let Some((thread, _, enough)) = hog {
                drop::<Sender<()>>(enough);
                hogged.add(thread.join().expect(PANICKED)?);
            }
            probed
        })
    }

    /// Times calls of both kinds for the duration of a turn.
    fn probe<S: AllocPages + Copy>(
        &self,
        source: S,
        clock: Clock,
        (single, locked, calm_max): (&mut Waits, &mut Waits, &mut Option<u64>),
    ) -> anyhow::Result<()> {
        Cpus::pin_to(self.probe_cpu)?;
        let turn = self.turn_time();
        let mut pages: Vec<Option<Page<S>>> = Vec::with_capacity(self.probe_pages);
        let mut folios: Vec<Folio<S>> = Vec::with_capacity(LOCKED_BLOCKS);
        let start = Instant::now();
        loop {
            for _ in 0..self.probe_pages {
                let (page, _ticks) = single.time(clock, || source.alloc_page(GFP));
                pages.push(Some(page.context(RAN_OUT)?));
            }
            source.release_pages(&mut pages);
            pages.clear();
            let (before, mut longest) = (Switches::of_this_thread(), 0);
            for _ in 0..LOCKED_BLOCKS.min(self.probe_pages) {
                let (folio, ticks) = locked.time(clock, || source.alloc_pages(GFP, UNLISTED));
                longest = longest.max(ticks);
                folios.push(folio.context(RAN_OUT)?);
            }
            for folio in folios.drain(..) {
                longest = longest.max(locked.time(clock, || drop(folio)).1);
            }
            if before.is_some() && before == Switches::of_this_thread() {
                *calm_max = (*calm_max).max(Some(longest));
            }
            if start.elapsed() >= turn {
                return Ok(());
            }
        }
    }
}

/// An order without per-CPU lists.
const UNLISTED: Order = match Order::new(4) {
    Ok(order) => order,
    Err(_) => unreachable!(),
};
const RAN_OUT: &str = "the arena ran out of pages: use a larger --arena";
const PANICKED: &str = "neither probe nor hog panics";

/// Allocates `nr` pages in one call and frees them in one, until the other end of `until` is gone.
/// Signals the end of the first call, which is not counted.
fn hog<S: AllocPages + Copy>(
    source: S,
    clock: Clock,
    cpu: CpuId,
    nr: usize,
    running: &Sender<()>,
    until: &Receiver<()>,
) -> anyhow::Result<Hogged> {
    Cpus::pin_to(cpu)?;
    let mut slots: Vec<Option<Page<S>>> = core::iter::repeat_with(|| None).take(nr).collect();
    let mut ask = || {
        let start = clock.now();
        let got = source.alloc_pages_bulk(GFP, &mut slots);
        let ticks = clock.now().saturating_sub(start);
        ensure!(got == nr, "the hog got {got} of {nr} pages: use a larger --arena");
        source.release_pages(&mut slots);
        Ok(ticks)
    };
    ask()?;
    let mut hogged = Hogged::default();
    if running.send(()).is_err() {
        return Ok(hogged);
    }
    while until.try_recv() == Err(TryRecvError::Empty) {
        hogged.ticks += ask()?;
        hogged.calls += 1;
    }
    Ok(hogged)
}

/// How long a thread has waited for a CPU, and how many times it got one.
///
/// # Source
/// `linux-6.12` `Documentation/scheduler/sched-stats.rst`, `/proc/<pid>/schedstat`
#[derive(Debug, PartialEq, Eq)]
struct Switches(Vec<u64>);

impl Switches {
    /// `None` where the kernel does not count.
    fn of_this_thread() -> Option<Self> {
        let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        // The first value is the time on a CPU, which changes all the time.
        let figures = text.split_ascii_whitespace().skip(1).map_while(|word| word.parse().ok());
        Some(Self(figures.collect())).filter(|switches| switches.0.len() == 2)
    }
}

impl Hogged {
    fn add(&mut self, more: Self) {
        self.calls += more.calls;
        self.ticks += more.ticks;
    }

    /// Returns how long a call took on average, in ns; `None` if there was none.
    pub fn mean_ns(&self, clock: Clock) -> Option<f64> {
        (self.calls > 0).then(|| clock.net_ns(self.ticks, 0) / self.calls as f64)
    }
}

impl LatencyRow {
    /// Makes a row without calls.
    pub fn new(company: Company) -> Self {
        let (single, locked) = (Waits::new(), Waits::new());
        Self { company, single, locked, calm_max: None, hog: Hogged::default() }
    }

    /// Returns the duration of the longest locked call of a calm round, in ns.
    pub fn calm_max_ns(&self, clock: Clock) -> Option<f64> {
        self.calm_max.map(|ticks| clock.net_ns(ticks, 1))
    }
}

impl Company {
    /// Returns the name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::OtherCpu => "other_cpu",
            Self::SameCpu => "same_cpu",
        }
    }
}

impl fmt::Display for Company {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Alone => "alone",
            Self::OtherCpu => "hog on another CPU",
            Self::SameCpu => "hog on the same CPU",
        })
    }
}

#[cfg(test)]
mod tests {
    use pagemill_host::debug::traced_allocator;
    use pagemill_host::{AllocatorConfig, ArenaConfig, allocator};

    use super::*;

    fn experiment(hog_pages: usize) -> LatencyExperiment {
        let cpus = Cpus::allowed().unwrap();
        LatencyExperiment {
            probe_cpu: cpus[0],
            other_cpu: cpus.get(1).copied(),
            hog_pages,
            probe_pages: 300,
            time: Duration::ZERO,
        }
    }

    #[test]
    fn every_company_is_timed_and_all_pages_return() {
        let frames = allocator(&AllocatorConfig::new(ArenaConfig::new(16 << 20))).unwrap();
        let clock = Clock::detect();
        let (experiment, mut steps) = (experiment(2048), 0);
        let rows = experiment.run(&frames, clock, || steps += 1).unwrap();
        assert_eq!(2 * steps, experiment.nr_steps());
        assert_eq!(rows.iter().map(|row| row.company).collect::<Vec<_>>(), experiment.companies());
        for row in &rows {
            let single = row.single.percentiles(clock);
            assert_eq!(single.calls, 5 * 300);
            assert_eq!(row.locked.percentiles(clock).calls, 5 * 2 * 64);
            assert!(single.p50 <= single.p99 && single.p99 <= single.p999, "{single:?}");
            assert!(single.p999 <= single.max, "{single:?}");
            let longest = row.calm_max_ns(clock).unwrap_or(0.0);
            assert!(longest <= row.locked.percentiles(clock).max, "{longest}");
            assert_eq!(row.hog.mean_ns(clock).is_some(), row.hog.calls > 0);
        }
        assert_eq!(frames.nr_free_pages(), 4096);
    }

    #[test]
    fn the_holds_of_probe_and_hog_are_counted_in_every_company() {
        let clock = Clock::detect();
        let config = AllocatorConfig::new(ArenaConfig::new(16 << 20));
        let frames = traced_allocator(&config, HoldMeter::new(clock)).unwrap();
        let (experiment, mut steps) = (experiment(2048), 0);
        let meter = frames.platform().tracer();
        let rows = experiment.run_holds(&frames, meter, clock, || steps += 1).unwrap();
        assert_eq!(2 * steps, experiment.nr_steps());
        assert_eq!(rows.iter().map(|row| row.company).collect::<Vec<_>>(), experiment.companies());
        for HoldRow { company, holds } in &rows {
            // Five rounds of the probe: 64 blocks and 300 pages.
            let zone = holds.zone.all.percentiles(clock);
            assert!(zone.calls >= 5 * 2 * 64, "{company}: {zone:?}");
            let lists = holds.lists.all.percentiles(clock);
            assert!(lists.calls >= 5 * 300, "{company}: {lists:?}");
            for (held, all) in [(&holds.zone, zone), (&holds.lists, lists)] {
                assert!(held.calm_max_ns(clock).is_none_or(|longest| longest <= all.max * 1.01));
                assert!(held.nr_switched <= all.calls);
            }
        }
        assert_eq!(frames.nr_free_pages(), 4096);
    }

    #[test]
    fn a_hog_that_cannot_have_its_pages_is_told() {
        let frames = allocator(&AllocatorConfig::new(ArenaConfig::new(16 << 20))).unwrap();
        let error = experiment(5000).run(&frames, Clock::detect(), || {}).unwrap_err();
        assert!(error.to_string().contains("of 5000 pages: use a larger --arena"), "{error}");
        assert_eq!(frames.nr_free_pages(), 4096);
    }
}
