//! Benchmark threads: one per CPU, bound to it, with a runner for each peer.

use alloc::sync::Arc;
use std::sync::Barrier;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use pagemill::units::CpuId;
use pagemill_host::HostError;
use pagemill_host::machine::Cpus;

use crate::runner::{Entry, Runner};

type Job = Box<dyn FnOnce(&mut [Box<dyn Runner>]) + Send>;

/// One thread per CPU, waiting for jobs. The leading thread sleeps while they measure.
#[derive(Debug)]
pub(crate) struct BenchThreads {
    jobs: Vec<Sender<Job>>,
}

impl BenchThreads {
    /// Starts a thread on each of `cpus`, which makes its runners.
    ///
    /// # Errors
    /// [`HostError::PinTo`] if a thread cannot be bound to its CPU.
    pub(crate) fn new(cpus: &[CpuId], entries: &Arc<Vec<Entry>>) -> anyhow::Result<Self> {
        let mut threads = Self { jobs: Vec::new() };
        for &cpu in cpus {
            let (jobs, queue) = channel();
            let (result, bound) = channel();
            let entries = Arc::clone(entries);
            thread::spawn(move || serve(cpu, &entries, &result, &queue));
            bound.recv()??;
            threads.jobs.push(jobs);
        }
        Ok(threads)
    }

    /// Returns the number of threads.
    pub(crate) fn nr_threads(&self) -> usize {
        self.jobs.len()
    }

    /// Runs `work` in one thread, with that thread's runner of a peer, and returns the result.
    pub(crate) fn run<R: Send + 'static>(
        &self,
        thread: usize,
        peer: usize,
        work: impl FnOnce(&mut dyn Runner) -> R + Send + 'static,
    ) -> R {
        wait_for(&self.begin(thread, peer, work))
    }

    /// Runs work in the first two threads at the same time, and returns both results.
    pub(crate) fn run_two<A: Send + 'static, B: Send + 'static>(
        &self,
        peer: usize,
        first: impl FnOnce(&mut dyn Runner) -> A + Send + 'static,
        second: impl FnOnce(&mut dyn Runner) -> B + Send + 'static,
    ) -> (A, B) {
        let found = (self.begin(0, peer, first), self.begin(1, peer, second));
        (wait_for(&found.0), wait_for(&found.1))
    }

    /// Runs work in the first `nr` threads at the same time, and returns the results. `work` makes the work
    /// of each thread from its index. All begin together.
    pub(crate) fn run_many<R: Send + 'static, W: FnOnce(&mut dyn Runner) -> R + Send + 'static>(
        &self,
        nr: usize,
        peer: usize,
        work: impl Fn(usize) -> W,
    ) -> Vec<R> {
        let start = Arc::new(Barrier::new(nr));
        let begin = |thread: usize| {
            let (work, start) = (work(thread), Arc::clone(&start));
            self.begin(thread, peer, move |runner| {
                start.wait();
                work(runner)
            })
        };
        let found: Vec<_> = (0..nr).map(begin).collect();
        found.iter().map(wait_for).collect()
    }

    fn begin<R: Send + 'static>(
        &self,
        thread: usize,
        peer: usize,
        work: impl FnOnce(&mut dyn Runner) -> R + Send + 'static,
    ) -> Receiver<R> {
        let (result, found) = channel();
        let job: Job = Box::new(move |runners| {
            // Fails only if the leading thread has stopped because another benchmark thread
            // panicked.
            drop(result.send(work(runners[peer].as_mut())));
        });
        self.jobs[thread].send(job).expect("a thread waits for jobs");
        found
    }
}

fn wait_for<R>(found: &Receiver<R>) -> R {
    found.recv().expect("a thread returns the result of each job")
}

/// Runs jobs until the leading thread drops its end of the queue.
fn serve(
    cpu: CpuId,
    entries: &[Entry],
    result: &Sender<Result<(), HostError>>,
    queue: &Receiver<Job>,
) {
    let pinned = Cpus::pin_to(cpu);
    let is_pinned = pinned.is_ok();
    let mut runners: Vec<_> = entries.iter().map(|entry| (entry.open)()).collect();
    if result.send(pinned).is_err() || !is_pinned {
        return;
    }
    for job in queue {
        job(&mut runners);
    }
}
