//! What clients do that are broken, slow, or mean: others are served meanwhile, nothing is
//! allocated on the word of a length, and every page comes back.

#![expect(clippy::cast_possible_truncation, reason = "the numbers are small")]

mod common;

extern crate alloc;

use core::time::Duration;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use common::{
    ECHO, PROG, READ_FILE, READ_PAGES, SUM, TestProgram, VERS, World, assert_read, message, opaque,
    read_args, record, results, small_config, words,
};
use pagemill::debug::FaultConfig;
use pagemill::source::PageSource;
use pagemill_rpc::ServerConfig;

fn raw(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}

/// A call to `NULL` with a credential and verifier of any shape.
fn call_with(cred: &[u8], verf: &[u8]) -> Vec<u8> {
    [&words(&[9, 0, 2, PROG, VERS, 0])[..], cred, verf].concat()
}

fn auth_sys(machinename: usize, nr_gids: usize) -> Vec<u8> {
    let mut body = words(&[0]);
    body.extend(opaque(&vec![b'm'; machinename]));
    body.extend(words(&[1000, 1000, nr_gids as u32]));
    body.extend(words(&vec![7; nr_gids]));
    [words(&[1]), opaque(&body)].concat()
}

#[test]
fn malformed_calls_are_answered_as_the_kernel_answers_or_stricter() {
    let world = World::new();
    let none = words(&[0, 0]);
    let garbage = vec![9, 1, 0, 0, 0, 4];
    let accepted = vec![9, 1, 0, 0, 0, 0];
    let refused = |stat| vec![9, 1, 1, 1, stat];
    let cases = [
        ("no credentials", call_with(&none, &none), accepted.clone()),
        ("16 groups", call_with(&auth_sys(255, 16), &none), accepted.clone()),
        ("17 groups", call_with(&auth_sys(4, 17), &none), refused(1)),
        ("machinename of 256", call_with(&auth_sys(256, 0), &none), refused(1)),
        (
            "credential of 400 bytes",
            call_with(&[words(&[0]), opaque(&[0; 400])].concat(), &none),
            accepted.clone(),
        ),
        (
            "credential of 404 bytes",
            call_with(&[words(&[1]), opaque(&[0; 404])].concat(), &none),
            garbage.clone(),
        ),
        ("credential of 4 GiB", call_with(&words(&[1, 0xffff_ffff]), &[]), garbage.clone()),
        ("credential that is cut", call_with(&words(&[1, 40, 1, 2]), &[]), garbage.clone()),
        ("short AUTH_SYS", call_with(&[words(&[1]), opaque(&[0; 8])].concat(), &none), refused(1)),
        (
            "AUTH_SYS with a tail",
            call_with(&[words(&[1]), opaque(&words(&[0, 0, 1, 1, 0, 5]))].concat(), &none),
            refused(1),
        ),
        ("verifier of 2 GiB", call_with(&none, &words(&[0, 0x7fff_ffff])), refused(3)),
        ("verifier with a body", call_with(&none, &words(&[0, 4, 1])), refused(3)),
        ("no verifier", call_with(&none, &[]), refused(3)),
        ("AUTH_TLS", call_with(&words(&[7, 0]), &none), refused(2)),
        ("no arguments", message(9, ECHO, &[]), garbage.clone()),
        ("a length of 4 GiB", message(9, ECHO, &words(&[0xffff_fffc])), garbage.clone()),
        ("a length above the data", message(9, ECHO, &words(&[8, 1])), garbage.clone()),
        ("data without its padding", message(9, ECHO, &[0, 0, 0, 1, 1]), garbage),
    ];
    for (what, call, wanted) in cases {
        let mut client = world.client();
        assert_eq!(client.exchange(&call), wanted, "{what}");
        // The connection goes on.
        assert_eq!(client.call(ECHO, &opaque(b"next")).unwrap(), opaque(b"next"), "{what}");
    }
}

#[test]
fn what_is_no_call_is_not_answered() {
    let world = World::new();
    let mut client = world.client();
    // A reply is dropped; what follows is answered.
    client.send(&record(&words(&[5, 1, 0, 0, 0, 0])));
    client.send(&record(&words(&[6, 7, 2, PROG])));
    assert_eq!(client.call(0, &[]).unwrap(), []);
    for short in [raw(&[]), words(&[1]), words(&[1, 0]), words(&[1, 0, 2, PROG, VERS]), raw(&[1])] {
        let mut client = world.client();
        client.send(&record(&short));
        client.assert_closed();
    }
    world.assert_alive();
}

#[test]
fn record_marks_are_not_believed() {
    let world = World::new();
    let max = small_config().max_record_bytes() as u32;
    for mark in [0x7fff_ffff, 0xffff_ffff, max + 1, 0x8000_0000 | (max + 1)] {
        let mut client = world.client();
        client.send(&words(&[mark, 1, 2]));
        client.assert_closed();
    }
    // The sum counts, not only each fragment.
    let mut client = world.client();
    client.send(&words(&[max / 2]));
    client.send(&vec![0; max as usize / 2]);
    client.send(&words(&[0x8000_0000 | (max / 2 + 2)]));
    client.assert_closed();
    // Fragments without a byte are bounded.
    let mut client = world.client();
    client.send(&vec![0; 60 * 4]);
    assert_eq!(client.call(0, &[]).unwrap(), []);
    let mut client = world.client();
    let _refused = client.stream.write_all(&vec![0; 20_000 * 4]);
    client.assert_closed();
    // A thread may be about to free what a closed connection held.
    world.await_that("all memory is free", |world| world.server.parked_bytes() == 0);
}

#[test]
fn any_cut_of_a_call_is_survived() {
    let world = World::new();
    let whole = record(&message(1, SUM, &opaque(&[1; 5000])));
    let points = (0..60).chain([4000, 4095, 4096, 4097, whole.len() - 1]);
    for point in points {
        let mut client = world.client();
        client.send(&whole[..point]);
        client.shutdown();
    }
    world.assert_alive();
    world.await_that("all are gone", |world| world.server.nr_connections() == 0);
    // A thread may still hold a connection that has left the table, and with it memory.
    world.await_that("all memory is free", |world| world.server.parked_bytes() == 0);
}

#[test]
fn a_padded_call_does_not_shrink_its_reply() {
    // CVE-2022-43945: with one array for both, a call that fills it leaves the reply no pages.
    let world = World::new();
    let mut client = world.client();
    let max = small_config().max_record_bytes();
    let mut call = message(3, READ_PAGES, &read_args(9, 1 << 20));
    call.resize(max, 0xaa);
    client.send(&record(&call));
    assert_read(&results(&client.receive().unwrap(), 3).unwrap(), 9, 1 << 20);
}

#[test]
fn slow_clients_do_not_keep_others_waiting() {
    let config = ServerConfig {
        record_timeout: Duration::from_millis(400),
        idle_timeout: Duration::from_millis(800),
        ..small_config()
    };
    let world = World::with(config, TestProgram::default());
    let mut slow: Vec<_> = (0..20).map(|_| world.client()).collect();
    for client in &mut slow {
        client.send(&record(&message(1, ECHO, &opaque(b"slow")))[..10]);
    }
    let idle = world.client();
    world.assert_alive();
    for client in &mut slow {
        client.assert_closed();
    }
    { idle }.assert_closed();
    // The last is counted after its client sees it closed.
    world.await_that("all are counted", |world| {
        world.server.dispatcher().stats().timed_out.value() >= 21
    });
}

#[test]
fn many_unfinished_calls_do_not_use_up_the_pages() {
    // 40 clients say that 1 MiB follows and stop half way; the budget is 8 MiB.
    let config = ServerConfig { pressure_timeout: Duration::from_millis(300), ..small_config() };
    let world = World::with(config, TestProgram::default());
    let whole = record(&message(1, SUM, &opaque(&vec![1; 1 << 20])));
    let half = &whole[..whole.len() / 2];
    let clients: Vec<_> = (0..40)
        .map(|_| {
            let client = world.client();
            client.stream.set_nonblocking(true).unwrap();
            let _part = (&client.stream).write(half);
            client
        })
        .collect();
    world
        .await_that("some must wait", |world| world.server.dispatcher().stats().parked.value() > 0);
    assert!(world.server.parked_bytes() <= (8 << 20) + 2 * small_config().max_record_bytes());
    // Small calls are served at once, large ones when those who dawdle are gone.
    world.assert_alive();
    let mut client = world.client();
    client.send(&whole);
    results(&client.receive().unwrap(), 1).unwrap();
    drop(clients);
}

#[test]
fn clients_that_never_read_do_not_use_up_the_pages() {
    let bytes = vec![3; 1 << 20];
    let file = common::file_of(&bytes);
    let config = ServerConfig { pressure_timeout: Duration::from_millis(300), ..small_config() };
    let world = World::with(config, TestProgram { file: Some(file), ..Default::default() });
    for proc in [READ_PAGES, READ_FILE] {
        let mut clients: Vec<_> = (0..30).map(|_| world.client()).collect();
        for client in &mut clients {
            client.stream.set_nonblocking(true).unwrap();
            for xid in 0..40 {
                let call = record(&message(xid, proc, &read_args(0, 1 << 20)));
                let _part = client.stream.write(&call);
            }
        }
        world.await_that("replies pile up", |world| {
            world.server.dispatcher().stats().backlogged.value() > 0
        });
        let mut client = world.client();
        for xid in 100..110 {
            client.xid = xid;
            world.assert_alive();
            assert_eq!(client.call(READ_FILE, &read_args(0, 5000)).unwrap().len(), 5008);
        }
        // What is kept is bounded: the budget, and a reply for each thread.
        assert!(world.server.parked_bytes() <= (8 << 20) + 4 * 260 * 4096);
        drop(clients);
        world.await_that("the pages are back", |world| world.server.parked_bytes() == 0);
    }
}

#[test]
fn replies_that_are_not_read_in_time_end_the_connection() {
    let config = ServerConfig { reply_timeout: Duration::from_millis(300), ..small_config() };
    let world = World::with(config, TestProgram::default());
    let mut client = world.client();
    for xid in 0..40 {
        client.send(&record(&message(xid, READ_PAGES, &read_args(0, 1 << 20))));
    }
    world.await_that("it is closed", |world| world.server.nr_connections() == 0);
    // A thread may still hold the connection, and with it the memory of its replies.
    world.await_that("all memory is free", |world| world.server.parked_bytes() == 0);
}

#[test]
fn connections_opened_and_dropped_leave_nothing() {
    let world = World::new();
    let begun = Instant::now();
    let mut nr = 0;
    // As many as twenty seconds allow, but enough of them on a busy machine too.
    while nr < 10_000 && (nr <= 1000 || begun.elapsed() < Duration::from_secs(20)) {
        let stream = TcpStream::connect(world.addr()).unwrap();
        match nr % 3 {
            0 => {}
            1 => {
                let _part = (&stream).write(&[0x80, 0, 0]);
            }
            _ => {
                let _part = (&stream).write(&record(&message(1, 0, &[])));
            }
        }
        nr += 1;
    }
    world.assert_alive();
    world.await_that("all are gone", |world| world.server.nr_connections() == 0);
}

#[test]
fn nonsense_in_any_shape_is_survived() {
    let world = World::new();
    let seed = std::env::var("PAGEMILL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let mut random = Random(seed);
    let template = record(&message(1, ECHO, &opaque(b"some text to be changed")));
    for round in 0..300 {
        let mut bytes = template.clone();
        for _ in 0..1 + random.below(6) {
            let at = random.below(bytes.len());
            match random.below(3) {
                0 => bytes[at] = random.next() as u8,
                1 => bytes.truncate(at.max(1)),
                _ => bytes[at..].fill(0xff),
            }
        }
        let mut client = world.client();
        client.stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        let _part = client.stream.write(&bytes);
        let mut answer = [0; 256];
        let _some = client.stream.read(&mut answer);
        if round % 50 == 0 {
            world.assert_alive();
        }
    }
    world.assert_alive();
}

#[test]
fn without_pages_calls_wait_and_are_then_answered() {
    let seed = 7;
    let world = World::with(
        ServerConfig { keep_reply_pages: false, ..small_config() },
        TestProgram::default(),
    );
    let allocator = world.frames.allocator();
    let faults = FaultConfig {
        interval: 1,
        probability: FaultConfig::ALWAYS / 2,
        seed,
        ..FaultConfig::NEVER
    };
    allocator.inject_faults(&faults);
    let mut client = world.client();
    for xid in 1..200 {
        let len = 1 + (xid * 7919) % 300_000;
        client.send(&record(&message(xid, READ_PAGES, &read_args(u64::from(xid), len))));
        assert_read(
            &results(&client.receive().unwrap(), xid).unwrap(),
            u64::from(xid),
            len as usize,
        );
    }
    // Nothing at all can be had: a stop does not hang, and an end of the shortage is noticed.
    allocator.inject_faults(&FaultConfig::EVERY);
    client.send(&record(&message(500, READ_PAGES, &read_args(0, 200_000))));
    client.send(&record(&message(501, READ_PAGES, &read_args(0, 200_000))));
    world.await_that("a thread waits for pages", |world| {
        world.server.dispatcher().stats().refills.waits.value() > 10
    });
    allocator.inject_faults(&FaultConfig::NEVER);
    client.receive().unwrap();
    client.receive().unwrap();
    allocator.inject_faults(&FaultConfig::EVERY);
    client.send(&record(&message(502, READ_PAGES, &read_args(0, 200_000))));
    let begun = Instant::now();
    world.server.stop(Duration::from_mins(3));
    assert!(begun.elapsed() < Duration::from_mins(3));
    allocator.inject_faults(&FaultConfig::NEVER);
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 27)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}
