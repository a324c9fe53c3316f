//! Experiment of `bench bulk`: which cells are measured, how often, and in which order.

use core::f64::consts::FRAC_1_SQRT_2;
use core::time::Duration;

use anyhow::ensure;
use pagemill::stats::PcpInfo;
use pagemill::units::CpuId;
use pagemill::{AllocPages, PageAllocator, Platform};

use super::bench_threads::BenchThreads;
use super::results::{LimitRow, Results, Row, Spread};
use super::task::{Operation, Sample, Shape, Task};
use super::workload::GFP;
use crate::clock::Clock;

/// The cells of an experiment, and the number of their measurements.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// The shapes, in the order of reports.
    pub shapes: Vec<Shape>,
    /// The batch sizes, smallest first.
    pub sizes: Vec<usize>,
    /// Number of measurements of each cell.
    pub runs: usize,
    /// Approximate duration of one measurement; zero for one round.
    pub slice: Duration,
    /// The CPUs; each runs one thread.
    pub cpus: Vec<CpuId>,
    /// Approximate number of pages that one thread holds at the peak of a burst.
    pub burst_pages: usize,
}

/// Maximum number of rounds of one measurement, in case the clock stands still.
const ROUNDS_MAX: usize = 1 << 24;

/// A cell, and its samples so far.
#[derive(Debug)]
struct Cell {
    task: Task,
    rounds: usize,
    samples: Vec<Sample>,
}

impl Experiment {
    /// Returns the number of steps that [`run`](Self::run) reports.
    pub fn nr_steps(&self) -> usize {
        // One calibration and the runs, for the limit and for each shape and operation.
        let cells_per_size = 1 + self.shapes.len() * Operation::ALL.len();
        self.sizes.len() * cells_per_size * (1 + self.runs)
    }

    /// Measures all cells with pages from `source`, and calls `step` after each measurement.
    ///
    /// # Errors
    /// If a thread cannot be bound to its CPU, the arena runs out of pages, or a page is lost.
    pub fn run<S: AllocPages + Copy + Send>(
        &self,
        source: S,
        clock: Clock,
        mut step: impl FnMut(),
    ) -> anyhow::Result<Results> {
        let allocator = source.allocator();
        let nr_free_pages = allocator.nr_free_pages();
        let mut cells = self.cells(pcp_high(allocator));
        BenchThreads::with(source, clock, &self.cpus, |threads| {
            for cell in &mut cells {
                cell.rounds = self.calibrate(threads, allocator, cell.task)?;
                step();
            }
            for run in 0..self.runs {
                // Every second run goes backwards, so that no cell always follows the same one.
                for index in 0..cells.len() {
                    let index = if run % 2 == 0 { index } else { cells.len() - 1 - index };
                    let cell = &mut cells[index];
                    cell.samples.push(measure(threads, allocator, cell.task, cell.rounds)?);
                    step();
                }
            }
            Ok(())
        })?;
        let nr_left = allocator.nr_free_pages();
        ensure!(nr_left == nr_free_pages, "{nr_free_pages} pages were free and now {nr_left} are");
        Ok(results(&cells))
    }

    fn cells(&self, pcp_high: usize) -> Vec<Cell> {
        let mut tasks: Vec<Task> = self.sizes.iter().map(|&n| Task::copies(n)).collect();
        for &shape in &self.shapes {
            for &n in &self.sizes {
                tasks.extend(Operation::ALL.map(|operation| match shape {
                    Shape::Ping => Task::ping(operation, n, pcp_high),
                    Shape::Burst => Task::burst(operation, n, self.burst_pages),
                }));
            }
        }
        tasks.into_iter().map(|task| Cell { task, rounds: 1, samples: Vec::new() }).collect()
    }

    /// Returns how many rounds of `task` take approximately one slice; this also warms up the caches.
    fn calibrate<P: Platform>(
        &self,
        threads: &BenchThreads,
        allocator: &PageAllocator<P>,
        task: Task,
    ) -> anyhow::Result<usize> {
        // Doubling until 1/sqrt(2) of the slice is reached ends between that and sqrt(2) of it.
        let enough_ns = self.slice.as_secs_f64() * 1e9 * FRAC_1_SQRT_2;
        let mut rounds = 1;
        while measure(threads, allocator, task, rounds)?.elapsed_ns < enough_ns
            && rounds < ROUNDS_MAX
        {
            rounds *= 2;
        }
        Ok(rounds)
    }
}

/// Runs `task` on the threads, and returns the mean of their samples.
fn measure<P: Platform>(
    threads: &BenchThreads,
    allocator: &PageAllocator<P>,
    task: Task,
    rounds: usize,
) -> anyhow::Result<Sample> {
    let before = nr_allocated(allocator);
    let samples = threads.measure(task, rounds);
    let wanted: u64 = samples.iter().map(|sample| sample.nr_pages).sum();
    let got = nr_allocated(allocator) - before;
    ensure!(
        got == wanted,
        "the arena ran out of pages: {got} of {wanted} could be allocated; use a larger --arena"
    );
    let mean = |figure: fn(&Sample) -> f64| {
        samples.iter().map(figure).sum::<f64>() / threads.nr_threads() as f64
    };
    Ok(Sample {
        alloc_ns: mean(|sample| sample.alloc_ns),
        free_ns: mean(|sample| sample.free_ns),
        both_ns: mean(|sample| sample.both_ns),
        nr_pages: wanted,
        elapsed_ns: mean(|sample| sample.elapsed_ns),
    })
}

/// Returns the total number of pages that the allocator has handed out.
fn nr_allocated<P: Platform>(allocator: &PageAllocator<P>) -> u64 {
    allocator.vmstat().pgalloc.iter().sum()
}

/// Returns the capacity of the per-CPU list that serves the benchmark.
pub fn pcp_high<P: Platform>(allocator: &PageAllocator<P>) -> usize {
    list_in_use(allocator).map_or(0, |list| list.high)
}

/// Returns how many pages that list takes from the zone at a time, before doubling.
pub fn pcp_batch<P: Platform>(allocator: &PageAllocator<P>) -> usize {
    list_in_use(allocator).map_or(0, |list| list.batch)
}

fn list_in_use<P: Platform>(allocator: &PageAllocator<P>) -> Option<PcpInfo> {
    let kind = GFP.migratetype();
    allocator.pcp_info().find(|list| list.migratetype == kind)
}

fn results(cells: &[Cell]) -> Results {
    let mut results = Results::default();
    for Cell { task, samples, .. } in cells {
        match *task {
            Task::Copies { n, .. } => {
                let ns = Spread::of(samples.iter().map(|sample| sample.both_ns));
                results.limit.push(LimitRow { n, ns });
            }
            Task::Pages { shape, operation, n, .. } => {
                results.rows.push(Row::of(shape, operation, n, samples));
            }
        }
    }
    results
}

#[cfg(test)]
mod tests {
    use pagemill_host::machine::Cpus;
    use pagemill_host::{AllocatorConfig, ArenaConfig, allocator};

    use super::*;

    #[test]
    fn every_cell_is_measured_and_every_step_reported() {
        let frames = allocator(&AllocatorConfig::new(ArenaConfig::new(16 << 20))).unwrap();
        let cpus = Cpus::allowed().unwrap();
        let experiment = Experiment {
            shapes: Shape::ALL.to_vec(),
            sizes: vec![1, 5, 64],
            runs: 3,
            slice: Duration::ZERO,
            burst_pages: 2048 / cpus.len(),
            cpus,
        };
        let mut steps = 0;
        let results = experiment.run(&frames, Clock::detect(), || steps += 1).unwrap();
        assert_eq!(steps, experiment.nr_steps());
        assert_eq!(results.sizes().collect::<Vec<_>>(), experiment.sizes);
        assert_eq!(results.rows.len(), 2 * 3 * 3);
        for row in &results.rows {
            for spread in [&row.alloc, &row.free, &row.both] {
                assert!(0.0 < spread.min && spread.min <= spread.median, "{row:?}");
                assert!(spread.median <= spread.max, "{row:?}");
            }
        }
    }

    #[test]
    fn an_arena_that_is_too_small_is_told() {
        let frames = allocator(&AllocatorConfig::new(ArenaConfig::new(4 << 20))).unwrap();
        let experiment = Experiment {
            shapes: vec![Shape::Burst],
            sizes: vec![64],
            runs: 1,
            slice: Duration::ZERO,
            cpus: Cpus::allowed().unwrap()[..1].to_vec(),
            burst_pages: 2048,
        };
        let error = experiment.run(&frames, Clock::detect(), || {}).unwrap_err().to_string();
        assert!(error.contains("ran out of pages"), "{error}");
        assert_eq!(frames.nr_free_pages(), 1024);
    }
}
