//! Report of `bench nfs`, as tables and as JSON.

use core::fmt::{self, Display};

use hdrhistogram::Histogram;
use pagemill_host::machine::Machine;
use serde::Serialize;

use super::json::{self, JsonSpread};
use crate::document::{COMMIT, JsonMachine, rounded};
use crate::nfs::NfsRow;
use crate::{NfsExperiment, Spread};

/// Version of the JSON schema; raised when a field is renamed or removed.
const SCHEMA_VERSION: u32 = 1;

/// The contents of both text and JSON.
#[derive(Debug)]
pub struct NfsReport {
    /// The machine.
    pub machine: Machine,
    /// The parameters of the experiment.
    pub experiment: NfsExperiment,
    /// The results, by load, then by server.
    pub rows: Vec<NfsRow>,
}

impl NfsReport {
    /// Returns everything as JSON.
    ///
    /// # Errors
    /// None known: all numbers and texts can be written.
    pub fn to_json(&self) -> anyhow::Result<String> {
        let document = Document {
            schema_version: SCHEMA_VERSION,
            pagemill_version: env!("CARGO_PKG_VERSION"),
            commit: COMMIT,
            debug_build: cfg!(debug_assertions),
            command: "bench nfs",
            machine: self.machine.clone().into(),
            rounds: self.experiment.rounds,
            time_ms: self.experiment.time.as_millis(),
            file_bytes: self.experiment.file_bytes,
            verified: self.experiment.verify,
            rows: self.rows.iter().map(JsonRow::of).collect(),
        };
        json::text(&document)
    }

    fn line(f: &mut fmt::Formatter<'_>, width: usize, row: &NfsRow) -> fmt::Result {
        let stream = row.workload.is_stream();
        let rate = if stream { &row.mib_per_s } else { &row.calls_per_s };
        let cpu = if stream { &row.cpu_s_per_gib } else { &row.cpu_us_per_call };
        let Spread { median, min, max, .. } = rate;
        write!(f, "  {:width$} | {median:>9.0} {min:>9.0} {max:>9.0} |", row.server)?;
        match cpu {
            Some(Spread { median, min, max, .. }) => {
                write!(f, " {median:>8.3} {min:>8.3} {max:>8.3} |")?;
            }
            None => write!(f, " {:>8} {:>8} {:>8} |", "-", "-", "-")?,
        }
        for quantile in QUANTILES {
            write!(f, " {:>8.0}", microseconds(&row.latency, quantile))?;
        }
        match row.peak_mib {
            Some(peak) => writeln!(f, " | {peak:>7.1} |"),
            None => writeln!(f, " | {:>7} |", "-"),
        }
    }
}

/// The reported quantiles of the latency.
const QUANTILES: [f64; 4] = [0.5, 0.99, 0.999, 1.0];

impl Display for NfsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NfsExperiment { rounds, time, file_bytes, verify, .. } = self.experiment;
        let cpu = self.machine.cpu_model.as_deref().unwrap_or("of an unknown model");
        writeln!(f, "machine  {cpu}")?;
        writeln!(
            f,
            "load     {rounds} rounds of {} ms on each server in turn; files of {} MiB together",
            time.as_millis(),
            file_bytes >> 20,
        )?;
        if verify {
            writeln!(f, "         all data was compared, which takes time of its own")?;
        }
        writeln!(f, "Medians with the smallest and the largest round. A load is named by its")?;
        writeln!(f, "connections and the calls under way on each.")?;
        let width = self.rows.iter().map(|row| row.server.len()).max().unwrap_or(0);
        for (index, row) in self.rows.iter().enumerate() {
            if index == 0 || self.rows[index - 1].workload != row.workload {
                let (rate, cost) = match row.workload.is_stream() {
                    true => ("MiB/s", "CPU s per GiB"),
                    false => ("calls/s", "CPU us per call"),
                };
                writeln!(f, "\n{}", row.workload.name())?;
                write!(f, "  {:width$} | {rate:^29} | {cost:^26} |", "")?;
                writeln!(
                    f,
                    " {:>8} {:>8} {:>8} {:>8} | MiB RSS |",
                    "p50 us", "p99", "p99.9", "max"
                )?;
            }
            Self::line(f, width, row)?;
        }
        Ok(())
    }
}

fn microseconds(latency: &Histogram<u64>, quantile: f64) -> f64 {
    latency.value_at_quantile(quantile) as f64 / 1e3
}

#[derive(Debug, Serialize)]
struct Document {
    schema_version: u32,
    pagemill_version: &'static str,
    commit: Option<&'static str>,
    debug_build: bool,
    command: &'static str,
    machine: JsonMachine,
    rounds: usize,
    time_ms: u128,
    file_bytes: u64,
    verified: bool,
    rows: Vec<JsonRow>,
}

/// One load on one server.
#[derive(Debug, Serialize)]
struct JsonRow {
    load: String,
    server: String,
    block_bytes: usize,
    connections: usize,
    depth: usize,
    calls_per_s: JsonSpread,
    mib_per_s: JsonSpread,
    cpu_us_per_call: Option<JsonSpread>,
    cpu_s_per_gib: Option<JsonSpread>,
    peak_mib: Option<f64>,
    latency_us: JsonLatency,
}

impl JsonRow {
    fn of(row: &NfsRow) -> Self {
        let [p50, p99, p999, max] = QUANTILES.map(|part| microseconds(&row.latency, part));
        Self {
            load: row.workload.name(),
            server: row.server.clone(),
            block_bytes: row.workload.block,
            connections: row.workload.connections,
            depth: row.workload.depth,
            calls_per_s: JsonSpread::of(&row.calls_per_s),
            mib_per_s: JsonSpread::of(&row.mib_per_s),
            cpu_us_per_call: row.cpu_us_per_call.as_ref().map(JsonSpread::of),
            cpu_s_per_gib: row.cpu_s_per_gib.as_ref().map(JsonSpread::of),
            peak_mib: row.peak_mib.map(rounded),
            latency_us: JsonLatency { calls: row.latency.len(), p50, p99, p999, max },
        }
    }
}

/// Latency of the calls in microseconds, with an error of up to 1 %.
#[derive(Debug, Serialize)]
struct JsonLatency {
    calls: u64,
    p50: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::nfs::pipe::empty_histogram;
    use crate::nfs::{Operation, Workload};

    fn report() -> NfsReport {
        let spread = |middle: f64| Spread::of([middle / 2.0, middle, middle * 2.0]);
        let row = |workload: Workload, server: &str, known: bool| {
            let mut latency = empty_histogram();
            (1..=1000).for_each(|us| latency.saturating_record(us * 1000));
            NfsRow {
                workload,
                server: server.to_owned(),
                calls_per_s: spread(1000.0),
                mib_per_s: spread(500.0),
                cpu_us_per_call: known.then(|| spread(9.0)),
                cpu_s_per_gib: (known && workload.block > 0).then(|| spread(0.5)),
                peak_mib: known.then_some(60.25),
                latency,
            }
        };
        let loads =
            [Workload::stream(Operation::Read, 1, 4), Workload::calls(Operation::Getattr, 4, 8)];
        NfsReport {
            machine: Machine { cpu_model: Some("Mill 1".to_owned()), ..Machine::default() },
            experiment: NfsExperiment {
                workloads: loads.to_vec(),
                rounds: 3,
                time: Duration::from_secs(1),
                file_bytes: 256 << 20,
                verify: false,
            },
            rows: loads
                .iter()
                .flat_map(|&load| [row(load, "mine", true), row(load, "sink", false)])
                .collect(),
        }
    }

    #[test]
    fn people_get_a_table_for_each_load() {
        let text = report().to_string();
        assert!(text.contains("\nread 1M 1x4\n") && text.contains("\ngetattr 4x8\n"), "{text}");
        let lines: Vec<&str> = text.lines().filter(|line| line.contains('|')).collect();
        assert_eq!(lines.len(), 2 * 3, "{text}");
        assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{text}");
        let words = |line: &str| line.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(
            words(lines[1]),
            "mine | 500 250 1000 | 0.500 0.250 1.000 | 502 991 999 1004 | 60.2 |"
        );
        assert!(words(lines[4]).starts_with("mine | 1000 500 2000 | 9.000"), "{text}");
        assert!(words(lines[5]).contains("| - - - |"), "{text}");
    }

    #[test]
    fn programs_get_every_row() {
        let document: serde_json::Value =
            serde_json::from_str(&report().to_json().unwrap()).unwrap();
        assert_eq!(document["command"], "bench nfs");
        assert_eq!(document["file_bytes"], 256 << 20);
        let rows = document["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 4);
        assert_eq!(rows[0]["load"], "read 1M 1x4");
        assert_eq!(rows[0]["cpu_s_per_gib"]["median"], 0.5);
        assert_eq!(rows[0]["latency_us"]["calls"], 1000);
        assert!(rows[1]["peak_mib"].is_null() && rows[2]["cpu_s_per_gib"].is_null());
    }
}
