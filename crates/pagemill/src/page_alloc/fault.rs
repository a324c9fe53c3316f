//! Fault injection: makes chosen allocations fail, so that users can test their error paths.

use crate::base::gfp::Gfp;
use crate::base::sync::{AtomicU32, AtomicU64, Ordering};
use crate::base::units::Order;

/// Which allocations fail.
///
/// A request that matches is *drawn*. A bulk call is drawn once, and once more for the single page that
/// it falls back to. Of the drawn requests, every `interval`-th fails with the given probability, until
/// `times` have failed. [`Gfp::NOFAIL`] is never drawn.
///
/// # Source
/// `linux-6.12` `lib/fault-inject.c`, `mm/fail_page_alloc.c`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data; start from FaultConfig::NEVER")]
pub struct FaultConfig {
    /// One in `interval` matching requests may fail; zero for none.
    pub interval: u32,
    /// Probability of that failure, out of [`FaultConfig::ALWAYS`].
    pub probability: u32,
    /// Number of matching requests that pass before the first may fail.
    pub after: u64,
    /// Maximum number of failures.
    pub times: u64,
    /// Only requests of at least this order match.
    pub min_order: Order,
    /// Only requests with all of these flags match.
    pub with: Gfp,
    /// Only requests without any of these flags match.
    pub without: Gfp,
    /// Seed of the random numbers; the same seed gives the same failures.
    pub seed: u64,
}

impl FaultConfig {
    /// The probability of a certain failure.
    pub const ALWAYS: u32 = 1_000_000;

    /// Nothing fails.
    pub const NEVER: Self = Self {
        interval: 0,
        probability: Self::ALWAYS,
        after: 0,
        times: u64::MAX,
        min_order: Order::ZERO,
        with: Gfp::empty(),
        without: Gfp::empty(),
        seed: 1,
    };

    /// Every matching request fails.
    pub const EVERY: Self = Self { interval: 1, ..Self::NEVER };

    /// Only request number `n` fails, counted from one.
    #[must_use]
    pub const fn nth(n: u64) -> Self {
        Self { after: n.saturating_sub(1), times: 1, ..Self::EVERY }
    }
}

/// The state of fault injection.
#[derive(Debug)]
pub(crate) struct Faults {
    interval: AtomicU32,
    probability: AtomicU32,
    after: AtomicU64,
    left: AtomicU64,
    min_order: AtomicU32,
    with: AtomicU32,
    without: AtomicU32,
    random: AtomicU64,
    drawn: AtomicU64,
}

impl Faults {
    pub(crate) fn new() -> Self {
        let zero = || AtomicU32::new(0);
        Self {
            interval: zero(),
            probability: zero(),
            after: AtomicU64::new(0),
            left: AtomicU64::new(0),
            min_order: zero(),
            with: zero(),
            without: zero(),
            random: AtomicU64::new(1),
            drawn: AtomicU64::new(0),
        }
    }

    /// Sets which requests fail from now on; counting restarts.
    pub(crate) fn configure(&self, config: &FaultConfig) {
        // Relaxed, all of them: a concurrent request may see old or new values.
        self.probability.store(config.probability, Ordering::Relaxed);
        self.after.store(config.after, Ordering::Relaxed);
        self.left.store(config.times, Ordering::Relaxed);
        self.min_order.store(u32::from(config.min_order.value()), Ordering::Relaxed);
        self.with.store(config.with.bits(), Ordering::Relaxed);
        self.without.store(config.without.bits(), Ordering::Relaxed);
        self.random.store(config.seed.max(1), Ordering::Relaxed);
        self.drawn.store(0, Ordering::Relaxed);
        self.interval.store(config.interval, Ordering::Relaxed);
    }

    /// Returns whether a request is to fail.
    pub(crate) fn should_fail(&self, gfp: Gfp, order: Order) -> bool {
        // Relaxed, all of them: each decision is its own.
        let interval = u64::from(self.interval.load(Ordering::Relaxed));
        if interval == 0
            || gfp.contains(Gfp::NOFAIL)
            || u32::from(order.value()) < self.min_order.load(Ordering::Relaxed)
            || !gfp.contains(Gfp::from_bits_retain(self.with.load(Ordering::Relaxed)))
            || gfp.intersects(Gfp::from_bits_retain(self.without.load(Ordering::Relaxed)))
        {
            return false;
        }
        let drawn = self.drawn.fetch_add(1, Ordering::Relaxed) + 1;
        let after = self.after.load(Ordering::Relaxed);
        if drawn <= after || !(drawn - after).is_multiple_of(interval) || !self.is_hit() {
            return false;
        }
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok()
    }

    /// Draws a random number against the probability.
    fn is_hit(&self) -> bool {
        let probability = u64::from(self.probability.load(Ordering::Relaxed));
        if probability >= u64::from(FaultConfig::ALWAYS) {
            return true;
        }
        let next = |state: u64| {
            let state = state ^ state << 13;
            let state = state ^ state >> 7;
            state ^ state << 17
        };
        let advance = |state| Some(next(state));
        let state = self.random.fetch_update(Ordering::Relaxed, Ordering::Relaxed, advance);
        let drawn = next(state.unwrap_or(1)) >> 11;
        drawn % u64::from(FaultConfig::ALWAYS) < probability
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::base::units::MAX_ORDER;

    fn failing(config: FaultConfig, gfp: Gfp, order: Order, requests: usize) -> Vec<usize> {
        let faults = Faults::new();
        faults.configure(&config);
        (1..=requests).filter(|_| faults.should_fail(gfp, order)).collect()
    }

    #[test]
    fn the_nth_fails_and_no_other() {
        assert_eq!(failing(FaultConfig::nth(3), Gfp::KERNEL, Order::ZERO, 9), [3]);
    }

    #[test]
    fn interval_and_times_add_up() {
        let config = FaultConfig { interval: 3, times: 2, after: 1, ..FaultConfig::EVERY };
        assert_eq!(failing(config, Gfp::KERNEL, Order::ZERO, 20), [4, 7]);
    }

    #[test]
    fn only_what_matches_is_drawn() {
        let config = FaultConfig {
            with: Gfp::DIRECT_RECLAIM,
            without: Gfp::FS,
            min_order: MAX_ORDER,
            ..FaultConfig::EVERY
        };
        assert!(failing(config, Gfp::KERNEL, MAX_ORDER, 5).is_empty());
        assert!(failing(config, Gfp::ATOMIC, MAX_ORDER, 5).is_empty());
        assert!(failing(config, Gfp::NOFS, Order::ZERO, 5).is_empty());
        assert!(failing(config, Gfp::NOFS | Gfp::NOFAIL, MAX_ORDER, 5).is_empty());
        assert_eq!(failing(config, Gfp::NOFS, MAX_ORDER, 2), [1, 2]);
    }

    #[test]
    fn a_probability_is_about_kept_and_repeatable() {
        let config = FaultConfig { probability: 250_000, seed: 7, ..FaultConfig::EVERY };
        let (nr, about) = if cfg!(miri) { (200, 30..70) } else { (10_000, 2_300..2_700) };
        let first = failing(config, Gfp::KERNEL, Order::ZERO, nr);
        assert!(about.contains(&first.len()), "{} of {nr}", first.len());
        assert_eq!(first, failing(config, Gfp::KERNEL, Order::ZERO, nr));
    }
}
