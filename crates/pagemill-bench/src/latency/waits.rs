//! Histogram of call durations, and its percentiles.

use hdrhistogram::Histogram;

use crate::clock::Clock;

/// The longest duration that is recorded exactly: minutes, whatever the clock.
const TICKS_MAX: u64 = 1 << 40;
/// Number of significant decimal digits.
const DIGITS: u8 = 2;

/// Durations of calls of one kind, in ticks, with an error of up to 1 %.
#[derive(Clone, Debug)]
pub struct Waits(Histogram<u64>);

/// Percentiles of the durations in ns, without the cost of reading the clock.
#[derive(Clone, Copy, Debug)]
pub struct Percentiles {
    /// Number of calls.
    pub calls: u64,
    /// 50 % took no longer.
    pub p50: f64,
    /// 99 % took no longer.
    pub p99: f64,
    /// 99.9 % took no longer.
    pub p999: f64,
    /// The longest call.
    pub max: f64,
}

impl Waits {
    /// Makes a histogram without calls.
    pub fn new() -> Self {
        Self(Histogram::new_with_bounds(1, TICKS_MAX, DIGITS).expect("the bounds are in order"))
    }

    /// Calls `call`, records its duration in ticks, and returns both.
    #[inline]
    pub fn time<R>(&mut self, clock: Clock, call: impl FnOnce() -> R) -> (R, u64) {
        let start = clock.now();
        let result = call();
        let ticks = clock.now().saturating_sub(start);
        self.note(ticks);
        (result, ticks)
    }

    /// Records a call of `ticks`.
    #[inline]
    pub fn note(&mut self, ticks: u64) {
        self.0.saturating_record(ticks);
    }

    /// Adds the calls of `more`.
    pub fn add(&mut self, more: &Self) {
        self.0.add(&more.0).expect("all have the same bounds");
    }

    /// Returns the percentiles.
    pub fn percentiles(&self, clock: Clock) -> Percentiles {
        let ns = |quantile| clock.net_ns(self.0.value_at_quantile(quantile), 1);
        Percentiles {
            calls: self.0.len(),
            p50: ns(0.5),
            p99: ns(0.99),
            p999: ns(0.999),
            max: clock.net_ns(self.0.max(), 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_one_percent() {
        let mut waits = Waits::new();
        (1..=10_000).for_each(|ticks| waits.note(ticks * 100));
        // In ticks: what reading costs is taken off both sides.
        assert_eq!(waits.0.len(), 10_000);
        for (quantile, expected) in [(0.5, 500_000), (0.99, 990_000), (1.0, 1_000_000)] {
            let found = waits.0.value_at_quantile(quantile);
            assert!(found.abs_diff(expected) * 100 <= expected, "{quantile}: {found}");
        }
        waits.note(u64::MAX);
        assert!(waits.0.max() >= TICKS_MAX);
    }
}
