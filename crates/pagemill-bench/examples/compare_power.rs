//! Shows how often `pagemill bench compare` is right, with simulated reports whose truth is known.
//!
//! `cargo run --release -p pagemill-bench --example compare_power`
#![expect(clippy::print_stdout, reason = "an example prints what it shows")]

use pagemill_bench::Spread;
use pagemill_bench::rng::Rng;
use pagemill_bench::saved::figure::{Row, Table, Values};
use pagemill_bench::saved::{Better, Comparison, Figure, SavedReport, Verdict};

/// Figures of a report, as many as `bench bulk --quick` has.
const NR_FIGURES: usize = 95;
/// Simulated comparisons for each line.
const NR_COMPARISONS: usize = 200;

fn main() {
    println!(
        "{NR_COMPARISONS} comparisons of {NR_FIGURES} figures each; threshold 5 %; one run in ten"
    );
    println!(
        "is up to twice as long. Columns: comparisons of equal programs that report a change;"
    );
    println!(
        "changed figures that are reported, if one figure is 20 % slower, if all are 10 % or 20 %.\n"
    );
    println!("| noise | runs | equal | one, 20 % | all, 10 % | all, 20 % |");
    println!("| --- | --: | --: | --: | --: | --: |");
    let mut rng = Rng::new(1);
    let percent = |count: usize, of: usize| 100.0 * count as f64 / of as f64;
    for (name, noise) in [("1 %", 0.01), ("3 %", 0.03), ("10 %", 0.1)] {
        for runs in [9, 15, 40] {
            let mut comparisons = |factor, nr_changed| {
                let nr = if nr_changed > 1 { NR_COMPARISONS / 10 } else { NR_COMPARISONS };
                let all = (0..nr).map(|_| compare(&mut rng, noise, runs, factor, nr_changed));
                all.collect::<Vec<_>>()
            };
            let is_change = |verdict| [Verdict::Better, Verdict::Worse].contains(&verdict);
            let equal = comparisons(1.0, 0);
            let alarms = equal.iter().filter(|comparison| comparison.count(is_change) > 0).count();
            print!("| {name} | {runs} | {:.1} %", percent(alarms, equal.len()));
            for (factor, nr_changed) in [(1.2, 1), (1.1, NR_FIGURES), (1.2, NR_FIGURES)] {
                let found = comparisons(factor, nr_changed);
                let changed = found.iter().flat_map(|found| found.figures().take(nr_changed));
                let right = changed.filter(|figure| figure.finding.verdict == Verdict::Worse);
                print!(" | {:.1} %", percent(right.count(), found.len() * nr_changed));
            }
            println!(" |");
        }
    }
}

/// Compares two simulated reports, of which B's first `nr_changed` figures are changed by `factor`.
fn compare(rng: &mut Rng, noise: f64, runs: usize, factor: f64, nr_changed: usize) -> Comparison {
    let [a, b] = [0, nr_changed].map(|nr_changed| report(rng, noise, runs, factor, nr_changed));
    Comparison::of(&a, &b, 0.05, 1.0).expect("they are of one kind")
}

fn report(rng: &mut Rng, noise: f64, runs: usize, factor: f64, nr_changed: usize) -> SavedReport {
    let rows = (0..NR_FIGURES).map(|number| {
        let factor = if number < nr_changed { factor } else { 1.0 };
        let samples = (0..runs).map(|_| 10.0 * factor * run(rng, noise));
        let Spread { median, min, max, samples } = Spread::of(samples);
        let values = Values::Runs { median, min, max, nr: Some(runs), samples };
        let figure =
            Figure { name: "ns", unit: "ns/page".to_owned(), better: Better::Lower, values };
        Row { key: vec![number.to_string()], figures: vec![figure] }
    });
    SavedReport {
        command: "bench bulk".to_owned(),
        circumstances: Vec::new(),
        tables: vec![Table { name: "rows", keys: &["n"], rows: rows.collect() }],
    }
}

/// Draws one run: twelve uniform numbers make the noise, and one run in ten was disturbed by other
/// work, which makes it up to twice as long.
fn run(rng: &mut Rng, noise: f64) -> f64 {
    let mut uniform = || rng.below(1 << 24) as f64 / f64::from(1 << 24);
    let normal: f64 = (0..12).map(|_| uniform()).sum::<f64>() - 6.0;
    let disturbance = if uniform() < 0.1 { 1.0 + uniform() } else { 1.0 };
    (noise * normal).exp() * disturbance
}
