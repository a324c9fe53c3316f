//! Warning about results that vary too much between runs.

use crate::Spread;

/// The largest spread without a warning, as a share of the median.
///
/// Quiet machines stay below 0.2 and a virtual machine with neighbours below 0.5.
const RELATIVE_MAX: f64 = 0.5;

/// Returns a line about the value with the largest spread and the number of values that exceed the
/// limit, if there are any. `figures` are names and values.
pub fn warning(figures: impl IntoIterator<Item = (String, Spread)>) -> Option<String> {
    let (mut nr, mut nr_wide) = (0_usize, 0_usize);
    let mut widest: Option<(String, Spread)> = None;
    for (name, spread) in figures {
        nr += 1;
        if spread.relative() <= RELATIVE_MAX {
            continue;
        }
        nr_wide += 1;
        if widest.as_ref().is_none_or(|(_, other)| other.relative() < spread.relative()) {
            widest = Some((name, spread));
        }
    }
    let (name, Spread { median, min, max, .. }) = widest?;
    let percent = 100.0 * (max - min) / median;
    Some(format!(
        "warning: {nr_wide} of {nr} figures vary between runs by more than {:.0} % of their \
         median, {name} by {percent:.0} % ({min:.3} to {max:.3}, median {median:.3}): other work \
         disturbed the measurement; measure again on a quiet machine, with more runs",
        100.0 * RELATIVE_MAX
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_spreads_are_counted_and_the_widest_is_named() {
        let figure =
            |name: &str, min, median, max| (name.to_owned(), Spread::of([min, median, max]));
        let calm = figure("calm", 0.9, 1.0, 1.3);
        assert_eq!(warning([calm.clone()]), None);
        assert_eq!(warning([]), None);
        let line = warning([
            calm,
            figure("restless", 1.0, 2.0, 3.0),
            figure("wild", 1.0, 1.0, 3.0),
            figure("cheap", 0.0, 0.0, 9.0),
        ]);
        let line = line.unwrap();
        assert!(line.contains("2 of 4 figures"), "{line}");
        assert!(line.contains("wild by 200 % (1.000 to 3.000, median 1.000)"), "{line}");
    }
}
