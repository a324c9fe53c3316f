//! Cost of single pages on each path through a pool, as in the kernel's own benchmark.
//!
//! # Source
//! `bench_page_pool` `bench_page_pool_simple.c`

use core::hint::black_box;
use core::time::Duration;

use pagemill_pool::PoolPage;
use pagemill_pool::config::PP_ALLOC_CACHE_REFILL;

use super::case::{Owner, Rx};
use crate::{Clock, Spread};

/// A path of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// From the cache, and directly back.
    Fast,
    /// Back through the ring, one page at a time.
    Ring,
    /// Back through the ring, 64 by one claim.
    RingBulk,
    /// From the page allocator by refills of 64, and back to it, one page at a time.
    Slow,
    /// From the page allocator by refills of 64, and back to it, 64 at a time.
    SlowBulk,
    /// Without a pool: a page is pushed on a stack and popped.
    Limit,
}

impl Path {
    /// Every path, in the order of reports.
    pub const ALL: [Self; 6] =
        [Self::Fast, Self::Ring, Self::RingBulk, Self::Slow, Self::SlowBulk, Self::Limit];

    /// Returns the name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Ring => "ring",
            Self::RingBulk => "ring, 64 back at once",
            Self::Slow => "slow",
            Self::SlowBulk => "slow, 64 back at once",
            Self::Limit => "limit",
        }
    }
}

/// The cost of a page on one path: allocation and return.
#[derive(Clone, Debug)]
pub struct PathRow {
    /// The path.
    pub path: Path,
    /// Nanoseconds per page.
    pub ns: Spread,
}

/// The measurements so far, by path.
#[derive(Debug, Default)]
pub struct Figures([Vec<f64>; Path::ALL.len()]);

/// Number of pages between two clock readings.
const NR: usize = 64 * 64;
const BUDGET: usize = 64;

impl Figures {
    /// Measures each path once.
    ///
    /// # Errors
    /// If there are too few pages.
    pub fn measure(
        &mut self,
        owner: &mut Owner,
        clock: Clock,
        slice: Duration,
    ) -> anyhow::Result<()> {
        owner.set_refill(PP_ALLOC_CACHE_REFILL);
        for (path, figures) in Path::ALL.into_iter().zip(&mut self.0) {
            figures.push(measure(path, owner, clock, slice)?);
        }
        Ok(())
    }

    /// Returns the medians.
    pub fn rows(self) -> Vec<PathRow> {
        let row = |(path, figures): (Path, Vec<f64>)| PathRow { path, ns: Spread::of(figures) };
        Path::ALL.into_iter().zip(self.0).map(row).collect()
    }
}

fn measure(path: Path, owner: &mut Owner, clock: Clock, slice: Duration) -> anyhow::Result<f64> {
    anyhow::ensure!(owner.alloc().is_some(), "the experiment ran out of pages");
    let mut pages = Vec::with_capacity(BUDGET);
    let start = std::time::Instant::now();
    let mut ticks = Vec::new();
    while ticks.len() < 3 || start.elapsed() < slice {
        ticks.push(clock.interval(|| go(path, owner, &mut pages)));
    }
    // The median of the rounds: a round in which the thread was preempted has little effect.
    ticks.sort_unstable();
    Ok(clock.net_ns(ticks[ticks.len() / 2], 1) / NR as f64)
}

type Packet = PoolPage<Rx>;

/// Moves [`NR`] pages along a path.
fn go(path: Path, owner: &mut Owner, pages: &mut Vec<Packet>) {
    match path {
        Path::Fast => each(owner, |owner, page| owner.put(page)),
        Path::Ring => each(owner, |_, page| drop(page)),
        Path::Slow => each(owner, |_, page| drop(page.detach())),
        Path::RingBulk => {
            let returner = owner.returner();
            batches(owner, pages, |pages| returner.put_bulk(pages.drain(..)));
        }
        Path::SlowBulk => {
            let returner = owner.returner();
            batches(owner, pages, |pages| returner.release_bulk(pages.drain(..)));
        }
        Path::Limit => {
            let mut buffers = vec![0_u64; 1];
            for _ in 0..NR {
                let buffer = black_box(buffers.pop().unwrap_or_default());
                buffers.push(buffer);
            }
        }
    }
}

#[inline]
fn each(owner: &mut Owner, mut put: impl FnMut(&mut Owner, Packet)) {
    for _ in 0..NR {
        if let Some(page) = owner.alloc() {
            put(owner, black_box(page));
        }
    }
}

#[inline]
fn batches(owner: &mut Owner, pages: &mut Vec<Packet>, mut put: impl FnMut(&mut Vec<Packet>)) {
    for _ in 0..NR / BUDGET {
        pages.extend((0..BUDGET).filter_map(|_| owner.alloc()).map(black_box));
        put(pages);
    }
}
