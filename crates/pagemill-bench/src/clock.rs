//! Clock for intervals, and the cost of reading it.

use pagemill_host::machine::{Tsc, monotonic_ns};

/// The time stamp counter if it is usable as a clock, else the system's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    tsc: Option<Tsc>,
    /// Length of an empty interval.
    overhead_ticks: u64,
}

impl Clock {
    /// Selects the clock, and measures its rate and its cost.
    pub fn detect() -> Self {
        Self::new(Tsc::detect())
    }

    fn new(tsc: Option<Tsc>) -> Self {
        let free = Self { tsc, overhead_ticks: 0 };
        let mut empty: Vec<u64> = (0..NR_EMPTY).map(|_| free.interval(|| {})).collect();
        empty.sort_unstable();
        Self { overhead_ticks: empty[NR_EMPTY / 2], ..free }
    }

    /// Reads the clock, in ticks.
    #[inline]
    pub fn now(self) -> u64 {
        match self.tsc {
            Some(tsc) => tsc.now(),
            None => monotonic_ns(),
        }
    }

    /// Returns how many ticks `work` takes, including one clock reading.
    #[inline]
    pub fn interval(self, work: impl FnOnce()) -> u64 {
        let start = self.now();
        work();
        self.now().saturating_sub(start)
    }

    /// Returns the nanoseconds in `ticks`, the sum of `nr_intervals`, without the clock readings.
    pub fn net_ns(self, ticks: u64, nr_intervals: usize) -> f64 {
        let reading = self.overhead_ticks.saturating_mul(nr_intervals as u64);
        ticks.saturating_sub(reading) as f64 / self.ticks_per_ns()
    }

    /// Returns the cost of a clock reading, in ns.
    pub fn overhead_ns(self) -> f64 {
        self.overhead_ticks as f64 / self.ticks_per_ns()
    }

    /// Returns the rate of the time stamp counter, if that is the clock.
    pub fn tsc_hz(self) -> Option<u64> {
        self.tsc.map(Tsc::hz)
    }

    /// Returns the ticks of the time stamp counter in `ns`, if that is the clock.
    pub fn cycles(self, ns: f64) -> Option<f64> {
        self.tsc.map(|_| ns * self.ticks_per_ns())
    }

    fn ticks_per_ns(self) -> f64 {
        self.tsc.map_or(1.0, |tsc| tsc.hz() as f64 / 1e9)
    }
}

/// Number of empty intervals, whose median is the cost of a reading: enough to ignore interrupts.
const NR_EMPTY: usize = 1001;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_is_taken_off_each_interval_and_never_more_than_there_is() {
        let clock = Clock { tsc: None, overhead_ticks: 20 };
        assert!((clock.net_ns(1000, 10) - 800.0).abs() < 1e-9);
        assert!(clock.net_ns(100, 10).abs() < 1e-9);
        assert_eq!((clock.tsc_hz(), clock.cycles(1.0)), (None, None));
    }

    #[test]
    fn the_clock_advances() {
        let clock = Clock::detect();
        let start = clock.now();
        while clock.now() == start {}
        assert!(clock.now() > start);
    }
}
