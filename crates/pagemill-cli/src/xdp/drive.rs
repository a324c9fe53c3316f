//! The loop that moves packets until it is stopped.
//!
//! Nothing in the loop waits but for packets. Once a second it asks the kernel for its counters and
//! publishes the totals; another thread turns them into samples and writes them out.

use core::time::Duration;
use std::sync::{Mutex, PoisonError, TryLockError};
use std::time::Instant;

use pagemill_host::machine::{Tsc, monotonic_ns};
use pagemill_pool::stats::PoolStats;
use pagemill_xdp::devices::DeviceCounters;
use pagemill_xdp::testing::ThreadClock;
use pagemill_xdp::workers::{SpinBudget, WorkerCounters};
use pagemill_xdp::{Device, Sink, Worker, XdpError};

use super::supply::Supply;
use crate::interrupt::Interrupt;
use crate::plan::xdp::Polling;

/// What was counted up to a moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    /// Since the start.
    pub(crate) elapsed: Duration,
    /// CPU time of the worker's thread.
    pub(crate) cpu_ns: u64,
    /// CPU time that went into getting frames and giving them back, where there is a clock for it.
    pub(crate) alloc_ns: Option<f64>,
    /// By the worker.
    pub(crate) worker: WorkerCounters,
    /// By the device that packets come from.
    pub(crate) input: DeviceCounters,
    /// By the device that packets leave through.
    pub(crate) output: DeviceCounters,
    /// Frames out of the pool: with devices, in hands, and kept by other threads.
    pub(crate) nr_out: usize,
    /// By the page pool, if there is one.
    pub(crate) pool: Option<PoolStats>,
}

/// The totals on their way from the thread that moves packets to the thread that reports.
///
/// Publishing never waits: totals that the reader has not taken yet are replaced, and the next
/// sample covers the time of both.
#[derive(Debug, Default)]
pub(crate) struct LatestTotals(Mutex<Option<Totals>>);

impl LatestTotals {
    /// Publishes `totals`; returns `false`, and does nothing, while the reader is taking others.
    fn try_publish(&self, totals: Totals) -> bool {
        match self.0.try_lock() {
            Ok(mut latest) => *latest = Some(totals),
            Err(TryLockError::Poisoned(latest)) => *latest.into_inner() = Some(totals),
            Err(TryLockError::WouldBlock) => return false,
        }
        true
    }

    /// Takes the totals that were published last, unless they were taken already.
    pub(crate) fn take(&self) -> Option<Totals> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    /// Everything that was counted.
    pub(crate) totals: Totals,
    /// `Err` if a device ended the run.
    pub(crate) result: Result<(), XdpError>,
}

/// Moves packets until `interrupt`, or for `duration`, and publishes the totals each second; then
/// waits for what is on its way out, for a moment.
pub(crate) fn drive<D, P, S>(
    worker: &mut Worker<D, P, S>,
    duration: Option<Duration>,
    polling: Polling,
    interrupt: &Interrupt,
    latest: &LatestTotals,
) -> Ended
where
    D: Device,
    P: Supply<Frame = D::Frame>,
    S: Sink<D::Frame>,
{
    // Detected by now, because the worker has the same clock: this does not sleep.
    let meter = Meter { clock: ThreadClock::of_this_thread(), tsc: Tsc::detect() };
    let (start, cpu_start) = (Instant::now(), meter.clock.ns());
    let totals = |worker: &Worker<D, P, S>| meter.totals(worker, start.elapsed(), cpu_start);
    let mut idle = Idle::new(polling);
    let mut next = SECOND;
    loop {
        let result = steps(worker, &mut idle);
        let elapsed = start.elapsed();
        let is_over = interrupt.is_asked() || duration.is_some_and(|duration| elapsed >= duration);
        if is_over || result.is_err() {
            let result = result.and_then(|()| drain(worker));
            return Ended { totals: totals(worker), result };
        }
        if elapsed >= next && latest.try_publish(totals(worker)) {
            next += SECOND;
        }
    }
}

/// Moves packets for some thousand of them, or until the thread has waited for one.
///
/// The clock is read once for each call, and after polls that found nothing.
fn steps<D, P, S>(worker: &mut Worker<D, P, S>, idle: &mut Idle) -> Result<(), XdpError>
where
    D: Device,
    P: Supply<Frame = D::Frame>,
    S: Sink<D::Frame>,
{
    for _ in 0..STEPS {
        let nr = worker.step()?;
        if nr > 0 {
            idle.found(nr);
            continue;
        }
        let Some(wait) = idle.found_nothing(monotonic_ns()) else {
            core::hint::spin_loop();
            continue;
        };
        // What is on its way out does not come in, so it is looked after soon.
        worker.wait(if worker.nr_leaving() > 0 { wait.min(SHORT) } else { wait })?;
        break;
    }
    Ok(())
}

/// Decides what follows a poll that found nothing.
#[derive(Debug)]
struct Idle {
    polling: Polling,
    spin: SpinBudget,
    /// When a busy thread last asked whether its interface is still there.
    asked_ns: Option<u64>,
}

impl Idle {
    fn new(polling: Polling) -> Self {
        Self { polling, spin: SpinBudget::new(), asked_ns: None }
    }

    /// Notes a poll that found `nr_packets`, at least one.
    fn found(&mut self, nr_packets: usize) {
        self.spin.found(nr_packets);
        self.asked_ns = None;
    }

    /// Notes a poll that found nothing; returns how long to wait for packets, or `None` to poll
    /// again.
    fn found_nothing(&mut self, now_ns: u64) -> Option<Duration> {
        match self.polling {
            Polling::Adaptive => (!self.spin.may_poll(now_ns)).then_some(LONG),
            Polling::Busy => {
                let asked_ns = *self.asked_ns.get_or_insert(now_ns);
                let is_due = Duration::from_nanos(now_ns.saturating_sub(asked_ns)) >= LONG;
                // A wait of no time at all also says whether the interface is still there.
                is_due.then(|| {
                    self.asked_ns = Some(now_ns);
                    Duration::ZERO
                })
            }
        }
    }
}

/// Waits for what is on its way out, for a moment.
fn drain<D, P, S>(worker: &mut Worker<D, P, S>) -> Result<(), XdpError>
where
    D: Device,
    P: Supply<Frame = D::Frame>,
    S: Sink<D::Frame>,
{
    let start = Instant::now();
    while worker.nr_leaving() > 0 && start.elapsed() < SECOND {
        worker.step()?;
    }
    Ok(())
}

/// The clocks of one thread that moves packets.
struct Meter {
    clock: ThreadClock,
    tsc: Option<Tsc>,
}

impl Meter {
    /// Adds up what was counted.
    ///
    /// # Cost
    /// A system call for each device and one for the thread's clock, none of which waits.
    fn totals<D, P, S>(
        &self,
        worker: &Worker<D, P, S>,
        elapsed: Duration,
        cpu_start_ns: u64,
    ) -> Totals
    where
        D: Device,
        P: Supply<Frame = D::Frame>,
        S: Sink<D::Frame>,
    {
        let counters = worker.counters();
        let alloc_ns = |tsc: Tsc| counters.alloc_ticks as f64 * 1e9 / tsc.hz() as f64;
        Totals {
            elapsed,
            cpu_ns: self.clock.ns().saturating_sub(cpu_start_ns),
            alloc_ns: self.tsc.map(alloc_ns),
            worker: counters,
            input: worker.input_counters(),
            output: worker.output_counters(),
            nr_out: worker.pool().nr_out(),
            pool: worker.pool().stats(),
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);
/// Steps between two looks at the clock.
const STEPS: u32 = 256;
/// A wait while packets are on their way out.
const SHORT: Duration = Duration::from_millis(1);
/// A wait for packets, and how often a busy thread asks whether its interface is still there.
const LONG: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(seconds: u64) -> Totals {
        Totals { elapsed: Duration::from_secs(seconds), ..Totals::default() }
    }

    #[test]
    fn totals_that_were_not_taken_are_replaced() {
        let latest = LatestTotals::default();
        assert!(latest.take().is_none());
        assert!(latest.try_publish(totals(1)) && latest.try_publish(totals(2)));
        assert_eq!(latest.take().map(|totals| totals.elapsed), Some(Duration::from_secs(2)));
        assert!(latest.take().is_none());
    }

    #[test]
    fn publishing_does_not_wait_for_the_reader() {
        let latest = LatestTotals::default();
        let reading = latest.0.lock().unwrap();
        assert!(!latest.try_publish(totals(1)));
        drop(reading);
        assert!(latest.take().is_none());
    }

    #[test]
    fn a_busy_thread_never_sleeps_and_asks_now_and_then() {
        let mut idle = Idle::new(Polling::Busy);
        let mut nr_asked = 0;
        for now_ns in (0..10_000_000_000).step_by(1_000_000) {
            match idle.found_nothing(now_ns) {
                None => {}
                Some(wait) => {
                    assert_eq!(wait, Duration::ZERO);
                    nr_asked += 1;
                }
            }
        }
        assert_eq!(nr_asked, 99);
        idle.found(1);
        assert_eq!(idle.found_nothing(u64::MAX), None);
    }

    #[test]
    fn an_adaptive_thread_sleeps_when_its_budget_is_used_up() {
        let mut idle = Idle::new(Polling::Adaptive);
        idle.found(1);
        let waits: Vec<_> =
            (0..60_000).step_by(1_000).map(|now_ns| idle.found_nothing(now_ns)).collect();
        let nr_polls = waits.iter().position(Option::is_some).unwrap();
        assert_eq!((nr_polls, waits[nr_polls]), (50, Some(LONG)));
    }
}
