//! Summary of `bench bulk` in one sentence.

use core::fmt::Write as _;

use crate::{Operation, Results, Row, Shape};

/// The batch size of the summary, if it was measured: one poll of a network device.
const BATCH: usize = 64;

/// Returns the cost of a page in bulk and one at a time, its distance from the limit, and the same for
/// pages that come from the zone.
pub fn bulk(results: &Results) -> String {
    let Some(n) = batch(results) else { return String::new() };
    let comparisons = results.shapes().filter_map(|shape| Comparison::find(results, shape, n));
    let mut sentence = String::new();
    for Comparison { shape, bulk, single } in comparisons {
        let verdict = verdict(bulk, single);
        if sentence.is_empty() {
            let whence = match shape {
                Shape::Ping => "",
                Shape::Burst => ", through the zone,",
            };
            write!(
                sentence,
                "On this machine a page{whence} costs {bulk:.1} ns (allocation plus free) in bulk \
                 of {n} and {single:.1} ns one at a time: bulk {verdict}"
            )
        } else {
            write!(
                sentence,
                "; through the zone it is {bulk:.1} ns against {single:.1} ns: bulk {verdict}"
            )
        }
        .expect("a string takes every text");
    }
    if let Some(limit) = results.limit(n).filter(|_| !sentence.is_empty()) {
        let ns = limit.ns.median;
        write!(sentence, "; the limit, copying the handles, is {ns:.1} ns.")
            .expect("a string takes every text");
    }
    sentence
}

/// Returns the batch size of the summary: 64, else the next smaller one, else the smallest.
fn batch(results: &Results) -> Option<usize> {
    let smaller = results.sizes().filter(|&n| n <= BATCH).max();
    smaller.or_else(|| results.sizes().min())
}

/// Costs of bulk and single pages, in ns per page.
struct Comparison {
    shape: Shape,
    bulk: f64,
    single: f64,
}

impl Comparison {
    fn find(results: &Results, shape: Shape, n: usize) -> Option<Self> {
        let cost = |operation| results.row(shape, operation, n).map(cost);
        let (bulk, single) = (cost(Operation::Array)?, cost(Operation::Single)?);
        Some(Self { shape, bulk, single })
    }
}

fn cost(row: &Row) -> f64 {
    row.both.median
}

/// Describes the effect of bulk on the cost of a page.
fn verdict(bulk: f64, single: f64) -> String {
    let saved = saved_percent(bulk, single);
    if saved < 0.0 { format!("costs {:.0} % more", -saved) } else { format!("saves {saved:.0} %") }
}

/// Returns the share of `single` that `bulk` saves, in percent.
pub fn saved_percent(bulk: f64, single: f64) -> f64 {
    if single > 0.0 { (1.0 - bulk / single) * 100.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bulk::results::samples;

    #[test]
    fn both_shapes_and_the_limit_are_in_one_sentence() {
        assert_eq!(
            bulk(&samples::results()),
            "On this machine a page costs 2.3 ns (allocation plus free) in bulk of 64 and 22.0 ns \
             one at a time: bulk saves 90 %; through the zone it is 6.3 ns against 26.0 ns: \
             bulk saves 76 %; the limit, copying the handles, is 0.5 ns."
        );
    }

    #[test]
    fn one_shape_alone_says_where_the_pages_come_from() {
        let mut results = samples::results();
        results.rows.retain(|row| row.shape == Shape::Burst);
        let sentence = bulk(&results);
        assert!(sentence.starts_with("On this machine a page, through the zone, costs 6.3 ns"));
        assert_eq!(sentence.matches("zone").count(), 1);
    }

    #[test]
    fn bulk_that_costs_more_is_not_called_a_saving() {
        let mut results = samples::results();
        results.rows.retain(|row| row.shape == Shape::Ping && row.n == 1);
        results.limit.retain(|row| row.n == 1);
        for row in results.rows.iter_mut().filter(|row| row.operation == Operation::Array) {
            row.both.median = 33.0;
        }
        assert!(
            bulk(&results).contains("bulk of 1 and 22.0 ns one at a time: bulk costs 50 % more")
        );
    }

    #[test]
    fn nothing_is_said_about_nothing() {
        assert_eq!(bulk(&Results::default()), "");
    }
}
