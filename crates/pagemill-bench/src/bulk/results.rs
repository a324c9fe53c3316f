//! Results of an experiment: medians and spreads.

use super::task::{Operation, Sample, Shape};

/// Median, minimum and maximum of several values, and the values.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    /// Half of the values are not above it, and half are not below.
    pub median: f64,
    /// The minimum.
    pub min: f64,
    /// The maximum.
    pub max: f64,
    /// The values, in the order in which they were measured.
    pub samples: Vec<f64>,
}

impl Spread {
    /// Summarises values.
    ///
    /// # Panics
    /// If there are none.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let samples: Vec<f64> = figures.into_iter().collect();
        let mut sorted = samples.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let (upper, lower) = (sorted.len() / 2, (sorted.len() - 1) / 2);
        Self {
            median: f64::midpoint(sorted[lower], sorted[upper]),
            min: sorted[0],
            max: sorted[sorted.len() - 1],
            samples,
        }
    }

    /// Returns the distance from minimum to maximum, as a share of the median.
    pub fn relative(&self) -> f64 {
        if self.median > 0.0 { (self.max - self.min) / self.median } else { 0.0 }
    }
}

/// The cost of a page in one cell, in ns per page and thread.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The order of allocation and free.
    pub shape: Shape,
    /// The kind of calls.
    pub operation: Operation,
    /// Pages per call.
    pub n: usize,
    /// Cost of the allocation.
    pub alloc: Spread,
    /// Cost of the free.
    pub free: Spread,
    /// Cost of both together.
    pub both: Spread,
}

impl Row {
    /// Summarises the samples of one cell.
    pub fn of(shape: Shape, operation: Operation, n: usize, runs: &[Sample]) -> Self {
        let spread = |figure: fn(&Sample) -> f64| Spread::of(runs.iter().map(figure));
        Self {
            shape,
            operation,
            n,
            alloc: spread(|run| run.alloc_ns),
            free: spread(|run| run.free_ns),
            both: spread(|run| run.both_ns),
        }
    }
}

/// The cost of copying N handles to another array and back, in ns per handle.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitRow {
    /// Handles per copy.
    pub n: usize,
    /// Cost of both copies together.
    pub ns: Spread,
}

/// All results of an experiment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Results {
    /// The limit for each batch size, smallest first.
    pub limit: Vec<LimitRow>,
    /// The cells, by shape, then by batch size, then by operation.
    pub rows: Vec<Row>,
}

impl Results {
    /// Returns every value of the cells with its name.
    pub fn figures(&self) -> impl Iterator<Item = (String, Spread)> + '_ {
        self.rows.iter().flat_map(|row| {
            let Row { shape, operation, n, alloc, free, both } = row.clone();
            [("alloc", alloc), ("free", free), ("both", both)].map(|(what, spread)| {
                (format!("{} {} {n} {what}", shape.name(), operation.name()), spread)
            })
        })
    }

    /// Returns the batch sizes, smallest first.
    pub fn sizes(&self) -> impl Iterator<Item = usize> + '_ {
        self.limit.iter().map(|row| row.n)
    }

    /// Returns one cell, if it was measured.
    pub fn row(&self, shape: Shape, operation: Operation, n: usize) -> Option<&Row> {
        self.rows.iter().find(|row| row.shape == shape && row.operation == operation && row.n == n)
    }

    /// Returns the limit for a batch size, if it was measured.
    pub fn limit(&self, n: usize) -> Option<&LimitRow> {
        self.limit.iter().find(|row| row.n == n)
    }

    /// Returns the shapes that were measured.
    pub fn shapes(&self) -> impl Iterator<Item = Shape> + '_ {
        Shape::ALL.into_iter().filter(|&shape| self.rows.iter().any(|row| row.shape == shape))
    }
}

#[cfg(test)]
pub mod samples {
    //! Sample results for the tests of reports.

    use super::*;

    /// Returns results for three batch sizes in both shapes.
    pub fn results() -> Results {
        let spread = |ns: f64| Spread::of([ns * 1.2, ns, ns * 0.9]);
        let mut results = Results::default();
        for n in [1_u16, 8, 64] {
            results.limit.push(LimitRow { n: n.into(), ns: spread(0.5 + 1.5 / f64::from(n)) });
        }
        for (shape, base) in [(Shape::Ping, 1.0), (Shape::Burst, 3.0)] {
            for n in [1_u16, 8, 64] {
                for (operation, call) in
                    [(Operation::Single, 0.0), (Operation::List, 12.0), (Operation::Array, 9.0)]
                {
                    let share = call / f64::from(n);
                    let ns = if call > 0.0 { base + share } else { base + 10.0 };
                    let (alloc, free, both) = (spread(ns), spread(ns), spread(2.0 * ns));
                    results.rows.push(Row { shape, operation, n: n.into(), alloc, free, both });
                }
            }
        }
        results
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_is_of_the_sorted_figures() {
        let odd = Spread::of([3.0, 1.0, 2.0]);
        assert_eq!(odd, Spread { median: 2.0, min: 1.0, max: 3.0, samples: vec![3.0, 1.0, 2.0] });
        assert!((odd.relative() - 1.0).abs() < 1e-9);
        let even = Spread::of([4.0, 1.0, 2.0, 3.0]);
        assert!((even.median - 2.5).abs() < 1e-9);
        assert!(Spread::of([0.0]).relative().abs() < 1e-9);
    }

    #[test]
    fn cells_are_found_by_what_they_measure() {
        let results = samples::results();
        let row = results.row(Shape::Burst, Operation::List, 8).unwrap();
        assert!((row.both.median - 9.0).abs() < 1e-9);
        assert_eq!(results.row(Shape::Burst, Operation::List, 9), None);
        assert_eq!(results.sizes().collect::<Vec<_>>(), [1, 8, 64]);
        assert_eq!(results.shapes().collect::<Vec<_>>(), Shape::ALL);
        assert!(results.limit(8).is_some() && results.limit(9).is_none());
    }
}
