//! Shows that a registered arena is read into, cannot lose memory to the system, and says what it lacks.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests")]

extern crate alloc;

mod common;

use std::env;
use std::fs::File;
use std::io::Write;
use std::process::Command;

use common::{Frames, byte_at};
use pagemill::{AllocPages, Gfp, Order, Page};
use pagemill_host::arena::return_free_memory;
use pagemill_host::{HostError, SharedAllocator};
use pagemill_uring::UringError;
use pagemill_uring::fixed::FixedArena;

/// Registers an arena; `None` where io_uring cannot be used.
fn register(frames: &Frames) -> Option<FixedArena<SharedAllocator>> {
    match FixedArena::register(frames.frames.clone()) {
        Err(error) if error.is_unsupported() => {
            println!("SKIPPED: {error}");
            None
        }
        arena => Some(arena.unwrap()),
    }
}

/// Returns pages from all over the arena, none beside another.
fn scattered(frames: &Frames, nr: usize) -> Vec<Page<SharedAllocator>> {
    let page = || frames.frames.clone().alloc_page(Gfp::KERNEL).unwrap();
    let mut pages: Vec<_> = (0..2 * nr).map(|_| page()).collect();
    let mut nth = 0;
    pages.retain(|_| {
        nth += 1;
        nth % 2 == 0
    });
    pages
}

/// Returns a file of `len` bytes of the tests' stream.
fn file(len: u64) -> File {
    let path = env::temp_dir().join(format!("pagemill-uring-{}-{len}", std::process::id()));
    let mut file = File::create_new(&path).unwrap();
    file.write_all(&(0..len).map(byte_at).collect::<Vec<_>>()).unwrap();
    let opened = File::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    opened
}

#[test]
fn a_file_is_read_into_scattered_pages_up_to_its_end() {
    const LEN: u64 = 5_000_000;
    let frames = Frames::of(32 << 20);
    let Some(mut arena) = register(&frames) else { return };
    let file = file(LEN);
    // More pages than one request has pieces.
    let (pages, len) = arena.read(&file, 4096, scattered(&frames, 1500));
    assert_eq!(len, Ok(4_995_904));
    let bytes = pages.iter().flat_map(|page| page.as_bytes());
    assert!(bytes.zip(4096..LEN).all(|(&byte, place)| byte == byte_at(place)));
    let (pages, len) = arena.read(&file, LEN, pages);
    assert_eq!((pages.len(), len), (1500, Ok(0)));
    let (_, len) = arena.read(&file, 0, Vec::<Page<SharedAllocator>>::new());
    assert_eq!(len, Ok(0));
    let folio = frames.frames.clone().alloc_pages(Gfp::KERNEL, Order::new(4).unwrap()).unwrap();
    let (folios, len) = arena.read(&file, 0, vec![folio]);
    assert_eq!(len, Ok(65_536));
    assert!(folios[0].as_bytes().iter().zip(0..).all(|(&byte, place)| byte == byte_at(place)));
}

#[test]
fn memory_of_a_registered_arena_is_not_returned_until_the_last_registration_ends() {
    const BLOCK: u64 = 2 << 20;
    let frames = Frames::of(16 << 20);
    assert_eq!(return_free_memory(frames.frames.clone(), BLOCK), Ok(BLOCK));
    let Some(arena) = register(&frames) else { return };
    let clone = arena.try_clone();
    let refused = |nr_pins| {
        let returned = return_free_memory(frames.frames.clone(), BLOCK);
        assert_eq!(returned, Err(HostError::Pinned { nr_pins }));
    };
    let Ok(mut clone) = clone else {
        assert!(clone.unwrap_err().is_unsupported());
        refused(1);
        println!("SKIPPED: the kernel cannot clone registrations");
        return;
    };
    refused(2);
    drop(arena);
    refused(1);
    // The clone reads into the pages that everyone sees.
    let (pages, len) = clone.read(&file(8192), 0, scattered(&frames, 2));
    assert_eq!(len, Ok(8192));
    assert!(pages[1].as_bytes().iter().zip(4096..).all(|(&byte, place)| byte == byte_at(place)));
    drop(clone);
    assert_eq!(return_free_memory(frames.frames.clone(), BLOCK), Ok(BLOCK));
}

#[test]
fn pages_of_another_arena_and_errors_of_the_file_come_back() {
    let (frames, others) = (Frames::of(8 << 20), Frames::of(8 << 20));
    let Some(mut arena) = register(&frames) else { return };
    let (pages, result) = arena.read(&file(1), 0, scattered(&others, 2));
    assert!(matches!(result, Err(UringError::NotInArena { .. })), "{result:?}");
    assert_eq!(pages.len(), 2);
    let folder = File::open("/").unwrap();
    let (pages, result) = arena.read(&folder, 0, scattered(&frames, 2));
    assert!(matches!(result, Err(UringError::Os { .. })), "{result:?}");
    assert_eq!(pages.len(), 2);
}

/// In a user namespace the process has no right to lock more than its limit.
#[test]
fn an_arena_beyond_the_limit_of_locked_memory_is_refused_with_the_limit() {
    const INNER: &str = "PAGEMILL_URING_INNER";
    if env::var_os(INNER).is_some() {
        let frames = Frames::of(64 << 20);
        match FixedArena::register(frames.frames.clone()) {
            Err(UringError::LockedMemory { len_bytes, limit_bytes }) => {
                assert_eq!((len_bytes, limit_bytes), (64 << 20, Some(4 << 20)));
                // The failed registration leaves no pin.
                assert!(return_free_memory(frames.frames.clone(), 2 << 20).is_ok());
                println!("inner: refused");
            }
            Err(error) if error.is_unsupported() => println!("inner: SKIPPED {error}"),
            other => panic!("{other:?}"),
        }
        return;
    }
    let command = "ulimit -l 4096 && exec unshare --user \"$0\" --nocapture --exact \
                   an_arena_beyond_the_limit_of_locked_memory_is_refused_with_the_limit";
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).arg(env::current_exe().unwrap());
    let output = shell.env(INNER, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if text.contains("inner: refused") {
        assert!(output.status.success(), "{text}");
    } else {
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!error.contains("panicked"), "{error}");
        println!("SKIPPED: no user namespace here: {text} {error}");
    }
}
