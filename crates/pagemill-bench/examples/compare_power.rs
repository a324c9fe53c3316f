//! Shows how often `pagemill bench compare` is right, with simulated reports whose truth is known: the tables
//! of BENCHMARKING.md.
//!
//! `cargo run --profile test -p pagemill-bench --example compare_power`
#![expect(clippy::print_stdout, reason = "an example prints what it shows")]

use pagemill_bench::Spread;
use pagemill_bench::rng::Rng;
use pagemill_bench::saved::compare::noise_between;
use pagemill_bench::saved::figure::{Row, Table, Values};
use pagemill_bench::saved::{Better, Comparison, Figure, SavedReport, Verdict};

/// Figures of a report, as many as `bench bulk --quick` has.
const NR_FIGURES: usize = 95;
/// Simulated comparisons for each line.
const NR_COMPARISONS: usize = 200;

fn main() {
    within_files();
    between_processes();
}

/// Shows what the noise of the runs within a file leads to.
fn within_files() {
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

/// Simulated comparisons for each line of a table with `--noise`.
const NR_FAILING: usize = 1000;
/// Runs of a figure there, and their noise.
const RUNS: (usize, f64) = (9, 0.02);

/// How the processes of one program differ, as the standard deviation of their figures.
#[derive(Clone, Copy)]
enum Off {
    /// Each figure differs on its own.
    Each(f64),
    /// All figures of a process differ by the same factor.
    All(f64),
}

/// Shows how often `--fail-on-slower 5` fails, where processes of one program differ and files of
/// `--noise` show by how much.
fn between_processes() {
    println!(
        "\n{NR_FAILING} comparisons with --fail-on-slower 5; {} runs of 2 % noise. Equal programs:\n",
        RUNS.0
    );
    println!("| figures | files of `--noise` | off | failed |");
    println!("| --: | --: | --- | --: |");
    let mut rng = Rng::new(2);
    for (nr_figures, nr_files, name, off) in [
        (1, 1, "each", Off::Each(0.1)),
        (4, 1, "each", Off::Each(0.1)),
        (10, 1, "each", Off::Each(0.1)),
        (40, 1, "each", Off::Each(0.1)),
        (1, 3, "each", Off::Each(0.1)),
        (4, 3, "each", Off::Each(0.1)),
        (40, 3, "each", Off::Each(0.1)),
        (40, 1, "all", Off::All(0.1)),
        (40, 3, "all", Off::All(0.1)),
    ] {
        let failed = nr_failed(&mut rng, nr_figures, nr_files, off, 1.0);
        println!("| {nr_figures} | {nr_files} | {name} | {:.1} % |", percent(failed, NR_FAILING));
    }
    println!("\nOne figure is slower, and each figure of a process is off by:\n");
    println!("| figures | files of `--noise` | slower by | failed, off by 3 % | by 1 % |");
    println!("| --: | --: | --: | --: | --: |");
    for (nr_figures, nr_files, slower) in [
        (40, 1, 0.2),
        (40, 3, 0.2),
        (10, 3, 0.2),
        (4, 3, 0.2),
        (40, 1, 0.5),
        (4, 1, 0.5),
        (1, 3, 0.2),
    ] {
        let [three, one] = [0.03, 0.01].map(|off| {
            let off = Off::Each(off);
            percent(nr_failed(&mut rng, nr_figures, nr_files, off, 1.0 + slower), NR_FAILING)
        });
        let slower = 100.0 * slower;
        println!("| {nr_figures} | {nr_files} | {slower:.0} % | {three:.0} % | {one:.0} % |");
    }
}

/// Returns how many comparisons fail if B's first figure is slower by `factor`.
fn nr_failed(rng: &mut Rng, nr_figures: usize, nr_files: usize, off: Off, factor: f64) -> usize {
    let mut process = |factor: f64| {
        let common = normal(rng);
        let mut levels: Vec<f64> = (0..nr_figures)
            .map(|_| match off {
                Off::Each(deviation) => (deviation * normal(rng)).exp(),
                Off::All(deviation) => (deviation * common).exp(),
            })
            .collect();
        levels[0] *= factor;
        let (runs, noise) = RUNS;
        report(&levels, runs, || (noise * normal(rng)).exp())
    };
    let mut is_failed = || {
        let of_a: Vec<_> = (0..=nr_files).map(|_| process(1.0)).collect();
        let between =
            noise_between(&of_a.iter().collect::<Vec<_>>()).expect("they are of one kind");
        let comparison = Comparison::of(&of_a[0], &process(factor), 0.05, between);
        comparison.expect("they are of one kind").worse_than(0.05).next().is_some()
    };
    (0..NR_FAILING).filter(|_| is_failed()).count()
}

fn percent(count: usize, of: usize) -> f64 {
    100.0 * count as f64 / of as f64
}

/// Compares two simulated reports, of which B's first `nr_changed` figures are changed by `factor`.
fn compare(rng: &mut Rng, noise: f64, runs: usize, factor: f64, nr_changed: usize) -> Comparison {
    let [a, b] = [0, nr_changed].map(|nr_changed| {
        let mut levels = [1.0; NR_FIGURES];
        levels[..nr_changed].fill(factor);
        report(&levels, runs, || run(rng, noise))
    });
    Comparison::of(&a, &b, 0.05, 1.0).expect("they are of one kind")
}

/// Makes a report with a figure for each of `levels`, whose runs are multiplied by what `draw` returns.
fn report(levels: &[f64], runs: usize, mut draw: impl FnMut() -> f64) -> SavedReport {
    let rows = levels.iter().enumerate().map(|(number, level)| {
        let samples = (0..runs).map(|_| 10.0 * level * draw());
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

/// Draws one run. One in ten was disturbed by other work, which makes it up to twice as long.
fn run(rng: &mut Rng, noise: f64) -> f64 {
    let noise = (noise * normal(rng)).exp();
    let disturbance = if uniform(rng) < 0.1 { 1.0 + uniform(rng) } else { 1.0 };
    noise * disturbance
}

/// Draws a number of mean 0 and standard deviation 1: the sum of twelve uniform numbers is almost normal.
fn normal(rng: &mut Rng) -> f64 {
    (0..12).map(|_| uniform(rng)).sum::<f64>() - 6.0
}

fn uniform(rng: &mut Rng) -> f64 {
    rng.below(1 << 24) as f64 / f64::from(1 << 24)
}
