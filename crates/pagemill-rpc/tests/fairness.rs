//! What one client takes does not keep others waiting: threads, memory, places, descriptors.
//!
//! Time limits that a test does not mean are far longer than the test may take.

#![expect(clippy::unwrap_used, reason = "what is not as expected fails the test")]

mod common;

extern crate alloc;

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;
use std::io::Write;
use std::thread;

use common::{
    Client, ECHO, FAIL, GATE, PATIENCE, READ_FILE, READ_PAGES, REFUSE, SUM, TestProgram, World,
    assert_read, file_of, message, opaque, pattern, read_args, record, results, small_config,
    words,
};
use pagemill_rpc::ServerConfig;

const NEVER: Duration = PATIENCE.saturating_mul(10);
const SOON: Duration = Duration::from_millis(100);
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Closes nothing for want of memory.
fn patient() -> ServerConfig {
    ServerConfig {
        pressure_timeout: NEVER,
        stall_timeout: NEVER,
        share_timeout: NEVER,
        record_timeout: NEVER,
        reply_timeout: NEVER,
        ..small_config()
    }
}

fn sum_call(xid: u32) -> Vec<u8> {
    record(&message(xid, SUM, &opaque(&vec![1; 1 << 20])))
}

/// Opens connections from `from` that begin a call of 1 MiB and send `len` bytes of it.
fn half_open(world: &World, from: Ipv4Addr, nr: usize, len: usize) -> Vec<Client> {
    let whole = sum_call(1);
    let open = |_| {
        let client = world.client_from(from);
        client.stream.set_nonblocking(true).unwrap();
        // The server stops reading where the budget ends.
        let _part = (&client.stream).write(&whole[..len]);
        client
    };
    (0..nr).map(open).collect()
}

/// Makes a call of 1 MiB in two parts, so that the server must keep the first.
fn slow_sum(client: &mut Client) {
    let whole = sum_call(9);
    let (first, second) = whole.split_at(whole.len() / 2);
    client.send(first);
    client.send(second);
    results(&client.receive().unwrap(), 9).unwrap();
}

#[test]
fn memory_is_reserved_for_bytes_that_came_and_not_for_bytes_announced() {
    let world = World::with(patient(), TestProgram::default());
    // Together they announce 40 MiB; the budget is 8 MiB.
    let clients = half_open(&world, Ipv4Addr::LOCALHOST, 40, 6000);
    world.await_that("all have begun", |world| world.server.nr_connections() == 40);
    slow_sum(&mut world.client());
    assert_eq!(world.server.dispatcher().stats().parked.value(), 0, "no connection had to wait");
    assert!(world.server.parked_bytes() <= 40 * 8192);
    drop(clients);
}

#[test]
fn a_client_that_fills_the_budget_gives_way_to_one_that_holds_less() {
    let config = ServerConfig { share_timeout: SOON, ..patient() };
    let world = World::with(config, TestProgram::default());
    let clients = half_open(&world, OTHER, 40, 700_000);
    let stats = world.server.dispatcher().stats();
    world.await_that("the budget is used up", |_| stats.parked.value() > 0);
    assert_eq!(stats.evicted.value(), 0, "they wait for each other, and none is closed for that");
    slow_sum(&mut world.client());
    assert!(stats.evicted.value() > 0);
    drop(clients);
}

#[test]
fn connections_that_stand_still_give_way_to_others_of_their_client() {
    let config = ServerConfig { stall_timeout: SOON, ..patient() };
    let world = World::with(config, TestProgram::default());
    let clients = half_open(&world, Ipv4Addr::LOCALHOST, 40, 700_000);
    let stats = world.server.dispatcher().stats();
    world.await_that("the budget is used up", |_| stats.parked.value() > 0);
    slow_sum(&mut world.client());
    drop(clients);
}

#[test]
fn connections_that_all_wait_for_memory_all_go_on() {
    // Each sends all of its call, in pieces that come at the same time: no one may wait for another
    // for ever, and none is closed.
    let world = World::with(patient(), TestProgram::default());
    thread::scope(|scope| {
        let threads: Vec<_> = (0..40)
            .map(|_| {
                let mut client = world.client();
                scope.spawn(move || {
                    for piece in sum_call(1).chunks(100_000) {
                        client.send(piece);
                        thread::yield_now();
                    }
                    results(&client.receive().unwrap(), 1).unwrap();
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    assert_eq!(world.server.dispatcher().stats().evicted.value(), 0);
}

#[test]
fn replies_that_a_client_does_not_read_do_not_keep_another_waiting() {
    let parked_bytes = patient().max_record_bytes();
    let config = ServerConfig { share_timeout: SOON, parked_bytes, ..patient() };
    let world = World::with(config, TestProgram::default());
    let clients: Vec<_> = (0..20_u32)
        .map(|number| {
            let client = world.client_from(OTHER);
            client.stream.set_nonblocking(true).unwrap();
            // Of different lengths: how much of the last reply a socket takes differs, too.
            let len = (1 << 20) - number * 40_000;
            for xid in 0..40 {
                let call = record(&message(xid, READ_PAGES, &read_args(0, len)));
                let _part = (&client.stream).write(&call);
            }
            client
        })
        .collect();
    world.await_that("the budget is used up", |world| world.server.parked_bytes() > parked_bytes);
    let mut client = world.client();
    for _ in 0..10 {
        assert_read(&client.call(READ_PAGES, &read_args(5, 1 << 20)).unwrap(), 5, 1 << 20);
    }
    drop(clients);
}

#[test]
fn unread_replies_keep_a_bounded_number_of_files_open() {
    const LEN: usize = 1 << 20;
    const NR_CLIENTS: u64 = 6;
    const NR_CALLS: u32 = 40;
    let file = (0..LEN as u64).map(pattern).collect::<Vec<_>>();
    let program = TestProgram { file: Some(file_of(&file)), ..TestProgram::default() };
    let config = ServerConfig { max_kept_files: 3, parked_bytes: 64 << 20, ..patient() };
    let world = World::with(config, program);
    let kept = || world.server.nr_kept_files();
    let mut clients: Vec<_> = (0..NR_CLIENTS).map(|_| world.client()).collect();
    for client in &mut clients {
        // More than a socket has room for.
        for xid in 0..NR_CALLS {
            client.send(&record(&message(xid, READ_FILE, &read_args(0, 1 << 20))));
        }
    }
    let stats = world.server.dispatcher().stats();
    world.await_that("all are backlogged", |_| stats.backlogged.value() >= NR_CLIENTS);
    assert!((1..=3 + config.nr_threads).contains(&kept()), "{} files", kept());
    // The replies are the same from pages.
    for client in &mut clients {
        for _ in 0..NR_CALLS {
            let reply = client.receive().unwrap();
            let xid = u32::from_be_bytes(reply[..4].try_into().unwrap());
            assert!(results(&reply, xid).unwrap()[8..] == file, "call {xid}");
        }
    }
    world.await_that("no file is kept", |_| kept() == 0);
}

#[test]
fn connections_that_only_send_null_give_way_to_new_ones() {
    let world =
        World::with(ServerConfig { max_connections: 8, ..patient() }, TestProgram::default());
    let mut useful = world.client();
    assert_eq!(useful.call(ECHO, &opaque(b"a")).unwrap(), opaque(b"a"));
    let mut chatty: Vec<_> = (0..7).map(|_| world.client()).collect();
    for _ in 0..20 {
        for client in &mut chatty {
            // Those that were closed are no longer heard.
            if client.stream.write_all(&record(&message(1, 0, &[]))).is_ok() {
                let _gone = client.receive();
            }
        }
        let mut new = world.client();
        assert_eq!(new.call(0, &[]).unwrap(), []);
        chatty.remove(0);
        chatty.push(new);
    }
    assert_eq!(useful.call(ECHO, &opaque(b"b")).unwrap(), opaque(b"b"), "it is of use");
    assert_eq!(world.server.dispatcher().stats().turned_away.value(), 0);
}

/// Every kind of call that succeeds at nothing, each made on a connection of its own.
#[test]
fn calls_that_are_refused_do_not_make_a_connection_useful() {
    let world =
        World::with(ServerConfig { max_connections: 8, ..patient() }, TestProgram::default());
    let mut useful = world.client();
    assert_eq!(useful.call(ECHO, &opaque(b"a")).unwrap(), opaque(b"a"));
    let mut junk: Vec<_> = (0..7).map(|_| world.client()).collect();
    let no_such_procedure = 99;
    assert_eq!(junk[0].call(REFUSE, &[]).unwrap(), words(&[7]), "refused by the program");
    // The call again, whose reply was kept.
    junk[0].xid -= 1;
    assert_eq!(junk[0].call(REFUSE, &[]).unwrap(), words(&[7]));
    assert!(junk[1].call(ECHO, &[]).is_err(), "GARBAGE_ARGS");
    assert!(junk[2].call(FAIL, &[]).is_err(), "SYSTEM_ERR");
    assert!(junk[3].call(no_such_procedure, &[]).is_err(), "PROC_UNAVAIL");
    assert!(junk[4].call(SUM, &[0xff; 4]).is_err(), "GARBAGE_ARGS of a slow procedure");
    assert_eq!(junk[5].call(0, &[]).unwrap(), [], "NULL");
    // Each new one takes the place of one that is of no use, however recent its calls are.
    let mut new: Vec<_> = (0..7).map(|_| world.client()).collect();
    for client in &mut new {
        assert_eq!(client.call(ECHO, &opaque(b"new")).unwrap(), opaque(b"new"));
    }
    junk.iter_mut().for_each(Client::assert_closed);
    assert_eq!(useful.call(ECHO, &opaque(b"b")).unwrap(), opaque(b"b"), "it is of use");
    assert_eq!(world.server.dispatcher().stats().turned_away.value(), 0);
}

#[test]
fn a_client_with_many_connections_in_use_gives_way_to_one_with_fewer() {
    let world =
        World::with(ServerConfig { max_connections: 6, ..patient() }, TestProgram::default());
    let mut many: Vec<_> = (0..6).map(|_| world.client_from(OTHER)).collect();
    for client in &mut many {
        assert_eq!(client.call(ECHO, &opaque(b"a")).unwrap(), opaque(b"a"));
    }
    // Its own seventh is turned away: all are in use.
    world.client_from(OTHER).assert_closed();
    assert_eq!(world.server.dispatcher().stats().turned_away.value(), 1);
    let mut others: Vec<_> = (0..3).map(|_| world.client()).collect();
    for client in &mut others {
        assert_eq!(client.call(ECHO, &opaque(b"a")).unwrap(), opaque(b"a"));
    }
    // Three each: neither takes more from the other.
    world.client().assert_closed();
    for client in many.iter_mut().skip(3).chain(&mut others) {
        assert_eq!(client.call(ECHO, &opaque(b"b")).unwrap(), opaque(b"b"));
    }
}

#[test]
fn strangers_give_way_to_clients_that_are_known() {
    let known = TestProgram { known: Some(Ipv4Addr::LOCALHOST.into()), ..Default::default() };
    let config = ServerConfig { max_connections: 4, share_timeout: SOON, ..patient() };
    let world = World::with(config, known);
    let mut strangers: Vec<_> =
        (2..6).map(|host| world.client_from([127, 0, 0, host].into())).collect();
    for client in &mut strangers {
        assert_eq!(client.call(ECHO, &opaque(b"a")).unwrap(), opaque(b"a"));
    }
    let mut known: Vec<_> = (0..4).map(|_| world.client()).collect();
    for client in &mut known {
        assert_eq!(client.call(ECHO, &opaque(b"a")).unwrap(), opaque(b"a"));
    }
    strangers.iter_mut().for_each(Client::assert_closed);
    world.client_from(OTHER).assert_closed();
    for client in &mut known {
        assert_eq!(client.call(ECHO, &opaque(b"b")).unwrap(), opaque(b"b"));
    }
}

#[test]
fn one_that_does_not_finish_its_call_gives_way_after_a_second() {
    let world =
        World::with(ServerConfig { max_connections: 2, ..patient() }, TestProgram::default());
    let mut clients = [world.client(), world.client()];
    for client in &mut clients {
        assert_eq!(client.call(ECHO, &opaque(b"a")).unwrap(), opaque(b"a"));
    }
    clients[1].send(&record(&message(2, ECHO, &opaque(b"slow")))[..10]);
    // The other stays in use.
    let [used, unfinished] = &mut clients;
    world.await_that("a new connection is served", |world| {
        assert_eq!(used.call(ECHO, &opaque(b"b")).unwrap(), opaque(b"b"));
        let mut new = world.client();
        let sent = new.stream.write_all(&record(&message(1, 0, &[])));
        sent.is_ok() && new.receive().is_ok()
    });
    unfinished.assert_closed();
    assert_eq!(used.call(ECHO, &opaque(b"c")).unwrap(), opaque(b"c"));
}

/// The calls of one client occupy all threads and wait on many more connections.
#[test]
fn a_client_with_250_connections_that_wait_delays_another_by_few_calls() {
    let nr_threads = 4;
    let config = ServerConfig { max_connections: 300, ..patient() };
    let world = World::with(ServerConfig { nr_threads, ..config }, TestProgram::default());
    let mut many: Vec<_> = (0..250).map(|_| world.client_from(OTHER)).collect();
    let mut own: Vec<_> = (0..10).map(|_| world.client()).collect();
    for client in many.iter_mut().chain(&mut own) {
        assert_eq!(client.call(ECHO, &opaque(b"a")).unwrap(), opaque(b"a"));
    }
    let (gate, call) = (&world.program.gate, record(&message(9, GATE, &[])));
    many.iter_mut().for_each(|client| client.send(&call));
    assert_eq!(gate.wait_for(nr_threads), [OTHER; 4], "a client that is alone has all threads");
    let nr_own = |came_from: &[IpAddr]| came_from.iter().filter(|&&from| from != OTHER).count();
    let mut nr_admitted = 0;
    for (index, client) in own.iter_mut().enumerate() {
        client.send(&call);
        // Longer than a thread takes from one look at new events to the next.
        thread::sleep(Duration::from_millis(5));
        let before = nr_admitted;
        // For each call that ends, one begins.
        while nr_own(&gate.wait_for(nr_threads + nr_admitted)) <= index {
            assert!(
                nr_admitted < before + 3,
                "call {index}: three calls of the other began before"
            );
            gate.admit_one();
            nr_admitted += 1;
        }
    }
    gate.open();
    for client in many.iter_mut().chain(&mut own) {
        results(&client.receive().unwrap(), 9).unwrap();
    }
}
