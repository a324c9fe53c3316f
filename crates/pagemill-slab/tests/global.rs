//! The heap as the global allocator of this test: before it starts, in destructors of thread-local variables,
//! in threads that end, and in children of `fork`, which have no part of the arena.

// Miri has its own allocator, and runs no children.
#![cfg(all(not(loom), not(miri)))]

use core::alloc::{GlobalAlloc, Layout};
use core::cell::RefCell;
use std::alloc::System;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use pagemill_host::arena::Backing;
use pagemill_host::{AllocatorConfig, ArenaConfig, Host, allocator};
use pagemill_slab::errors::GlobalHeapError;
use pagemill_slab::{GlobalHeap, HeapConfig, NoFallback};

pagemill::static_allocator! {
    static ALLOCATOR: Host;
    type Frames;
}

#[global_allocator]
static HEAP: GlobalHeap<ALLOCATOR, System> = GlobalHeap::with_fallback(System);

/// What was allocated before the heap started.
static EARLY: OnceLock<Vec<u64>> = OnceLock::new();

/// Starts the heap, and runs one test at a time: others would change its counters.
fn start() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    let guard = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    EARLY.get_or_init(|| {
        let early = (0..100).collect::<Vec<u64>>();
        assert!(!owns(&early), "there is no heap yet");
        // A memfd arena: a child of `fork` does not have it, so a child that accesses it dies. Making it
        // allocates: file names, errors, lists of CPUs.
        let arena = ArenaConfig { backing: Backing::Memfd, ..ArenaConfig::new(64 << 20) };
        let made = allocator(&AllocatorConfig::new(arena)).expect("64 MiB can be mapped");
        assert!(ALLOCATOR.set(made).is_ok(), "once");
        HEAP.start(&HeapConfig::new()).expect("there is memory");
        early
    });
    guard
}

fn owns<T>(vec: &[T]) -> bool {
    HEAP.owns(vec.as_ptr().cast())
}

fn pages() -> usize {
    let heap = HEAP.heap().expect("started");
    heap.shrink();
    heap.info().map(|info| info.pages).sum()
}

#[test]
fn collections_come_from_the_heap_and_early_ones_stay_where_they_are() {
    let _one = start();
    let numbers: Vec<u64> = (0..100_000).collect();
    assert!(owns(&numbers) && numbers.iter().sum::<u64>() == 4_999_950_000);
    let zeroes = vec![0_u8; 3000];
    assert!(owns(&zeroes) && zeroes.iter().all(|&byte| byte == 0));
    let mut early = EARLY.get().expect("started").clone();
    assert!(owns(&early));
    early.extend(0..1000);
    early.shrink_to_fit();
    assert!(early[..100].iter().copied().eq(0..100));
    #[repr(align(64))]
    struct Aligned([u8; 100]);
    let aligned = Box::new(Aligned([7; 100]));
    assert!((&raw const *aligned).addr().is_multiple_of(64) && aligned.0 == [7; 100]);
    assert_eq!(HEAP.start(&HeapConfig::new()), Err(GlobalHeapError::Started));
}

#[test]
fn an_early_object_is_freed_and_grows_where_it_came_from() {
    let _one = start();
    let layout = Layout::from_size_align(100, 8).expect("small");
    // SAFETY: 1. a layout with a size.
    let object = unsafe { System.alloc(layout) };
    assert!(!object.is_null() && !HEAP.owns(object));
    // SAFETY: 1. as an object from before the start: from the fallback, with this layout.
    let grown = unsafe { HEAP.realloc(object, layout, 10_000) };
    assert!(!grown.is_null() && !HEAP.owns(grown));
    let layout = Layout::from_size_align(10_000, 8).expect("small");
    // SAFETY: 1. as above, and not used again.
    unsafe { HEAP.dealloc(grown, layout) };
}

#[test]
fn destructors_of_thread_local_variables_allocate_and_free() {
    /// Allocates and frees when its thread ends.
    struct Noisy(Vec<String>);
    impl Drop for Noisy {
        fn drop(&mut self) {
            let more: Vec<_> = (0..100).map(|number| format!("{number} at the end")).collect();
            self.0.extend(more);
            assert!(owns(&self.0));
        }
    }
    thread_local! {
        static NOISY: RefCell<Noisy> = const { RefCell::new(Noisy(Vec::new())) };
    }
    let _one = start();
    for _ in 0..20 {
        let thread = thread::spawn(|| {
            NOISY.with_borrow_mut(|noisy| noisy.0.push(String::from("at the beginning")));
        });
        thread.join().expect("the destructor does not panic");
    }
}

#[test]
fn threads_that_end_with_full_arrays_leave_nothing_behind() {
    let _one = start();
    let run = || {
        let thread = thread::spawn(|| {
            let boxes: Vec<_> = (0..500).map(Box::new).collect();
            drop(boxes);
        });
        thread.join().expect("it does not panic");
    };
    run();
    let before = pages();
    (0..100).for_each(|_| run());
    assert!(pages() <= before + 2, "{} pages, {before} before", pages());
}

#[test]
fn a_failed_request_is_null_and_a_huge_one_too() {
    let _one = start();
    let layout = Layout::from_size_align(1 << 40, 8).expect("valid");
    // SAFETY: 1. a layout with a size.
    assert!(unsafe { HEAP.alloc(layout) }.is_null());
    // SAFETY: 1. a layout with a size.
    assert!(unsafe { HEAP.alloc_zeroed(layout) }.is_null());
    assert!(Vec::<u8>::new().try_reserve(1 << 40).is_err());
    let small = Layout::from_size_align(16, 8).expect("valid");
    // SAFETY: 1. a layout with a size.
    assert!(unsafe { NoFallback::default().alloc(small) }.is_null());
}

/// Runs `body` in a child, and returns its exit status.
fn in_child(body: impl FnOnce() -> i32) -> i32 {
    /// Seconds after which a child that hangs is killed.
    const PATIENCE: u32 = 120;
    // SAFETY: 1. the child calls only the heap, which is what the test is about, and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: 1. the call takes a number.
        unsafe { libc::alarm(PATIENCE) };
        let status = body();
        // SAFETY: 1. the call ends the child at once.
        unsafe { libc::_exit(status) };
    }
    assert!(child > 0, "fork: {}", std::io::Error::last_os_error());
    let mut status = 0;
    // SAFETY: 1. the pointer is to a local integer.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(waited, child);
    assert!(libc::WIFEXITED(status), "the child was killed by signal {}", libc::WTERMSIG(status));
    libc::WEXITSTATUS(status)
}

/// What a child tries, and which of it went wrong.
fn try_everything(small: *mut u8, large: *mut u8) -> i32 {
    for size in [8, 100, 2048, 5000, 100_000] {
        let layout = Layout::from_size_align(size, 8).expect("small");
        // SAFETY: 1. a layout with a size.
        let object = unsafe { HEAP.alloc_zeroed(layout) };
        if object.is_null() || HEAP.owns(object) {
            return 1;
        }
        // SAFETY: 1. from the heap with this layout.
        let object = unsafe { HEAP.realloc(object, layout, 2 * size) };
        if object.is_null() || HEAP.owns(object) {
            return 2;
        }
        let layout = Layout::from_size_align(2 * size, 8).expect("small");
        // SAFETY: 1. from the heap with this layout, and not used again.
        unsafe { HEAP.dealloc(object, layout) };
    }
    for (object, size) in [(small, 100), (large, 100_000)] {
        let layout = Layout::from_size_align(size, 8).expect("small");
        // SAFETY: 1. from the heap with this layout; the child does not use it again.
        unsafe { HEAP.dealloc(object, layout) };
    }
    let heap = HEAP.heap().expect("started");
    if heap.shrink() != 0 || heap.info().count() != 0 {
        return 3;
    }
    let layout = Layout::from_size_align(100, 8).expect("small");
    if heap.alloc(pagemill::Gfp::KERNEL, layout).is_some() {
        return 4;
    }
    0
}

#[test]
fn a_child_of_fork_uses_the_fallback_whatever_other_threads_did() {
    #[expect(clippy::disallowed_types, reason = "a test's own: loom has no business here")]
    type Flag = core::sync::atomic::AtomicBool;
    let _one = start();
    let alloc = |size| {
        let layout = Layout::from_size_align(size, 8).expect("small");
        // SAFETY: 1. a layout with a size.
        let object = unsafe { HEAP.alloc(layout) };
        assert!(HEAP.owns(object));
        (object, layout)
    };
    let ((small, small_layout), (large, large_layout)) = (alloc(100), alloc(100_000));
    let is_over = Flag::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                // Relaxed: a hint to stop.
                while !is_over.load(core::sync::atomic::Ordering::Relaxed) {
                    let boxes: Vec<_> = (0..300).map(|number| Box::new([number; 9])).collect();
                    drop(boxes);
                }
            });
        }
        for _ in 0..30 {
            assert_eq!(in_child(|| try_everything(small, large)), 0);
        }
        is_over.store(true, core::sync::atomic::Ordering::Relaxed);
    });
    // SAFETY: 1. from the heap with this layout: children freed their own. 2. not used again.
    unsafe { HEAP.dealloc(small, small_layout) };
    // SAFETY: 1. as above.
    unsafe { HEAP.dealloc(large, large_layout) };
}

#[test]
fn a_wrong_free_ends_the_process() {
    const NAME: &str = "a_wrong_free_ends_the_process";
    const VARIABLE: &str = "PAGEMILL_WRONG_FREE";
    let one = start();
    if std::env::var_os(VARIABLE).is_some() {
        let (right, wrong) = (Layout::new::<[u64; 12]>(), Layout::new::<[u64; 100]>());
        // SAFETY: 1. a layout with a size.
        let object = unsafe { HEAP.alloc(right) };
        let _unwound = std::panic::catch_unwind(|| {
            // SAFETY: 1. refused, which ends the process.
            unsafe { HEAP.dealloc(object, wrong) };
        });
        return;
    }
    drop(one);
    let this = std::env::current_exe().expect("a running program");
    let mut command = std::process::Command::new(this);
    let output = command.args(["--exact", NAME, "--nocapture"]).env(VARIABLE, "1").output();
    let output = output.expect("it runs");
    let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(signal, Some(libc::SIGABRT), "{message}");
    assert!(message.contains("cache kmalloc-896: "), "{message}");
    assert!(message.contains("it is an object of another cache"), "{message}");
}
