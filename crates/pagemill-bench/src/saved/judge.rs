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
    /// Factor by which runs of one program differ from process to process, or 1 if that is unknown. It
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
                let is_small = ratio.is_some_and(|ratio| ratio.ln().abs() < self.relevant.ln_1p());
                without_interval(match is_small {
                    true => Verdict::Same,
                    false => direction(a.better, *value_a, *value_b),
                })
            }
            (Values::Runs { .. }, Values::Runs { .. }) => {
                if !is_positive(&a.values) || !is_positive(&b.values) {
                    return without_interval(self.by_rank(a, b, ratio));
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

    /// Judges runs of which some are not positive, such as the rate of a server that stalled: they have
    /// no interval, but ranks.
    fn by_rank(&self, a: &Figure, b: &Figure, ratio: Option<f64>) -> Verdict {
        if a.values == b.values {
            return Verdict::Same;
        }
        if self.has_too_few_runs(a, b) {
            return Verdict::Unclear { runs: Some(rank::min_runs(self.error)) };
        }
        let is_small =
            ratio.is_some_and(|ratio| ratio.ln().abs() < self.relevant.ln_1p() + self.between.ln());
        let is_certain =
            Self::probability(a, b).is_some_and(|probability| probability <= self.error);
        match is_certain && !is_small {
            true => direction(a.better, a.values.middle(), b.values.middle()),
            false => Verdict::Unclear { runs: None },
        }
    }

    /// Tells whether two figures have so few runs that no difference would be found.
    pub fn has_too_few_runs(&self, a: &Figure, b: &Figure) -> bool {
        let is_measured = |figure: &Figure| matches!(figure.values, Values::Runs { .. });
        let runs = [a, b].map(nr_runs);
        is_measured(a)
            && is_measured(b)
            && !matches!(runs, [Some(a), Some(b)] if rank::nr_skipped(a, b, self.error).is_some())
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
        let nr = nr_runs(a)?.min(nr_runs(b)?);
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
            // Exact values have no noise, so a difference below the threshold is one too.
            None => match self.verdict {
                Verdict::Same => self.ratio.is_some_and(|ratio| cost(ratio) > 1.0),
                verdict => verdict == Verdict::Worse,
            },
        };
        is_beyond_noise.then(|| self.ratio.map_or(f64::INFINITY, cost) - 1.0)
    }
}

/// Returns the verdict on two values whose difference is real.
fn direction(better: Better, a: f64, b: f64) -> Verdict {
    match better {
        _ if a.total_cmp(&b).is_eq() => Verdict::Same,
        Better::Lower if b < a => Verdict::Better,
        Better::Higher if b > a => Verdict::Better,
        Better::Lower | Better::Higher => Verdict::Worse,
    }
}

fn nr_runs(figure: &Figure) -> Option<usize> {
    match figure.values {
        Values::Runs { nr, .. } => nr,
        Values::Exact(_) | Values::Once(_) => None,
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
