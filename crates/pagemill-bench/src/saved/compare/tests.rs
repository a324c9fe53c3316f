use super::*;
use crate::rng::Rng;

/// A report of `bench rpc` with one figure for each list of runs.
fn report(figures: &[Vec<f64>]) -> SavedReport {
    let rows = figures.iter().enumerate().map(|(number, samples)| {
        let mut sorted = samples.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let values = Values::Runs {
            median: sorted[sorted.len() / 2],
            min: sorted[0],
            max: sorted[sorted.len() - 1],
            nr: Some(samples.len()),
            samples: samples.clone(),
        };
        Row {
            key: vec![number.to_string(), "bulk".to_owned(), "true".to_owned()],
            figures: vec![Figure {
                name: "us",
                unit: "us/refill".to_owned(),
                better: Better::Lower,
                values,
            }],
        }
    });
    let keys = &["consumed", "calls", "hint"];
    SavedReport {
        command: "bench rpc".to_owned(),
        circumstances: vec![("runs".to_owned(), "15".to_owned())],
        tables: vec![Table { name: "rows", keys, rows: rows.collect() }],
    }
}

/// Draws runs with a noise of 3 %, of which one in ten is up to twice as long.
fn draw(rng: &mut Rng, middle: f64, nr: usize) -> Vec<f64> {
    let mut uniform = || rng.below(1 << 24) as f64 / f64::from(1 << 24);
    let runs = (0..nr).map(|_| {
        let normal: f64 = (0..12).map(|_| uniform()).sum::<f64>() - 6.0;
        let disturbance = if uniform() < 0.1 { 1.0 + uniform() } else { 1.0 };
        middle * (0.03 * normal).exp() * disturbance
    });
    runs.collect()
}

fn simulated(rng: &mut Rng, middle: f64, nr_figures: usize, nr_runs: usize) -> SavedReport {
    let figures: Vec<_> = (0..nr_figures).map(|_| draw(rng, middle, nr_runs)).collect();
    report(&figures)
}

#[test]
fn few_comparisons_of_equal_programs_have_an_interval_without_equality() {
    let mut rng = Rng::new(5);
    let mut nr_wrong = 0;
    for _ in 0..200 {
        let [a, b] = [10.0, 10.0].map(|middle| simulated(&mut rng, middle, 20, 15));
        let comparison = Comparison::of(&a, &b, 0.05, 1.0).unwrap();
        let excludes_one = |compared: &Compared| {
            let interval = compared.finding.interval.unwrap();
            interval.low > 1.0 || interval.high < 1.0
        };
        nr_wrong += usize::from(comparison.figures().any(excludes_one));
    }
    // 5 % are 10 of 200; 18 or more would come in one of a hundred series.
    assert!((1..18).contains(&nr_wrong), "{nr_wrong}");
}

#[test]
fn a_fifth_more_is_found_among_many_figures() {
    let mut rng = Rng::new(6);
    let [a, b] = [10.0, 12.0].map(|middle| simulated(&mut rng, middle, 100, 15));
    let comparison = Comparison::of(&a, &b, 0.05, 1.0).unwrap();
    assert!(comparison.count(|verdict| verdict == Verdict::Worse) >= 90);
    assert_eq!(comparison.count(|verdict| verdict == Verdict::Better), 0);
    assert_eq!(comparison.worse_than(0.5).count(), 0);
    assert!(comparison.worse_than(0.1).count() >= 90);
}

#[test]
fn the_error_grows_with_the_number_of_differences() {
    let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found}");
    close(error(vec![]), 0.05);
    close(error(vec![1.0; 10]), 0.005);
    close(error(vec![0.004, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9]), 0.005);
    // The second would not be found alone, and the third pulls it in.
    close(error(vec![0.0149, 0.0149, 0.0149, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9]), 0.015);
    close(error(vec![1e-9; 10]), 0.05);
}

#[test]
fn rows_are_matched_by_their_keys_and_the_others_are_named() {
    let runs = || vec![1.0; 9];
    let a = report(&[runs(), runs(), runs()]);
    let mut b = report(&[runs(), runs()]);
    b.tables[0].rows.reverse();
    b.tables[0].rows[0].key[0] = "7".to_owned();
    let comparison = Comparison::of(&a, &b, 0.05, 1.0).unwrap();
    let keys: Vec<_> = comparison.figures().map(|compared| compared.key[0].as_str()).collect();
    assert_eq!(keys, ["0"]);
    assert_eq!(comparison.only_a, ["rows: 1 bulk true us", "rows: 2 bulk true us"]);
    assert_eq!(comparison.only_b, ["rows: 7 bulk true us"]);
}

#[test]
fn other_kinds_and_nothing_in_common_are_refused() {
    let a = report(&[vec![1.0; 9]]);
    let kinds = SavedReport { command: "bench pool".to_owned(), ..a.clone() };
    assert_eq!(
        Comparison::of(&a, &kinds, 0.05, 1.0).unwrap_err().to_string(),
        "they are of different kinds: the first is of bench rpc, the second of bench pool"
    );
    assert_eq!(
        Comparison::of(&a, &report(&[]), 0.05, 1.0).unwrap_err(),
        CompareError::NothingInCommon
    );
}

#[test]
fn circumstances_that_differ_are_listed_once() {
    let a = report(&[vec![1.0; 9]]);
    let mut b = a.clone();
    b.circumstances =
        vec![("runs".to_owned(), "30".to_owned()), ("commit".to_owned(), "abc".to_owned())];
    let differences = Comparison::of(&a, &b, 0.05, 1.0).unwrap().differences;
    let difference = |name: &str, a: &str, b: &str| Difference {
        name: name.to_owned(),
        a: a.to_owned(),
        b: b.to_owned(),
    };
    assert_eq!(
        differences,
        [difference("runs", "15", "30"), difference("commit", "not recorded", "abc")]
    );
    assert_eq!(Comparison::of(&a, &a, 0.05, 1.0).unwrap().differences, []);
}

#[test]
fn noise_between_processes_covers_each_figure_that_was_seen() {
    let a = report(&vec![vec![10.0; 9]; 40]);
    let mut figures = vec![vec![10.0; 9]; 40];
    figures[0] = vec![30.0; 9];
    let between = noise_between(&[&a, &report(&figures)]).unwrap();
    assert!((between - 3.0).abs() < 1e-9, "{between}");
    // A shorter time is as far away as a longer one.
    let reverse = noise_between(&[&report(&figures), &a]).unwrap();
    assert!((reverse - 3.0).abs() < 1e-9, "{reverse}");
    assert!((noise_between(&[&a, &a]).unwrap() - 1.0).abs() < 1e-9);
    assert!(noise_between(&[&a, &report(&[])]).is_err());
    // Few runs show it as many do.
    let [a, b] = [10.0, 12.0].map(|us| report(&[vec![us; 3]]));
    assert!(noise_between(&[&a, &b]).unwrap() > 1.19);
}

#[test]
fn more_reports_of_one_program_tell_the_noise_better() {
    let of = |us: f64| report(&[vec![us; 9]]);
    let [a, b, c, d] = [10.0, 10.2, 9.8, 10.1].map(of);
    // The noise of one figure and two processes may be much larger than their difference.
    let [two, three, four] = [&[&a, &b][..], &[&a, &b, &c], &[&a, &b, &c, &d]]
        .map(|reports| noise_between(reports).unwrap());
    assert!((two.ln() / 1.02_f64.ln() - 12.706).abs() < 0.01, "{two}");
    assert!(two > three && three > four && four > 1.04, "{two} {three} {four}");
}

#[test]
fn equal_programs_seldom_differ_beyond_the_noise_between_processes() {
    for (nr_figures, nr_again) in [(1, 1), (4, 2), (40, 1)] {
        let mut rng = Rng::new(9);
        let mut nr_wrong = 0;
        for _ in 0..200 {
            let mut process = || {
                // Each figure of a process is off, by approximately 20 %.
                let figures = (0..nr_figures).map(|_| {
                    let off = draw(&mut rng, 1.0, 12).iter().map(|x| x.min(1.15).ln()).sum::<f64>();
                    draw(&mut rng, 10.0 * off.exp(), 9)
                });
                report(&figures.collect::<Vec<_>>())
            };
            let [a, b] = [process(), process()];
            let again: Vec<_> = (0..nr_again).map(|_| process()).collect();
            let reports: Vec<_> = core::iter::once(&a).chain(&again).collect();
            let between = noise_between(&reports).unwrap();
            let comparison = Comparison::of(&a, &b, 0.05, between).unwrap();
            nr_wrong += usize::from(comparison.worse_than(0.05).next().is_some());
        }
        assert!(nr_wrong < 18, "{nr_figures} figures, {nr_again} reports more: {nr_wrong}");
    }
}
