//! Threads that share CPUs claim the CPUs' lists, and others drain these lists from anywhere: no
//! page is handed out twice, none is lost.

use core::sync::atomic::Ordering;
use core::time::Duration;
use std::thread;
use std::time::Instant;

use pagemill::{AllocPages, Gfp, Page, PageAllocator, PageVec};
use pagemill_host::machine::Cpus;
use pagemill_host::{AllocatorConfig, ArenaConfig, Host, allocator};

#[expect(clippy::disallowed_types, reason = "a test's own: loom has no business here")]
type Flag = core::sync::atomic::AtomicBool;

const LASTS: Duration = Duration::from_millis(1500);
/// How long a visitor may find every list empty or in use, on a machine with other work to do.
const LASTS_AT_MOST: Duration = Duration::from_mins(3);
/// Threads for each CPU, so that they lose it to each other in the middle of things.
const NR_THREADS: u64 = 5;

/// Writes the owner's mark to a page, which must not have another owner's mark.
fn mark(page: &mut Page<&PageAllocator<Host>>, owner: u64) {
    let word = page.as_bytes_mut().first_chunk_mut::<8>().expect("a page is longer");
    assert_eq!(*word, [0; 8], "a page that somebody else has");
    *word = owner.to_ne_bytes();
}

/// Takes the owner's mark off a page.
fn unmark(page: &mut Page<&PageAllocator<Host>>, owner: u64) {
    let word = page.as_bytes_mut().first_chunk_mut::<8>().expect("a page is longer");
    assert_eq!(*word, owner.to_ne_bytes(), "a page that somebody else wrote to");
    *word = [0; 8];
}

fn churn(frames: &PageAllocator<Host>, owner: u64, is_over: &Flag) {
    let mut pages = Vec::new();
    let mut batch = PageVec::<_, 64>::new(frames);
    let mut round = owner;
    // Relaxed: a hint to stop.
    while !is_over.load(Ordering::Relaxed) {
        round = round.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(owner);
        let nr = usize::try_from(round >> 58).expect("six bits");
        if round & (1 << 40) == 0 {
            frames.alloc_pages_bulk_vec(Gfp::KERNEL, nr, &mut batch);
            pages.extend(core::iter::from_fn(|| batch.pop()));
        } else {
            pages.extend((0..nr / 8).filter_map(|_| frames.alloc_page(Gfp::KERNEL)));
        }
        pages.iter_mut().for_each(|page| mark(page, owner));
        pages.iter_mut().for_each(|page| unmark(page, owner));
        if round & (1 << 41) == 0 {
            pages.drain(..).for_each(drop);
        } else {
            let mut slots: Vec<_> = pages.drain(..).map(Some).collect();
            frames.release_pages(&mut slots);
        }
    }
}

#[test]
fn lists_are_claimed_by_one_at_a_time() {
    let config =
        AllocatorConfig { pcp_high: Some(64), ..AllocatorConfig::new(ArenaConfig::new(64 << 20)) };
    let frames = allocator(&config).expect("64 MiB can be mapped");
    let at_first = frames.nr_free_pages();
    let is_over = Flag::new(false);
    let cpus = Cpus::allowed().expect("fewer than 1024 CPUs");
    thread::scope(|scope| {
        for (index, &cpu) in (0..).zip(cpus.iter().take(4)) {
            for thread in 0..NR_THREADS {
                let (frames, is_over) = (&frames, &is_over);
                scope.spawn(move || {
                    // The last one wanders.
                    if thread + 1 < NR_THREADS {
                        Cpus::pin_to(cpu).expect("an allowed CPU");
                    }
                    churn(frames, index * NR_THREADS + thread + 1, is_over);
                });
            }
        }
        let start = Instant::now();
        let mut drained = 0;
        while start.elapsed() < LASTS || drained == 0 && start.elapsed() < LASTS_AT_MOST {
            drained += frames.drain_all_pages();
            thread::yield_now();
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(drained > 0, "the lists were visited");
    });
    frames.drain_all_pages();
    assert_eq!(frames.nr_free_pages(), at_first);
    let stat = frames.vmstat();
    assert_eq!(stat.pgalloc.iter().sum::<u64>(), stat.pgfree);
}

/// The drain has to break off what the CPU's own thread has begun: without the fence, this test sees
/// the two in the lists together in most runs.
#[test]
fn a_drain_from_another_cpu_and_the_cpu_itself_exclude_each_other() {
    let config =
        AllocatorConfig { pcp_high: Some(64), ..AllocatorConfig::new(ArenaConfig::new(16 << 20)) };
    let frames = allocator(&config).expect("16 MiB can be mapped");
    let at_first = frames.nr_free_pages();
    let cpus = Cpus::allowed().expect("fewer than 1024 CPUs");
    let [drained, other, ..] = cpus[..] else {
        #[expect(clippy::print_stderr, reason = "a test that skips says so")]
        return eprintln!("SKIPPED: claims: needs two CPUs");
    };
    let is_over = Flag::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            Cpus::pin_to(drained).expect("an allowed CPU");
            let mut held: [Option<Page<_>>; 8] = [const { None }; 8];
            while !is_over.load(Ordering::Relaxed) {
                for slot in &mut held {
                    *slot = frames.alloc_page(Gfp::KERNEL);
                }
                held.iter_mut().flatten().for_each(|page| mark(page, 1));
                held.iter_mut().flatten().for_each(|page| unmark(page, 1));
                held.iter_mut().for_each(|slot| *slot = None);
            }
        });
        Cpus::pin_to(other).expect("an allowed CPU");
        let start = Instant::now();
        while start.elapsed() < LASTS {
            frames.drain_pages(drained);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    frames.drain_all_pages();
    assert_eq!(frames.nr_free_pages(), at_first);
}
