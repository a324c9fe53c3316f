//! Benchmark of bulk allocation against single pages.
//!
//! An [`Experiment`](experiment::Experiment) is a list of cells: one shape, one operation, one batch
//! size each. Its runs take turns over all cells. In each, the
//! [`BenchThreads`](bench_threads::BenchThreads) carry out one [`Task`](task::Task) at the same time,
//! and their samples become a [`Row`](results::Row).
//!
//! Measured times, in ns per page:
//!
//! - *burst*: allocates tens of thousands of pages, then frees them; the two halves separately, and
//!   their sum.
//! - *ping*, sum: many rounds of (allocate N, free N), with the clock read only before and after all.
//! - *ping*, halves: groups of batches of up to 512 pages together, and no more than the CPU's list
//!   holds. First the group's allocations are timed, then its frees. Reading the clock around each call
//!   would cost more than the call. For the CPU's list this is another pattern than that of the sum (it
//!   is emptied by up to 512 pages rather than by N), so the halves need not add up to the sum.
//! - *limit*: copies N handles of 8 bytes from one array in the cache to another, and back.
//!
//! The cost of reading the clock is measured first and subtracted from each interval.

pub mod bench_threads;
pub mod copies;
pub mod experiment;
pub mod results;
pub mod task;
pub mod workload;
