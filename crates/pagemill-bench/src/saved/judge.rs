//! Verdict on the difference between two values of a figure.

use super::figure::{Better, Figure, Values};
use super::rank::{self, Interval};

/// Level of confidence, and the smallest difference that matters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judge {
    /// Probability that an interval fails to contain the true ratio.
    pub error: f64,
    /// Smallest relative difference that matters, such as 0.05.
    pub relevant: f64,
    /// Factor by which runs of one program differ from process to process; 1 if that is unknown. It
    /// widens each interval on both sides.
    pub between: f64,
}

/// What the runs say about the ratio of two figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Finding {
    /// The value of B divided by that of A; `None` if either is not positive.
    pub ratio: Option<f64>,
    /// The interval of that ratio, if there are enough runs for one.
    pub interval: Option<Interval>,
    /// The conclusion.
    pub verdict: Verdict,
}

/// Conclusion from an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// B is better, and by enough to matter.
    Better,
    /// B is worse, and by enough to matter.
    Worse,
    /// The difference is too small to matter.
    Same,
    /// The noise is too large to tell.
    Unclear {
        /// How many runs of each side may tell, if that can be estimated.
        runs: Option<usize>,
    },
    /// The figure was measured once, so its noise is unknown.
    Once,
}

/// A larger number of runs is not proposed.
const MAX_PROPOSED_RUNS: f64 = 10_000.0;

impl Judge {
    /// Compares a figure of B with the same one of A.
    pub fn compare(&self, a: &Figure, b: &Figure) -> Finding {
        let (middle_a, middle_b) = (a.values.middle(), b.values.middle());
        let ratio = (middle_a > 0.0 && middle_b > 0.0).then(|| middle_b / middle_a);
        let without_interval = |verdict| Finding { ratio, interval: None, verdict };
        match (&a.values, &b.values) {
            (Values::Exact(value_a), Values::Exact(value_b)) => {
                let verdict = match (value_a.total_cmp(value_b).is_eq(), a.better) {
                    (true, _) => Verdict::Same,
                    (false, Better::Lower) if value_b < value_a => Verdict::Better,
                    (false, Better::Higher) if value_b > value_a => Verdict::Better,
                    (false, _) => Verdict::Worse,
                };
                without_interval(verdict)
            }
            (Values::Runs { .. }, Values::Runs { .. }) => {
                if !is_positive(&a.values) || !is_positive(&b.values) {
                    let is_same = a.values == b.values;
                    let unclear = Verdict::Unclear { runs: None };
                    return without_interval(if is_same { Verdict::Same } else { unclear });
                }
                match self.interval(&a.values, &b.values) {
                    Some(Interval { estimate, low, high }) => {
                        let (low, high) = (low / self.between, high * self.between);
                        let interval = Interval { estimate, low, high };
                        Finding {
                            ratio: Some(estimate),
                            interval: Some(interval),
                            verdict: self.verdict(a, b, interval),
                        }
                    }
                    None => {
                        let runs = Some(rank::min_runs(self.error));
                        without_interval(Verdict::Unclear { runs })
                    }
                }
            }
            _ => without_interval(Verdict::Once),
        }
    }

    /// Returns the probability that the runs of one program are as different as those of `a` and `b`,
    /// or `None` for figures that are not measured in several runs.
    pub fn probability(a: &Figure, b: &Figure) -> Option<f64> {
        let (
            &Values::Runs { min: min_a, max: max_a, nr: nr_a, samples: ref runs_a, .. },
            &Values::Runs { min: min_b, max: max_b, nr: nr_b, samples: ref runs_b, .. },
        ) = (&a.values, &b.values)
        else {
            return None;
        };
        if !runs_a.is_empty() && !runs_b.is_empty() {
            return Some(rank::probability(runs_a, runs_b));
        }
        let is_separate = max_a < min_b || max_b < min_a;
        Some(match (nr_a, nr_b) {
            (Some(nr_a), Some(nr_b)) if is_separate => rank::probability_of(0, nr_a, nr_b),
            _ => 1.0,
        })
    }

    /// Returns the interval of the ratio: from the runs, or from their extremes if those are all that
    /// is recorded.
    ///
    /// The extremes are the limits of the interval that skips no quotient.
    fn interval(&self, a: &Values, b: &Values) -> Option<Interval> {
        let (
            &Values::Runs {
                median: middle_a,
                min: min_a,
                max: max_a,
                nr: nr_a,
                samples: ref runs_a,
            },
            &Values::Runs {
                median: middle_b,
                min: min_b,
                max: max_b,
                nr: nr_b,
                samples: ref runs_b,
            },
        ) = (a, b)
        else {
            return None;
        };
        if !runs_a.is_empty() && !runs_b.is_empty() {
            return rank::ratio(runs_a, runs_b, self.error);
        }
        rank::nr_skipped(nr_a?, nr_b?, self.error)?;
        let estimate = middle_b / middle_a;
        Some(Interval { estimate, low: min_b / max_a, high: max_b / min_a })
    }

    fn verdict(&self, a: &Figure, b: &Figure, interval: Interval) -> Verdict {
        let [estimate, low, high] = [interval.estimate, interval.low, interval.high].map(f64::ln);
        let relevant = self.relevant.ln_1p();
        let is_larger = low > 0.0 && estimate >= relevant;
        let is_smaller = high < 0.0 && estimate <= -relevant;
        match (is_larger, is_smaller, a.better) {
            (true, _, Better::Lower) | (_, true, Better::Higher) => Verdict::Worse,
            (true, _, Better::Higher) | (_, true, Better::Lower) => Verdict::Better,
            _ if -relevant <= low && high <= relevant => Verdict::Same,
            _ => Verdict::Unclear { runs: self.enough_runs(a, b, [estimate, low, high]) },
        }
    }

    /// Estimates how many runs would be enough: an interval narrows with the root of their number, but
    /// for the noise between processes.
    fn enough_runs(
        &self,
        a: &Figure,
        b: &Figure,
        [estimate, low, high]: [f64; 3],
    ) -> Option<usize> {
        let nr = |figure: &Figure| match figure.values {
            Values::Runs { nr, .. } => nr,
            Values::Exact(_) | Values::Once(_) => None,
        };
        let nr = nr(a)?.min(nr(b)?);
        let width = (high - estimate).max(estimate - low);
        let relevant = self.relevant.ln_1p();
        // A difference that matters must be told from none; one that does not, from one that does.
        let needed =
            if estimate.abs() >= relevant { estimate.abs() } else { relevant - estimate.abs() };
        let between = self.between.ln();
        let needed = needed.max(relevant / 8.0) - between;
        if needed <= 0.0 {
            return None;
        }
        let enough = nr as f64 * ((width - between) / needed).powi(2);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between the number of runs and a limit"
        )]
        (enough <= MAX_PROPOSED_RUNS).then(|| (enough.ceil() as usize).max(nr + 1))
    }
}

impl Finding {
    /// Returns by which share B is slower, or otherwise worse, where that is beyond the noise.
    pub fn worse_by(&self, better: Better) -> Option<f64> {
        let cost = |ratio: f64| match better {
            Better::Lower => ratio,
            Better::Higher => ratio.recip(),
        };
        let is_beyond_noise = match self.interval {
            Some(Interval { low, high, .. }) => cost(low) > 1.0 && cost(high) > 1.0,
            None => self.verdict == Verdict::Worse,
        };
        is_beyond_noise.then(|| self.ratio.map_or(f64::INFINITY, cost) - 1.0)
    }
}

fn is_positive(values: &Values) -> bool {
    match values {
        Values::Exact(value) | Values::Once(value) => *value > 0.0,
        Values::Runs { min, samples, .. } => *min > 0.0 && samples.iter().all(|value| *value > 0.0),
    }
}

#[cfg(test)]
mod tests;
