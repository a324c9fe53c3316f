//! What faults cost that take no page from the allocator: the bounds of every fault-around.

use alloc::sync::Arc;
use core::hint::black_box;
use core::time::Duration;

use anyhow::Context as _;
use pagemill::units::PAGE_SIZE;
use pagemill::{AllocPages as _, Gfp, Order};
use pagemill_host::arena::{ArenaPages, HugePages};
use pagemill_host::fault::FaultRegion;
use pagemill_host::{AllocatorConfig, ArenaConfig, HostAllocator};

use super::fault_around::{NR_PAGES, Passes, serve};
use super::sample::{AllocTicks, Meter};
use super::{Sample, Setup};
use crate::bulk::results::Spread;

/// What a page costs that is supplied in one way.
#[derive(Clone, Debug)]
pub struct FaultRow {
    /// The way.
    pub way: &'static str,
    /// Nanoseconds of CPU time per page, both threads together.
    pub cpu_ns: Spread,
    /// Pages per second.
    pub per_s: Spread,
}

/// A way to supply pages.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// The kernel supplies each page that is written to.
    Kernel,
    /// The pager has the kernel supply a group of zeroed pages.
    Zero(usize),
    /// The pager moves one transparent huge page in, and back before the next fault.
    HugePage,
}

/// Bytes of memory without pages: more than the C library ever keeps for itself.
const KERNEL_BYTES: usize = 64 << 20;
/// Bytes of the arena that the huge page is in.
const ARENA_BYTES: u64 = 32 << 20;

static WAYS: [(&str, Way); 6] = [
    ("kernel", Way::Kernel),
    ("zero-1", Way::Zero(1)),
    ("zero-16", Way::Zero(16)),
    ("zero-64", Way::Zero(64)),
    ("zero-512", Way::Zero(512)),
    ("huge-page-moved", Way::HugePage),
];

/// Measures all ways in turns; each that cannot run here is added to `skipped`, with the reason.
pub(super) fn measure(
    setup: &Setup,
    runs: usize,
    slice: Duration,
    skipped: &mut Vec<(&'static str, String)>,
) -> anyhow::Result<Vec<FaultRow>> {
    let mut samples = WAYS.map(|_| Vec::new());
    let mut reasons = WAYS.map(|_| None);
    // The first run is a warm-up.
    for run in 0..=runs {
        for (index, (_, way)) in WAYS.iter().enumerate() {
            match one(setup, *way, slice)? {
                Ok(sample) if run > 0 => samples[index].push(sample),
                Ok(_) => {}
                Err(reason) => reasons[index] = Some(reason),
            }
        }
    }
    let mut rows = Vec::new();
    for (((way, _), samples), reason) in WAYS.iter().zip(samples).zip(reasons) {
        match reason {
            Some(reason) => skipped.push((*way, reason)),
            None => rows.push(FaultRow {
                way,
                cpu_ns: Spread::of(samples.iter().map(Sample::cpu_ns)),
                per_s: Spread::of(samples.iter().map(|sample| 1e9 / sample.wall_ns())),
            }),
        }
    }
    Ok(rows)
}

/// Measures one way, of which an operation is a page; the inner error is why it cannot run here.
fn one(setup: &Setup, way: Way, slice: Duration) -> anyhow::Result<Result<Sample, String>> {
    if let Way::Kernel = way {
        return Ok(Ok(by_kernel(slice)));
    }
    let region = match FaultRegion::new(NR_PAGES) {
        Ok(region) => Arc::new(region),
        Err(error) => return Ok(Err(error.to_string())),
    };
    match way {
        Way::Kernel => Ok(Ok(by_kernel(slice))),
        Way::Zero(group) => {
            let served = serve(setup, &region, Passes::Clear, slice, |page| {
                region.zero(page - page % group, group)?;
                Ok(())
            })?;
            Ok(Ok(served.sample(AllocTicks::default()).split(group)))
        }
        Way::HugePage => by_huge_page(setup, &region, slice),
    }
}

fn by_kernel(slice: Duration) -> Sample {
    let meter = Meter::start();
    let mut nr_pages = 0;
    while nr_pages == 0 || meter.elapsed() < slice {
        let mut bytes = black_box(vec![0_u8; KERNEL_BYTES]);
        bytes.iter_mut().step_by(PAGE_SIZE).for_each(|byte| *byte = 1);
        black_box(bytes);
        nr_pages += KERNEL_BYTES / PAGE_SIZE;
    }
    meter.stop(nr_pages as u64, Duration::ZERO, AllocTicks::default())
}

fn by_huge_page(
    setup: &Setup,
    region: &Arc<FaultRegion>,
    slice: Duration,
) -> anyhow::Result<Result<Sample, String>> {
    let arena = ArenaConfig { huge: HugePages::Transparent, ..ArenaConfig::new(ARENA_BYTES) };
    let frames = HostAllocator::with_config(&AllocatorConfig::new(arena))?;
    let memory = frames.platform().memory();
    if memory.kind().pages != ArenaPages::Transparent {
        let reason = "the system's settings rule transparent huge pages out: write madvise to \
                      /sys/kernel/mm/transparent_hugepage/enabled";
        return Ok(Err(reason.to_owned()));
    }
    if let Err(error) = region.lend(memory) {
        return Ok(Err(error.to_string()));
    }
    let order = Order::new(9)?;
    let block = frames.alloc_pages(Gfp::KERNEL, order);
    let mut block = block.context("an empty arena has a block of 2 MiB")?;
    block.as_bytes_mut().fill(1);
    let mut inside = None;
    let served = serve(setup, region, Passes::Keep, slice, |page| {
        if let Some(first) = inside.take() {
            region.move_out(first, block.as_bytes_mut())?;
        }
        let first = page - page % order.nr_pages();
        region.move_in(first, block.as_bytes_mut())?;
        inside = Some(first);
        Ok(())
    })?;
    Ok(Ok(served.sample(AllocTicks::default()).split(order.nr_pages())))
}
