//! Bulk allocation against single pages.
//!
//! An [`Experiment`](experiment::Experiment) is a list of cells: one shape, one operation, one batch size each. Its runs
//! take turns over all cells; in each, a [`BenchThreads`](bench_threads::BenchThreads) of threads carries out one
//! [`Task`](task::Task) at the same time, and what they report becomes a [`Row`](results::Row).
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

pub mod bench_threads;
pub mod experiment;
pub mod results;
pub mod task;
pub mod workload;
