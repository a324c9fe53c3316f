//! No file descriptors are left: nobody spins, those who are in are served, and when there are
//! some again others get in. A test of its own, because the limit is the process's.

#[expect(
    dead_code,
    clippy::cast_possible_truncation,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "what tests share, of which each uses a part"
)]
mod common;

extern crate alloc;

use std::fs::File;

use common::{ECHO, World, opaque};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn without_descriptors_the_server_waits_and_goes_on() {
    let world = World::new();
    let mut inside = world.client();
    assert_eq!(inside.call(0, &[]).expect("it is inside"), []);
    let before = getrlimit(Resource::Nofile);
    let limit = Rlimit { current: Some(256), maximum: before.maximum };
    setrlimit(Resource::Nofile, limit).expect("less is allowed");

    // Everything is used up but for the one that the client's own socket takes.
    let mut files: Vec<_> = core::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    files.pop();
    let outside = world.client();
    let stats = world.server.dispatcher().stats();
    world.await_that("a connection cannot be accepted", |_| stats.accept_failures.value() > 0);
    for _ in 0..20 {
        assert_eq!(inside.call(ECHO, &opaque(b"in")).expect("it is inside"), opaque(b"in"));
    }
    // It is tried a few times a second, and not as often as the processor can.
    let (failures, begun) = (stats.accept_failures.value(), std::time::Instant::now());
    world.await_that("it is tried again", |_| stats.accept_failures.value() > failures + 3);
    assert!(begun.elapsed().as_millis() >= 25, "{:?} for four tries", begun.elapsed());

    drop(files);
    let mut outside = outside;
    assert_eq!(outside.call(ECHO, &opaque(b"out")).expect("it got in"), opaque(b"out"));
    setrlimit(Resource::Nofile, before).expect("as before");
}
