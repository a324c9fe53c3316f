//! Figures of a run, in the order in which they were first measured.

use serde::Serialize;

/// What a figure measures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Key {
    /// The scenario's name.
    pub(crate) scenario: &'static str,
    /// The peer's name.
    pub(crate) peer: &'static str,
    /// Pages per call.
    pub(crate) n: usize,
    /// The measured part: allocation, free, both.
    pub(crate) what: &'static str,
    /// The unit: ns per page, and others.
    pub(crate) unit: &'static str,
}

/// The median of figures, and their spread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// The median.
    pub(crate) median: f64,
    /// The smallest.
    pub(crate) min: f64,
    /// The lower quartile.
    pub(crate) lower: f64,
    /// The upper quartile.
    pub(crate) upper: f64,
    /// The largest.
    pub(crate) max: f64,
    /// The number of figures.
    pub(crate) nr: usize,
}

impl Spread {
    /// Summarises one or more figures.
    pub(crate) fn of(figures: &[f64]) -> Self {
        let mut sorted = figures.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |quarters: usize| sorted[(sorted.len() - 1) * quarters / 4];
        let (median, lower, upper) = (at(2), at(1), at(3));
        Self { median, min: at(0), lower, upper, max: at(4), nr: sorted.len() }
    }

    /// Returns the distance between the quartiles as a share of the median.
    pub(crate) fn relative(&self) -> f64 {
        if self.median > 0.0 { (self.upper - self.lower) / self.median } else { 0.0 }
    }
}

/// All figures of a run.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    rows: Vec<(Key, Vec<f64>)>,
}

impl Rows {
    /// Adds a figure.
    pub(crate) fn add(&mut self, key: Key, figure: f64) {
        match self.rows.iter_mut().find(|(known, _)| *known == key) {
            Some((_, figures)) => figures.push(figure),
            None => self.rows.push((key, vec![figure])),
        }
    }

    /// Returns each row.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, Spread)> + '_ {
        self.rows.iter().map(|(key, figures)| (*key, Spread::of(figures)))
    }

    /// Returns each row with its figures, in the order of measurement.
    pub(crate) fn figures(&self) -> impl Iterator<Item = (Key, &[f64])> + '_ {
        self.rows.iter().map(|(key, figures)| (*key, figures.as_slice()))
    }

    /// Returns the row of a scenario, a peer, a number of pages per call and a part.
    pub(crate) fn get(&self, scenario: &str, peer: &str, n: usize, what: &str) -> Option<Spread> {
        let is = |key: &Key| (key.scenario, key.peer, key.n, key.what) == (scenario, peer, n, what);
        self.iter().find(|(key, _)| is(key)).map(|(_, spread)| spread)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_are_of_the_sorted_figures() {
        let key = Key { scenario: "s", peer: "p", n: 1, what: "both", unit: "ns" };
        let mut rows = Rows::default();
        for figure in [5.0, 1.0, 4.0, 2.0, 3.0] {
            rows.add(key, figure);
        }
        rows.add(Key { n: 2, ..key }, 7.0);
        let spread = rows.get("s", "p", 1, "both").unwrap();
        let expected = Spread { median: 3.0, min: 1.0, lower: 2.0, upper: 4.0, max: 5.0, nr: 5 };
        assert_eq!(spread, expected);
        assert!((spread.relative() - 2.0 / 3.0).abs() < 1e-9);
        assert_eq!(rows.iter().count(), 2);
        assert_eq!(rows.get("s", "q", 1, "both"), None);
    }
}
