use super::*;

const JUDGE: Judge = Judge { error: 0.01, relevant: 0.05, between: 1.0 };

fn figure(better: Better, values: Values) -> Figure {
    Figure { name: "ns", unit: "ns".to_owned(), better, values }
}

/// Values around `middle`, as different from each other as `noise` says.
fn runs(middle: f64, noise: f64, nr: u32) -> Values {
    let samples: Vec<f64> = (0..nr)
        .map(|run| middle * (1.0 + noise * (f64::from(run) / f64::from(nr - 1) - 0.5)))
        .collect();
    let [min, max] = [samples[0], samples[samples.len() - 1]];
    Values::Runs { median: middle, min, max, nr: Some(samples.len()), samples }
}

fn verdict(better: Better, a: Values, b: Values) -> Verdict {
    JUDGE.compare(&figure(better, a), &figure(better, b)).verdict
}

#[test]
fn a_difference_beyond_the_noise_has_a_direction() {
    let (a, slow) = (runs(100.0, 0.04, 10), runs(120.0, 0.04, 10));
    assert_eq!(verdict(Better::Lower, a.clone(), slow.clone()), Verdict::Worse);
    assert_eq!(verdict(Better::Lower, slow.clone(), a.clone()), Verdict::Better);
    assert_eq!(verdict(Better::Higher, a.clone(), slow.clone()), Verdict::Better);
    assert_eq!(verdict(Better::Higher, slow, a), Verdict::Worse);
}

#[test]
fn a_small_difference_is_none_however_certain() {
    let (a, b) = (runs(100.0, 0.001, 10), runs(103.0, 0.001, 10));
    let found = JUDGE.compare(&figure(Better::Lower, a), &figure(Better::Lower, b));
    assert_eq!(found.verdict, Verdict::Same);
    assert!(found.interval.unwrap().low > 1.02);
    // It is beyond the noise all the same, for who asks.
    assert!((found.worse_by(Better::Lower).unwrap() - 0.03).abs() < 0.002);
    assert_eq!(found.worse_by(Better::Higher), None);
}

#[test]
fn noise_makes_a_difference_unclear_and_more_runs_tell() {
    let (a, b) = (runs(100.0, 0.8, 10), runs(110.0, 0.8, 10));
    let Verdict::Unclear { runs: Some(enough) } = verdict(Better::Lower, a, b) else {
        panic!("so much noise tells nothing")
    };
    assert!((20..500).contains(&enough), "{enough}");
    let [a, b] = [100.0, 110.0].map(|middle| runs(middle, 0.8, u32::try_from(enough).unwrap() * 2));
    assert_eq!(verdict(Better::Lower, a, b), Verdict::Worse);
}

#[test]
fn too_few_runs_tell_nothing_and_the_least_number_is_named() {
    let few = || [runs(100.0, 0.01, 3), runs(500.0, 0.01, 3)];
    let [a, b] = few();
    assert_eq!(verdict(Better::Lower, a, b), Verdict::Unclear { runs: Some(5) });
    let [a, b] = few().map(|values| figure(Better::Lower, values));
    let found = JUDGE.compare(&a, &b);
    assert_eq!((found.interval, found.worse_by(Better::Lower)), (None, None));
    assert!((found.ratio.unwrap() - 5.0).abs() < 1e-9);
}

#[test]
fn extremes_alone_tell_large_differences() {
    let old = |median: f64, nr| {
        let (min, max) = (median * 0.9, median * 1.1);
        Values::Runs { median, min, max, nr, samples: vec![] }
    };
    assert_eq!(verdict(Better::Lower, old(100.0, Some(9)), old(150.0, Some(9))), Verdict::Worse);
    let near = verdict(Better::Lower, old(100.0, Some(9)), old(110.0, Some(9)));
    assert!(matches!(near, Verdict::Unclear { runs: Some(10..) }), "{near:?}");
    let unknown = verdict(Better::Lower, old(100.0, None), old(150.0, None));
    assert_eq!(unknown, Verdict::Unclear { runs: Some(5) });
    // One old report is enough to have no runs to compare.
    let mixed = verdict(Better::Lower, old(100.0, Some(9)), runs(150.0, 0.1, 9));
    assert_eq!(mixed, Verdict::Worse);
}

#[test]
fn exact_values_have_no_noise_and_single_ones_no_verdict() {
    let exact = |a, b| verdict(Better::Higher, Values::Exact(a), Values::Exact(b));
    assert_eq!(
        [exact(7.0, 7.0), exact(7.0, 8.0), exact(7.0, 6.0), exact(0.0, 1.0), exact(0.0, 0.0)],
        [Verdict::Same, Verdict::Better, Verdict::Worse, Verdict::Better, Verdict::Same]
    );
    assert_eq!(verdict(Better::Lower, Values::Once(1.0), Values::Once(9.0)), Verdict::Once);
    let lost = JUDGE.compare(
        &figure(Better::Higher, Values::Exact(5.0)),
        &figure(Better::Higher, Values::Exact(0.0)),
    );
    assert_eq!((lost.ratio, lost.worse_by(Better::Higher)), (None, Some(f64::INFINITY)));
}

#[test]
fn values_that_are_not_positive_have_no_ratio() {
    let zeros = || runs(0.0, 0.0, 9);
    assert_eq!(verdict(Better::Lower, zeros(), zeros()), Verdict::Same);
    // Their ranks tell which is better.
    assert_eq!(verdict(Better::Lower, zeros(), runs(1.0, 0.1, 9)), Verdict::Worse);
    assert_eq!(verdict(Better::Lower, runs(1.0, 0.1, 9), zeros()), Verdict::Better);
    assert_eq!(verdict(Better::Lower, runs(-1.0, 0.0, 9), runs(1.0, 0.1, 9)), Verdict::Worse);
    let few = verdict(Better::Higher, runs(1.0, 0.1, 4), runs(0.0, 0.0, 4));
    assert_eq!(few, Verdict::Unclear { runs: Some(5) });
}

#[test]
fn a_stall_is_worse_and_one_stalled_run_is_not() {
    let rates = |nr_stalled: usize| {
        let mut samples: Vec<f64> = (0..15).map(|run| 1000.0 + f64::from(run)).collect();
        samples[..nr_stalled].fill(0.0);
        let (median, max) = (samples[if nr_stalled > 7 { 0 } else { 7 }], samples[14]);
        let values = Values::Runs { median, min: samples[0], max, nr: Some(15), samples };
        figure(Better::Higher, values)
    };
    let found = |nr_stalled| JUDGE.compare(&rates(0), &rates(nr_stalled));
    assert_eq!(found(15).verdict, Verdict::Worse);
    assert_eq!(found(15).worse_by(Better::Higher), Some(f64::INFINITY));
    assert_eq!(found(12).verdict, Verdict::Worse);
    assert_eq!(found(1).verdict, Verdict::Unclear { runs: None });
    assert_eq!(found(1).worse_by(Better::Higher), None);
    assert_eq!(JUDGE.compare(&rates(15), &rates(0)).verdict, Verdict::Better);
}

#[test]
fn figures_with_too_few_runs_cannot_differ() {
    let of = |nr| figure(Better::Lower, runs(1.0, 0.1, nr));
    assert!(JUDGE.has_too_few_runs(&of(4), &of(4)));
    assert!(!JUDGE.has_too_few_runs(&of(5), &of(5)));
    let [exact, once] = [Values::Exact(1.0), Values::Once(1.0)].map(|v| figure(Better::Lower, v));
    assert!(!JUDGE.has_too_few_runs(&exact, &exact) && !JUDGE.has_too_few_runs(&once, &once));
}

#[test]
fn exact_values_differ_by_the_threshold() {
    let exact = |a, b| verdict(Better::Higher, Values::Exact(a), Values::Exact(b));
    assert_eq!(exact(100_000.0, 99_999.0), Verdict::Same);
    let [a, b] = [100.0, 98.0].map(|value| figure(Better::Higher, Values::Exact(value)));
    let found = JUDGE.compare(&a, &b);
    assert!((found.worse_by(Better::Higher).unwrap() - 0.02).abs() < 0.001);
    assert_eq!(found.worse_by(Better::Lower), None);
    assert_eq!(exact(100_000.0, 94_000.0), Verdict::Worse);
    assert_eq!(exact(100_000.0, 106_000.0), Verdict::Better);
}

#[test]
fn noise_between_processes_widens_intervals_and_more_runs_do_not_help() {
    let [a, b] = [100.0, 120.0].map(|middle| figure(Better::Lower, runs(middle, 0.04, 10)));
    let narrow = JUDGE.compare(&a, &b).interval.unwrap();
    let wide = |between| Judge { between, ..JUDGE }.compare(&a, &b);
    let interval = wide(1.1).interval.unwrap();
    assert!((interval.low * 1.1 - narrow.low).abs() < 1e-9);
    assert!((interval.high / 1.1 - narrow.high).abs() < 1e-9);
    assert_eq!(wide(1.1).verdict, Verdict::Worse);
    assert_eq!(wide(1.3).verdict, Verdict::Unclear { runs: None });
    assert_eq!(wide(1.3).worse_by(Better::Lower), None);
}
