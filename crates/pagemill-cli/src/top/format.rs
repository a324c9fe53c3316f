//! Numbers for people: at most five digits, with a unit.

use core::time::Duration;

use pagemill::units::PAGE_SIZE;
use pagemill_status::Unit;

/// Returns a number with at most three significant digits and a prefix above 99999.
pub(crate) fn count(value: f64) -> String {
    if value < 99_999.5 {
        return if value > 0.0 && value < 9.95 && value.fract() != 0.0 {
            format!("{value:.1}")
        } else {
            format!("{value:.0}")
        };
    }
    scaled(value, 1000.0, &["k", "M", "G", "T", "P", "E"])
}

/// Returns bytes in binary units.
pub(crate) fn bytes(value: f64) -> String {
    if value < 1023.5 {
        return format!("{value:.0} B");
    }
    scaled(value, 1024.0, &["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

/// Returns the size of a number of pages.
pub(crate) fn pages(value: u64) -> String {
    bytes(value as f64 * PAGE_SIZE as f64)
}

/// Returns a number of `unit`.
pub(crate) fn quantity(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Bytes => bytes(value),
        Unit::Pages => bytes(value * PAGE_SIZE as f64),
        Unit::Micros if value < 9_999.5 => format!("{value:.0} us"),
        Unit::Micros if value < 9_999_500.0 => format!("{:.0} ms", value / 1e3),
        Unit::Micros => format!("{:.0} s", value / 1e6),
        _ => count(value),
    }
}

fn scaled(value: f64, step: f64, prefixes: &[&str]) -> String {
    let mut value = value / step;
    let mut prefixes = prefixes.iter();
    let mut prefix = prefixes.next();
    // What is shown as 1000 of one prefix is 1 of the next.
    while value >= step - 0.5
        && let Some(next) = prefixes.next()
    {
        value /= step;
        prefix = Some(next);
    }
    let prefix = prefix.copied().unwrap_or("");
    match value {
        value if value < 9.995 => format!("{value:.2} {prefix}"),
        value if value < 99.95 => format!("{value:.1} {prefix}"),
        value => format!("{value:.0} {prefix}"),
    }
}

/// Returns a time in its two largest units.
pub(crate) fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {} min", minutes % 60),
        (days, hours, _) => format!("{days} d {} h", hours % 24),
    }
}

/// Returns `text` in at most `width` characters: without its middle, if it is longer.
pub(crate) fn shortened(text: &str, width: usize) -> String {
    let len = text.chars().count();
    if len <= width {
        return text.to_owned();
    }
    let Some(kept) = width.checked_sub(1) else { return String::new() };
    let (front, back) = (kept.div_ceil(2), kept / 2);
    let start: String = text.chars().take(front).collect();
    let end: String = text.chars().skip(len - back).collect();
    format!("{start}\u{2026}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_few_digits() {
        let cases = [
            (0.0, "0"),
            (0.25, "0.2"),
            (7.0, "7"),
            (99_999.0, "99999"),
            (99_999.6, "100 k"),
            (999_499.0, "999 k"),
            (999_500.0, "1.00 M"),
            (1_234_567.0, "1.23 M"),
            (45_678_901.0, "45.7 M"),
            (1e18, "1.00 E"),
            (1e22, "10000 E"),
        ];
        for (value, text) in cases {
            assert_eq!(count(value), text);
        }
    }

    #[test]
    fn sizes_are_in_binary_units() {
        let cases = [
            (0.0, "0 B"),
            (1023.0, "1023 B"),
            (1024.0, "1.00 KiB"),
            (1_048_000.0, "1023 KiB"),
            (1_048_575.0, "1.00 MiB"),
            (1.5 * 1_073_741_824.0, "1.50 GiB"),
        ];
        for (value, text) in cases {
            assert_eq!(bytes(value), text);
        }
        assert_eq!(pages(256), "1.00 MiB");
        assert_eq!(quantity(12_345.0, Unit::Micros), "12 ms");
    }

    #[test]
    fn times_have_two_units() {
        let cases = [(0, "0 s"), (61, "1 min 1 s"), (7380, "2 h 3 min"), (90_000, "1 d 1 h")];
        for (seconds, text) in cases {
            assert_eq!(time(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_long_text_loses_its_middle() {
        assert_eq!(shortened("/srv/data/projects", 9), "/srv\u{2026}ects");
        assert_eq!(shortened("short", 5), "short");
        assert_eq!((shortened("ab", 1), shortened("ab", 0)), ("\u{2026}".into(), String::new()));
    }
}
