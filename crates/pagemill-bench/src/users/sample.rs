//! One measurement of a user, and the meter that takes it.

use core::time::Duration;
use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};

use crate::Clock;

/// What some operations cost together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    nr_ops: f64,
    cpu: Duration,
    wall: Duration,
    alloc: AllocTicks,
}

/// Time in calls to the page allocator.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AllocTicks {
    /// Ticks of all intervals.
    pub(super) ticks: u64,
    /// Number of intervals.
    pub(super) nr_intervals: usize,
}

impl AllocTicks {
    /// Times `work` as calls to the allocator.
    #[inline]
    pub(super) fn time<T>(&mut self, clock: Clock, work: impl FnOnce() -> T) -> T {
        let start = clock.now();
        let result = work();
        self.ticks += clock.now().saturating_sub(start);
        self.nr_intervals += 1;
        result
    }

    /// Adds other calls.
    pub(super) fn add(&mut self, other: Self) {
        self.ticks += other.ticks;
        self.nr_intervals += other.nr_intervals;
    }
}

impl Sample {
    /// Adds what calls to the page allocator took, which were measured apart.
    pub(super) fn with_alloc(self, alloc: AllocTicks) -> Self {
        Self { alloc, ..self }
    }

    /// Counts each operation as `nr` of them.
    pub(super) fn split(self, nr: usize) -> Self {
        Self { nr_ops: self.nr_ops * nr as f64, ..self }
    }

    /// Returns nanoseconds of CPU time per operation.
    pub(super) fn cpu_ns(&self) -> f64 {
        self.cpu.as_nanos() as f64 / self.nr_ops
    }

    /// Returns nanoseconds per operation.
    pub(super) fn wall_ns(&self) -> f64 {
        self.wall.as_nanos() as f64 / self.nr_ops
    }

    /// Returns nanoseconds per operation in calls to the page allocator, without clock readings.
    pub(super) fn alloc_ns(&self, clock: Clock) -> f64 {
        clock.net_ns(self.alloc.ticks, self.alloc.nr_intervals) / self.nr_ops
    }
}

/// A measurement that goes on.
#[derive(Debug)]
pub(super) struct Meter {
    start: Instant,
    cpu_start: Duration,
}

impl Meter {
    /// Starts: time counts from now on, and the calling thread's CPU time.
    pub(super) fn start() -> Self {
        Self { start: Instant::now(), cpu_start: thread_cpu() }
    }

    /// Returns how long the measurement has taken.
    pub(super) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Ends after `nr_ops` operations, in which other threads of the user used `others` of CPU time.
    pub(super) fn stop(self, nr_ops: u64, others: Duration, alloc: AllocTicks) -> Sample {
        let sample = self.stop_partly(nr_ops as f64, alloc);
        Sample { cpu: sample.cpu + others, ..sample }
    }

    /// Ends after a number of operations of which the last one may not be complete.
    pub(super) fn stop_partly(self, nr_ops: f64, alloc: AllocTicks) -> Sample {
        let cpu = thread_cpu().saturating_sub(self.cpu_start);
        Sample { nr_ops, cpu, wall: self.start.elapsed(), alloc }
    }
}

/// Returns the CPU time of the calling thread so far.
pub(super) fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
