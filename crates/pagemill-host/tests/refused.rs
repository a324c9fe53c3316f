//! System calls that are refused after an allocator was made, as a seccomp filter does: per-CPU lists
//! can be emptied all the same, and are held by one thread at a time.

use core::sync::atomic::Ordering;
use core::time::Duration;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use pagemill::units::CpuId;
use pagemill::{AllocPages, Gfp, Page, PageAllocator};
use pagemill_host::machine::Cpus;
use pagemill_host::{AllocatorConfig, ArenaConfig, Host, allocator};

#[expect(clippy::disallowed_types, reason = "a test's own: loom has no business here")]
type Flag = core::sync::atomic::AtomicBool;

/// One test at a time: each binds threads to the same CPUs.
static ONE: Mutex<()> = Mutex::new(());

/// Refuses some system calls to the calling thread and those that it starts; false if it may not.
fn refuse(calls: &[libc::c_long]) -> bool {
    const LOAD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 6;
    let filter = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    // The number of the system call is the first field of what the filter sees.
    let mut program = vec![filter(LOAD, 0, 0, 0)];
    for &call in calls {
        let number = u32::try_from(call).expect("numbers of system calls are small");
        program.push(filter(JUMP_IF_EQUAL, 0, 1, number));
        program.push(filter(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | 1));
    }
    program.push(filter(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    let len = u16::try_from(program.len()).expect("a few instructions");
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    // SAFETY:
    // 1. The call takes numbers.
    let is_set = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } == 0;
    let mode = libc::c_long::from(libc::SECCOMP_SET_MODE_FILTER);
    // SAFETY:
    // 1. The program is alive, and has as many instructions as its length field states.
    is_set && unsafe { libc::syscall(libc::SYS_seccomp, mode, 0, &raw const program) } == 0
}

/// Returns two CPUs and an allocator that claims by sequences; `None` where there is no such thing.
fn scene() -> Option<([CpuId; 2], PageAllocator<Host>)> {
    let cpus = Cpus::allowed().expect("fewer than 1024 CPUs");
    let [first, second, ..] = cpus[..] else {
        skip("needs two CPUs");
        return None;
    };
    if !Cpus::detect().uses_rseq() {
        skip("needs restartable sequences");
        return None;
    }
    let config = AllocatorConfig::new(ArenaConfig::new(32 << 20));
    Some(([first, second], allocator(&config).expect("32 MiB can be mapped")))
}

#[expect(clippy::print_stderr, reason = "a test that skips says so")]
fn skip(why: &str) {
    eprintln!("SKIPPED: refused: {why}");
}

/// Leaves pages in the lists of `cpu`, and returns their number.
fn fill(frames: &PageAllocator<Host>, cpu: CpuId) -> usize {
    thread::scope(|scope| {
        let on_cpu = || {
            Cpus::pin_to(cpu).expect("an allowed CPU");
            let mut slots: Vec<Option<Page<_>>> = (0..500).map(|_| None).collect();
            frames.alloc_pages_bulk(Gfp::KERNEL, &mut slots);
            frames.release_pages(&mut slots)
        };
        scope.spawn(on_cpu).join().expect("no panic")
    })
}

/// Runs `body` in a thread on `cpu` to which `calls` are refused.
fn refused<T: Send>(
    cpu: CpuId,
    calls: &[libc::c_long],
    body: impl FnOnce() -> T + Send,
) -> Option<T> {
    let on_cpu = || {
        Cpus::pin_to(cpu).expect("an allowed CPU");
        if refuse(calls) {
            return Some(body());
        }
        skip("no seccomp filter can be installed");
        None
    };
    thread::scope(|scope| scope.spawn(on_cpu).join().expect("no panic"))
}

#[test]
fn lists_are_emptied_without_membarrier() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(([first, second], frames)) = scene() else { return };
    let all = frames.nr_free_pages();
    assert_eq!(fill(&frames, first), 500);
    let body = || {
        let drained = frames.drain_all_pages();
        assert!(drained >= 500, "{drained} pages of 500 and more");
        assert_eq!(frames.nr_free_pages(), all);
        assert_eq!(Cpus::allowed().expect("fewer than 1024 CPUs"), [second], "as it was bound");
        // All that there is, with the lists of the other CPU full again.
        fill(&frames, first);
        let mut taken: Vec<_> = core::iter::from_fn(|| frames.alloc_page(Gfp::KERNEL)).collect();
        fill(&frames, first);
        taken.extend(frames.alloc_page(Gfp::KERNEL | Gfp::NOFAIL | Gfp::MEMALLOC));
        drop(taken);
        frames.drain_all_pages();
        assert_eq!(frames.nr_free_pages(), all);
    };
    refused(second, &[libc::SYS_membarrier], body);
}

/// Where the thread may not go to the other CPU either, the next thread that allocates there opens
/// its lists.
#[test]
fn lists_are_emptied_once_a_thread_ran_on_their_cpu() {
    if cfg!(pagemill_tsan) {
        return skip("lists are claimed by an exchange from the start");
    }
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(([first, second], frames)) = scene() else { return };
    let all = frames.nr_free_pages();
    fill(&frames, first);
    let calls = [libc::SYS_membarrier, libc::SYS_sched_setaffinity];
    let may_be_opened = refused(second, &calls, || {
        let here = frames.pcp_info().filter(|list| list.cpu == second).map(|list| list.count).sum();
        let drained = frames.drain_all_pages();
        assert!(frames.nr_free_pages() < all && drained == here, "{drained} pages");
    });
    if may_be_opened.is_some() {
        fill(&frames, first);
        frames.drain_all_pages();
        assert_eq!(frames.nr_free_pages(), all);
    }
}

/// Writes the owner's mark to a page, which must not have another owner's mark, and clears it.
fn mark(page: &mut Page<&PageAllocator<Host>>, owner: u64) {
    let word = page.as_bytes_mut().first_chunk_mut::<8>().expect("a page is longer");
    assert_eq!(*word, [0; 8], "a page that somebody else has");
    *word = owner.to_ne_bytes();
    core::hint::black_box(&mut *word);
    assert_eq!(*word, owner.to_ne_bytes(), "a page that somebody else wrote to");
    *word = [0; 8];
}

/// In each round, lists that are used by sequences change to exchanges under their users.
#[test]
fn users_of_the_lists_and_who_changes_how_they_are_taken_exclude_each_other() {
    const ROUNDS: usize = 40;
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    for round in 0..ROUNDS {
        let Some(([first, second], frames)) = scene() else { return };
        let all = frames.nr_free_pages();
        let is_over = Flag::new(false);
        let churn = |owner: u64| {
            Cpus::pin_to(first).expect("an allowed CPU");
            while !is_over.load(Ordering::Relaxed) {
                let mut held: Vec<_> =
                    core::iter::from_fn(|| frames.alloc_page(Gfp::KERNEL)).take(9).collect();
                held.iter_mut().for_each(|page| mark(page, owner));
            }
        };
        thread::scope(|scope| {
            scope.spawn(|| churn(1));
            scope.spawn(|| churn(2));
            refused(second, &[libc::SYS_membarrier], || {
                let start = Instant::now();
                while start.elapsed() < Duration::from_millis(20 + round as u64) {
                    frames.drain_pages(first);
                }
            });
            is_over.store(true, Ordering::Relaxed);
        });
        frames.drain_all_pages();
        assert_eq!(frames.nr_free_pages(), all);
    }
}
