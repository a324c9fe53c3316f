//! JSON report of `bench bulk`; also the first fields of each benchmark's report, and spreads.
//!
//! The objects for the machine and the memory are in [`document`](crate::document).
//!
//! The field names are documented in `docs/bench-json.md` and stable: fields may be added at any time,
//! and renaming, removing or changing the meaning of one raises [`SCHEMA_VERSION`].
//!
//! | field | what |
//! | --- | --- |
//! | `schema_version` | the number of this schema |
//! | `pagemill_version`, `commit`, `debug_build` | the program; figures of a debug build mean nothing |
//! | `command` | always `bench bulk` |
//! | `machine` | what is known of the machine; `null` for what is not |
//! | `arena` | `len_bytes`, and `kind`: `backing`, `pages`, `prefaulted`, `locked` |
//! | `pcp` | `high` and `batch` of a CPU's list |
//! | `clock` | `tsc_hz`, or `null` where the system's clock was used, and `overhead_ns` |
//! | `runs`, `slice_ms`, `cpus`, `burst_pages` | how the measurements were made |
//! | `limit` | for each `n`: `ns`, `ns_min`, `ns_max` |
//! | `rows` | for each cell, see `JsonRow` |

use serde::Serialize;

use super::context::Context;
use crate::document::{COMMIT, JsonArena, JsonMachine, rounded};
use crate::{LimitRow, Results, Row, Spread};

/// Version of the schema.
pub const SCHEMA_VERSION: u32 = 1;

/// Returns the results and their circumstances as JSON.
///
/// # Errors
/// None known: all numbers and texts can be written.
pub fn bulk(context: &Context, results: &Results) -> anyhow::Result<String> {
    text(&Document::of(context, results))
}

/// Returns a document as indented JSON.
///
/// # Errors
/// None known: all numbers and texts can be written.
pub fn text(document: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(document)? + "\n")
}

#[derive(Debug, Serialize)]
struct Document {
    #[serde(flatten)]
    head: JsonHead,
    runs: usize,
    slice_ms: u128,
    cpus: Vec<u32>,
    burst_pages: usize,
    limit: Vec<JsonLimit>,
    rows: Vec<JsonRow>,
}

impl Document {
    fn of(context: &Context, results: &Results) -> Self {
        let experiment = &context.experiment;
        let threads = experiment.cpus.len();
        Self {
            head: JsonHead::of(context, SCHEMA_VERSION, "bench bulk"),
            runs: experiment.runs,
            slice_ms: experiment.slice.as_millis(),
            cpus: experiment.cpus.iter().map(|cpu| cpu.value()).collect(),
            burst_pages: experiment.burst_pages,
            limit: results.limit.iter().map(JsonLimit::of).collect(),
            rows: results.rows.iter().map(|row| JsonRow::of(context, row, threads)).collect(),
        }
    }
}

/// The first fields of documents about an allocator.
#[derive(Debug, Serialize)]
pub struct JsonHead {
    schema_version: u32,
    pagemill_version: &'static str,
    commit: Option<&'static str>,
    debug_build: bool,
    command: &'static str,
    machine: JsonMachine,
    arena: JsonArena,
    pcp: JsonPcp,
    clock: JsonClock,
}

impl JsonHead {
    /// Describes the circumstances of an experiment.
    pub fn of<E>(context: &Context<E>, schema_version: u32, command: &'static str) -> Self {
        Self {
            schema_version,
            pagemill_version: env!("CARGO_PKG_VERSION"),
            commit: COMMIT,
            debug_build: cfg!(debug_assertions),
            command,
            machine: context.machine.clone().into(),
            arena: JsonArena::of(context.arena.bytes(), context.arena_kind),
            pcp: JsonPcp::of(context),
            clock: JsonClock::of(context),
        }
    }
}

/// Median, minimum and maximum of some values, and the values in the order of measurement.
#[derive(Debug, Serialize)]
pub struct JsonSpread {
    median: f64,
    min: f64,
    max: f64,
    samples: Vec<f64>,
}

impl JsonSpread {
    /// Rounds the values.
    pub fn of(spread: &Spread) -> Self {
        let [median, min, max] = figures(spread);
        Self { median, min, max, samples: samples(spread) }
    }
}

/// The sizes of a per-CPU list.
#[derive(Debug, Serialize)]
pub struct JsonPcp {
    high: usize,
    batch: usize,
}

impl JsonPcp {
    /// Describes a per-CPU list.
    pub fn of<E>(context: &Context<E>) -> Self {
        Self { high: context.pcp_high, batch: context.pcp_batch }
    }
}

/// The clock.
#[derive(Debug, Serialize)]
pub struct JsonClock {
    tsc_hz: Option<u64>,
    overhead_ns: f64,
}

impl JsonClock {
    /// Describes the clock and the cost of reading it.
    pub fn of<E>(context: &Context<E>) -> Self {
        let clock = context.clock;
        Self { tsc_hz: clock.tsc_hz(), overhead_ns: rounded(clock.overhead_ns()) }
    }
}

#[derive(Debug, Serialize)]
struct JsonLimit {
    n: usize,
    ns: f64,
    ns_min: f64,
    ns_max: f64,
    ns_samples: Vec<f64>,
}

impl JsonLimit {
    fn of(row: &LimitRow) -> Self {
        let [ns, ns_min, ns_max] = figures(&row.ns);
        Self { n: row.n, ns, ns_min, ns_max, ns_samples: samples(&row.ns) }
    }
}

/// One cell; times are in ns per page and thread, medians of the runs with minimum and maximum.
///
/// `cycles` are ticks of the time stamp counter, `null` if that is not the clock. In the shape `ping`,
/// `both` is measured separately and need not be the sum of the halves.
#[derive(Debug, Serialize)]
struct JsonRow {
    shape: &'static str,
    op: &'static str,
    n: usize,
    threads: usize,
    alloc_ns: f64,
    alloc_ns_min: f64,
    alloc_ns_max: f64,
    free_ns: f64,
    free_ns_min: f64,
    free_ns_max: f64,
    both_ns: f64,
    both_ns_min: f64,
    both_ns_max: f64,
    alloc_cycles: Option<f64>,
    free_cycles: Option<f64>,
    both_cycles: Option<f64>,
    alloc_ns_samples: Vec<f64>,
    free_ns_samples: Vec<f64>,
    both_ns_samples: Vec<f64>,
}

impl JsonRow {
    fn of(context: &Context, row: &Row, threads: usize) -> Self {
        let [alloc_ns, alloc_ns_min, alloc_ns_max] = figures(&row.alloc);
        let [free_ns, free_ns_min, free_ns_max] = figures(&row.free);
        let [both_ns, both_ns_min, both_ns_max] = figures(&row.both);
        let cycles = |spread: &Spread| context.clock.cycles(spread.median).map(rounded);
        Self {
            shape: row.shape.name(),
            op: row.operation.name(),
            n: row.n,
            threads,
            alloc_ns,
            alloc_ns_min,
            alloc_ns_max,
            free_ns,
            free_ns_min,
            free_ns_max,
            both_ns,
            both_ns_min,
            both_ns_max,
            alloc_cycles: cycles(&row.alloc),
            free_cycles: cycles(&row.free),
            both_cycles: cycles(&row.both),
            alloc_ns_samples: samples(&row.alloc),
            free_ns_samples: samples(&row.free),
            both_ns_samples: samples(&row.both),
        }
    }
}

/// Returns median, minimum and maximum.
fn figures(spread: &Spread) -> [f64; 3] {
    [spread.median, spread.min, spread.max].map(rounded)
}

/// Returns the values in the order of measurement.
fn samples(spread: &Spread) -> Vec<f64> {
    spread.samples.iter().copied().map(rounded).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::bulk::results;
    use crate::report::context::samples;

    #[test]
    fn every_cell_has_its_figures_under_the_promised_names() {
        let context = samples::context();
        let text = bulk(&context, &results::samples::results()).unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(document["schema_version"], 1);
        assert_eq!(document["machine"]["cpu_model"], "Mill 1");
        assert_eq!(document["machine"]["governor"], Value::Null);
        assert_eq!(document["arena"]["kind"]["pages"], "base");
        assert_eq!(document["cpus"], serde_json::json!([0, 3]));
        let rows = document["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 18);
        let row = rows.iter().find(|row| row["shape"] == "burst" && row["op"] == "list").unwrap();
        assert_eq!(row["n"], 1);
        assert_eq!(row["threads"], 2);
        assert_eq!(row["alloc_ns"], 15.0);
        assert_eq!(row["free_ns_min"], 13.5);
        assert_eq!(row["both_ns_max"], 36.0);
        assert_eq!(row["alloc_cycles"].is_number(), context.clock.tsc_hz().is_some());
        assert_eq!(row["free_ns_samples"], serde_json::json!([18.0, 15.0, 13.5]));
        assert_eq!(document["limit"][0]["ns"], 2.0);
        assert_eq!(document["limit"][0]["ns_samples"], serde_json::json!([2.4, 2.0, 1.8]));
    }
}
