//! A child of `fork` with a copy of a ring: its calls fail, and nothing that it drops reaches the parent.
#![expect(unsafe_code, reason = "fork")]

extern crate alloc;

mod common;

use core::time::Duration;
use std::io::Write;

use common::{Frames, finish, pair, run};
use pagemill_uring::fixed::FixedArena;
use pagemill_uring::{Event, ReceiveConfig, UringError};

/// Runs `child` in a child process, and returns its exit status.
fn in_child(child: impl FnOnce() -> bool) -> i32 {
    // SAFETY:
    // 1. The child runs `child` and ends by `_exit`. The C library's fork keeps its locks usable.
    match unsafe { libc::fork() } {
        0 => {
            let is_good = std::panic::catch_unwind(core::panic::AssertUnwindSafe(child));
            // SAFETY:
            // 1. Ends this process, and runs nothing of the test's.
            unsafe { libc::_exit(i32::from(!is_good.unwrap_or(false))) }
        }
        pid => {
            assert!(pid > 0);
            let mut status = 0;
            // SAFETY:
            // 1. The pointer is to a number of this function.
            assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
            status
        }
    }
}

#[test]
fn a_child_can_use_nothing_and_breaks_nothing() {
    let frames = Frames::new();
    let Some(mut ring) = frames.ring(&ReceiveConfig::new()) else { return };
    let mut arena = FixedArena::register(frames.frames.clone()).unwrap();
    let (socket, mut peer) = pair();
    let id = ring.add(socket).unwrap();
    peer.write_all(b"before").unwrap();
    let mut kept = Vec::new();
    run(&mut ring, |_ring, event| {
        let Event::Data { received, .. } = event else { panic!("{event:?}") };
        kept.push(received);
        true
    });
    // Fork copies the ring, with requests that the kernel has, and pages that it may fill.
    let mut parent = Some((ring, kept, arena));
    let status = in_child(|| {
        let (mut ring, kept, mut arena) = parent.take().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        let (_, read) =
            arena.read(&file, 0, Vec::<pagemill::Page<pagemill_host::SharedAllocator>>::new());
        let fails = [
            ring.wait(Some(Duration::ZERO)).map(drop),
            ring.add(file).map(drop),
            ring.close(id),
            read.map(drop),
        ];
        let is_good = fails == [Err(UringError::Forked); 4];
        drop((ring, kept, arena));
        is_good
    });
    assert_eq!(status, 0);
    (ring, kept, arena) = parent.take().unwrap();
    assert_eq!(kept[0].pieces().next(), Some(&b"before"[..]));
    peer.write_all(b"after").unwrap();
    run(&mut ring, |_ring, event| {
        let Event::Data { received, .. } = event else { panic!("{event:?}") };
        assert_eq!(received.pieces().next(), Some(&b"after"[..]));
        true
    });
    drop((kept, arena));
    finish(ring);
}
