//! Caches on memory of which only single pages are left, and on fresh memory.

use core::fmt::Write as _;
use core::ptr::NonNull;
use core::time::Duration;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use pagemill::{AllocPages as _, Folio, Gfp, Order, Page, PageAllocator};
use pagemill_host::{Host, HostAllocator};
use pagemill_slab::{Cache, CacheConfig, Refill, Slabs};
use rustix::time::{ClockId, clock_gettime};

use crate::count::instructions;
use crate::random::Random;
use crate::spread::Spread;

type Frames = &'static PageAllocator<Host>;

/// A cache and its memory.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Case {
    /// Bytes of an object
    size: usize,
    /// Order of a slab
    order: u8,
    /// How pages are taken
    refill: RefillName,
    /// The memory that they are taken from
    memory: Memory,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RefillName {
    Single,
    Bulk,
    Split,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Memory {
    /// Every second frame is in use.
    Fragmented,
    Fresh,
}

/// Bytes of all objects together.
const OBJECTS_BYTES: usize = 8 << 20;
/// Memory of an allocator.
const MEMORY_BYTES: u64 = 64 << 20;
/// Sizes of objects. Of the last, 2 fit into a page, and 21 into 8 pages.
const SIZES: [usize; 3] = [64, 512, 1536];

/// Returns all cases for objects of one size.
fn cases(size: usize) -> impl Iterator<Item = Case> {
    use Memory::{Fragmented, Fresh};
    use RefillName::{Bulk, Single, Split};
    let of = [
        (Fragmented, 0, Single),
        (Fragmented, 0, Bulk),
        (Fragmented, 0, Split),
        (Fragmented, 3, Single),
        (Fragmented, 3, Bulk),
        (Fresh, 0, Single),
        (Fresh, 0, Bulk),
        (Fresh, 0, Split),
        (Fresh, 3, Single),
        (Fresh, 3, Bulk),
    ];
    of.into_iter().map(move |(memory, order, refill)| Case { size, order, refill, memory })
}

/// Caches of one allocator.
struct Setup {
    growers: Vec<Grower>,
    _held: Vec<Page<Frames>>,
    _plugs: Vec<Folio<Frames>>,
}

/// Grows and shrinks one cache.
struct Grower {
    case: Case,
    cache: Cache<'static, Frames>,
    objects: Vec<NonNull<u8>>,
    objects_per_page: f64,
}

impl Setup {
    /// Makes the caches of `cases`, and then the memory what they are for.
    fn new(memory: Memory, cases: impl Iterator<Item = Case>) -> anyhow::Result<Self> {
        let host: &'static HostAllocator = Box::leak(Box::new(HostAllocator::new(MEMORY_BYTES)?));
        let frames: Frames = host;
        // Tables and caches come first: they need adjacent pages.
        let slabs = Box::leak(Box::new(Slabs::new(frames)?));
        let growers: Result<_, _> = cases.map(|case| Grower::new(slabs, case)).collect();
        let (mut held, mut plugs) = (Vec::new(), Vec::new());
        if memory == Memory::Fragmented {
            held.extend(core::iter::from_fn(|| frames.alloc_page(Gfp::KERNEL)));
            held.retain(|page| page.pfn().value() % 2 == 0);
            // Frames below the watermark are still adjacent.
            let one = Order::new(1)?;
            plugs.extend(core::iter::from_fn(|| frames.alloc_pages(Gfp::NOWAIT, one)));
        }
        Ok(Self { growers: growers?, _held: held, _plugs: plugs })
    }
}

impl Grower {
    fn new(slabs: &'static Slabs<Frames>, case: Case) -> anyhow::Result<Self> {
        let refill = match case.refill {
            RefillName::Single => Refill::Single,
            RefillName::Bulk => Refill::Bulk,
            RefillName::Split => Refill::Split,
        };
        let plain = CacheConfig::new("case", case.size, 8);
        let config = CacheConfig { order: Some(Order::new(case.order)?), refill, ..plain };
        let cache = Cache::new(slabs, &config)?;
        let objects = Vec::with_capacity(OBJECTS_BYTES / case.size);
        Ok(Self { case, cache, objects, objects_per_page: 0.0 })
    }

    /// Grows and shrinks once, and looks at the slabs between.
    fn warm_up(&mut self) -> anyhow::Result<()> {
        self.grow()?;
        let (info, case) = (self.cache.info(), self.case);
        self.objects_per_page = info.num_objs as f64 / info.pages as f64;
        let is_single = case.order == 0 || case.memory == Memory::Fragmented;
        ensure!(
            (info.pages == info.num_slabs) == is_single,
            "{case:?}: {} slabs have {} pages",
            info.num_slabs,
            info.pages
        );
        self.shrink();
        Ok(())
    }

    /// Allocates all objects, and writes to each.
    fn grow(&mut self) -> anyhow::Result<()> {
        while self.objects.len() < self.objects.capacity() {
            let object = self.cache.alloc(Gfp::KERNEL).context("the allocator has no memory")?;
            // SAFETY: 1. at least 8 bytes, aligned to 8, just allocated.
            unsafe { object.cast::<u64>().write(1) };
            self.objects.push(object);
        }
        Ok(())
    }

    fn shrink(&mut self) {
        for object in self.objects.drain(..) {
            // SAFETY: 1. from this cache. 2. not used again.
            unsafe { self.cache.free(object) };
        }
    }

    fn rounds(&mut self, rounds: usize) -> anyhow::Result<()> {
        for _ in 0..rounds {
            self.grow()?;
            self.shrink();
        }
        Ok(())
    }
}

/// Runs one case a number of rounds: for counting its instructions.
///
/// # Errors
/// If there is no memory.
pub(crate) fn run_once(case: Case, rounds: usize) -> anyhow::Result<()> {
    let mut setup = Setup::new(case.memory, core::iter::once(case))?;
    let grower = setup.growers.first_mut().context("one case")?;
    grower.warm_up()?;
    grower.rounds(rounds)
}

impl Case {
    fn instructions(self) -> anyhow::Result<f64> {
        let of = |rounds: usize| {
            let words = format!(
                "case {} {} {:?} {:?} {rounds}",
                self.size, self.order, self.refill, self.memory
            );
            instructions(&words.split(' ').map(str::to_lowercase).collect::<Vec<_>>())
        };
        let per_round = (OBJECTS_BYTES / self.size) as f64;
        Ok((of(3)? - of(1)?) / 2.0 / per_round)
    }
}

/// Gives all cases turns for some time, and returns a table.
///
/// # Errors
/// If there is no memory, or valgrind is not installed.
pub(crate) fn table(time: Duration) -> anyhow::Result<String> {
    let mut table = String::from(
        "An object allocated, written and freed, in groups of 8 MiB: CPU time (median and quartiles of \
         turns) and instructions (callgrind)\n\n\
         | object | memory | slab order | refill | objects a page | ns | instructions | turns |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for size in SIZES {
        let of = |memory| Setup::new(memory, cases(size).filter(move |case| case.memory == memory));
        let mut setups = [of(Memory::Fragmented)?, of(Memory::Fresh)?];
        let mut runs = Vec::new();
        for grower in setups.iter_mut().flat_map(|setup| &mut setup.growers) {
            grower.warm_up()?;
            runs.push((grower, Vec::new()));
        }
        let start = Instant::now();
        let (mut turns, mut random) = (0, Random::new(1));
        let mut order: Vec<usize> = (0..runs.len()).collect();
        while turns < 3 || start.elapsed() < time / u32::try_from(SIZES.len())? {
            // By chance: after a case of the other memory, the caches of the CPU have none of this one's pages.
            shuffle(&mut order, &mut random);
            for &at in &order {
                let (grower, figures) = &mut runs[at];
                let cpu = cpu_ns();
                grower.rounds(1)?;
                figures.push((cpu_ns() - cpu) / grower.objects.capacity() as f64);
            }
            turns += 1;
        }
        for (grower, figures) in runs {
            let Case { memory, order, refill, .. } = grower.case;
            let (ns, counted) = (Spread::of(figures.into_iter()), grower.case.instructions()?);
            let per_page = grower.objects_per_page;
            writeln!(
                table,
                "| {size} B | {memory:?} | {order} | {refill:?} | {per_page:.2} | {ns} | {counted:.1} | \
                 {turns} |"
            )?;
        }
    }
    Ok(table)
}

fn shuffle(order: &mut [usize], random: &mut Random) {
    for last in (1..order.len()).rev() {
        order.swap(last, random.slot().0 % (last + 1));
    }
}

fn cpu_ns() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 * 1e9 + now.tv_nsec as f64
}
