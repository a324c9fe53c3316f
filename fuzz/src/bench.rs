//! Bytes for the reader of saved benchmark results, and for what is made of them.

use pagemill_bench::saved::show::{Shown, Style, to_csv, to_json};
use pagemill_bench::saved::{Comparison, SavedReport};

/// Reads a report; one that can be read is compared with itself and written in every format.
///
/// # Panics
/// If a figure is found to differ from itself, or the text of a narrow screen has a control character.
pub fn report(data: &[u8]) {
    let Ok(report) = SavedReport::parse(data) else { return };
    assert!(report.to_csv().starts_with("table"));
    assert!(report.to_markdown().starts_with("## pagemill "));
    let Ok(comparison) = Comparison::of(&report, &report, 0.05, 1.0) else { return };
    assert!(comparison.differences.is_empty());
    assert_eq!(comparison.worse_than(0.0).count(), 0);
    let shown = Shown { comparison: &comparison, a: "a", b: "b" };
    for width in [0, 40, 80] {
        let text = shown.to_text(Style { width, colour: false });
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'));
    }
    assert!(shown.to_markdown().starts_with("## pagemill "));
    let all = [shown];
    assert!(to_csv(&all).starts_with("file_a,"));
    assert!(to_json(&all).is_ok());
}
