//! Interval for the ratio of two sets of runs, from their ranks alone.
//!
//! All quotients of a value of B and a value of A are sorted. Their median is the estimate of the ratio
//! (Hodges and Lehmann). The interval leaves out as many quotients on each side as the test of Mann,
//! Whitney and Wilcoxon allows at the level. No distribution of the noise is assumed, and a run that was
//! disturbed counts as one rank however slow it was.

use core::cmp::Ordering;

/// Most runs of one figure that are used; of more, evenly spaced ones are.
const MAX_RUNS: usize = 500;

/// Above this product of the numbers of runs, the normal approximation replaces the exact count.
const MAX_EXACT: usize = 625;

/// Estimate of a ratio, with the limits between which it is at the level of confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The estimate.
    pub estimate: f64,
    /// The lower limit.
    pub low: f64,
    /// The upper limit.
    pub high: f64,
}

/// Returns the interval of `B / A` that fails to contain the true ratio with probability `error`, or
/// `None` if so few runs cannot tell at that level.
///
/// # Panics
/// If a value is not positive.
pub fn ratio(a: &[f64], b: &[f64], error: f64) -> Option<Interval> {
    let [a, b] = [a, b].map(thinned);
    assert!(a.iter().chain(&b).all(|&value| value > 0.0), "ratios are of positive values");
    let skipped = nr_skipped(a.len(), b.len(), error)?;
    let mut ratios: Vec<f64> = b.iter().flat_map(|b| a.iter().map(move |a| b / a)).collect();
    ratios.sort_unstable_by(f64::total_cmp);
    let last = ratios.len() - 1;
    let estimate = f64::midpoint(ratios[last / 2], ratios[last.div_ceil(2)]);
    Some(Interval { estimate, low: ratios[skipped], high: ratios[last - skipped] })
}

/// Returns the probability that two sets of runs of one program are as different as `a` and `b`, or
/// more (two-sided; ties count half).
///
/// Above the limit of the exact count, a probability over 0.13 is returned as 1.
pub fn probability(a: &[f64], b: &[f64]) -> f64 {
    let [a, b] = [a, b].map(thinned);
    let inverted = a.iter().flat_map(|a| b.iter().map(move |b| a.total_cmp(b)));
    let halves: usize = inverted
        .map(|order| match order {
            Ordering::Less => 0,
            Ordering::Equal => 1,
            Ordering::Greater => 2,
        })
        .sum();
    probability_of(halves.min(2 * a.len() * b.len() - halves) / 2, a.len(), b.len())
}

/// Returns the probability that so few pairs, or fewer, are inverted in either direction.
pub fn probability_of(inverted: usize, nr_a: usize, nr_b: usize) -> f64 {
    if nr_a * nr_b > MAX_EXACT {
        let (mean, deviation) = moments(nr_a, nr_b);
        let z = (mean - 0.5 - inverted as f64) / deviation;
        return if z < 1.5 { 1.0 } else { 2.0 * normal_tail(z) };
    }
    let ways = nr_ways(nr_a, nr_b);
    let below: f64 = ways[..=inverted].iter().sum();
    (2.0 * below / ways.iter().sum::<f64>()).min(1.0)
}

/// Returns the fewest runs of each side with which an interval exists at `error`.
pub fn min_runs(error: f64) -> usize {
    (1..MAX_RUNS).find(|&nr| nr_skipped(nr, nr, error).is_some()).unwrap_or(MAX_RUNS)
}

/// Returns how many of the sorted quotients are outside of the interval on each side.
pub fn nr_skipped(nr_a: usize, nr_b: usize, error: f64) -> Option<usize> {
    if nr_a == 0 || nr_b == 0 {
        return None;
    }
    if nr_a * nr_b > MAX_EXACT {
        let (mean, deviation) = moments(nr_a, nr_b);
        let skipped = mean - 0.5 - normal_quantile(error / 2.0) * deviation;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and the product of two lengths"
        )]
        return (skipped >= 0.0).then_some(skipped as usize);
    }
    let ways = nr_ways(nr_a, nr_b);
    let allowed = error / 2.0 * ways.iter().sum::<f64>();
    // The interval from quotient `skipped` to the same from the end fails if that many pairs or fewer
    // are inverted, on either side.
    let mut below = 0.0;
    let fits = ways.iter().take_while(|&&nr| {
        below += nr;
        below <= allowed
    });
    fits.count().checked_sub(1)
}

/// Returns, for each number of inverted pairs, in how many orders of `m + n` values it occurs.
fn nr_ways(m: usize, n: usize) -> Vec<f64> {
    // `ways[k][u]`: choose `k` of the ranks seen so far, whose sum exceeds the smallest one by `u`.
    let mut ways = vec![vec![0.0; m * n + 1]; m + 1];
    ways[0][0] = 1.0;
    for rank in 0..m + n {
        for k in (1..=m.min(rank + 1)).rev() {
            let moved = rank + 1 - k;
            if moved > n {
                continue;
            }
            let (before, after) = ways.split_at_mut(k);
            let sources = &before[k - 1][..=m * n - moved];
            after[0][moved..].iter_mut().zip(sources).for_each(|(to, from)| *to += from);
        }
    }
    ways.swap_remove(m)
}

/// Returns mean and deviation of the number of inverted pairs.
fn moments(nr_a: usize, nr_b: usize) -> (f64, f64) {
    let (m, n) = (nr_a as f64, nr_b as f64);
    (m * n / 2.0, (m * n * (m + n + 1.0) / 12.0).sqrt())
}

/// Returns the probability that a normal variable exceeds `z`, which is 1.5 or more, within 0.1 %
/// (Laplace's continued fraction).
fn normal_tail(z: f64) -> f64 {
    let fraction = (1..=30).rev().fold(z, |below, step| z + f64::from(step) / below);
    (-z * z / 2.0).exp() / (2.0 * core::f64::consts::PI).sqrt() / fraction
}

/// Returns the value that a normal variable exceeds with probability `tail`, within 0.0005
/// (Abramowitz and Stegun, 26.2.23).
fn normal_quantile(tail: f64) -> f64 {
    let t = (-2.0 * tail.min(0.5).ln()).sqrt();
    let above = 2.515_517 + t * (0.802_853 + t * 0.010_328);
    t - above / (1.0 + t * (1.432_788 + t * (0.189_269 + t * 0.001_308)))
}

/// Returns the value that the absolute value of a variable with Student's distribution exceeds with
/// probability `error`.
pub fn student_quantile(degrees: usize, error: f64) -> f64 {
    // From here on, the normal distribution is less than 2 % away at the probabilities of a comparison.
    const MANY: usize = 200;
    if degrees > MANY {
        return normal_quantile(error / 2.0);
    }
    let [mut low, mut high] = [0.0, core::f64::consts::FRAC_PI_2];
    for _ in 0..60 {
        let angle = f64::midpoint(low, high);
        match 1.0 - student_within(degrees, angle) > error {
            true => low = angle,
            false => high = angle,
        }
    }
    low.tan() * (degrees as f64).sqrt()
}

/// Returns the probability that the absolute value of a variable with Student's distribution is below
/// `tan(angle) * sqrt(degrees)` (Abramowitz and Stegun, 26.7.3 and 26.7.4).
fn student_within(degrees: usize, angle: f64) -> f64 {
    let (sin, cos) = angle.sin_cos();
    let is_odd = degrees % 2 == 1;
    let mut term = if is_odd { cos } else { 1.0 };
    let mut sum = 0.0;
    for at in (2 + usize::from(is_odd)..=degrees).step_by(2) {
        sum += term;
        term *= cos * cos * (at - 1) as f64 / at as f64;
    }
    if is_odd { (angle + sin * sum) / core::f64::consts::FRAC_PI_2 } else { sin * sum }
}

fn thinned(values: &[f64]) -> Vec<f64> {
    match values.len().cmp(&MAX_RUNS) {
        Ordering::Less | Ordering::Equal => values.to_vec(),
        Ordering::Greater => {
            (0..MAX_RUNS).map(|index| values[index * values.len() / MAX_RUNS]).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts the inversions of every order of `m` values of A and `n` of B.
    fn counted(m: usize, n: usize) -> Vec<f64> {
        let mut ways = vec![0.0; m * n + 1];
        for places in 0_u32..1 << (m + n) {
            if places.count_ones() as usize != m {
                continue;
            }
            let is_a = |place: usize| places >> place & 1 == 1;
            let inverted = (0..m + n)
                .filter(|&place| is_a(place))
                .map(|place| (0..place).filter(|&before| !is_a(before)).count())
                .sum::<usize>();
            ways[inverted] += 1.0;
        }
        ways
    }

    #[test]
    fn orders_are_counted_as_by_hand() {
        for m in 1..=6 {
            for n in 1..=6 {
                assert_eq!(nr_ways(m, n), counted(m, n), "{m} and {n}");
            }
        }
    }

    #[test]
    fn critical_values_are_those_of_printed_tables() {
        // The critical U of the two-sided test at 0.05 and at 0.01; an interval skips as many.
        for (nr, at_5, at_1) in [
            (5, Some(2), Some(0)),
            (8, Some(13), Some(7)),
            (10, Some(23), Some(16)),
            (20, Some(127), Some(105)),
        ] {
            assert_eq!([nr_skipped(nr, nr, 0.05), nr_skipped(nr, nr, 0.01)], [at_5, at_1], "{nr}");
        }
        assert_eq!(nr_skipped(3, 3, 0.05), None);
        assert_eq!(nr_skipped(4, 4, 0.05), Some(0));
        assert_eq!([min_runs(0.05), min_runs(0.05 / 200.0)], [4, 8]);
    }

    #[test]
    fn the_approximation_continues_the_exact_count() {
        let (mean, deviation) = moments(25, 25);
        for error in [0.05, 0.01, 0.05 / 200.0] {
            let exact = nr_skipped(25, 25, error).unwrap();
            let approximate = mean - 0.5 - normal_quantile(error / 2.0) * deviation;
            assert!((exact as f64 - approximate).abs() < 8.0, "{error}: {exact}, {approximate}");
            let probability = probability_of(exact, 25, 25);
            assert!(probability <= error && probability_of(exact + 1, 25, 25) > error);
            let z = (mean - 0.5 - exact as f64) / deviation;
            let ratio = 2.0 * normal_tail(z) / probability;
            assert!((0.9..1.7).contains(&ratio), "{error}: {ratio}");
        }
        assert!(nr_skipped(26, 25, 0.05).unwrap() > nr_skipped(25, 25, 0.05).unwrap());
        // Printed values of the normal distribution.
        for (z, tail) in [(1.5, 0.066_81), (1.96, 0.025_00), (3.0, 0.001_350), (5.0, 2.867e-7)] {
            assert!((normal_tail(z) / tail - 1.0).abs() < 1e-3, "{z}: {}", normal_tail(z));
            assert!((normal_quantile(tail) - z).abs() < 1e-3, "{z}: {}", normal_quantile(tail));
        }
    }

    #[test]
    fn the_probability_of_separate_runs_is_that_of_one_order() {
        let [a, b] = [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]];
        assert!((probability(&a, &b) - 2.0 / 70.0).abs() < 1e-12);
        assert!((probability(&b, &a) - 2.0 / 70.0).abs() < 1e-12);
        assert!((probability(&a, &a) - 1.0).abs() < 1e-12);
        let many = |shift: f64| (0..40).map(|run| f64::from(run) + shift).collect::<Vec<_>>();
        assert!(probability(&many(0.0), &many(40.0)) < 1e-12);
        assert!((probability(&many(0.0), &many(0.5)) - 1.0).abs() < 1e-12);
        // An interval excludes equality where the probability is below the error.
        for shift in 0..20 {
            let [a, b] = [100.0, 100.25 + f64::from(shift)]
                .map(|at| (0..10).map(|run| at + f64::from(run * run) / 5.0).collect::<Vec<_>>());
            let found = ratio(&a, &b, 0.05).unwrap();
            assert_eq!(found.low > 1.0, probability(&a, &b) <= 0.05, "{shift}: {found:?}");
        }
    }

    #[test]
    fn a_ratio_is_between_its_limits_and_ignores_one_disturbed_run() {
        let a: Vec<f64> = (0..10).map(|run| 100.0 + f64::from(run)).collect();
        let mut b: Vec<f64> = a.iter().map(|value| value * 1.2).collect();
        let found = ratio(&a, &b, 0.01).unwrap();
        assert!((found.estimate - 1.2).abs() < 0.01, "{found:?}");
        assert!(1.1 < found.low && found.high < 1.3, "{found:?}");
        b[3] = 1e9;
        let disturbed = ratio(&a, &b, 0.01).unwrap();
        assert!(disturbed.low > 1.1 && disturbed.high < 1.4, "{disturbed:?}");
    }

    #[test]
    fn quantiles_are_those_of_printed_tables() {
        for (degrees, error, expected) in [
            (1, 0.05, 12.706),
            (2, 0.05, 4.303),
            (3, 0.01, 5.841),
            (4, 0.001, 8.610),
            (5, 0.05, 2.571),
            (10, 0.001, 4.587),
            (30, 0.01, 2.750),
            (120, 0.001, 3.373),
            (100_000, 0.001, 3.291),
        ] {
            let found = student_quantile(degrees, error);
            assert!((found / expected - 1.0).abs() < 1e-3, "{degrees}, {error}: {found}");
        }
    }

    #[test]
    fn equal_values_have_no_width_and_many_are_thinned() {
        let equal = Interval { estimate: 1.0, low: 1.0, high: 1.0 };
        assert_eq!(ratio(&[7.0; 9], &[7.0; 9], 0.05), Some(equal));
        let many = vec![7.0; 5000];
        assert_eq!(ratio(&many, &many, 1e-6), Some(equal));
        assert_eq!(ratio(&[7.0], &[7.0], 0.05), None);
        assert_eq!(ratio(&[], &[7.0], 0.05), None);
    }
}
