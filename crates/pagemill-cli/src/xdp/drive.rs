//! The loop that moves packets until it is told to stop, with a sample each second.

use core::time::Duration;
use std::time::Instant;

use pagemill_host::Tsc;
use pagemill_pool::PoolStats;
use pagemill_xdp::{Device, DeviceCounters, Sink, ThreadClock, Worker, WorkerCounters, XdpError};

use super::supply::Supply;
use crate::interrupt::Interrupt;

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
    /// Frames out of the pool.
    pub(crate) nr_held: usize,
    /// By the page pool, if there is one.
    pub(crate) pool: Option<PoolStats>,
}

/// Moves packets until `interrupt`, or for `duration`, and hands over the totals each second.
///
/// # Errors
/// Those of the devices, and of `each`.
pub(crate) fn drive<D, P, S>(
    worker: &mut Worker<D, P, S>,
    duration: Option<Duration>,
    interrupt: &Interrupt,
    mut each: impl FnMut(&Totals) -> anyhow::Result<()>,
) -> anyhow::Result<Totals>
where
    D: Device,
    P: Supply<Frame = D::Frame>,
    S: Sink<D::Frame>,
{
    let clock = ThreadClock::of_this_thread();
    let (start, cpu_start) = (Instant::now(), clock.ns());
    let mut next = SECOND;
    loop {
        let mut nr_idle = 0;
        // The clock is read once for a few thousand packets.
        for _ in 0..STEPS {
            if worker.step()? > 0 {
                nr_idle = 0;
                continue;
            }
            nr_idle += 1;
            if nr_idle > NR_IDLE_MAX {
                // What is on its way out does not come in, so it is looked after soon.
                worker.wait(if worker.nr_leaving() > 0 { SHORT } else { LONG })?;
                break;
            }
        }
        let elapsed = start.elapsed();
        let is_over = interrupt.is_asked() || duration.is_some_and(|duration| elapsed >= duration);
        if elapsed >= next || is_over {
            let totals = totals(worker, elapsed, clock.ns().saturating_sub(cpu_start));
            if is_over {
                return Ok(totals);
            }
            each(&totals)?;
            next += SECOND;
        }
    }
}

/// Waits for what is on its way out, for a moment.
///
/// # Errors
/// Those of the devices.
pub(crate) fn drain<D, P, S>(worker: &mut Worker<D, P, S>) -> Result<(), XdpError>
where
    D: Device,
    P: Supply<Frame = D::Frame>,
    S: Sink<D::Frame>,
{
    let start = Instant::now();
    while worker.nr_leaving() > 0 && start.elapsed() < LONG {
        worker.step()?;
    }
    Ok(())
}

fn totals<D, P, S>(worker: &Worker<D, P, S>, elapsed: Duration, cpu_ns: u64) -> Totals
where
    D: Device,
    P: Supply<Frame = D::Frame>,
    S: Sink<D::Frame>,
{
    let counters = worker.counters();
    let alloc_ns = |tsc: Tsc| counters.alloc_ticks as f64 * 1e9 / tsc.hz() as f64;
    Totals {
        elapsed,
        cpu_ns,
        alloc_ns: Tsc::detect().map(alloc_ns),
        worker: counters,
        input: worker.input_counters(),
        output: worker.output_counters(),
        nr_held: worker.nr_held(),
        pool: worker.pool().stats(),
    }
}

const SECOND: Duration = Duration::from_secs(1);
/// Steps between two looks at the clock.
const STEPS: u32 = 256;
/// Steps without a packet before the thread waits for one.
const NR_IDLE_MAX: u32 = 16;
/// A wait while packets are on their way out.
const SHORT: Duration = Duration::from_millis(1);
/// A wait for packets.
const LONG: Duration = Duration::from_millis(100);
