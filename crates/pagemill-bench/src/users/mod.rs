//! Users of pages: what the way in which they take pages from the allocator changes for them.
//!
//! Each user does its real work, a packet, a request, a read, an object, with pages that are taken in three
//! ways; see [`Arm`]. All ways take turns within a run. A result is the CPU time that the user itself
//! spends on one operation, all its threads together, and the share of the allocator in it: so a gain is
//! one of the user, not of the allocator alone.

mod arm;
mod fault_around;
mod fault_costs;
mod fault_move;
mod kinds;
mod page_pool;
mod pages;
mod pressure;
mod readahead;
mod receive_ring;
mod request;
mod sample;
mod sender;
mod slab;
mod user;

use core::time::Duration;

use pagemill::units::CpuId;

pub use self::arm::Arm;
pub use self::fault_costs::FaultRow;
pub use self::kinds::{USERS, UserKind};
pub use self::pressure::HeldRow;
pub use self::sample::Sample;
pub use self::user::{Setup, Start, User};
use crate::Clock;
use crate::bulk::results::Spread;
use crate::frames::Frames;

/// The parameters of the benchmark.
#[derive(Clone, Debug)]
pub struct UsersExperiment {
    /// Number of measurements of each user and arm.
    pub runs: usize,
    /// Approximate duration of each measurement; zero for the shortest one, as a trial.
    pub slice: Duration,
    /// Names of the users to measure, of those in [`USERS`].
    pub users: Vec<&'static str>,
    /// The folder for the file that readahead reads.
    pub folder: std::path::PathBuf,
    /// The CPU of the user.
    pub cpu: CpuId,
    /// The CPU of the peer that it talks to.
    pub peer_cpu: CpuId,
}

/// What one operation of a user costs, by [`Arm`].
#[derive(Clone, Debug)]
pub struct UserRow {
    /// The user.
    pub kind: &'static UserKind,
    /// Nanoseconds of CPU time per operation.
    pub cpu_ns: [Spread; Arm::ALL.len()],
    /// Nanoseconds of them in calls to the page allocator.
    pub alloc_ns: [Spread; Arm::ALL.len()],
    /// Operations per second of time.
    pub per_s: [Spread; Arm::ALL.len()],
    /// Relative gain in CPU time over single pages in the same run: by bulk, by a block.
    pub cpu_gain: [Spread; 2],
    /// Relative gain in operations per second over single pages in the same run: by bulk, by a block.
    pub rate_gain: [Spread; 2],
}

/// All results.
#[derive(Clone, Debug, Default)]
pub struct UsersFindings {
    /// The users that were measured.
    pub rows: Vec<UserRow>,
    /// Names of those that were not, and why.
    pub skipped: Vec<(&'static str, String)>,
    /// What pages cost that are supplied without the allocator; none if no fault-around is measured.
    pub faults: Vec<FaultRow>,
    /// Pages that idle users hold; none if only some users are measured.
    pub held: Vec<HeldRow>,
}

impl UserRow {
    /// Returns the share of the page allocator in the CPU time.
    pub fn share(&self, arm: Arm) -> f64 {
        self.alloc_ns[arm.index()].median / self.cpu_ns[arm.index()].median
    }

    fn of(kind: &'static UserKind, samples: &[Vec<Sample>; Arm::ALL.len()], clock: Clock) -> Self {
        let spreads = |figure: &dyn Fn(&Sample) -> f64| {
            samples.each_ref().map(|samples| Spread::of(samples.iter().map(figure)))
        };
        let gains = |figure: &dyn Fn(&Sample) -> f64| {
            [Arm::Bulk, Arm::Block].map(|arm| {
                let pairs = samples[Arm::Single.index()].iter().zip(&samples[arm.index()]);
                Spread::of(pairs.map(|(single, other)| figure(single) / figure(other) - 1.0))
            })
        };
        Self {
            kind,
            cpu_ns: spreads(&Sample::cpu_ns),
            alloc_ns: spreads(&|sample| sample.alloc_ns(clock)),
            per_s: spreads(&|sample| 1e9 / sample.wall_ns()),
            cpu_gain: gains(&Sample::cpu_ns),
            rate_gain: gains(&Sample::wall_ns),
        }
    }
}

impl UsersFindings {
    /// Returns every cost with its name.
    pub fn figures(&self) -> impl Iterator<Item = (String, Spread)> + '_ {
        self.rows.iter().flat_map(|row| {
            Arm::ALL.map(|arm| {
                let name = format!("{} {}", row.kind.name, arm.name());
                (name, row.cpu_ns[arm.index()].clone())
            })
        })
    }
}

impl UsersExperiment {
    /// Returns how many steps [`run`](Self::run) reports at most.
    pub fn nr_steps(&self) -> usize {
        self.users.len() * self.runs
    }

    /// Measures the users one after the other, and calls `step` after each run of a user.
    ///
    /// # Errors
    /// If a thread cannot be bound to its CPU, the arena runs out of pages, or the system refuses what a
    /// user needs after it has started.
    pub fn run(
        &self,
        frames: Frames,
        clock: Clock,
        mut step: impl FnMut(),
    ) -> anyhow::Result<UsersFindings> {
        pagemill_host::machine::Cpus::pin_to(self.cpu)?;
        let setup = Setup {
            frames,
            clock,
            folder: self.folder.clone(),
            peer_cpu: self.peer_cpu,
            is_trial: self.slice.is_zero(),
        };
        let mut findings = UsersFindings::default();
        for kind in USERS.iter().filter(|kind| self.users.contains(&kind.name)) {
            match (kind.start)(&setup)? {
                Start::Skipped(reason) => findings.skipped.push((kind.name, reason)),
                Start::Ready(user) => {
                    let samples = self.samples(user, &mut step)?;
                    findings.rows.push(UserRow::of(kind, &samples, clock));
                }
            }
        }
        if self.users.iter().any(|name| name.starts_with("fault-")) {
            let skipped = &mut findings.skipped;
            findings.faults = fault_costs::measure(&setup, self.runs, self.slice, skipped)?;
        }
        if self.users.len() == USERS.len() {
            findings.held = pressure::measure(frames)?;
        }
        Ok(findings)
    }

    fn samples(
        &self,
        mut user: Box<dyn User>,
        step: &mut impl FnMut(),
    ) -> anyhow::Result<[Vec<Sample>; Arm::ALL.len()]> {
        let mut samples = [const { Vec::new() }; Arm::ALL.len()];
        for run in 0..=self.runs {
            for arm in Arm::ALL {
                let sample = user.measure(arm, self.slice)?;
                // The first run is a warm-up.
                if run > 0 {
                    samples[arm.index()].push(sample);
                }
            }
            if run > 0 {
                step();
            }
        }
        user.finish()?;
        Ok(samples)
    }
}
