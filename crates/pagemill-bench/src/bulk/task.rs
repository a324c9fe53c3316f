//! Task: one measurement by one thread, for one cell in one run.

use pagemill::{AllocPages, PageList};

use super::copies::Copies;
use super::workload::{Arrays, Lists, Singles, Workload};
use crate::clock::Clock;

/// Maximum number of pages in a group of batches whose halves are timed in the shape ping.
///
/// Large enough that the clock reading is negligible; half of a CPU's longest list by default.
const GROUP_PAGES_MAX: usize = 512;

/// The order in which pages are allocated and freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Repeats: N pages allocated, N pages freed.
    Ping,
    /// Tens of thousands of pages allocated in batches of N, then all of them freed in batches of N.
    Burst,
}

impl Shape {
    /// Both shapes, in the order of reports.
    pub const ALL: [Self; 2] = [Self::Ping, Self::Burst];

    /// Returns the name in options and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Burst => "burst",
        }
    }
}

/// The calls by which pages are allocated and freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// One call for each page.
    Single,
    /// One call for a list.
    List,
    /// One call for an array of slots.
    Array,
}

impl Operation {
    /// All operations, in the order of reports.
    pub const ALL: [Self; 3] = [Self::Single, Self::List, Self::Array];

    /// Returns the name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::List => "list",
            Self::Array => "array",
        }
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Pages that are allocated and freed.
    Pages {
        /// The order.
        shape: Shape,
        /// The calls.
        operation: Operation,
        /// Pages in a batch.
        n: usize,
        /// Batches that are held at the same time.
        nr_batches: usize,
    },
    /// Handles that are copied there and back.
    Copies {
        /// Handles in a batch.
        n: usize,
        /// How many times in a round.
        times: usize,
    },
}

/// The results of one thread; times are in ns per page.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Time of the allocation; zero for copies.
    pub alloc_ns: f64,
    /// Time of the free; zero for copies.
    pub free_ns: f64,
    /// Time of both together.
    pub both_ns: f64,
    /// Pages that were allocated, including the warm-up.
    pub nr_pages: u64,
    /// Total duration, without the warm-up.
    pub elapsed_ns: f64,
}

impl Task {
    /// Makes the task for N pages in the shape ping, for a CPU's list of `pcp_high` pages.
    pub fn ping(operation: Operation, n: usize, pcp_high: usize) -> Self {
        let nr_batches = nr_batches(GROUP_PAGES_MAX.min(pcp_high), n);
        Self::Pages { shape: Shape::Ping, operation, n, nr_batches }
    }

    /// Makes the task for approximately `burst_pages` in the shape burst, N at a time.
    pub fn burst(operation: Operation, n: usize, burst_pages: usize) -> Self {
        let nr_batches = nr_batches(burst_pages, n);
        Self::Pages { shape: Shape::Burst, operation, n, nr_batches }
    }

    /// Makes the task for the limit of N.
    pub fn copies(n: usize) -> Self {
        Self::Copies { n, times: nr_batches(GROUP_PAGES_MAX, n) }
    }

    /// Runs the task `rounds` times without a pause.
    pub fn run<S: AllocPages + Copy>(self, source: S, clock: Clock, rounds: usize) -> Sample {
        match self {
            Self::Copies { n, times } => copies(clock, n, times, rounds),
            Self::Pages { shape, operation, n, nr_batches } => {
                let group = Group { shape, n, nr_batches, rounds };
                let slots = || (0..n * nr_batches).map(|_| None).collect::<Vec<_>>();
                let list = |_| PageList::new(source);
                let lists = || (0..nr_batches).map(list).collect::<Vec<_>>();
                match operation {
                    Operation::Single => {
                        group.time(clock, &mut Singles::new(source, &mut slots(), n))
                    }
                    Operation::List => group.time(clock, &mut Lists::new(source, &mut lists(), n)),
                    Operation::Array => {
                        group.time(clock, &mut Arrays::new(source, &mut slots(), n))
                    }
                }
            }
        }
    }
}

/// Number of batches that are held at the same time, and number of repetitions.
#[derive(Clone, Copy)]
struct Group {
    shape: Shape,
    n: usize,
    nr_batches: usize,
    rounds: usize,
}

impl Group {
    fn time(self, clock: Clock, work: &mut impl Workload) -> Sample {
        // Brings code and metadata into the caches, and the pages that ping uses into the CPU's list.
        work.alloc_batches();
        work.free_batches();
        let nr_group = (self.n * self.nr_batches) as u64;
        let nr_timed = nr_group * self.rounds as u64;
        let (alloc_ns, free_ns) = halves(clock, work, self.rounds);
        let per_page = |ns: f64| ns / nr_timed as f64;
        let mut sample = Sample {
            alloc_ns: per_page(alloc_ns),
            free_ns: per_page(free_ns),
            both_ns: per_page(alloc_ns + free_ns),
            nr_pages: nr_group + nr_timed,
            elapsed_ns: alloc_ns + free_ns,
        };
        if self.shape == Shape::Ping {
            let ticks = clock.interval(|| work.ping(self.nr_batches * self.rounds));
            let both_ns = clock.net_ns(ticks, 1);
            sample.both_ns = per_page(both_ns);
            sample.nr_pages += nr_timed;
            sample.elapsed_ns += both_ns;
        }
        sample
    }
}

/// Returns the time of the allocations of all rounds, and the time of the frees.
fn halves(clock: Clock, work: &mut impl Workload, rounds: usize) -> (f64, f64) {
    let (mut alloc_ticks, mut free_ticks) = (0, 0);
    for _ in 0..rounds {
        let start = clock.now();
        work.alloc_batches();
        let middle = clock.now();
        work.free_batches();
        let end = clock.now();
        alloc_ticks += middle.saturating_sub(start);
        free_ticks += end.saturating_sub(middle);
    }
    (clock.net_ns(alloc_ticks, rounds), clock.net_ns(free_ticks, rounds))
}

fn copies(clock: Clock, n: usize, times: usize, rounds: usize) -> Sample {
    let mut work = Copies::new(n);
    work.there_and_back(times);
    let ticks = clock.interval(|| work.there_and_back(times * rounds));
    let elapsed_ns = clock.net_ns(ticks, 1);
    let both_ns = elapsed_ns / (n * times * rounds) as f64;
    Sample { both_ns, elapsed_ns, ..Sample::default() }
}

/// Returns how many batches of `n` fit in `nr_pages`; at least one.
fn nr_batches(nr_pages: usize, n: usize) -> usize {
    (nr_pages / n).max(1)
}

#[cfg(test)]
mod tests {
    use pagemill_host::{AllocatorConfig, ArenaConfig, allocator};

    use super::*;

    #[test]
    fn groups_of_ping_stay_within_the_list_of_the_cpu() {
        let held = |n, high| match Task::ping(Operation::List, n, high) {
            Task::Pages { nr_batches, .. } => n * nr_batches,
            Task::Copies { .. } => unreachable!("pages were asked for"),
        };
        assert_eq!(held(1, 1024), 512);
        assert_eq!(held(3, 1024), 510);
        assert_eq!(held(512, 1024), 512);
        assert_eq!(held(8, 100), 96);
        assert_eq!(held(600, 1024), 600);
    }

    #[test]
    fn every_task_counts_its_pages_and_returns_them() {
        let frames = allocator(&AllocatorConfig::new(ArenaConfig::new(16 << 20))).unwrap();
        let clock = Clock::detect();
        let at_first = frames.nr_free_pages();
        for operation in Operation::ALL {
            for n in [1, 7, 64] {
                for task in [Task::ping(operation, n, 128), Task::burst(operation, n, 1000)] {
                    let before = frames.vmstat();
                    let sample = task.run(&frames, clock, 2);
                    let counted: u64 = frames.vmstat().pgalloc.iter().sum();
                    assert_eq!(sample.nr_pages, counted - before.pgalloc.iter().sum::<u64>());
                    assert!(sample.both_ns > 0.0 && sample.elapsed_ns > 0.0, "{sample:?}");
                }
            }
        }
        assert_eq!(frames.nr_free_pages(), at_first);
        let limit = Task::copies(64).run(&frames, clock, 100);
        assert_eq!(limit.nr_pages, 0);
        assert!(limit.both_ns > 0.0, "{limit:?}");
    }
}
