//! NFS benchmark: puts loads on NFS servers, and measures throughput, CPU time and memory.
//!
//! One thread makes the load: it keeps calls outstanding on several connections and waits for none. It
//! avoids copies of data that it need not check: it sends data from a memfd, and drops received data in
//! the kernel. So most of the measured cost is the server's.
//!
//! Servers take turns within each round, so that a disturbance affects all alike. The [sinks](sink),
//! servers that do almost nothing, are measured with them as the limit.

pub mod client;
pub mod load;
pub mod meter;
pub mod own;
pub mod pattern;
pub mod pipe;
pub mod proto;
pub mod sink;
pub mod target;
pub mod workload;
pub mod xdr;

use core::time::Duration;
use std::os::fd::OwnedFd;

use anyhow::Context as _;
use hdrhistogram::Histogram;

use self::load::Outcome;
use self::pipe::{Pipe, empty_histogram};
use self::target::Target;
pub use self::workload::{Operation, Workload};
use crate::bulk::results::Spread;

/// The parameters of the benchmark.
#[derive(Clone, Debug)]
pub struct NfsExperiment {
    /// The loads, in the order of reports.
    pub workloads: Vec<Workload>,
    /// Number of rounds, each with every load on every server.
    pub rounds: usize,
    /// Duration of each load.
    pub time: Duration,
    /// Total bytes of the files of one load.
    pub file_bytes: u64,
    /// Whether all data is compared with the expected data.
    pub verify: bool,
}

/// One load on one server in one round.
#[derive(Clone, Debug)]
pub struct Sample {
    outcome: Outcome,
    bytes: u64,
    /// The server's CPU time, if its process is known.
    cpu: Option<Duration>,
    /// Its peak memory during the load, in KiB.
    peak_kib: Option<u64>,
}

/// All rounds of one load on one server.
#[derive(Clone, Debug)]
pub struct NfsRow {
    /// The load.
    pub workload: Workload,
    /// The server.
    pub server: String,
    /// Calls per second.
    pub calls_per_s: Spread,
    /// MiB per second.
    pub mib_per_s: Spread,
    /// Microseconds of the server's CPU time per call.
    pub cpu_us_per_call: Option<Spread>,
    /// Seconds of the server's CPU time per GiB, if the load moves data.
    pub cpu_s_per_gib: Option<Spread>,
    /// Peak memory of the server over all rounds, in MiB.
    pub peak_mib: Option<f64>,
    /// Latency of the calls in all rounds, in ns.
    pub latency: Histogram<u64>,
}

const MIB: f64 = 1024.0 * 1024.0;

impl NfsExperiment {
    /// Returns how many steps [`run`](Self::run) reports.
    pub fn nr_steps(&self, targets: &[Target]) -> usize {
        self.workloads.len() * targets.len() * self.rounds
    }

    /// Puts every load on every target, and calls `step` after each.
    ///
    /// # Errors
    /// If a server cannot be reached, refuses a call, or replies incorrectly.
    pub fn run(
        &self,
        targets: &[Target],
        source: &OwnedFd,
        mut step: impl FnMut(),
    ) -> anyhow::Result<Vec<NfsRow>> {
        let mut rows = Vec::new();
        for &workload in &self.workloads {
            let mut samples = vec![Vec::new(); targets.len()];
            for round in 0..self.rounds {
                for index in 0..targets.len() {
                    // Every second round goes backwards, so that no server always follows the same one.
                    let index = if round % 2 == 0 { index } else { targets.len() - 1 - index };
                    let target = &targets[index];
                    let sample = self.measure(target, workload, source).with_context(|| {
                        format!("{} with the server {}", workload.name(), target.name)
                    })?;
                    samples[index].push(sample);
                    step();
                }
            }
            rows.extend(
                targets.iter().zip(&samples).map(|(target, of)| NfsRow::of(workload, target, of)),
            );
        }
        for target in targets {
            target.remove_files(self.most_connections())?;
        }
        Ok(rows)
    }

    fn measure(
        &self,
        target: &Target,
        workload: Workload,
        source: &OwnedFd,
    ) -> anyhow::Result<Sample> {
        let len = self.file_len(workload);
        let files = target.files(workload.connections, len)?;
        if self.verify && workload.operation == Operation::Write && !target.is_sink() {
            let mut client = target.client()?;
            files.iter().try_for_each(|file| client.cut(&file.handle))?;
        }
        let mut pipes = Vec::new();
        let how = (workload, self.verify);
        for (number, file) in files.into_iter().enumerate() {
            let who = &target.credential;
            pipes.push(Pipe::open(target.address, how, file, who, source, number)?);
        }
        let meter = target.meter.as_ref();
        meter.inspect(|meter| meter.forget_peak());
        let before = meter.map(meter::Meter::cpu).transpose()?;
        let outcome = load::run(&mut pipes, self.time)?;
        let after = meter.map(meter::Meter::cpu).transpose()?;
        let memory = meter.map(meter::Meter::memory).transpose()?;
        if self.verify && workload.operation == Operation::Write && !target.is_sink() {
            check_written(target, &pipes)?;
        }
        Ok(Sample {
            bytes: outcome.calls * workload.block as u64,
            outcome,
            cpu: before.zip(after).map(|(before, after)| after.saturating_sub(before)),
            peak_kib: memory.flatten().map(|memory| memory.peak),
        })
    }

    /// Returns the length of each file of a load, in whole blocks.
    fn file_len(&self, workload: Workload) -> u64 {
        let block = Workload::LARGEST_BLOCK as u64;
        (self.file_bytes / workload.connections as u64).next_multiple_of(block)
    }

    /// Returns the required length of the pattern.
    pub fn source_len(&self) -> u64 {
        self.workloads.iter().map(|&workload| self.file_len(workload)).max().unwrap_or(0)
    }

    fn most_connections(&self) -> usize {
        self.workloads.iter().map(|workload| workload.connections).max().unwrap_or(0)
    }
}

impl NfsRow {
    /// Summarises the rounds of a load on a server.
    fn of(workload: Workload, target: &Target, samples: &[Sample]) -> Self {
        let spread = |figure: &dyn Fn(&Sample) -> f64| Spread::of(samples.iter().map(figure));
        let seconds = |sample: &Sample| sample.outcome.elapsed.as_secs_f64();
        let cpu = |sample: &Sample| sample.cpu.unwrap_or_default().as_secs_f64();
        let known = target.meter.is_some();
        let mut latency = empty_histogram();
        for sample in samples {
            latency.add(&sample.outcome.latency).expect("the bounds are the same");
        }
        let peak = samples.iter().filter_map(|sample| sample.peak_kib).max();
        Self {
            workload,
            server: target.name.clone(),
            calls_per_s: spread(&|sample| sample.outcome.calls as f64 / seconds(sample)),
            mib_per_s: spread(&|sample| sample.bytes as f64 / MIB / seconds(sample)),
            cpu_us_per_call: known
                .then(|| spread(&|sample| cpu(sample) * 1e6 / sample.outcome.calls as f64)),
            cpu_s_per_gib: (known && workload.block > 0)
                .then(|| spread(&|sample| cpu(sample) * 1024.0 * MIB / sample.bytes as f64)),
            peak_mib: peak.map(|kib| kib as f64 / 1024.0),
            latency,
        }
    }
}

/// Reads sequentially written data on another connection, and checks it.
fn check_written(target: &Target, pipes: &[Pipe<'_>]) -> anyhow::Result<()> {
    let mut client = target.client()?;
    for pipe in pipes {
        let covered = pipe.covered().unwrap_or_default();
        client.check(&pipe.file().handle, covered)?;
    }
    // The files are truncated and partly written now: the next load needs them whole.
    pipes.iter().try_for_each(|pipe| client.cut(&pipe.file().handle))
}

#[cfg(test)]
mod tests {
    use super::sink::Written;
    use super::*;

    fn experiment(workloads: &[Workload]) -> NfsExperiment {
        NfsExperiment {
            workloads: workloads.to_vec(),
            rounds: 2,
            time: Duration::ZERO,
            file_bytes: 8 << 20,
            verify: true,
        }
    }

    fn run(experiment: &NfsExperiment, written: Written) -> anyhow::Result<Vec<NfsRow>> {
        let len = experiment.source_len();
        let source = load::source(len)?;
        let target = Target::sink("sink", sink::start(source.try_clone()?, len, written)?);
        let targets = [target];
        let mut steps = 0;
        let rows = experiment.run(&targets, &source, || steps += 1)?;
        assert_eq!(steps, experiment.nr_steps(&targets));
        Ok(rows)
    }

    #[test]
    fn every_load_is_answered_and_counted() {
        let workloads = [
            Workload::stream(Operation::Read, 3, 2),
            Workload::stream(Operation::Write, 3, 2),
            Workload::random(Operation::Read, 2, 8),
            Workload::random(Operation::Write, 2, 8),
            Workload::calls(Operation::Getattr, 1, 1),
            Workload::calls(Operation::Null, 2, 3),
        ];
        let rows = [Written::Dropped, Written::Copied]
            .map(|written| run(&experiment(&workloads), written).unwrap());
        assert!(rows.iter().all(|rows| rows.len() == workloads.len()));
        for (row, workload) in rows.iter().flat_map(|rows| rows.iter().zip(workloads)) {
            assert_eq!((row.workload, row.server.as_str()), (workload, "sink"));
            // Each call under way at the beginning of each round, and nothing after no time.
            assert_eq!(row.latency.len(), 2 * (workload.connections * workload.depth) as u64);
            assert!(row.calls_per_s.min > 0.0);
            assert_eq!(row.mib_per_s.min > 0.0, workload.block > 0);
        }
    }

    #[test]
    fn data_that_goes_by_is_counted_too() {
        let workloads = [Workload::stream(Operation::Read, 2, 4)];
        let plain = NfsExperiment { verify: false, ..experiment(&workloads) };
        let rows = run(&plain, Written::Dropped).unwrap();
        assert_eq!(rows[0].latency.len(), 2 * 2 * 4);
    }

    #[test]
    fn wrong_data_is_noticed() {
        let experiment = experiment(&[Workload::stream(Operation::Read, 1, 1)]);
        let len = experiment.source_len();
        let zeros = std::fs::File::open("/dev/zero").unwrap();
        let address = sink::start(zeros.into(), len, Written::Dropped).unwrap();
        let target = Target::sink("sink", address);
        let source = load::source(len).unwrap();
        let error = experiment.run(&[target], &source, || {}).unwrap_err();
        assert!(format!("{error:#}").contains("at offset 0 the file has"), "{error:#}");
    }

    #[test]
    fn a_server_that_is_not_there_is_named() {
        // The port was free a moment ago, and nobody listens on it.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let experiment = experiment(&[Workload::calls(Operation::Null, 1, 1)]);
        let source = load::source(0).unwrap();
        let error = experiment.run(&[Target::sink("sink", address)], &source, || {}).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("null 1x1 with the server sink"), "{text}");
        assert!(text.contains(&format!("cannot connect to {address}")), "{text}");
    }
}
