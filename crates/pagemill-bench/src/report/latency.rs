//! Report of `bench latency`, as a table and as JSON.

use core::fmt::{self, Display};

use serde::Serialize;

use super::context::Context;
use super::json::{self, JsonHead};
use crate::document::rounded;
use crate::latency::calls::{Company, HoldRow, LatencyRow};
use crate::latency::holds::Held;
use crate::latency::waits::Percentiles;
use crate::{Clock, LatencyExperiment};

/// Version of the JSON schema; raised when a field is renamed or removed.
const SCHEMA_VERSION: u32 = 1;

/// The contents of both text and JSON.
#[derive(Debug)]
pub struct LatencyReport {
    /// The circumstances.
    pub context: Context<LatencyExperiment>,
    /// The results.
    pub rows: Vec<LatencyRow>,
    /// The hold times of locks.
    pub holds: Vec<HoldRow>,
    /// The longest time in ticks that a thread lost without being preempted.
    pub gap: u64,
}

impl LatencyReport {
    /// Returns everything as JSON.
    ///
    /// # Errors
    /// None known: all numbers and texts can be written.
    pub fn to_json(&self) -> anyhow::Result<String> {
        let experiment = &self.context.experiment;
        let document = Document {
            head: JsonHead::of(&self.context, SCHEMA_VERSION, "bench latency"),
            time_ms: experiment.time.as_millis(),
            probe_cpu: experiment.probe_cpu.value(),
            other_cpu: experiment.other_cpu.map(|cpu| cpu.value()),
            probe_pages: experiment.probe_pages,
            hog_pages: experiment.hog_pages,
            rows: self.rows.iter().zip(&self.holds).map(|pair| self.json_row(pair)).collect(),
            quiet_gap_ns: rounded(self.gap_ns()),
        };
        json::text(&document)
    }

    fn json_row(&self, (row, HoldRow { holds, .. }): (&LatencyRow, &HoldRow)) -> JsonRow {
        let clock = self.context.clock;
        JsonRow {
            company: row.company.name(),
            single: JsonWaits::of(row.single.percentiles(clock)),
            locked: JsonWaits::of(row.locked.percentiles(clock)),
            locked_calm_max_ns: row.calm_max_ns(clock).map(rounded),
            zone_holds: JsonHolds::of(&holds.zone, clock),
            lists_holds: JsonHolds::of(&holds.lists, clock),
            hog_calls: row.hog.calls,
            hog_call_ns: row.hog.mean_ns(clock).map(rounded),
        }
    }

    /// Summarises the result in one sentence.
    fn sentence(&self) -> Option<String> {
        let clock = self.context.clock;
        let find = |company| self.rows.iter().find(|row| row.company == company);
        let alone = find(Company::Alone)?;
        let beside = find(Company::OtherCpu).or_else(|| find(Company::SameCpu))?;
        let held = &self.holds.iter().find(|row| row.company == beside.company)?.holds.zone;
        let p999 = |row: &LatencyRow| row.single.percentiles(clock).p999;
        let us = |ns: f64| format!("{:.1} us", ns / 1e3);
        let calm = held.calm_max_ns(clock).map_or_else(|| "an unknown time".to_owned(), us);
        let Percentiles { p999: held_p999, max: held_max, .. } = held.all.percentiles(clock);
        Some(format!(
            "On this machine 99.9 % of single pages take at most {:.0} ns alone and {:.0} ns beside a \
             {}, which asks for {} pages a call; there the zone lock was held for at most {} in 99.9 % \
             of all cases, {} at the longest, and {calm} while its holder had the CPU, where a thread \
             that does nothing was stopped for up to {}.",
            p999(alone),
            p999(beside),
            beside.company,
            self.context.experiment.hog_pages,
            us(held_p999),
            us(held_max),
            us(self.gap_ns()),
        ))
    }
}

impl Display for LatencyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LatencyExperiment { probe_cpu, other_cpu, hog_pages, probe_pages, .. } =
            self.context.experiment;
        self.context.circumstances(f)?;
        writeln!(f, "probe    up to {probe_pages} pages at a time, on CPU {probe_cpu}")?;
        write!(f, "hog      {hog_pages} pages in one call, all returned in one, ")?;
        match other_cpu {
            Some(cpu) => writeln!(f, "on CPU {cpu} and then {probe_cpu}")?,
            None => writeln!(f, "on CPU {probe_cpu}: there is no other")?,
        }
        writeln!(
            f,
            "\nns per call, within 1 %.\n\
             single: the allocation of a page; locked: that of a block of 16 pages, or its\n\
             release, which take the zone lock each time.\n\
             calm: the longest of these in rounds in which the probe was not switched out.\n"
        )?;
        write!(f, "{:19}", "")?;
        for kind in ["single", "locked"] {
            write!(f, " | {kind:^44}")?;
        }
        writeln!(f, " {:9} | {:^16} |", "", "hog")?;
        write!(f, "{:19}", "")?;
        for _ in 0..2 {
            write!(f, " | {:>6} {:>7} {:>8} {:>10} {:>9}", "p50", "p99", "p99.9", "max", "calls")?;
        }
        writeln!(f, " {:>9} | {:>7} {:>8} |", "calm", "calls", "ms each")?;
        self.rows.iter().try_for_each(|row| self.line(f, row))?;
        self.hold_table(f)?;
        self.sentence().map_or(Ok(()), |sentence| writeln!(f, "\n{sentence}"))
    }
}

impl LatencyReport {
    /// Returns the longest time that a thread lost without being preempted, in ns.
    fn gap_ns(&self) -> f64 {
        self.context.clock.net_ns(self.gap, 1)
    }

    /// Writes the hold times of locks.
    fn hold_table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\nns per hold, by probe and hog together, in turns of their own.\n\
             out: holds during which the holder was switched out; calm: the longest other.\n\
             A hold of the lists contains the wait for the zone, whose holder may be out."
        )?;
        writeln!(
            f,
            "A thread that only reads the clock lost up to {:.0} ns at a time without being switched out.",
            self.gap_ns()
        )?;
        writeln!(f)?;
        write!(f, "{:19}", "")?;
        for kind in ["zone lock", "lists of a CPU"] {
            write!(f, " | {kind:^61}")?;
        }
        writeln!(f, " |")?;
        write!(f, "{:19}", "")?;
        for _ in 0..2 {
            write!(f, " | {:>6} {:>7} {:>8} {:>10}", "p50", "p99", "p99.9", "max")?;
            write!(f, " {:>9} {:>5} {:>10}", "calm", "out", "holds")?;
        }
        writeln!(f, " |")?;
        for HoldRow { company, holds } in &self.holds {
            write!(f, "{company:19}")?;
            for held in [&holds.zone, &holds.lists] {
                let clock = self.context.clock;
                let Percentiles { calls, p50, p99, p999, max } = held.all.percentiles(clock);
                write!(f, " | {p50:>6.0} {p99:>7.0} {p999:>8.0} {max:>10.0}")?;
                match held.calm_max_ns(clock) {
                    Some(ns) => write!(f, " {ns:>9.0}")?,
                    None => write!(f, " {:>9}", "-")?,
                }
                write!(f, " {:>5} {calls:>10}", held.nr_switched)?;
            }
            writeln!(f, " |")?;
        }
        Ok(())
    }

    fn line(&self, f: &mut fmt::Formatter<'_>, row: &LatencyRow) -> fmt::Result {
        let clock = self.context.clock;
        write!(f, "{:19}", row.company)?;
        for waits in [&row.single, &row.locked] {
            let Percentiles { calls, p50, p99, p999, max } = waits.percentiles(clock);
            write!(f, " | {p50:>6.0} {p99:>7.0} {p999:>8.0} {max:>10.0} {calls:>9}")?;
        }
        match row.calm_max_ns(clock) {
            Some(ns) => write!(f, " {ns:>9.0}")?,
            None => write!(f, " {:>9}", "-")?,
        }
        match row.hog.mean_ns(clock) {
            Some(ns) => writeln!(f, " | {:>7} {:>8.3} |", row.hog.calls, ns / 1e6),
            None => writeln!(f, " | {:>7} {:>8} |", row.hog.calls, "-"),
        }
    }
}

#[derive(Debug, Serialize)]
struct Document {
    #[serde(flatten)]
    head: JsonHead,
    time_ms: u128,
    probe_cpu: u32,
    other_cpu: Option<u32>,
    probe_pages: usize,
    hog_pages: usize,
    rows: Vec<JsonRow>,
    quiet_gap_ns: f64,
}

/// The calls in one company.
#[derive(Debug, Serialize)]
struct JsonRow {
    company: &'static str,
    single: JsonWaits,
    locked: JsonWaits,
    locked_calm_max_ns: Option<f64>,
    zone_holds: JsonHolds,
    lists_holds: JsonHolds,
    hog_calls: u64,
    hog_call_ns: Option<f64>,
}

/// Durations of calls of one kind.
#[derive(Debug, Serialize)]
struct JsonWaits {
    calls: u64,
    p50_ns: f64,
    p99_ns: f64,
    p999_ns: f64,
    max_ns: f64,
}

impl JsonWaits {
    fn of(found: Percentiles) -> Self {
        let Percentiles { calls, p50, p99, p999, max } = found;
        let [p50_ns, p99_ns, p999_ns, max_ns] = [p50, p99, p999, max].map(rounded);
        Self { calls, p50_ns, p99_ns, p999_ns, max_ns }
    }
}

/// Hold times of one kind of lock.
#[derive(Debug, Serialize)]
struct JsonHolds {
    holds: u64,
    p50_ns: f64,
    p99_ns: f64,
    p999_ns: f64,
    max_ns: f64,
    calm_max_ns: Option<f64>,
    switched: u64,
}

impl JsonHolds {
    fn of(held: &Held, clock: Clock) -> Self {
        let JsonWaits { calls, p50_ns, p99_ns, p999_ns, max_ns } =
            JsonWaits::of(held.all.percentiles(clock));
        let calm_max_ns = held.calm_max_ns(clock).map(rounded);
        let switched = held.nr_switched;
        Self { holds: calls, p50_ns, p99_ns, p999_ns, max_ns, calm_max_ns, switched }
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use pagemill::units::CpuId;

    use super::*;
    use crate::latency::holds::Holds;
    use crate::report::context::samples;

    fn report() -> LatencyReport {
        let bulk = samples::context();
        let experiment = LatencyExperiment {
            probe_cpu: CpuId::new(0),
            other_cpu: Some(CpuId::new(3)),
            hog_pages: 4096,
            probe_pages: 512,
            time: Duration::from_secs(5),
        };
        let context = Context {
            machine: bulk.machine,
            clock: bulk.clock,
            arena: bulk.arena,
            arena_kind: bulk.arena_kind,
            pcp_high: bulk.pcp_high,
            pcp_batch: bulk.pcp_batch,
            experiment,
        };
        let mut rows: Vec<LatencyRow> =
            context.experiment.companies().into_iter().map(LatencyRow::new).collect();
        for row in &mut rows {
            (1..=1000).for_each(|ticks| row.single.note(1000 + ticks));
            row.locked.note(900_000);
        }
        let mut holds: Vec<HoldRow> = context
            .experiment
            .companies()
            .into_iter()
            .map(|company| HoldRow { company, holds: Holds::new() })
            .collect();
        for row in &mut holds {
            (0..1999).for_each(|_| row.holds.zone.note(5_000, true));
            row.holds.zone.note(9_000_000, false);
            (0..1999).for_each(|_| row.holds.lists.note(50, false));
        }
        LatencyReport { context, rows, holds, gap: 7_000 }
    }

    #[test]
    fn people_get_a_table_and_one_sentence() {
        let text = report().to_string();
        let rows: Vec<&str> = text.lines().filter(|line| line.contains('|')).collect();
        assert_eq!(rows.len(), 2 * (2 + 3), "{text}");
        for table in rows.chunks(2 + 3) {
            assert!(table.iter().all(|row| row.len() == table[0].len()), "{text}");
        }
        assert!(text.contains("on CPU 3 and then 0\n"), "{text}");
        let last = text.lines().last().unwrap();
        assert!(last.starts_with("On this machine 99.9 % of single pages take at most "), "{last}");
        assert!(last.contains("beside a hog on another CPU, which asks for 4096 pages"), "{last}");
        assert!(last.contains(" us at the longest, and "), "{last}");
        assert!(last.contains(" us while its holder had the CPU"), "{last}");
    }

    #[test]
    fn programs_get_every_company() {
        let document: serde_json::Value =
            serde_json::from_str(&report().to_json().unwrap()).unwrap();
        assert_eq!(document["command"], "bench latency");
        assert_eq!(document["other_cpu"], 3);
        let names: Vec<_> =
            document["rows"].as_array().unwrap().iter().map(|row| &row["company"]).collect();
        assert_eq!(names, ["alone", "other_cpu", "same_cpu"]);
        let single = &document["rows"][0]["single"];
        assert_eq!(single["calls"], 1000);
        assert!(single["p50_ns"].as_f64().unwrap() <= single["max_ns"].as_f64().unwrap());
        assert!(document["rows"][0]["hog_call_ns"].is_null());
        assert!(document["rows"][0]["locked_calm_max_ns"].is_null());
        let zone = &document["rows"][1]["zone_holds"];
        assert_eq!((&zone["holds"], &zone["switched"]), (&2000.into(), &1.into()));
        assert!(zone["calm_max_ns"].as_f64().unwrap() < zone["max_ns"].as_f64().unwrap());
        assert!(document["rows"][1]["lists_holds"]["calm_max_ns"].is_null());
        assert!(document["quiet_gap_ns"].as_f64().unwrap() > 0.0);
    }
}
