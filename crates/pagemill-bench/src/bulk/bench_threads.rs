//! Benchmark threads: one per CPU, bound to it, which run the same task at the same time.

use std::sync::Barrier;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use pagemill::AllocPages;
use pagemill::units::CpuId;
use pagemill_host::HostError;
use pagemill_host::machine::Cpus;

use super::task::{Sample, Task};
use crate::clock::Clock;

/// One thread per CPU, waiting for tasks.
///
/// The leading thread sleeps while they measure, so it needs no CPU of its own.
#[derive(Debug)]
pub struct BenchThreads {
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    orders: Sender<(Task, usize)>,
    samples: Receiver<Sample>,
}

impl BenchThreads {
    /// Calls `lead` with threads that allocate from `source`, and ends the threads afterwards.
    ///
    /// # Errors
    /// [`HostError::PinTo`] if a thread cannot be bound to its CPU; else the error of `lead`.
    pub fn with<S, R>(
        source: S,
        clock: Clock,
        cpus: &[CpuId],
        lead: impl FnOnce(&Self) -> anyhow::Result<R>,
    ) -> anyhow::Result<R>
    where
        S: AllocPages + Copy + Send,
    {
        let start = &Barrier::new(cpus.len());
        thread::scope(|scope| {
            let mut members = Vec::new();
            let mut bound: Vec<Receiver<Result<(), HostError>>> = Vec::new();
            for &cpu in cpus {
                let (orders, inbox) = channel();
                let (outbox, samples) = channel();
                let (answer, answers) = channel();
                scope.spawn(move || {
                    let pinned = Cpus::pin_to(cpu);
                    let ready = pinned.is_ok();
                    if answer.send(pinned).is_ok() && ready {
                        serve(source, clock, start, &inbox, &outbox);
                    }
                });
                members.push(Member { orders, samples });
                bound.push(answers);
            }
            for answers in bound {
                answers.recv()??;
            }
            lead(&Self { members })
        })
    }

    /// Runs `task` on all threads at the same time, and returns the sample of each.
    ///
    /// # Panics
    /// If a thread has panicked.
    pub fn measure(&self, task: Task, rounds: usize) -> Vec<Sample> {
        for member in &self.members {
            member.orders.send((task, rounds)).expect("a member waits for orders");
        }
        let samples = self.members.iter().map(|member| member.samples.recv());
        samples.map(|sample| sample.expect("a member answers each order")).collect()
    }

    /// Returns the number of threads.
    pub fn nr_threads(&self) -> usize {
        self.members.len()
    }
}

/// Carries out orders until the sender is gone.
fn serve<S: AllocPages + Copy>(
    source: S,
    clock: Clock,
    start: &Barrier,
    inbox: &Receiver<(Task, usize)>,
    outbox: &Sender<Sample>,
) {
    for (task, rounds) in inbox {
        start.wait();
        if outbox.send(task.run(source, clock, rounds)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use pagemill_host::{AllocatorConfig, ArenaConfig, allocator};

    use super::*;
    use crate::bulk::task::Operation;

    #[test]
    fn each_thread_answers_each_order() {
        let frames = allocator(&AllocatorConfig::new(ArenaConfig::new(16 << 20))).unwrap();
        let cpus = Cpus::allowed().unwrap();
        let task = Task::ping(Operation::Array, 8, 64);
        BenchThreads::with(&frames, Clock::detect(), &cpus, |threads| {
            for rounds in 1..4 {
                let samples = threads.measure(task, rounds);
                assert_eq!(samples.len(), threads.nr_threads());
                // Warming up, the halves and the sum, 64 pages each.
                let expected = 64 * (1 + 2 * rounds as u64);
                assert!(samples.iter().all(|sample| sample.nr_pages == expected));
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(frames.vmstat().pgfree, frames.vmstat().pgalloc.iter().sum::<u64>());
    }

    #[test]
    fn a_cpu_that_does_not_exist_is_told() {
        let frames = allocator(&AllocatorConfig::new(ArenaConfig::new(16 << 20))).unwrap();
        let cpus = [Cpus::allowed().unwrap()[0], CpuId::new(1023)];
        let error = BenchThreads::with(&frames, Clock::detect(), &cpus, |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("CPU 1023"), "{error}");
    }
}
