//! Page pool benchmark: a receive ring that is refilled one page at a time or in bulk.
//!
//! A small version of the driver in the bulk allocator's patch series: a ring of descriptors, each with
//! a page; packets arrive in polls of 64; each gets its verdict, and then the ring is refilled. The
//! verdict is one of three; see [`Case`]. The same loop also runs with a static stack of buffers, which
//! is the limit for any pool.
//!
//! Pages are not accessed, because the pool is measured. A stretch of arithmetic, whose length is an
//! option, represents the other costs of a packet. So the result shows how the gain of bulk refills
//! depends on these costs.

mod case;
pub mod driver;
pub mod paths;
pub mod stack;

use core::time::Duration;

use pagemill::units::CpuId;

pub use case::{Case, Owner, Rx, Way, install};

use self::driver::{Driver, Timing, Work};
use self::paths::PathRow;
use self::stack::Stack;
use crate::{Clock, Spread};

/// The parameters of the benchmark.
#[derive(Clone, Debug)]
pub struct PoolExperiment {
    /// Number of measurements of each cell.
    pub runs: usize,
    /// Approximate duration of each measurement.
    pub slice: Duration,
    /// The amounts of other work per packet, in nanoseconds.
    pub work_ns: Vec<u32>,
    /// The CPU of the driver.
    pub driver_cpu: CpuId,
    /// The CPU that frees held pages.
    pub stack_cpu: CpuId,
}

/// What packets of one case cost, beside one amount of other work.
#[derive(Clone, Debug)]
pub struct PoolRow {
    /// The case.
    pub case: Case,
    /// Other work per packet, in nanoseconds.
    pub work_ns: u32,
    /// Nanoseconds per packet, by [`Way`].
    pub ns: [Spread; 3],
    /// Share of the ring's refill in that time, by [`Way`].
    pub refill_share: [f64; 3],
    /// Relative gain in packets of bulk over single pages in the same run.
    pub gain: Spread,
}

impl PoolRow {
    /// Returns the median cost of a packet.
    pub fn cost_ns(&self, way: Way) -> f64 {
        self.ns[way.index()].median
    }

    /// Returns the share of the refill.
    pub fn share(&self, way: Way) -> f64 {
        self.refill_share[way.index()]
    }
}

/// All results.
#[derive(Clone, Debug)]
pub struct PoolFindings {
    /// The driver's loop.
    pub rows: Vec<PoolRow>,
    /// Single pages on each path through the pool.
    pub paths: Vec<PathRow>,
}

impl PoolFindings {
    /// Returns every result with its name.
    pub fn figures(&self) -> impl Iterator<Item = (String, Spread)> + '_ {
        let rows = self.rows.iter().flat_map(|row| {
            let name = |way: Way| format!("{} {} ns {}", row.case.name(), row.work_ns, way.name());
            Way::ALL.map(|way| (name(way), row.ns[way.index()].clone()))
        });
        rows.chain(self.paths.iter().map(|row| (row.path.name().to_owned(), row.ns.clone())))
    }
}

impl PoolExperiment {
    /// Returns whether one CPU does both the driver's work and the stack's.
    pub fn has_one_cpu(&self) -> bool {
        self.driver_cpu == self.stack_cpu
    }

    /// Returns how many steps [`run`](Self::run) reports.
    pub fn nr_steps(&self) -> usize {
        (self.cells().len() + 1) * self.runs
    }

    /// Measures, and calls `step` after each cell of each run; cells and ways take turns.
    ///
    /// # Errors
    /// If a thread cannot be bound to its CPU, or the arena runs out of pages.
    pub fn run(
        &self,
        mut owner: Owner,
        clock: Clock,
        mut step: impl FnMut(),
    ) -> anyhow::Result<PoolFindings> {
        pagemill_host::machine::Cpus::pin_to(self.driver_cpu)?;
        let cells = self.cells();
        let mut timings = vec![[const { Vec::new() }; 3]; cells.len()];
        let mut paths = paths::Figures::default();
        let work = Work::calibrate(clock);
        let stack = Stack::start(self.stack_cpu)?;
        for _ in 0..self.runs {
            for (&(case, work_ns), timings) in cells.iter().zip(&mut timings) {
                let mut driver = Driver { clock, slice: self.slice, case, work: work.of(work_ns) };
                for way in Way::ALL {
                    let timing = driver.measure(way, &mut owner, &stack)?;
                    timings[way.index()].push(timing);
                }
                step();
            }
            paths.measure(&mut owner, clock, self.slice)?;
            step();
        }
        owner.shutdown().wait(|_| false)?;
        let rows = cells.into_iter().zip(timings);
        let rows = rows.map(|((case, work_ns), timings)| row(case, work_ns, &timings, clock));
        Ok(PoolFindings { rows: rows.collect(), paths: paths.rows() })
    }

    /// Returns the cells: all cases without other work, and held packets with every amount of it.
    fn cells(&self) -> Vec<(Case, u32)> {
        let bare = [Case::Drop, Case::Redirect].map(|case| (case, 0));
        let held = self.work_ns.iter().map(|&work_ns| (Case::Hold, work_ns));
        bare.into_iter().chain(held).collect()
    }
}

fn row(case: Case, work_ns: u32, timings: &[Vec<Timing>; 3], clock: Clock) -> PoolRow {
    let ns = |timing: &Timing| timing.ns_per_packet(clock);
    let gains =
        timings[0].iter().zip(&timings[1]).map(|(single, bulk)| ns(single) / ns(bulk) - 1.0);
    PoolRow {
        case,
        work_ns,
        ns: core::array::from_fn(|way| Spread::of(timings[way].iter().map(ns))),
        refill_share: core::array::from_fn(|way| {
            Spread::of(timings[way].iter().map(|timing| timing.refill_share(clock))).median
        }),
        gain: Spread::of(gains),
    }
}

/// Returns the cost of a packet at which bulk gains `gain`, interpolated between measured ones; beyond
/// them, computed from what bulk saves per packet at the last one.
pub fn cost_at_gain(rows: &[PoolRow], gain: f64) -> Option<(f64, Found)> {
    let held: Vec<_> = rows.iter().filter(|row| row.case == Case::Hold).collect();
    let point = |row: &PoolRow| (row.cost_ns(Way::Bulk), row.gain.median);
    for pair in held.windows(2) {
        let [(low_ns, high_gain), (high_ns, low_gain)] = [point(pair[0]), point(pair[1])];
        if high_gain >= gain && low_gain < gain {
            // The gain is the saving divided by the cost, so its inverse is linear in the cost.
            let (from, to) = (1.0 / high_gain, 1.0 / low_gain.max(1e-6));
            let share = (1.0 / gain - from) / (to - from);
            return Some((low_ns + share * (high_ns - low_ns), Found::Between));
        }
    }
    let last = held.last()?;
    let saved = last.cost_ns(Way::Single) - last.cost_ns(Way::Bulk);
    (point(last).1 >= gain).then(|| (saved / gain, Found::Beyond))
}

/// How a cost was determined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Between two measured ones.
    Between,
    /// Beyond the largest measured one.
    Beyond,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(work_ns: u32, single: f64, bulk: f64) -> PoolRow {
        let spread = |ns: f64| Spread::of([ns]);
        PoolRow {
            case: Case::Hold,
            work_ns,
            ns: [spread(single), spread(bulk), spread(1.0)],
            refill_share: [0.5, 0.2, 0.1],
            gain: spread(single / bulk - 1.0),
        }
    }

    #[test]
    fn the_cost_at_a_gain_is_found_between_two_rows_or_beyond_the_last() {
        // Ten ns are saved on each packet, so 5 % are gained where one costs 200 ns.
        let rows: Vec<_> =
            [10, 100, 300].map(|ns| held(ns, f64::from(ns) + 10.0, ns.into())).into();
        let (cost, found) = cost_at_gain(&rows, 0.05).unwrap();
        assert!((cost - 200.0).abs() < 1e-6, "{cost}");
        assert_eq!(found, Found::Between);
        let (cost, found) = cost_at_gain(&rows[..2], 0.05).unwrap();
        assert!((cost - 200.0).abs() < 1e-6, "{cost}");
        assert_eq!(found, Found::Beyond);
        assert!(cost_at_gain(&rows[2..], 0.05).is_none(), "it was never that much");
        assert!(cost_at_gain(&[], 0.05).is_none());
    }
}
