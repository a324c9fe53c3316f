//! Reports: tables for people, JSON for programs, plots.

pub(crate) mod json;
pub(crate) mod svg;
pub(crate) mod table;

use pagemill::units::CpuId;
use pagemill_host::machine::Machine;
use serde::Serialize;

use crate::runner::Entry;
use crate::scenario::Plan;

/// The circumstances of a run, which its figures depend on.
#[derive(Debug, Serialize)]
pub(crate) struct Context {
    /// The machine, in one line.
    pub(crate) machine: String,
    /// Its load before the run, over one, five and fifteen minutes.
    pub(crate) load: String,
    /// The CPUs of the threads.
    pub(crate) cpus: Vec<u32>,
    /// Pages of each peer.
    pub(crate) nr_pages: usize,
    /// Seed of the random choices.
    pub(crate) seed: u64,
    /// Duration of one measurement in milliseconds.
    pub(crate) slice_ms: u128,
    /// The peers.
    pub(crate) peers: Vec<Participant>,
}

/// A peer of the run.
#[derive(Debug, Serialize)]
pub(crate) struct Participant {
    /// The name.
    pub(crate) name: &'static str,
    /// How it was called.
    pub(crate) note: &'static str,
}

impl Context {
    /// Detects the circumstances of a run that is about to begin.
    pub(crate) fn detect(plan: &Plan, cpus: &[CpuId], entries: &[Entry]) -> Self {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            machine: Machine::detect().to_string(),
            load: load.split_whitespace().take(3).collect::<Vec<_>>().join(" "),
            cpus: cpus.iter().map(|cpu| cpu.value()).collect(),
            nr_pages: plan.nr_pages,
            seed: plan.seed,
            slice_ms: plan.slice.as_millis(),
            peers: entries
                .iter()
                .map(|&Entry { name, note, .. }| Participant { name, note })
                .collect(),
        }
    }
}

#[cfg(test)]
pub(crate) mod samples {
    //! Circumstances and figures that are the same on every machine.

    use super::*;
    use crate::rows::{Key, Rows};

    /// Returns circumstances.
    pub(crate) fn context() -> Context {
        let peers = ["limit", "mutex-vec"].map(|name| Participant { name, note: "a stack" });
        Context {
            machine: "Mill 1".to_owned(),
            load: "0 0 0".to_owned(),
            cpus: vec![0, 1],
            nr_pages: 64,
            seed: 1,
            slice_ms: 1,
            peers: peers.into(),
        }
    }

    /// Returns figures of each scenario.
    pub(crate) fn rows() -> Rows {
        let mut rows = Rows::default();
        for peer in ["limit", "mutex-vec"] {
            for (scenario, n, what, unit) in [
                ("steady", 1, "both", "ns/page"),
                ("steady", 64, "both", "ns/page"),
                ("pair", 64, "ratio", "ratio"),
                ("handover", 64, "passed", "Mpages/s"),
                ("drain", 64, "alloc", "ns/page"),
                ("aged", 64, "alloc", "ns/page"),
            ] {
                for figure in [2.0, 1.0, 4.0] {
                    rows.add(Key { scenario, peer, n, what, unit }, figure);
                }
            }
        }
        let (scenario, peer, n) = ("blocks", "offset-allocator", 60);
        rows.add(Key { scenario, peer, n, what: "run", unit: "blocks" }, 60.0);
        rows
    }
}
