//! The circumstances of an experiment, which every report begins with.

use pagemill_host::arena::ArenaKind;
use pagemill_host::machine::Machine;

use crate::size::Size;
use crate::{Clock, Experiment};

/// The circumstances of an experiment, without which its figures say little.
#[derive(Debug)]
pub struct Context<E = Experiment> {
    /// Where it ran.
    pub machine: Machine,
    /// What it was timed with.
    pub clock: Clock,
    /// How much memory pages were allocated from.
    pub arena: Size,
    /// What kind of memory it is.
    pub arena_kind: ArenaKind,
    /// Pages that the list of a CPU holds at most.
    pub pcp_high: usize,
    /// Pages that it fetches from the zone at a time, at first.
    pub pcp_batch: usize,
    /// What was measured, and how often.
    pub experiment: E,
}

#[cfg(test)]
pub(crate) mod samples {
    //! Circumstances that are the same on every machine, for the tests of reports.

    use core::time::Duration;

    use pagemill::units::CpuId;
    use pagemill_host::ArenaConfig;
    use pagemill_host::arena::{Arena, HugePages};

    use super::*;
    use crate::Shape;

    /// Returns the circumstances of the results in [`results`](crate::bulk::results::samples).
    pub(crate) fn context() -> Context {
        let arena = ArenaConfig { huge: HugePages::Never, ..ArenaConfig::new(4096) };
        Context {
            machine: Machine { cpu_model: Some("Mill 1".to_owned()), ..Machine::default() },
            clock: Clock::detect(),
            arena: Size::of(64 << 20),
            arena_kind: Arena::map(&arena).unwrap().kind(),
            pcp_high: 32,
            pcp_batch: 8,
            experiment: Experiment {
                shapes: Shape::ALL.to_vec(),
                sizes: vec![1, 8, 64],
                runs: 9,
                slice: Duration::from_millis(10),
                cpus: vec![CpuId::new(0), CpuId::new(3)],
                burst_pages: 4096,
            },
        }
    }
}
