//! Two threads on one heap, with objects that one allocates and the other frees.

use core::alloc::{GlobalAlloc, Layout};
use core::fmt::Write as _;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};
use core::time::Duration;
use std::alloc::System;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Instant;

use anyhow::Context as _;
use clap::ValueEnum;
use malloc_bench_rs::{Config, Workload, run};
use pagemill_slab::HeapConfig;
use rustix::time::{ClockId, clock_gettime};

use crate::ours::Pagemill;
use crate::random::{NR_SLOTS, Random, layout};
use crate::spread::Spread;

/// A heap that threads share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SharedHeap {
    /// pagemill, with the arena of this program.
    Pagemill,
    /// mimalloc.
    Mimalloc,
    /// jemalloc.
    Jemalloc,
    /// The C library's.
    Glibc,
}

/// What two threads do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Work {
    /// 1,024 slots that both threads use, 8 to 512 bytes: half of the objects are freed by the other thread.
    Exchange,
    /// One thread allocates objects of 8 to 512 bytes, the other frees them, 64 to a message.
    Handover,
    /// `malloc-bench-rs`: slots of each thread, 16 B to 8 KiB; one object of 16 goes to the other thread through
    /// a channel.
    Larson,
    /// `malloc-bench-rs`: batches of such objects; one of 16 goes to the other thread.
    Mstress,
}

/// A figure of one run.
#[derive(Clone, Copy, Debug)]
struct Figure {
    /// Million steps of both threads in a second.
    rate: f64,
    /// CPU time of both threads for a step, in nanoseconds.
    cpu: f64,
}

/// Memory of pagemill's heap. `malloc-bench-rs` leaks what a thread sends to one that has ended, megabytes in each
/// turn.
const MEMORY: u64 = 2 << 30;
/// Objects in a message of [`Work::Handover`].
const NR_BATCH: usize = 64;
/// Messages that may wait.
const NR_WAITING: usize = 8;

/// Does some work with one heap: for counting its instructions by function.
///
/// # Errors
/// If the heap cannot be made.
pub(crate) fn work_once(heap: SharedHeap, work: Work, steps: usize) -> anyhow::Result<()> {
    if heap == SharedHeap::Pagemill {
        Pagemill::start(MEMORY, &HeapConfig::new())?;
    }
    heap.measure(work, steps);
    Ok(())
}

/// Gives the heaps turns for some time, and returns a table.
///
/// # Errors
/// If pagemill's heap cannot be made.
pub(crate) fn table(time: Duration, steps: usize) -> anyhow::Result<String> {
    Pagemill::start(MEMORY, &HeapConfig::new())?;
    let mut table = String::from(
        "Two threads: medians and quartiles of turns. Ratios are to mimalloc in the same turn.\n\n\
         | work | heap | million steps/s | CPU ns a step | CPU ratio | turns |\n\
         | --- | --- | --- | --- | --- | --- |\n",
    );
    let works = Work::value_variants();
    for &work in works {
        let heaps = SharedHeap::value_variants();
        // The first turn touches memory for the first time.
        let turn = || heaps.iter().map(|heap| heap.measure(work, steps)).collect::<Vec<_>>();
        drop(turn());
        let start = Instant::now();
        let mut turns = vec![turn(), turn(), turn()];
        while start.elapsed() < time / u32::try_from(works.len())? {
            turns.push(turn());
        }
        let mimalloc = heaps.iter().position(|&heap| heap == SharedHeap::Mimalloc);
        let mimalloc = mimalloc.context("mimalloc is one of the heaps")?;
        for (at, heap) in heaps.iter().enumerate() {
            let of = |get: fn(&Figure) -> f64| Spread::of(turns.iter().map(|turn| get(&turn[at])));
            let ratios = turns.iter().map(|turn| turn[at].cpu / turn[mimalloc].cpu);
            let (rate, cpu) = (of(|figure| figure.rate), of(|figure| figure.cpu));
            let ratio = Spread::of(ratios);
            let nr = turns.len();
            writeln!(table, "| {work:?} | {heap:?} | {rate} | {cpu} | {ratio} | {nr} |")?;
        }
    }
    Ok(table)
}

impl SharedHeap {
    fn measure(self, work: Work, steps: usize) -> Figure {
        match self {
            // Each of these lives as long as the process.
            Self::Pagemill => measure(work, steps, || Pagemill),
            Self::Mimalloc => measure(work, steps, || mimalloc::MiMalloc),
            Self::Jemalloc => measure(work, steps, || tikv_jemallocator::Jemalloc),
            Self::Glibc => measure(work, steps, || System),
        }
    }
}

fn cpu_ns() -> f64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    now.tv_sec as f64 * 1e9 + now.tv_nsec as f64
}

fn measure<A: GlobalAlloc + Send + Sync + 'static>(
    work: Work,
    steps: usize,
    heap: fn() -> A,
) -> Figure {
    let config =
        Config { threads: 2, steps_per_thread: steps, working_set: 1024, mstress_blocks: 256 };
    let (start, cpu) = (Instant::now(), cpu_ns());
    match work {
        Work::Larson => drop(run(Workload::Larson, &config, heap)),
        Work::Mstress => drop(run(Workload::Mstress, &config, heap)),
        Work::Exchange => exchange(&heap(), steps),
        Work::Handover => handover(&heap(), 2 * steps),
    }
    let steps = 2.0 * steps as f64;
    Figure { rate: steps / start.elapsed().as_secs_f64() / 1e6, cpu: (cpu_ns() - cpu) / steps }
}

/// An object that begins with its size.
#[derive(Clone, Copy, Debug)]
struct Sized8(*mut u8);

// SAFETY: 1. an object is memory, which any thread may use.
unsafe impl Send for Sized8 {}

impl Sized8 {
    /// # Safety
    /// The layout has at least 8 bytes, aligned to 8.
    unsafe fn alloc(heap: &impl GlobalAlloc, layout: Layout) -> Self {
        // SAFETY: 1. the size is not zero: the caller's obligation.
        let object = unsafe { heap.alloc(layout) };
        assert!(!object.is_null(), "the heap has no memory for {} bytes", layout.size());
        // SAFETY: 1. at least 8 bytes, aligned: the caller's obligation. Just allocated.
        unsafe { object.cast::<usize>().write(layout.size()) };
        Self(object)
    }

    /// # Safety
    /// The object is from `alloc` with this heap, and not used again.
    unsafe fn free(self, heap: &impl GlobalAlloc) {
        // SAFETY: 1. written by `alloc`.
        let size = unsafe { self.0.cast::<usize>().read() };
        // SAFETY: 1. from this heap with this layout, not used again: the caller's obligation.
        unsafe { heap.dealloc(self.0, layout(size)) };
    }
}

fn exchange<A: GlobalAlloc + Sync>(heap: &A, steps: usize) {
    let slots: Vec<_> = (0..NR_SLOTS).map(|_| AtomicPtr::new(null_mut())).collect();
    // AcqRel: whoever takes an object sees its size, and the one who frees it comes after its writer.
    let put = |slot: &AtomicPtr<u8>, object: *mut u8| {
        let before = slot.swap(object, Ordering::AcqRel);
        if !before.is_null() {
            // SAFETY: 1. from `alloc`, as all in the slots. 2. not used again: it left its slot.
            unsafe { Sized8(before).free(heap) };
        }
    };
    thread::scope(|scope| {
        for seed in 1..=2 {
            let (slots, put) = (&slots, &put);
            scope.spawn(move || {
                let mut random = Random::new(seed << 32 | seed);
                for _ in 0..steps {
                    let (slot, layout) = random.slot();
                    // SAFETY: 1. 8 to 512 bytes, aligned to 8.
                    let object = unsafe { Sized8::alloc(heap, layout) };
                    put(&slots[slot], object.0);
                }
            });
        }
    });
    slots.iter().for_each(|slot| put(slot, null_mut()));
}

fn handover<A: GlobalAlloc + Sync>(heap: &A, steps: usize) {
    let (sender, receiver) = sync_channel::<[Sized8; NR_BATCH]>(NR_WAITING);
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut random = Random::new(1);
            for _ in 0..steps / NR_BATCH {
                let batch = core::array::from_fn(|_| {
                    // SAFETY: 1. 8 to 512 bytes, aligned to 8.
                    unsafe { Sized8::alloc(heap, random.slot().1) }
                });
                sender.send(batch).expect("the other thread takes all");
            }
        });
        scope.spawn(move || {
            for object in receiver.into_iter().flatten() {
                // SAFETY: 1. from `alloc` with this heap. 2. not used again.
                unsafe { object.free(heap) };
            }
        });
    });
}
