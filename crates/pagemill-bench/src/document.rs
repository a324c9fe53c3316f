//! Objects that the JSON documents of all commands share: the machine, and the allocator's memory.

use pagemill_host::arena::{ArenaKind, ArenaPages, Backing};
use pagemill_host::machine::Machine;
use serde::Serialize;

/// The commit that the program was built from, if the variable `PAGEMILL_COMMIT` named it then:
/// `PAGEMILL_COMMIT=$(git describe --always --dirty) cargo build --release`.
///
/// A build script that asked git would make builds of one source differ.
pub const COMMIT: Option<&str> = option_env!("PAGEMILL_COMMIT");

/// The machine, under the names of [`Machine`].
#[derive(Debug, Serialize)]
pub struct JsonMachine {
    cpu_model: Option<String>,
    nr_cpus: Option<u32>,
    kernel_release: Option<String>,
    governor: Option<String>,
    transparent_huge_pages: Option<String>,
    nr_hugepages: Option<u64>,
    memory_bytes: Option<u64>,
    rseq: Option<bool>,
}

impl From<Machine> for JsonMachine {
    fn from(machine: Machine) -> Self {
        Self {
            cpu_model: machine.cpu_model,
            nr_cpus: machine.nr_cpus,
            kernel_release: machine.kernel_release,
            governor: machine.governor,
            transparent_huge_pages: machine.transparent_huge_pages,
            nr_hugepages: machine.nr_hugepages,
            memory_bytes: machine.memory_bytes,
            rseq: machine.rseq,
        }
    }
}

/// The memory of the allocator.
#[derive(Debug, Serialize)]
pub struct JsonArena {
    len_bytes: u64,
    kind: JsonKind,
}

#[derive(Debug, Serialize)]
struct JsonKind {
    backing: &'static str,
    pages: &'static str,
    prefaulted: bool,
    locked: bool,
}

impl JsonArena {
    /// Describes an arena.
    pub fn of(len_bytes: u64, kind: ArenaKind) -> Self {
        let backing = match kind.backing {
            Backing::Anonymous => "anonymous",
            Backing::Memfd => "memfd",
            _ => "unknown",
        };
        let pages = match kind.pages {
            ArenaPages::Base => "base",
            ArenaPages::Transparent => "transparent",
            ArenaPages::HugeTlb => "hugetlb",
            _ => "unknown",
        };
        let ArenaKind { prefaulted, locked, .. } = kind;
        Self { len_bytes, kind: JsonKind { backing, pages, prefaulted, locked } }
    }
}

/// Rounds to a picosecond, below which nothing here can be measured.
pub fn rounded(ns: f64) -> f64 {
    (ns * 1e3).round() / 1e3
}
