//! Refill benchmark: refills a request's pages one at a time or in bulk, checking all slots or only the
//! emptied ones.
//!
//! An array holds the pages of one request of a server. Before each timed refill, its first pages are
//! taken and freed, as a transport or a reply does. *Fresh* arrays had no pages before: they get their
//! pages from the zone, many arrays after each other, and are emptied together.

use pagemill::source::PageSource;
use pagemill_rpc::buffer::{PageArray, Refill, RefillCalls, RefillScan};
use pagemill_rpc::stats::RefillStats;

use crate::{Clock, Spread};

/// Number of fresh arrays that are filled after each other.
pub const NR_FRESH: usize = 16;

/// The parameters of the benchmark.
#[derive(Clone, Debug)]
pub struct RefillExperiment {
    /// Slots of an array: the pages of a request.
    pub nr_slots: usize,
    /// The numbers of pages that a request uses up.
    pub consumed: Vec<usize>,
    /// Number of measurements of each cell.
    pub runs: usize,
    /// Number of refills per measurement.
    pub rounds: usize,
}

/// The ways of refilling that are compared, with their names.
pub const WAYS: [(&str, Refill); 3] = [
    ("single", Refill { calls: RefillCalls::Single, scan: RefillScan::All }),
    ("bulk", Refill { calls: RefillCalls::Bulk, scan: RefillScan::All }),
    ("bulk, hint", Refill { calls: RefillCalls::Bulk, scan: RefillScan::Emptied }),
];

/// Durations of refills after one kind of use.
#[derive(Clone, Debug)]
pub struct RefillRow {
    /// Pages that were used up; `None` for fresh arrays.
    pub consumed: Option<usize>,
    /// Microseconds per refill, for each of [`WAYS`].
    pub us: [Spread; WAYS.len()],
}

impl RefillRow {
    /// Returns every duration with its name.
    pub fn figures(&self) -> [(String, Spread); WAYS.len()] {
        let used = self.consumed.map_or("fresh".to_owned(), |consumed| format!("{consumed} used"));
        core::array::from_fn(|way| (format!("{used} {}", WAYS[way].0), self.us[way].clone()))
    }
}

impl RefillExperiment {
    /// Returns the number of measurements, for a progress bar.
    pub fn nr_steps(&self) -> usize {
        (self.consumed.len() + 1) * WAYS.len() * self.runs
    }

    /// Returns the maximum number of pages that the benchmark holds.
    pub fn nr_pages(&self) -> usize {
        (NR_FRESH + 1) * self.nr_slots
    }

    /// Measures; the runs take turns over all cells.
    ///
    /// # Errors
    /// If the allocator ran out of pages.
    pub fn run<S: PageSource>(
        &self,
        source: &S,
        clock: Clock,
        mut progress: impl FnMut(),
    ) -> anyhow::Result<Vec<RefillRow>> {
        let uses: Vec<_> =
            core::iter::once(None).chain(self.consumed.iter().copied().map(Some)).collect();
        let mut figures = vec![[const { Vec::new() }; WAYS.len()]; uses.len()];
        for _ in 0..self.runs {
            for (cells, &consumed) in figures.iter_mut().zip(&uses) {
                for (cell, (_, refill)) in cells.iter_mut().zip(WAYS) {
                    cell.push(match consumed {
                        Some(consumed) => self.used(source, clock, refill, consumed)?,
                        None => self.fresh(source, clock, refill)?,
                    });
                    progress();
                }
            }
        }
        let rows = uses.into_iter().zip(figures).map(|(consumed, cells)| RefillRow {
            consumed,
            us: cells.map(|figures: Vec<f64>| Spread::of(figures)),
        });
        Ok(rows.collect())
    }

    fn used<S: PageSource>(
        &self,
        source: &S,
        clock: Clock,
        refill: Refill,
        consumed: usize,
    ) -> anyhow::Result<f64> {
        let mut array = PageArray::new(self.nr_slots);
        fill(&mut array, source, refill)?;
        let mut ticks = Vec::with_capacity(self.rounds);
        for _ in 0..self.rounds {
            array.release(source, consumed);
            let mut filled = Ok(());
            ticks.push(clock.interval(|| filled = fill(&mut array, source, refill)));
            filled?;
        }
        array.release(source, self.nr_slots);
        Ok(median_us(clock, ticks))
    }

    fn fresh<S: PageSource>(
        &self,
        source: &S,
        clock: Clock,
        refill: Refill,
    ) -> anyhow::Result<f64> {
        let mut arrays: Vec<_> = (0..NR_FRESH).map(|_| PageArray::new(self.nr_slots)).collect();
        let rounds = self.rounds.div_ceil(NR_FRESH);
        let mut ticks = Vec::with_capacity(rounds * NR_FRESH);
        for _ in 0..rounds {
            for array in &mut arrays {
                let mut filled = Ok(());
                ticks.push(clock.interval(|| filled = fill(array, source, refill)));
                filled?;
            }
            for array in &mut arrays {
                array.release(source, self.nr_slots);
            }
        }
        Ok(median_us(clock, ticks))
    }
}

/// Returns the median of some intervals: one in which the thread was preempted has little effect.
fn median_us(clock: Clock, mut ticks: Vec<u64>) -> f64 {
    ticks.sort_unstable();
    clock.net_ns(ticks[ticks.len() / 2], 1) / 1e3
}

fn fill<S: PageSource>(array: &mut PageArray<S>, source: &S, refill: Refill) -> anyhow::Result<()> {
    // A refill that fails at once ends the experiment instead of waiting.
    let filled = array.fill(source, refill, &|| true, &RefillStats::default());
    anyhow::ensure!(filled, "the experiment ran out of pages: use a larger --arena");
    Ok(())
}

#[cfg(test)]
mod tests {
    use pagemill_host::{AllocatorConfig, ArenaConfig, allocator};

    use super::*;

    #[test]
    fn each_cell_is_measured_and_the_pages_come_back() {
        let frames = allocator(&AllocatorConfig::new(ArenaConfig::new(64 << 20))).unwrap();
        let free = frames.nr_free_pages();
        let experiment =
            RefillExperiment { nr_slots: 259, consumed: vec![1, 259], runs: 3, rounds: 20 };
        let mut steps = 0;
        let rows = experiment.run(&&frames, Clock::detect(), || steps += 1).unwrap();
        assert_eq!(steps, experiment.nr_steps());
        let consumed: Vec<_> = rows.iter().map(|row| row.consumed).collect();
        assert_eq!(consumed, [None, Some(1), Some(259)]);
        assert!(rows.iter().flat_map(|row| &row.us).all(|us| us.median >= 0.0));
        assert!(rows[2].us[0].median > 0.0, "259 pages take time");
        assert_eq!(frames.nr_free_pages(), free);
    }

    #[test]
    fn running_out_of_pages_is_told() {
        let frames = allocator(&AllocatorConfig::new(ArenaConfig::new(8 << 20))).unwrap();
        let experiment = RefillExperiment { nr_slots: 259, consumed: vec![], runs: 1, rounds: 20 };
        let error = experiment.run(&&frames, Clock::detect(), || {}).unwrap_err().to_string();
        assert!(error.contains("ran out of pages"), "{error}");
    }
}
