//! Report of `bench users`, as tables, sentences and JSON.

use core::fmt::{self, Display};

use serde::Serialize;

use super::context::Context;
use super::json::{self, JsonHead, JsonSpread};
use crate::document::rounded;
use crate::users::{Arm, FaultRow, HeldRow, UserRow, UsersFindings};
use crate::{Spread, UsersExperiment};

/// Version of the JSON schema; raised when a field is renamed or removed.
const SCHEMA_VERSION: u32 = 1;

/// The contents of both text and JSON.
#[derive(Debug)]
pub struct UsersReport {
    /// The circumstances.
    pub context: Context<UsersExperiment>,
    /// The results.
    pub findings: UsersFindings,
}

/// The arms that are compared with single pages, with their places in [`UserRow::cpu_gain`].
const OTHERS: [(usize, Arm); 2] = [(0, Arm::Bulk), (1, Arm::Block)];

impl UsersReport {
    /// Returns everything as JSON.
    ///
    /// # Errors
    /// None known: all numbers and texts can be written.
    pub fn to_json(&self) -> anyhow::Result<String> {
        let experiment = &self.context.experiment;
        let document = Document {
            head: JsonHead::of(&self.context, SCHEMA_VERSION, "bench users"),
            runs: experiment.runs,
            slice_ms: experiment.slice.as_millis(),
            cpu: experiment.cpu.value(),
            peer_cpu: experiment.peer_cpu.value(),
            rows: self.findings.rows.iter().flat_map(json_rows).collect(),
            gains: self.findings.rows.iter().flat_map(json_gains).collect(),
            faults: self.findings.faults.iter().map(JsonFault::of).collect(),
            held: self.findings.held.iter().map(JsonHeld::of).collect(),
            skipped: self
                .findings
                .skipped
                .iter()
                .map(|(user, reason)| JsonSkipped { user, reason: reason.clone() })
                .collect(),
        };
        json::text(&document)
    }
}

impl Display for UsersReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let UsersExperiment { runs, cpu, peer_cpu, .. } = &self.context.experiment;
        let rows = &self.findings.rows;
        self.context.circumstances(f)?;
        writeln!(f, "users    on CPU {cpu}, their peers on CPU {peer_cpu}")?;
        writeln!(
            f,
            "\nCPU time of the user for one operation, in us, and the share of the page allocator\n\
             in it: medians of {runs} runs, in which the three ways take turns.\n\n\
             {:<16} | {:^17} | {:^17} | {:^17}",
            "user", "single", "bulk", "block"
        )?;
        for row in rows {
            write!(f, "{:<16}", row.kind.name)?;
            for arm in Arm::ALL {
                let us = row.cpu_ns[arm.index()].median / 1e3;
                write!(f, " | {us:>8.3} {:>6.2} %", 100.0 * row.share(arm))?;
            }
            writeln!(f)?;
        }
        writeln!(
            f,
            "\nGain over single pages within a run, in %: median and spread.\n\n\
             {:<16} | {:^21} | {:^21} | {:^21}",
            "user", "bulk: CPU time", "bulk: throughput", "block: CPU time"
        )?;
        for row in rows {
            write!(f, "{:<16}", row.kind.name)?;
            for gain in [&row.cpu_gain[0], &row.rate_gain[0], &row.cpu_gain[1]] {
                let [median, min, max] = [gain.median, gain.min, gain.max].map(|gain| 100.0 * gain);
                write!(f, " | {median:>6.1} [{min:>5.1}..{max:<5.1}]")?;
            }
            writeln!(f)?;
        }
        writeln!(f)?;
        rows.iter().try_for_each(|row| writeln!(f, "{}", sentence(row)))?;
        if !self.findings.faults.is_empty() {
            writeln!(
                f,
                "\nPages that are supplied without the page allocator: CPU time in us, median and spread.\n"
            )?;
            writeln!(f, "{:<16} | {:^26} | {:>11}", "way", "one page", "pages per s")?;
        }
        for row in &self.findings.faults {
            let [median, min, max] =
                [row.cpu_ns.median, row.cpu_ns.min, row.cpu_ns.max].map(|ns| ns / 1e3);
            let per_s = row.per_s.median;
            writeln!(
                f,
                "{:<16} | {median:>8.4} [{min:>6.4}..{max:<6.4}] | {per_s:>11.0}",
                row.way
            )?;
        }
        if !self.findings.held.is_empty() {
            writeln!(
                f,
                "\nPages of idle users, before and after others take all the memory that they can get.\n"
            )?;
            writeln!(f, "{:<16} | {:>8} | {:>8} | shrinker", "user", "before", "after")?;
        }
        for row in &self.findings.held {
            let shrinker = if row.has_shrinker { "yes" } else { "no" };
            writeln!(f, "{:<16} | {:>8} | {:>8} | {shrinker}", row.user, row.before, row.after)?;
        }
        for (user, reason) in &self.findings.skipped {
            writeln!(f, "SKIPPED: {user}: {reason}")?;
        }
        Ok(())
    }
}

/// Says what a user gains.
fn sentence(row: &UserRow) -> String {
    let [bulk, block] = OTHERS.map(|(place, _)| verdict(&row.cpu_gain[place]));
    let share = 100.0 * row.share(Arm::Single);
    format!(
        "{}, per {}: single pages take {share:.2} % of the CPU time; bulk {bulk}, a block {block}.",
        row.kind.name, row.kind.operation
    )
}

/// Says whether there is a gain: by a sign test over the runs, at 95 %.
fn verdict(gain: &Spread) -> String {
    let percent = 100.0 * gain.median;
    let nr_up = gain.samples.iter().filter(|gain| **gain > 0.0).count();
    let nr_down = gain.samples.iter().filter(|gain| **gain < 0.0).count();
    let (nr, least) = (nr_up + nr_down, nr_up.min(nr_down));
    if nr < RUNS_MIN {
        format!("needs {RUNS_MIN} runs or more to tell")
    } else if sign_test(nr, least) > 0.05 {
        "makes no difference beyond the noise".to_owned()
    } else if nr_up > nr_down {
        format!("gains {percent:.1} %")
    } else {
        format!("loses {:.1} %", -percent)
    }
}

/// Fewest runs that can differ significantly: if all six agree, p is 0.03.
const RUNS_MIN: usize = 6;

/// Returns the probability that the rarer of two equally likely signs comes up at most `least` times of
/// `nr`, or the other one does.
fn sign_test(nr: usize, least: usize) -> f64 {
    let mut ways = 1.0;
    let mut sum = 0.0;
    for count in 0..=least {
        sum += ways;
        ways *= (nr - count) as f64 / (count + 1) as f64;
    }
    (2.0 * sum / 2_f64.powf(nr as f64)).min(1.0)
}

#[derive(Debug, Serialize)]
struct Document {
    #[serde(flatten)]
    head: JsonHead,
    runs: usize,
    slice_ms: u128,
    cpu: u32,
    peer_cpu: u32,
    rows: Vec<JsonRow>,
    gains: Vec<JsonGain>,
    faults: Vec<JsonFault>,
    held: Vec<JsonHeld>,
    skipped: Vec<JsonSkipped>,
}

/// One user with one arm.
#[derive(Debug, Serialize)]
struct JsonRow {
    user: &'static str,
    operation: &'static str,
    arm: &'static str,
    pages_per_operation: f64,
    cpu_ns: JsonSpread,
    alloc_ns: JsonSpread,
    per_s: JsonSpread,
    alloc_share: f64,
}

/// The gain of one arm over single pages.
#[derive(Debug, Serialize)]
struct JsonGain {
    user: &'static str,
    arm: &'static str,
    cpu_gain: JsonSpread,
    rate_gain: JsonSpread,
}

/// What a page costs that is supplied without the page allocator.
#[derive(Debug, Serialize)]
struct JsonFault {
    way: &'static str,
    cpu_ns: JsonSpread,
    per_s: JsonSpread,
}

impl JsonFault {
    fn of(row: &FaultRow) -> Self {
        let [cpu_ns, per_s] = [&row.cpu_ns, &row.per_s].map(JsonSpread::of);
        Self { way: row.way, cpu_ns, per_s }
    }
}

/// Pages that an idle user holds.
#[derive(Debug, Serialize)]
struct JsonHeld {
    user: &'static str,
    has_shrinker: bool,
    pages_before: u64,
    pages_after: u64,
}

impl JsonHeld {
    fn of(row: &HeldRow) -> Self {
        Self {
            user: row.user,
            has_shrinker: row.has_shrinker,
            pages_before: row.before,
            pages_after: row.after,
        }
    }
}

#[derive(Debug, Serialize)]
struct JsonSkipped {
    user: &'static str,
    reason: String,
}

fn json_rows(row: &UserRow) -> impl Iterator<Item = JsonRow> + '_ {
    Arm::ALL.into_iter().map(|arm| JsonRow {
        user: row.kind.name,
        operation: row.kind.operation,
        arm: arm.name(),
        pages_per_operation: row.kind.nr_pages,
        cpu_ns: JsonSpread::of(&row.cpu_ns[arm.index()]),
        alloc_ns: JsonSpread::of(&row.alloc_ns[arm.index()]),
        per_s: JsonSpread::of(&row.per_s[arm.index()]),
        alloc_share: rounded(row.share(arm)),
    })
}

fn json_gains(row: &UserRow) -> impl Iterator<Item = JsonGain> + '_ {
    OTHERS.into_iter().map(|(place, arm)| JsonGain {
        user: row.kind.name,
        arm: arm.name(),
        cpu_gain: JsonSpread::of(&row.cpu_gain[place]),
        rate_gain: JsonSpread::of(&row.rate_gain[place]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gain_counts_if_enough_runs_agree() {
        let runs = |nr_up, nr_down| {
            let up = core::iter::repeat_n(0.02, nr_up);
            Spread::of(up.chain(core::iter::repeat_n(-0.02, nr_down)))
        };
        assert_eq!(verdict(&runs(6, 0)), "gains 2.0 %");
        assert_eq!(verdict(&runs(0, 6)), "loses 2.0 %");
        assert_eq!(verdict(&runs(12, 3)), "gains 2.0 %");
        assert_eq!(verdict(&runs(11, 4)), "makes no difference beyond the noise");
        assert_eq!(verdict(&runs(5, 0)), "needs 6 runs or more to tell");
    }

    #[test]
    fn the_sign_test_equals_the_table() {
        for (nr, least, p) in [(6, 0, 0.031_25), (10, 1, 0.021_5), (15, 3, 0.035_2), (4, 2, 1.0)] {
            assert!((sign_test(nr, least) - p).abs() < 1e-4, "{nr} {least}");
        }
    }
}
