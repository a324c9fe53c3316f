//! Report of `bench pool`, as a table and as JSON.

use core::fmt::{self, Display};

use serde::Serialize;

use super::context::Context;
use super::json::{self, JsonHead, JsonSpread};
use crate::document::rounded;
use crate::pool::paths::{Path, PathRow};
use crate::pool::{Case, Found, PoolFindings, PoolRow, Way, cost_at_gain};
use crate::{PoolExperiment, Spread};

/// Version of the JSON schema; raised when a field is renamed or removed.
const SCHEMA_VERSION: u32 = 1;

/// A gain below this is hardly worth its code.
const SMALL_GAIN: f64 = 0.05;

/// The contents of both text and JSON.
#[derive(Debug)]
pub struct PoolReport {
    /// The circumstances.
    pub context: Context<PoolExperiment>,
    /// The results.
    pub findings: PoolFindings,
}

impl PoolReport {
    /// Returns everything as JSON.
    ///
    /// # Errors
    /// None known: all numbers and texts can be written.
    pub fn to_json(&self) -> anyhow::Result<String> {
        let experiment = &self.context.experiment;
        let at_small_gain = cost_at_gain(&self.findings.rows, SMALL_GAIN);
        let document = Document {
            head: JsonHead::of(&self.context, SCHEMA_VERSION, "bench pool"),
            runs: experiment.runs,
            slice_ms: experiment.slice.as_millis(),
            driver_cpu: experiment.driver_cpu.value(),
            stack_cpu: experiment.stack_cpu.value(),
            rows: self.findings.rows.iter().flat_map(json_rows).collect(),
            gains: self.findings.rows.iter().map(JsonGain::of).collect(),
            packet_ns_at_5_percent: at_small_gain.map(|(ns, _)| rounded(ns)),
            paths: self.findings.paths.iter().map(JsonPath::of).collect(),
        };
        json::text(&document)
    }

    /// Summarises the result.
    fn sentence(&self) -> Option<String> {
        let held = self.findings.rows.iter().find(|row| row.case == Case::Hold)?;
        let falls = match cost_at_gain(&self.findings.rows, SMALL_GAIN) {
            Some((ns, Found::Between)) => format!("falls to 5 % where a packet costs {ns:.0} ns"),
            Some((ns, Found::Beyond)) => {
                format!("falls to 5 % where a packet costs {ns:.0} ns, beyond what was measured")
            }
            None => "is below 5 % everywhere".to_owned(),
        };
        let cpu = if self.context.experiment.has_one_cpu() { "the same" } else { "another" };
        Some(format!(
            "On this machine, where packets are held and their pages freed on {cpu} CPU, bulk \
             refill moves {:.1} % more packets a second than single pages ({:.1} against {:.1} \
             Mpps) as long as packets cost nothing else; the gain {falls}.",
            100.0 * held.gain.median,
            1e3 / held.cost_ns(Way::Bulk),
            1e3 / held.cost_ns(Way::Single),
        ))
    }
}

impl Display for PoolReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PoolExperiment { runs, driver_cpu, stack_cpu, .. } = &self.context.experiment;
        self.context.circumstances(f)?;
        writeln!(f, "driver   a ring of 1024, polls of 64, on CPU {driver_cpu}")?;
        let same = if stack_cpu == driver_cpu { "the same " } else { "" };
        writeln!(
            f,
            "stack    frees what it held on {same}CPU {stack_cpu}, while the driver waits\n\n\
             ns per packet, millions of packets per second, and the share that refilling the\n\
             ring takes; medians of {runs} runs. The gain is of packets per second, within a\n\
             run: median and spread."
        )?;
        writeln!(
            f,
            "{:<8} {:>4} | {:^20} | {:^20} | {:^20} | {:^23}",
            "packets", "work", "single", "bulk", "limit", "bulk gains"
        )?;
        for row in &self.findings.rows {
            write!(f, "{:<8} {:>4}", row.case.name(), row.work_ns)?;
            for way in Way::ALL {
                let (ns, share) = (row.cost_ns(way), 100.0 * row.share(way));
                write!(f, " | {ns:>7.2} {:>6.2} {share:>3.0} %", 1e3 / ns)?;
            }
            let Spread { median, min, max, .. } = row.gain;
            let [median, min, max] = [median, min, max].map(|gain| 100.0 * gain);
            writeln!(f, " | {median:>6.1} % [{min:>5.1}..{max:<5.1}]")?;
        }
        writeln!(f, "\nA page by itself, allocation plus return: ns, median and spread.")?;
        for PathRow { path, ns } in &self.findings.paths {
            writeln!(f, "{:<22} {:>7.2} [{:.2}..{:.2}]", path.name(), ns.median, ns.min, ns.max)?;
        }
        self.sentence().map_or(Ok(()), |sentence| writeln!(f, "\n{sentence}"))
    }
}

#[derive(Debug, Serialize)]
struct Document {
    #[serde(flatten)]
    head: JsonHead,
    runs: usize,
    slice_ms: u128,
    driver_cpu: u32,
    stack_cpu: u32,
    rows: Vec<JsonRow>,
    gains: Vec<JsonGain>,
    packet_ns_at_5_percent: Option<f64>,
    paths: Vec<JsonPath>,
}

/// One source of pages in one case.
#[derive(Debug, Serialize)]
struct JsonRow {
    packets: &'static str,
    work_ns: u32,
    way: &'static str,
    ns: JsonSpread,
    mpps: f64,
    refill_share: f64,
}

/// The gain of bulk in one case.
#[derive(Debug, Serialize)]
struct JsonGain {
    packets: &'static str,
    work_ns: u32,
    gain: JsonSpread,
}

#[derive(Debug, Serialize)]
struct JsonPath {
    path: &'static str,
    returned_at_once: usize,
    ns: JsonSpread,
}

fn json_rows(row: &PoolRow) -> impl Iterator<Item = JsonRow> + '_ {
    Way::ALL.into_iter().zip(&row.ns).map(|(way, ns)| JsonRow {
        packets: row.case.name(),
        work_ns: row.work_ns,
        way: way.name(),
        ns: JsonSpread::of(ns),
        mpps: rounded(1e3 / ns.median),
        refill_share: rounded(row.share(way)),
    })
}

impl JsonGain {
    fn of(row: &PoolRow) -> Self {
        Self { packets: row.case.name(), work_ns: row.work_ns, gain: JsonSpread::of(&row.gain) }
    }
}

impl JsonPath {
    fn of(row: &PathRow) -> Self {
        let (path, returned_at_once) = match row.path {
            Path::Fast => ("fast", 1),
            Path::Ring => ("ring", 1),
            Path::RingBulk => ("ring", 64),
            Path::Slow => ("slow", 1),
            Path::SlowBulk => ("slow", 64),
            Path::Limit => ("limit", 1),
        };
        Self { path, returned_at_once, ns: JsonSpread::of(&row.ns) }
    }
}
