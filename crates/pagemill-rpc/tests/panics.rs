//! Panics outside of procedures: in what receives, sends, accepts and looks after time limits. Each
//! costs one connection at most; threads, sockets, locks, pages and the budget stay usable.
//!
//! The panics come from the log, which the server calls in all these places.

mod common;

extern crate alloc;

use core::fmt;
use core::time::Duration;
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::{
    ECHO, READ_PAGES, TestProgram, World, message, opaque, read_args, record, small_config, words,
};
use pagemill_rpc::ServerConfig;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// The event at which the log panics next, once.
static ARMED: Mutex<Option<&str>> = Mutex::new(None);
/// One test at a time: the log is the process's.
static TURN: Mutex<()> = Mutex::new(());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Arms the log, and returns what keeps other tests from doing so.
fn panic_at(event: &'static str) -> MutexGuard<'static, ()> {
    let turn = lock(&TURN);
    // It is set already if another test came first.
    let _set = tracing::subscriber::set_global_default(Log);
    *lock(&ARMED) = Some(event);
    turn
}

struct Log;

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

impl Subscriber for Log {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let mut armed = lock(&ARMED);
        if *armed == Some(text.0.as_str()) {
            *armed = None;
            drop(armed);
            panic!("the log panics at {:?}, as a test wants it", text.0);
        }
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

fn assert_panicked_once(world: &World) {
    let stats = world.server.dispatcher().stats();
    world.await_that("a thread panicked", |_| stats.panicked.value() == 1);
    assert!(lock(&ARMED).is_none());
    // As many calls at once as there are threads.
    let mut clients: Vec<_> = (0..8).map(|_| world.client()).collect();
    for client in &mut clients {
        client.send(&record(&message(1, ECHO, &opaque(b"on"))));
    }
    for client in &mut clients {
        client.receive().expect("it is answered");
    }
    assert_eq!(world.server.nr_threads(), 4);
}

#[test]
fn a_thread_that_panics_with_a_connection_closes_it_and_goes_on() {
    let _turn = panic_at("closed a connection");
    let world = World::new();
    let mut client = world.client();
    // A record that is too long.
    client.send(&words(&[0xffff_ffff]));
    client.assert_closed();
    assert_panicked_once(&world);
}

#[test]
fn a_panic_while_a_reply_is_sent_closes_its_connection_and_returns_its_pages() {
    // With the lock of the connection's output held.
    let _turn = panic_at("replies wait for room in the socket");
    let world = World::new();
    let client = world.client();
    client.stream.set_nonblocking(true).expect("it is a socket");
    for xid in 0..40 {
        let call = record(&message(xid, READ_PAGES, &read_args(0, 1 << 20)));
        let _part = std::io::Write::write(&mut &client.stream, &call);
    }
    assert_panicked_once(&world);
    world.await_that("its pages are back", |world| world.server.parked_bytes() == 0);
}

#[test]
fn a_panic_while_connections_are_accepted_leaves_the_socket_open() {
    let _turn = panic_at("turned away: there are too many connections");
    let config = ServerConfig { max_connections: 1, ..small_config() };
    let world = World::with(config, TestProgram::default());
    let mut client = world.client();
    assert_eq!(client.call(ECHO, &opaque(b"a")), Ok(opaque(b"a")));
    world.client().assert_closed();
    let stats = world.server.dispatcher().stats();
    world.await_that("a thread panicked", |_| stats.panicked.value() == 1);
    drop(client);
    world.await_that("it is gone", |world| world.server.nr_connections() == 0);
    world.assert_alive();
    assert_eq!(world.server.nr_threads(), 4);
}

#[test]
fn a_panic_of_the_supervisor_does_not_end_time_limits() {
    let _turn = panic_at("closed a connection");
    let config = ServerConfig { idle_timeout: Duration::from_millis(50), ..small_config() };
    let world = World::with(config, TestProgram::default());
    for _ in 0..3 {
        world.client().assert_closed();
    }
    assert_eq!(world.server.dispatcher().stats().panicked.value(), 1);
}
