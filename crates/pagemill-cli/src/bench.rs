//! The measuring of allocation: in bulk, after churn, beside a hog, by a server.
//!
//! [`frag`], [`latency`], [`nfs`] and [`refill`] say for themselves what they do; the rest is about
//! bulk against single pages.
//!
//! An [`Experiment`] is a list of cells: one shape, one operation, one batch size each. Its runs
//! take turns over all cells; in each, a [`Crew`](crew::Crew) of threads carries out one
//! [`Task`](task::Task) at the same time, and what they report becomes a [`Row`].
//!
//! What is timed, in ns per page:
//!
//! - *burst*: the allocation of tens of thousands of pages, then their release; the two halves
//!   apart, and their sum.
//! - *ping*, sum: many rounds of (allocate N, free N), the clock read only before and after all.
//! - *ping*, halves: groups of batches that together are up to 512 pages, and no more than the
//!   CPU's list holds: the group's allocations are timed, then its releases. A clock read around
//!   each single call would cost more than the call. For the list of the CPU this is another
//!   pattern than the sum's (it is emptied by up to 512 pages rather than by N), so the halves need
//!   not add up to the sum.
//! - *limit*: N handles of 8 bytes copied from one array in the cache to another, and back.
//!
//! The cost of reading the clock is measured beforehand and taken off each interval.

pub(crate) mod clock;
pub(crate) mod crew;
pub(crate) mod experiment;
pub(crate) mod frag;
pub(crate) mod frames;
pub(crate) mod holds;
pub(crate) mod latency;
pub(crate) mod nfs;
pub(crate) mod pool;
pub(crate) mod refill;
pub(crate) mod results;
pub(crate) mod rng;
pub(crate) mod task;
pub(crate) mod workload;

pub(crate) use clock::Clock;
pub(crate) use experiment::Experiment;
pub(crate) use frag::FragExperiment;
pub(crate) use latency::LatencyExperiment;
pub(crate) use nfs::NfsExperiment;
pub(crate) use pool::PoolExperiment;
pub(crate) use refill::RefillExperiment;
pub(crate) use results::{LimitRow, Results, Row, Spread};
pub(crate) use task::{Operation, Shape};
