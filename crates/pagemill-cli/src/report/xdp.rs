//! What moving packets came to: a line each second, and the comparison of the benchmark.

use alloc::collections::BTreeMap;
use core::fmt::{self, Display};
use core::time::Duration;

use pagemill_host::machine::Machine;
use pagemill_pool::stats::PoolStats;
use pagemill_xdp::frames::Refill;
use pagemill_xdp::headers::Malformed;
use serde::Serialize;

use crate::output::{json, one_line};
use crate::plan::xdp::{Fate, TrialConfig};
use crate::xdp::drive::Totals;
use crate::xdp::trial::{Pair, Slice, TrialResults};
use pagemill_bench::document::{JsonMachine, rounded};

/// The number of the schema of a run's JSON; it rises where a field is renamed or removed.
const RUN_SCHEMA_VERSION: u32 = 2;
/// The same of the benchmark's JSON.
const TRIAL_SCHEMA_VERSION: u32 = 1;

/// The shortest time without packets at the end of a run that is a sample of its own.
const SHORTEST_SAMPLE: Duration = Duration::from_millis(100);

/// A run, second by second.
#[derive(Debug)]
pub(crate) struct RunReport {
    fate: Fate,
    refill: Refill,
    last: Totals,
    samples: Vec<Sample>,
    /// Pages that were out of the page allocator when the page pool had ended.
    inflight: Option<i32>,
    /// What ended the run, if that was neither the time nor a signal.
    error: Option<String>,
}

/// One second, or what there is of it.
#[derive(Clone, Debug, Serialize)]
struct Sample {
    second: f64,
    in_pps: f64,
    valid_pps: f64,
    sent_pps: f64,
    lost_pps: f64,
    malformed_pps: f64,
    cpu_ns_per_packet: Option<f64>,
    alloc_share: Option<f64>,
    held_frames: usize,
    short_refills: u64,
    /// What the page pool counted, under upstream's names.
    pool: Option<Counters>,
}

/// Counters by name.
type Counters = BTreeMap<&'static str, u64>;

/// Returns what a pool counted between two moments.
fn counted(now: PoolStats, before: PoolStats) -> Counters {
    let pairs = now.counters().zip(before.counters());
    pairs.map(|((name, now), (_, before))| (name, now.wrapping_sub(before))).collect()
}

/// What a line shows of a pool.
const SHOWN: [&str; 7] = [
    "rx_pp_alloc_fast",
    "rx_pp_alloc_slow",
    "rx_pp_alloc_refill",
    "rx_pp_alloc_empty",
    "rx_pp_recycle_cached",
    "rx_pp_recycle_ring",
    "rx_pp_recycle_ring_full",
];

impl RunReport {
    /// Begins a report.
    pub(crate) fn new(fate: Fate, refill: Refill) -> Self {
        let last = Totals::default();
        Self { fate, refill, last, samples: Vec::new(), inflight: None, error: None }
    }

    /// Returns the line above the samples.
    pub(crate) fn heading(&self) -> String {
        let fate = match self.fate {
            Fate::Redirect(_) => "out Mpps",
            Fate::Drop => "drop Mpps",
            Fate::Stack(_) => "kept Mpps",
        };
        format!(
            "{:>6} {:>9} {:>9} {:>9} {:>10} {:>7} {:>7} {:>8} {:>6}\n",
            "second",
            "in Mpps",
            fate,
            "lost Mpps",
            "malformed",
            "ns/pkt",
            "alloc",
            "frames",
            "short"
        )
    }

    /// Adds what was counted since the last sample, and returns the line about it.
    pub(crate) fn sample(&mut self, totals: Totals) -> String {
        self.add(totals).to_string()
    }

    fn add(&mut self, totals: Totals) -> Sample {
        let last = core::mem::replace(&mut self.last, totals);
        let seconds = (totals.elapsed - last.elapsed).as_secs_f64().max(1e-9);
        let rate = |figure: fn(&Totals) -> u64| {
            figure(&totals).saturating_sub(figure(&last)) as f64 / seconds
        };
        let nr_packets = totals.worker.received.saturating_sub(last.worker.received);
        let cpu_ns = totals.cpu_ns.saturating_sub(last.cpu_ns) as f64;
        let alloc_ns = totals.alloc_ns.map(|ns| ns - last.alloc_ns.unwrap_or(0.0));
        let sample = Sample {
            second: rounded(totals.elapsed.as_secs_f64()),
            in_pps: rate(|totals| totals.worker.received).round(),
            valid_pps: rate(|totals| totals.worker.passed).round(),
            sent_pps: rate(|totals| totals.output.completed).round(),
            lost_pps: rate(|totals| totals.input.lost()).round(),
            malformed_pps: rate(|totals| totals.worker.malformed.total()).round(),
            cpu_ns_per_packet: (nr_packets > 0).then(|| rounded(cpu_ns / nr_packets as f64)),
            alloc_share: alloc_ns.filter(|_| cpu_ns > 0.0).map(|ns| rounded(ns / cpu_ns)),
            held_frames: totals.nr_out,
            short_refills: totals.worker.short - last.worker.short,
            pool: totals.pool.map(|now| counted(now, last.pool.unwrap_or_default())),
        };
        self.samples.push(sample.clone());
        sample
    }

    /// Ends the report. Returns the line about the time since the last sample, unless that was a moment
    /// without packets.
    pub(crate) fn end(&mut self, totals: Totals) -> Option<String> {
        let is_worth_a_line = totals.worker.received > self.last.worker.received
            || totals.elapsed.saturating_sub(self.last.elapsed) >= SHORTEST_SAMPLE;
        // With a decimal: it may be less than a second.
        let line = is_worth_a_line.then(|| format!("{:.1}", self.add(totals)));
        self.last = totals;
        line
    }

    /// Notes an error that ended the run.
    pub(crate) fn end_by(&mut self, error: &anyhow::Error) {
        self.error = Some(one_line(error));
    }

    /// Notes how many pages were out when the pool had ended.
    pub(crate) fn end_pool(&mut self, inflight: i32) {
        self.inflight = self.last.pool.map(|_there_is_one| inflight);
    }

    /// Returns everything as JSON.
    ///
    /// # Errors
    /// None that is known of: numbers and texts can all be written.
    pub(crate) fn to_json(&self) -> anyhow::Result<String> {
        let Totals { elapsed, worker, input, output, pool, .. } = &self.last;
        let malformed =
            Malformed::ALL.map(|reason| (reason.to_string(), worker.malformed.of(reason)));
        let document = RunDocument {
            schema_version: RUN_SCHEMA_VERSION,
            pagemill_version: env!("CARGO_PKG_VERSION"),
            debug_build: cfg!(debug_assertions),
            command: match self.fate {
                Fate::Redirect(_) => "xdp redirect",
                Fate::Drop => "xdp drop",
                Fate::Stack(_) => "xdp stack",
            },
            alloc: self.refill.to_string(),
            seconds: rounded(elapsed.as_secs_f64()),
            received: worker.received,
            valid: worker.passed,
            sent: output.completed,
            no_frame: input.no_frame,
            ring_full: input.ring_full,
            lost_otherwise: input.dropped + output.dropped,
            malformed_descriptors: input.malformed + output.malformed,
            malformed_packets: malformed.into_iter().collect(),
            pool: pool.map(|stats| stats.counters().collect()),
            inflight: self.inflight,
            error: self.error.as_deref(),
            samples: &self.samples,
        };
        json(&document)
    }
}

#[derive(Debug, Serialize)]
struct RunDocument<'a> {
    schema_version: u32,
    pagemill_version: &'static str,
    debug_build: bool,
    command: &'static str,
    alloc: String,
    seconds: f64,
    received: u64,
    valid: u64,
    sent: u64,
    no_frame: u64,
    ring_full: u64,
    lost_otherwise: u64,
    malformed_descriptors: u64,
    malformed_packets: BTreeMap<String, u64>,
    pool: Option<Counters>,
    inflight: Option<i32>,
    error: Option<&'a str>,
    samples: &'a [Sample],
}

impl Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mega = |pps: f64| pps / 1e6;
        let figure = |value: Option<f64>, scale: f64| match value {
            Some(value) => format!("{:.1}", value * scale),
            None => "-".to_owned(),
        };
        let digits = f.precision().unwrap_or(0);
        writeln!(
            f,
            "{:>6.digits$} {:>9.3} {:>9.3} {:>9.3} {:>10.0} {:>7} {:>6}% {:>8} {:>6}",
            self.second,
            mega(self.in_pps),
            mega(self.valid_pps),
            mega(self.lost_pps),
            self.malformed_pps,
            figure(self.cpu_ns_per_packet, 1.0),
            figure(self.alloc_share, 100.0),
            self.held_frames,
            self.short_refills,
        )?;
        let Some(pool) = &self.pool else { return Ok(()) };
        write!(f, "{:>6}", "pool")?;
        for name in SHOWN {
            let short =
                name.trim_start_matches("rx_pp_alloc_").trim_start_matches("rx_pp_recycle_");
            write!(f, "  {short} {}", pool.get(name).copied().unwrap_or(0))?;
        }
        writeln!(f)
    }
}

impl Display for RunReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals { elapsed, worker, input, output, .. } = &self.last;
        let seconds = elapsed.as_secs_f64();
        let rate = if seconds > 0.0 { worker.received as f64 / seconds / 1e6 } else { 0.0 };
        let fate = match self.fate {
            Fate::Redirect(_) => "passed on",
            Fate::Drop => "dropped",
            Fate::Stack(_) => "kept for a time",
        };
        writeln!(
            f,
            "\n{} packets in {seconds:.1} s ({rate:.3} Mpps), {} {fate}, {} malformed; lost: {} \
             for lack of frames, {} for lack of room on the ring, {} otherwise.",
            worker.received,
            worker.passed,
            worker.malformed.total(),
            input.no_frame,
            input.ring_full,
            input.dropped + output.dropped,
        )?;
        match self.inflight {
            Some(inflight) => {
                writeln!(f, "The page pool has ended with {inflight} pages in flight.")
            }
            None => Ok(()),
        }
    }
}

/// The comparison of single pages and bulk.
#[derive(Debug)]
pub(crate) struct TrialReport {
    config: TrialConfig,
    /// Places in the pool's ring, if there is a pool.
    pool_ring: Option<u32>,
    results: TrialResults,
}

/// The middle half of several figures.
#[derive(Clone, Copy, Debug, Serialize)]
struct Quartiles {
    median: f64,
    lower: f64,
    upper: f64,
    /// Half the width of the interval that has the true median with 95 % confidence, if pairs do
    /// not depend on each other.
    margin: f64,
}

impl Quartiles {
    fn of(figures: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = figures.collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| {
            let place = share * sorted.len().saturating_sub(1) as f64;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a share of the length of a slice"
            )]
            let (below, above) = (place.floor() as usize, place.ceil() as usize);
            let figure = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
            figure(below) + (figure(above) - figure(below)) * place.fract()
        };
        // The ranks that bound the median follow the binomial distribution.
        let half_width = 0.98 / (sorted.len().max(1) as f64).sqrt();
        let (low, high) = (at((0.5 - half_width).max(0.0)), at((0.5 + half_width).min(1.0)));
        Self {
            median: rounded(at(0.5)),
            lower: rounded(at(0.25)),
            upper: rounded(at(0.75)),
            margin: rounded((high - low) / 2.0),
        }
    }
}

impl Quartiles {
    /// Says so where the middle half of the figures has `none`, the figure of no difference, in it.
    fn verdict(&self, none: f64) -> &'static str {
        match self.lower <= none && none <= self.upper {
            true => "no difference within the spread: ",
            false => "",
        }
    }
}

#[derive(Debug, Serialize)]
struct TrialRow {
    alloc: &'static str,
    mpps: Quartiles,
    worker_ns: Quartiles,
    total_ns: Quartiles,
    alloc_ns: Option<Quartiles>,
    pool_slow: Option<Quartiles>,
}

#[derive(Debug, Serialize)]
struct TrialDocument {
    schema_version: u32,
    pagemill_version: &'static str,
    debug_build: bool,
    command: &'static str,
    machine: JsonMachine,
    traffic: &'static str,
    native: bool,
    packet_bytes: usize,
    hold_ms: u128,
    slice_ms: u128,
    pool_ring: Option<u32>,
    pairs: usize,
    generator_cpu: u32,
    worker_cpu: u32,
    holder_cpu: Option<u32>,
    no_frame: u64,
    ring_full: u64,
    rows: [TrialRow; 2],
    pps_ratio: Quartiles,
    cpu_ratio: Quartiles,
    worker_ns_saved: Quartiles,
    alloc_ns_saved: Option<Quartiles>,
}

impl TrialReport {
    /// Takes what was found.
    pub(crate) fn new(config: TrialConfig, pool_ring: Option<u32>, results: TrialResults) -> Self {
        Self { config, pool_ring, results }
    }

    /// Returns everything as JSON.
    ///
    /// # Errors
    /// None that is known of: numbers and texts can all be written.
    pub(crate) fn to_json(&self) -> anyhow::Result<String> {
        let Self { config, pool_ring, results } = self;
        let document = TrialDocument {
            schema_version: TRIAL_SCHEMA_VERSION,
            pagemill_version: env!("CARGO_PKG_VERSION"),
            debug_build: cfg!(debug_assertions),
            command: "xdp bench",
            machine: Machine::detect().into(),
            traffic: results.traffic,
            native: results.is_native,
            packet_bytes: config.len,
            hold_ms: config.hold.as_millis(),
            slice_ms: config.slice.as_millis(),
            pool_ring: *pool_ring,
            pairs: results.pairs.len(),
            generator_cpu: config.generator_cpu.value(),
            worker_cpu: config.worker_cpu.value(),
            holder_cpu: (!config.hold.is_zero()).then(|| config.holder_cpu.value()),
            no_frame: results.device.no_frame,
            ring_full: results.device.ring_full,
            rows: self.rows(),
            pps_ratio: self.quartiles(|pair| pair.bulk.pps / pair.single.pps),
            cpu_ratio: self.cpu_ratio(),
            worker_ns_saved: self.quartiles(|pair| pair.single.worker_ns - pair.bulk.worker_ns),
            alloc_ns_saved: self.alloc_ns_saved(),
        };
        json(&document)
    }

    fn rows(&self) -> [TrialRow; 2] {
        [("single", (|pair| pair.single) as fn(&Pair) -> Slice), ("bulk", |pair| pair.bulk)].map(
            |(alloc, side)| TrialRow {
                alloc,
                mpps: self.quartiles(|pair| side(pair).pps / 1e6),
                worker_ns: self.quartiles(|pair| side(pair).worker_ns),
                total_ns: self.quartiles(|pair| side(pair).total_ns),
                alloc_ns: self.quartiles_if(|pair| side(pair).alloc_ns),
                pool_slow: self.quartiles_if(|pair| side(pair).slow),
            },
        )
    }

    /// Packets per second of both threads' CPU time: what is left of the comparison where other
    /// processes take a share of the CPU that changes from slice to slice.
    fn cpu_ratio(&self) -> Quartiles {
        self.quartiles(|pair| pair.single.total_ns / pair.bulk.total_ns)
    }

    fn fmt_comparison(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ratio = self.quartiles(|pair| pair.bulk.pps / pair.single.pps);
        writeln!(
            f,
            "\nBulk: {}{:.3} times the packets per second of single pages (quartiles {:.3} and \
             {:.3}; the median is known within {:.3}),",
            ratio.verdict(1.0),
            ratio.median,
            ratio.lower,
            ratio.upper,
            ratio.margin,
        )?;
        let cpu = self.cpu_ratio();
        writeln!(
            f,
            "{}{:.3} times the packets per second of CPU time (quartiles {:.3} and {:.3}; within \
             {:.3});",
            cpu.verdict(1.0),
            cpu.median,
            cpu.lower,
            cpu.upper,
            cpu.margin,
        )?;
        let saved = self.quartiles(|pair| pair.single.worker_ns - pair.bulk.worker_ns);
        writeln!(
            f,
            "{}the receiver's CPU time {} by {:.1} ns a packet (within {:.1}).",
            saved.verdict(0.0),
            if saved.median < 0.0 { "rose" } else { "fell" },
            saved.median.abs(),
            saved.margin,
        )?;
        writeln!(
            f,
            "These are medians over the pairs, so they can differ from the ratios of the medians \
             above."
        )?;
        if self.config.hold.is_zero() && self.pool_ring.is_some() {
            writeln!(
                f,
                "Here pages return at once and the pool reuses them, so bulk brings nothing; with \
                 --hold 20 they do not."
            )?;
        }
        Ok(())
    }

    fn alloc_ns_saved(&self) -> Option<Quartiles> {
        self.quartiles_if(|pair| Some(pair.single.alloc_ns? - pair.bulk.alloc_ns?))
    }

    fn quartiles(&self, figure: impl Fn(&Pair) -> f64) -> Quartiles {
        Quartiles::of(self.results.pairs.iter().map(figure))
    }

    fn quartiles_if(&self, figure: impl Fn(&Pair) -> Option<f64>) -> Option<Quartiles> {
        let figures: Vec<f64> = self.results.pairs.iter().filter_map(figure).collect();
        (!figures.is_empty()).then(|| Quartiles::of(figures.into_iter()))
    }
}

impl Display for Quartiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(1);
        let Self { median, lower, upper, .. } = self;
        f.pad_integral(true, "", &format!("{median:.digits$} [{lower:.digits$}..{upper:.digits$}]"))
    }
}

impl Display for TrialReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { config, pool_ring, results } = self;
        writeln!(
            f,
            "traffic  {}, {} bytes, on CPU {}; received on CPU {}, {}",
            results.traffic,
            config.len,
            config.generator_cpu,
            config.worker_cpu,
            if results.is_native { "by the driver's XDP" } else { "by generic XDP" },
        )?;
        if !config.hold.is_zero() {
            let (hold, cpu) = (config.hold.as_millis(), config.holder_cpu);
            writeln!(f, "hold     packets are dropped every {hold} ms, by a thread on CPU {cpu}")?;
        }
        match pool_ring {
            Some(nr) => writeln!(f, "pool     a page pool with a ring of {nr}")?,
            None => writeln!(f, "pool     none: the page allocator itself")?,
        }
        let (nr, slice) = (results.pairs.len(), config.slice.as_millis());
        writeln!(f, "pairs    {nr} of two slices of {slice} ms; medians [lower..upper quartile]")?;
        let device = results.device;
        writeln!(
            f,
            "lost     {} for lack of frames (the fill ring was empty), {} for lack of room (the \
             receive ring was full)\n",
            device.no_frame, device.ring_full
        )?;
        writeln!(
            f,
            "{:8} {:>20} {:>24} {:>24} {:>22} {:>12}",
            "",
            "Mpps",
            "ns/packet, receiver",
            "ns/packet, + generator",
            "allocation and free",
            "slow/packet"
        )?;
        for row in self.rows() {
            let alloc = row.alloc_ns.map_or("-".to_owned(), |ns| format!("{ns}"));
            let slow = row.pool_slow.map_or("-".to_owned(), |slow| format!("{:.3}", slow.median));
            writeln!(
                f,
                "{:8} {:>20} {:>24} {:>24} {alloc:>22} {slow:>12}",
                row.alloc,
                format!("{:.2}", row.mpps),
                format!("{}", row.worker_ns),
                format!("{}", row.total_ns),
            )?;
        }
        self.fmt_comparison(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_are_of_the_sorted_figures() {
        let quartiles = Quartiles::of([5.0, 1.0, 2.0, 4.0, 3.0].into_iter());
        assert!((quartiles.median - 3.0).abs() < 1e-9);
        assert!((quartiles.lower - 2.0).abs() < 1e-9 && (quartiles.upper - 4.0).abs() < 1e-9);
        let many = Quartiles::of((0..10_001).map(f64::from));
        assert!((many.median - 5000.0).abs() < 1e-9);
        assert!((many.margin - 98.0).abs() < 1.0, "{many:?}");
        assert_eq!(format!("{quartiles:.0}"), "3 [2..4]");
    }

    #[test]
    fn a_difference_is_one_beyond_the_spread() {
        let quartiles = Quartiles::of([0.9, 1.0, 1.1].into_iter());
        assert!(quartiles.verdict(1.0).starts_with("no difference within the spread"));
        assert_eq!(quartiles.verdict(0.8), "");
        assert_eq!(quartiles.verdict(1.2), "");
    }

    #[test]
    fn the_last_second_has_a_line_and_a_moment_after_it_has_none() {
        let at = |millis| Totals { elapsed: Duration::from_millis(millis), ..Totals::default() };
        let mut report = RunReport::new(Fate::Drop, Refill::Bulk);
        report.sample(at(1000));
        assert_eq!(report.end(at(1001)), None);
        let line = report.end(at(1501)).unwrap();
        assert_eq!(line.split_whitespace().next(), Some("1.5"), "{line}");
        let mut last = at(1502);
        last.worker.received = 1;
        assert!(report.end(last).is_some());
    }

    #[test]
    fn packets_that_are_dropped_on_purpose_are_not_lost() {
        let mut totals = Totals { elapsed: Duration::from_secs(1), ..Totals::default() };
        (totals.worker.received, totals.worker.passed) = (7, 7);
        let mut report = RunReport::new(Fate::Drop, Refill::Bulk);
        assert!(report.heading().contains("drop Mpps"));
        report.end(totals);
        assert!(report.to_string().contains(" 7 dropped, 0 malformed; lost: 0 "), "{report}");
        let document = report.to_json().unwrap();
        for field in ["\"command\": \"xdp drop\"", "\"valid\": 7", "\"lost_otherwise\": 0"] {
            assert!(document.contains(field), "{document}");
        }
        assert!(!document.contains("\"dropped\"") && !document.contains("\"passed\""));
    }

    #[test]
    fn a_sample_is_what_was_counted_since_the_last() {
        let mut report = RunReport::new(Fate::Drop, Refill::Bulk);
        let mut totals = Totals { elapsed: Duration::from_secs(1), ..Totals::default() };
        totals.worker.received = 2_000_000;
        totals.cpu_ns = 500_000_000;
        totals.alloc_ns = Some(50_000_000.0);
        let line = report.sample(totals);
        let figures: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(figures, ["1", "2.000", "0.000", "0.000", "0", "250.0", "10.0%", "0", "0"]);
        totals.elapsed = Duration::from_secs(3);
        totals.worker.received = 3_000_000;
        assert!(report.sample(totals).contains(" 0.500 "));
        assert_eq!(report.heading().split_whitespace().count(), 12);
    }

    #[test]
    fn a_pool_has_a_line_of_its_own_under_upstream_s_names() {
        let mut report = RunReport::new(Fate::Drop, Refill::Single);
        let mut totals = Totals { elapsed: Duration::from_secs(1), ..Totals::default() };
        let mut stats = PoolStats::default();
        (stats.alloc.fast, stats.alloc.slow, stats.recycle.ring_full) = (100, 7, 1);
        totals.pool = Some(stats);
        report.sample(totals);
        totals.elapsed = Duration::from_secs(2);
        (stats.alloc.fast, stats.alloc.slow, stats.recycle.ring_full) = (150, 8, 3);
        totals.pool = Some(stats);
        let told = report.sample(totals);
        let line = told.lines().nth(1).unwrap().trim();
        let expected = "pool  fast 50  slow 1  refill 0  empty 0  cached 0  ring 0  ring_full 2";
        assert_eq!(line, expected);
        report.end_pool(0);
        let document = report.to_json().unwrap();
        assert!(document.contains("\"inflight\": 0"), "{document}");
        assert!(document.contains("\"rx_pp_alloc_slow\": 8"), "{document}");
    }
}
