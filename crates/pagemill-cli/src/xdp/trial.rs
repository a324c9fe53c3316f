//! Single pages against bulk on received packets, by turns inside one process.

use core::time::Duration;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use anyhow::anyhow;
use pagemill_host::{Cpus, Tsc};
use pagemill_xdp::{
    Device, DeviceCounters, Discard, Handover, Name, Port, PortConfig, Refill, Sink, Socket,
    ThreadClock, VethPair, Worker, XdpError, enter_private_network, handover,
};

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

/// Runs the trial in a network of its own, and calls `step` after each pair.
///
/// # Errors
/// What the system refuses. Whatever happens, the network vanishes with the thread that made it.
pub(crate) fn run<P: Supply>(
    config: &TrialConfig,
    pool: P,
    interrupt: &Interrupt,
    step: impl FnMut() + Send,
) -> anyhow::Result<TrialResults> {
    // A thread of its own, because a network belongs to a thread.
    thread::scope(|scope| {
        let lab = scope.spawn(|| in_lab(config, pool, interrupt, step));
        lab.join().map_err(|_panic| anyhow!("the measuring thread panicked"))?
    })
}

fn in_lab<P: Supply>(
    config: &TrialConfig,
    pool: P,
    interrupt: &Interrupt,
    step: impl FnMut(),
) -> anyhow::Result<TrialResults> {
    enter_private_network()?;
    let pair = VethPair::new(Name::new("pagemill0")?, Name::new("pagemill1")?, 1)?;
    let port = Port::attach(pair.name(1), PortConfig::default())?;
    let socket: Socket<P::Frame> = Socket::open(&port, 0, Source::new(), &config.socket)?;
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
        let clock = clock.recv().map_err(|_ended| anyhow!("no packets could be made"))?;
        Cpus::pin_to(config.worker_cpu)?;
        let meter = Meter { config, clock, interrupt };
        let measured = if config.hold.is_zero() {
            let mut worker = Worker::new(socket, pool, Discard)?;
            let set = |worker: &mut Worker<_, P, _>, refill| worker.pool_mut().set_refill(refill);
            let pairs = meter.run(&mut worker, set, step);
            finish(worker, pairs)
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
            let pairs = meter.run(&mut worker, set, step);
            let finished = finish(worker, pairs);
            holding.join().map_err(|_panic| anyhow!("the keeping thread panicked"))??;
            finished
        };
        drop(stopper);
        making.join().map_err(|_panic| anyhow!("the making thread panicked"))??;
        let (pool, pairs, device) = measured?;
        pool.end()?;
        Ok(TrialResults { pairs, traffic, is_native: port.is_native() == Some(true), device })
    })
}

fn finish<D, P, S>(
    worker: Worker<D, P, S>,
    pairs: anyhow::Result<Vec<Pair>>,
) -> anyhow::Result<(P, Vec<Pair>, DeviceCounters)>
where
    D: Device,
    P: Supply<Frame = D::Frame>,
    S: Sink<D::Frame>,
{
    let counters = worker.input_counters();
    let (pool, closed) = worker.close();
    closed?;
    Ok((pool, pairs?, counters))
}

/// The measuring itself.
struct Meter<'a> {
    config: &'a TrialConfig,
    clock: ThreadClock,
    interrupt: &'a Interrupt,
}

impl Meter<'_> {
    fn run<D, P, S>(
        &self,
        worker: &mut Worker<D, P, S>,
        set: impl Fn(&mut Worker<D, P, S>, Refill),
        mut step: impl FnMut(),
    ) -> anyhow::Result<Vec<Pair>>
    where
        D: Device,
        P: Supply<Frame = D::Frame>,
        S: Sink<D::Frame>,
    {
        // Until packets flow and everything has been touched once.
        self.spin(worker, WARM_UP)?;
        let mut pairs = Vec::new();
        for nth in 0..self.config.nr_pairs {
            if self.interrupt.is_asked() {
                break;
            }
            let mut slice = |refill| {
                set(worker, refill);
                // What was taken in the other way goes back first.
                self.spin(worker, self.config.hold + SETTLE)?;
                self.slice(worker)
            };
            // Every second pair the other way round, so that none always comes first.
            let (single, bulk) = if nth % 2 == 0 {
                let single = slice(Refill::Single)?;
                (single, slice(Refill::Bulk)?)
            } else {
                let bulk = slice(Refill::Bulk)?;
                (slice(Refill::Single)?, bulk)
            };
            // A slice without a packet says nothing.
            if let (Some(single), Some(bulk)) = (single, bulk) {
                pairs.push(Pair { single, bulk });
            }
            step();
        }
        if pairs.is_empty() && !self.interrupt.is_asked() {
            return Err(anyhow!("no packets came in: nothing was measured"));
        }
        Ok(pairs)
    }

    fn spin<D, P, S>(&self, worker: &mut Worker<D, P, S>, time: Duration) -> Result<(), XdpError>
    where
        D: Device,
        P: Supply<Frame = D::Frame>,
        S: Sink<D::Frame>,
    {
        let start = Instant::now();
        while start.elapsed() < time && !self.interrupt.is_asked() {
            if worker.step()? == 0 {
                // To whoever makes packets, or keeps them.
                thread::yield_now();
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
        // Other processes may have had the CPUs all the time: the slice goes on until a packet comes.
        while worker.counters().received == before.received
            && start.elapsed() < SLICE_AT_MOST
            && !self.interrupt.is_asked()
        {
            self.spin(worker, self.config.slice)?;
        }
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
            alloc_ns: Tsc::detect().map(alloc_ns),
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
/// How long a slice goes on without any packet.
const SLICE_AT_MOST: Duration = Duration::from_mins(1);
/// Between two slices, beside the time for which packets are kept.
const SETTLE: Duration = Duration::from_millis(2);
/// Batches on their way to the thread that keeps packets.
const HANDOVER_BATCHES: usize = 256;
