//! Single pages against bulk on received packets, by turns inside one process.

use core::time::Duration;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use anyhow::anyhow;
use pagemill_host::machine::{Cpus, Tsc};
use pagemill_xdp::attach::Name;
use pagemill_xdp::devices::DeviceCounters;
use pagemill_xdp::frames::Refill;
use pagemill_xdp::sinks::{Discard, Handover, handover};
use pagemill_xdp::testing::{ThreadClock, VethPair, enter_private_network};
use pagemill_xdp::{Device, Interface, InterfaceConfig, Sink, Socket, Worker, XdpError};

use super::generator::Generator;
use super::holder;
use super::supply::{Source, Supply, TakeBack};
use crate::interrupt::Interrupt;
use crate::plan::xdp::TrialConfig;

/// What one slice saw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slice {
    /// Packets in a second.
    pub(crate) pps: f64,
    /// CPU time of the receiving thread for each packet.
    pub(crate) worker_ns: f64,
    /// CPU time of both threads for each packet.
    pub(crate) total_ns: f64,
    /// Of the receiving thread's time, what went into frames, for each packet.
    pub(crate) alloc_ns: Option<f64>,
    /// Calls of the page pool to the page allocator, for each packet.
    pub(crate) slow: Option<f64>,
}

/// Two slices that follow each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair {
    /// One page a call.
    pub(crate) single: Slice,
    /// Many.
    pub(crate) bulk: Slice,
}

/// All that a trial found.
#[derive(Debug)]
pub(crate) struct TrialResults {
    /// The pairs, in order.
    pub(crate) pairs: Vec<Pair>,
    /// What made the packets.
    pub(crate) traffic: &'static str,
    /// Whether the program ran in the driver.
    pub(crate) is_native: bool,
    /// What the device counted in all.
    pub(crate) device: DeviceCounters,
}

/// What was measured, and an error if one cut the trial short.
pub(crate) type Measured = (TrialResults, anyhow::Result<()>);

/// Runs the trial in a network of its own, and calls `step` after each pair.
///
/// # Errors
/// What the system refuses before anything is measured. Whatever happens, the network vanishes with
/// the thread that made it.
pub(crate) fn run<P: Supply>(
    config: &TrialConfig,
    pool: P,
    interrupt: &Interrupt,
    mut step: impl FnMut(),
) -> anyhow::Result<Measured> {
    // A thread of its own, because a network belongs to a thread.
    thread::scope(|scope| {
        let (say, hear) = mpsc::channel();
        let testbed = scope.spawn(move || in_testbed(config, pool, interrupt, &say));
        // Here rather than there: writing to a terminal may wait, and packets do not.
        hear.iter().for_each(|()| step());
        testbed.join().map_err(|_panic| anyhow!("the measuring thread panicked"))?
    })
}

fn in_testbed<P: Supply>(
    config: &TrialConfig,
    pool: P,
    interrupt: &Interrupt,
    step: &mpsc::Sender<()>,
) -> anyhow::Result<Measured> {
    enter_private_network()?;
    let pair = VethPair::new(Name::new("pagemill0")?, Name::new("pagemill1")?, 1)?;
    let interface = Interface::attach(pair.name(1), InterfaceConfig::default())?;
    let socket: Socket<P::Frame> = Socket::open(&interface, 0, Source::new(), &config.socket)?;
    let generator = Generator::new(config.traffic, &pair, Source::new())?;
    let traffic = generator.name();
    let stop = Interrupt::default();
    thread::scope(|scope| {
        // Whatever ends this ends the generator.
        let stopper = AskOnDrop(&stop);
        let (tell, clock) = mpsc::channel();
        let stop = &stop;
        let making = scope.spawn(move || -> anyhow::Result<()> {
            Cpus::pin_to(config.generator_cpu)?;
            let _ignored_if_it_failed = tell.send(ThreadClock::of_this_thread());
            Ok(generator.run(config.len, stop)?)
        });
        let clock = clock.recv().map_err(|_ended| anyhow!("no packets were generated"))?;
        Cpus::pin_to(config.worker_cpu)?;
        let is_making = || !making.is_finished();
        let meter = Meter { config, clock, tsc: Tsc::detect(), interrupt, is_making: &is_making };
        let measured = if config.hold.is_zero() {
            let mut worker = Worker::new(socket, pool, Discard)?;
            let set = |worker: &mut Worker<_, P, _>, refill| worker.pool_mut().set_refill(refill);
            let measured = meter.run(&mut worker, set, step);
            finish(worker, measured)
        } else {
            let (to, inbox) = handover(HANDOVER_BATCHES);
            let mut back = pool.back();
            let mut worker = Worker::new(socket, pool, to)?;
            let (say, hear) = mpsc::channel();
            let holding = scope.spawn(move || -> anyhow::Result<u64> {
                Cpus::pin_to(config.holder_cpu)?;
                Ok(holder::hold(&inbox, config.hold, |spent| {
                    if let Some(refill) = hear.try_iter().last() {
                        back.set_refill(refill);
                    }
                    back.take_back(spent);
                }))
            });
            let set = |worker: &mut Worker<_, P, Handover<_>>, refill| {
                worker.pool_mut().set_refill(refill);
                let _ignored_if_it_failed = say.send(refill);
            };
            let measured = meter.run(&mut worker, set, step);
            let finished = finish(worker, measured);
            holding
                .join()
                .map_err(|_panic| anyhow!("the thread that holds packets panicked"))??;
            finished
        };
        drop(stopper);
        let made = making.join().map_err(|_panic| anyhow!("the generator thread panicked"));
        let (pool, pairs, device, result) = measured;
        // If no packets came because none were made, that is what went wrong.
        let result = made.and_then(|made| made).and(result);
        let result = result.and(pool.end().map_err(anyhow::Error::from));
        let is_native = interface.is_native() == Some(true);
        Ok((TrialResults { pairs, traffic, is_native, device }, result))
    })
}

/// What has come out of a trial: the pool, the pairs, what the device counted, and an error.
type Finished<P> = (P, Vec<Pair>, DeviceCounters, anyhow::Result<()>);

fn finish<D, P, S>(
    worker: Worker<D, P, S>,
    (pairs, result): (Vec<Pair>, anyhow::Result<()>),
) -> Finished<P>
where
    D: Device,
    P: Supply<Frame = D::Frame>,
    S: Sink<D::Frame>,
{
    let counters = worker.input_counters();
    let (pool, closed) = worker.close();
    (pool, pairs, counters, result.and(closed.map_err(anyhow::Error::from)))
}

/// The measuring itself.
struct Meter<'a> {
    config: &'a TrialConfig,
    /// Of the thread that makes packets.
    clock: ThreadClock,
    tsc: Option<Tsc>,
    interrupt: &'a Interrupt,
    /// Whether the thread that makes packets still runs.
    is_making: &'a dyn Fn() -> bool,
}

impl Meter<'_> {
    /// Returns what was measured, and an error if one ended it early.
    fn run<D, P, S>(
        &self,
        worker: &mut Worker<D, P, S>,
        set: impl Fn(&mut Worker<D, P, S>, Refill),
        step: &mpsc::Sender<()>,
    ) -> (Vec<Pair>, anyhow::Result<()>)
    where
        D: Device,
        P: Supply<Frame = D::Frame>,
        S: Sink<D::Frame>,
    {
        let mut pairs = Vec::new();
        let result = self.measure(worker, set, &mut pairs, step);
        (pairs, result)
    }

    fn measure<D, P, S>(
        &self,
        worker: &mut Worker<D, P, S>,
        set: impl Fn(&mut Worker<D, P, S>, Refill),
        pairs: &mut Vec<Pair>,
        step: &mpsc::Sender<()>,
    ) -> anyhow::Result<()>
    where
        D: Device,
        P: Supply<Frame = D::Frame>,
        S: Sink<D::Frame>,
    {
        let start = Instant::now();
        while self.goes_on() && worker.counters().received == 0 {
            anyhow::ensure!(start.elapsed() < PATIENCE, NO_PACKETS);
            self.spin(worker, SETTLE)?;
        }
        // Until everything has been touched once.
        self.spin(worker, WARM_UP)?;
        let mut last = Instant::now();
        while self.goes_on() && pairs.len() < self.config.nr_pairs as usize {
            let mut slice = |refill| {
                set(worker, refill);
                // What was taken in the other way goes back first.
                self.spin(worker, self.config.hold + SETTLE)?;
                self.slice(worker)
            };
            // Every second pair the other way round, so that none always comes first.
            let (single, bulk) = if pairs.len().is_multiple_of(2) {
                let single = slice(Refill::Single)?;
                (single, slice(Refill::Bulk)?)
            } else {
                let bulk = slice(Refill::Bulk)?;
                (slice(Refill::Single)?, bulk)
            };
            // A slice without a packet says nothing, because another process had the CPU: the pair
            // is measured again.
            let (Some(single), Some(bulk)) = (single, bulk) else {
                anyhow::ensure!(last.elapsed() < PATIENCE, NO_PACKETS);
                continue;
            };
            last = Instant::now();
            pairs.push(Pair { single, bulk });
            let _ignored_if_not_counted = step.send(());
        }
        Ok(())
    }

    /// Tells whether there is more to measure: no signal asked to end, and packets are being made.
    fn goes_on(&self) -> bool {
        !self.interrupt.is_asked() && (self.is_making)()
    }

    fn spin<D, P, S>(&self, worker: &mut Worker<D, P, S>, time: Duration) -> Result<(), XdpError>
    where
        D: Device,
        P: Supply<Frame = D::Frame>,
        S: Sink<D::Frame>,
    {
        let start = Instant::now();
        while start.elapsed() < time && !self.interrupt.is_asked() {
            if worker.step()? > 0 {
                continue;
            }
            if self.config.shares_cpu() {
                // To the thread that makes packets, or the one that keeps them.
                thread::yield_now();
            } else {
                // A thread that gets the CPU after a yield would keep it while the ring overflows.
                core::hint::spin_loop();
            }
        }
        Ok(())
    }

    fn slice<D, P, S>(&self, worker: &mut Worker<D, P, S>) -> Result<Option<Slice>, XdpError>
    where
        D: Device,
        P: Supply<Frame = D::Frame>,
        S: Sink<D::Frame>,
    {
        let own = ThreadClock::of_this_thread();
        let slow = |worker: &Worker<D, P, S>| Some(worker.pool().stats()?.alloc.slow);
        let (start, before, slow_before) = (Instant::now(), worker.counters(), slow(worker));
        let (own_start, theirs_start) = (own.ns(), self.clock.ns());
        self.spin(worker, self.config.slice)?;
        let elapsed = start.elapsed();
        let own_ns = own.ns().saturating_sub(own_start) as f64;
        let their_ns = self.clock.ns().saturating_sub(theirs_start) as f64;
        let after = worker.counters();
        let nr_packets = (after.received - before.received) as f64;
        let ticks = (after.alloc_ticks - before.alloc_ticks) as f64;
        let alloc_ns = |tsc: Tsc| ticks * 1e9 / tsc.hz() as f64 / nr_packets;
        Ok((nr_packets > 0.0).then(|| Slice {
            pps: nr_packets / elapsed.as_secs_f64(),
            worker_ns: own_ns / nr_packets,
            total_ns: (own_ns + their_ns) / nr_packets,
            alloc_ns: self.tsc.map(alloc_ns),
            slow: slow(worker)
                .zip(slow_before)
                .map(|(after, before)| (after - before) as f64 / nr_packets),
        }))
    }
}

/// Stops the generator, also if measuring fails.
struct AskOnDrop<'a>(&'a Interrupt);

impl Drop for AskOnDrop<'_> {
    fn drop(&mut self) {
        self.0.ask();
    }
}

/// Before the first slice.
const WARM_UP: Duration = Duration::from_millis(300);
/// Between two slices, beside the time for which packets are kept.
const SETTLE: Duration = Duration::from_millis(2);
/// How long to wait for packets in vain: a machine that is busy with other work makes some at last.
const PATIENCE: Duration = Duration::from_mins(2);
/// What a trial without packets ends with.
const NO_PACKETS: &str = "no packets arrived for two minutes, so nothing was measured";
/// Batches on their way to the thread that keeps packets.
const HANDOVER_BATCHES: usize = 256;
