//! No file descriptors are left: connections of no use are closed, others are served, and the
//! server tries to accept again without spinning. A test of its own, because the limit is the
//! process's.

mod common;

extern crate alloc;

use std::fs::File;

use common::{ECHO, World, opaque};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn without_descriptors_useless_connections_go_and_the_server_does_not_spin() {
    let world = World::new();
    let mut inside = world.client();
    let mut keep_in_use =
        move || assert_eq!(inside.call(ECHO, &opaque(b"in")).expect("it is inside"), opaque(b"in"));
    keep_in_use();
    let mut idle = world.client();
    assert_eq!(idle.call(0, &[]).expect("it is inside"), []);
    let before = getrlimit(Resource::Nofile);
    let limit = Rlimit { current: Some(256), maximum: before.maximum };
    setrlimit(Resource::Nofile, limit).expect("less is allowed");

    // Everything is used up but for the one that the client's own socket takes.
    let mut files: Vec<_> = core::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    files.pop();
    let mut second = world.client();
    let stats = world.server.dispatcher().stats();
    world.await_that("a connection cannot be accepted", |_| {
        keep_in_use();
        stats.accept_failures.value() > 0
    });
    // The idle connection gives its descriptor up once it has been idle for a second.
    world.await_that("one is closed for it", |_| {
        keep_in_use();
        stats.evicted.value() > 0
    });
    idle.assert_closed();
    assert_eq!(second.call(ECHO, &opaque(b"on")).expect("it got in"), opaque(b"on"));
    let mut keep_both_in_use = move || {
        keep_in_use();
        assert_eq!(second.call(ECHO, &opaque(b"on")).expect("it is in"), opaque(b"on"));
    };

    // The client's end of the idle connection is the last that is free.
    drop(idle);
    let third = world.client();
    let tried = stats.accept_failures.value();
    let begun = std::time::Instant::now();
    // It is tried a few times a second, and not as often as the processor can.
    world.await_that("it is tried again", |_| {
        keep_both_in_use();
        stats.accept_failures.value() > tried + 4
    });
    assert!(begun.elapsed().as_millis() >= 25, "{:?} for four tries", begun.elapsed());
    assert_eq!(stats.evicted.value(), 1, "the others are in use");

    drop(files);
    let mut third = third;
    assert_eq!(third.call(ECHO, &opaque(b"out")).expect("it got in"), opaque(b"out"));
    setrlimit(Resource::Nofile, before).expect("as before");
}
