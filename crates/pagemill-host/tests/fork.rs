//! Children of `fork`: calls of an allocator that their parent made end at once, whatever other threads
//! were doing when they were forked.

extern crate alloc;

use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use std::sync::Barrier;
use std::thread;

use pagemill::request::Effort;
use pagemill::reserves::Mempool;
use pagemill::{AllocPages, BulkRequest, Gfp, Page, PageAllocator, Shortage};
use pagemill_host::arena::{Arena, Backing};
use pagemill_host::{
    AllocatorConfig, ArenaConfig, Host, ReclaimThread, SharedAllocator, allocator,
};

#[expect(clippy::disallowed_types, reason = "a test's own: loom has no business here")]
type Flag = core::sync::atomic::AtomicBool;

type Frames = PageAllocator<Host>;

const ROUNDS: usize = 60;

/// Runs `body` in a child, and returns its exit status.
///
/// It must not do what needs a lock of another thread's, such as to panic; a panic ends it, too.
fn in_child(body: impl FnOnce() -> i32) -> i32 {
    /// Seconds after which a child that hangs is killed: far more than it takes.
    const PATIENCE: u32 = 120;
    // SAFETY:
    // 1. The child calls only the allocator, which is what the test is about, and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY:
        // 1. The call takes a number.
        unsafe { libc::alarm(PATIENCE) };
        let status = body();
        // SAFETY:
        // 1. The call ends the child at once, and runs none of the parent's exit handlers.
        unsafe { libc::_exit(status) };
    }
    assert!(child > 0, "fork: {}", std::io::Error::last_os_error());
    let mut status = 0;
    // SAFETY:
    // 1. The pointer is to a local integer.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(waited, child);
    assert!(libc::WIFEXITED(status), "the child was killed by signal {}", libc::WTERMSIG(status));
    libc::WEXITSTATUS(status)
}

fn churn(frames: &Frames, is_over: &Flag) {
    // Relaxed: a hint to stop.
    while !is_over.load(Ordering::Relaxed) {
        let mut slots: [Option<Page<&Frames>>; 300] = [const { None }; 300];
        frames.alloc_pages_bulk(Gfp::KERNEL, &mut slots);
        frames.release_pages(&mut slots);
        frames.drain_all_pages();
    }
}

/// What a child tries, and the status that tells which of it went wrong.
fn try_everything<'a>(
    frames: &'a Frames,
    mempool: &Mempool<&'a Frames>,
    held: Option<Page<&'a Frames>>,
) -> i32 {
    let fast = BulkRequest { effort: Effort::Fast, ..BulkRequest::new(Gfp::NOWAIT) };
    let all = BulkRequest { effort: Effort::AllOrNothing, ..BulkRequest::new(Gfp::KERNEL) };
    let mut slots: [Option<Page<&'a Frames>>; 64] = [const { None }; 64];
    let free = frames.nr_free_pages();
    for request in [&BulkRequest::new(Gfp::KERNEL | Gfp::NOFAIL), &fast, &all] {
        let outcome = frames.bulk_fill(request, &mut slots);
        if outcome.short != Some(Shortage::Abandoned) || outcome.new != 0 {
            return 1;
        }
    }
    if frames.alloc_page(Gfp::KERNEL).is_some() || frames.alloc_page(Gfp::ATOMIC).is_some() {
        return 2;
    }
    if frames.alloc_pages_bulk(Gfp::KERNEL, &mut slots) != 0 {
        return 3;
    }
    if mempool.alloc_bulk(Gfp::KERNEL, &mut slots[..4], None) != Err(Shortage::Abandoned) {
        return 4;
    }
    slots[0] = held;
    mempool.free_bulk(&mut slots[..1]);
    if slots[0].is_some() || frames.drain_all_pages() != 0 || frames.balance() != 0 {
        return 5;
    }
    if frames.nr_free_pages() == free { 0 } else { 6 }
}

#[test]
fn a_child_is_refused_and_drops_pages_without_effect() {
    for backing in [Backing::Anonymous, Backing::Memfd] {
        let arena = ArenaConfig { backing, ..ArenaConfig::new(32 << 20) };
        let config = AllocatorConfig { pcp_high: Some(64), ..AllocatorConfig::new(arena) };
        let frames = allocator(&config).expect("32 MiB can be mapped");
        let all = frames.nr_free_pages();
        let mempool = Mempool::new(&frames, 4, Gfp::KERNEL).expect("there is memory");
        let is_over = Flag::new(false);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| churn(&frames, &is_over));
            }
            for _ in 0..ROUNDS {
                let mut held = frames.alloc_page(Gfp::KERNEL);
                let mut dropped = frames.alloc_page(Gfp::KERNEL);
                let status = in_child(|| {
                    drop(dropped.take());
                    try_everything(&frames, &mempool, held.take())
                });
                assert_eq!(status, 0);
                assert!(frames.alloc_page(Gfp::KERNEL).is_some(), "the parent continues");
            }
            is_over.store(true, Ordering::Relaxed);
        });
        drop(mempool);
        frames.drain_all_pages();
        assert_eq!(frames.nr_free_pages(), all, "what children drop is the parent's");
    }
}

#[test]
fn a_child_makes_an_allocator_of_its_own_and_its_children_do_not_use_that() {
    let frames = allocator(&AllocatorConfig::new(ArenaConfig::new(8 << 20))).expect("8 MiB");
    let status = in_child(|| {
        let Ok(own) = allocator(&AllocatorConfig::new(ArenaConfig::new(8 << 20))) else { return 1 };
        if own.alloc_page(Gfp::KERNEL).is_none() || frames.alloc_page(Gfp::KERNEL).is_some() {
            return 2;
        }
        if in_child(|| i32::from(own.alloc_page(Gfp::KERNEL).is_some())) != 0 {
            return 3;
        }
        i32::from(own.alloc_page(Gfp::KERNEL).is_none()) * 4
    });
    assert_eq!(status, 0);
    assert!(frames.alloc_page(Gfp::KERNEL).is_some());
}

/// A child has a hole where a file of its parent's was mapped, and may have its own memory there.
#[test]
fn a_child_that_drops_an_arena_unmaps_nothing_of_its_own() {
    const LEN_BYTES: usize = 8 << 20;

    let arena = ArenaConfig { backing: Backing::Memfd, ..ArenaConfig::new(LEN_BYTES as u64) };
    let mut alone = Some(Arena::map(&arena).expect("8 MiB"));
    let mut frames = Some(allocator(&AllocatorConfig::new(arena)).expect("8 MiB"));
    let bases = [
        alone.as_ref().expect("just made").base(),
        frames.as_ref().expect("just made").platform().memory().base(),
    ];
    let status = in_child(|| {
        for base in bases {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
            let prot = libc::PROT_READ | libc::PROT_WRITE;
            // SAFETY:
            // 1. No mapping exists at these addresses, so none is replaced.
            let own = unsafe { libc::mmap(base.as_ptr().cast(), LEN_BYTES, prot, flags, -1, 0) };
            if own != base.as_ptr().cast() {
                return 1;
            }
        }
        drop((alone.take(), frames.take()));
        for base in bases {
            // SAFETY:
            // 1. Mapped above, and used only here.
            unsafe { base.write_volatile(1) };
        }
        0
    });
    assert_eq!(status, 0);
    drop((alone, frames));
}

#[test]
fn a_child_drops_the_handle_of_a_thread_that_it_does_not_have() {
    const NR_THREADS: usize = 16;

    let frames = allocator(&AllocatorConfig::new(ArenaConfig::new(8 << 20))).expect("8 MiB");
    let frames = SharedAllocator::new(frames);
    let mut reclaim = Some(ReclaimThread::spawn(frames).expect("a thread"));
    let status = in_child(|| {
        // What describes the thread that is gone describes these now.
        let (go, all) = (Arc::new(Barrier::new(NR_THREADS + 1)), [(); NR_THREADS]);
        let threads = all.map(|()| {
            let go = Arc::clone(&go);
            thread::spawn(move || _ = go.wait())
        });
        drop(reclaim.take());
        go.wait();
        i32::from(threads.into_iter().any(|thread| thread.join().is_err()))
    });
    assert_eq!(status, 0);
}
