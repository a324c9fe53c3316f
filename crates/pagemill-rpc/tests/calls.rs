//! Calls over real sockets: what is answered, and that nothing is lost.

#![expect(clippy::cast_possible_truncation, reason = "the numbers are small")]

mod common;

extern crate alloc;

use core::net::{Ipv6Addr, SocketAddr};
use core::sync::atomic::Ordering;
use core::time::Duration;
use std::net::UdpSocket;

use common::{
    COUNT, Client, ECHO, FAIL, GATE, LONG_HEAD, PANIC, PROG, QUICK_GATE, READ_FILE, READ_OWN,
    READ_PAGES, SLOW_PANIC, SUM, TestProgram, VERS, World, assert_read, file_of, message, opaque,
    pattern, read_args, record, results, small_config, to_words, words,
};
use pagemill_rpc::ServerConfig;

#[test]
fn null_and_echo_are_answered() {
    let world = World::new();
    let mut client = world.client();
    assert_eq!(client.call(0, &[]).unwrap(), []);
    for len in [0, 1, 3, 4, 5, 100, 4000, 4096, 5000, 60_000] {
        let bytes: Vec<u8> = (0..len).map(pattern).collect();
        assert_eq!(client.call(ECHO, &opaque(&bytes)).unwrap(), opaque(&bytes), "{len}");
    }
}

#[test]
fn bodies_come_from_pages_from_files_and_from_others() {
    let bytes: Vec<u8> = (0..(1 << 20) + 777).map(pattern).collect();
    let world = World::with(
        small_config(),
        TestProgram { file: Some(file_of(&bytes)), ..Default::default() },
    );
    let mut client = world.client();
    for proc in [READ_PAGES, READ_FILE, READ_OWN] {
        for (offset, len) in [(0, 0), (0, 1), (5, 4096), (777, 1 << 20), (4095, 5), (1, 70_001)] {
            let got = client.call(proc, &read_args(offset, len)).unwrap();
            assert_read(&got, offset, len as usize);
        }
    }
}

#[test]
fn a_body_is_cut_to_the_room_of_the_reply() {
    let world = World::new();
    let got = world.client().call(READ_PAGES, &read_args(0, u32::MAX)).unwrap();
    let len = to_words(&got[..8])[1] as usize;
    assert!((1 << 20..=259 * 4096).contains(&len), "{len}");
    assert_read(&got, 0, len);
}

#[test]
fn a_file_that_ends_early_is_filled_up_with_zeroes() {
    let file = file_of(&[7; 5000]);
    let world = World::with(small_config(), TestProgram { file: Some(file), ..Default::default() });
    let got = world.client().call(READ_FILE, &read_args(0, 100_001)).unwrap();
    assert_eq!(to_words(&got[..8]), [0, 100_001]);
    assert!(got[8..5008].iter().all(|&byte| byte == 7));
    assert_eq!(got.len(), 8 + 100_004);
    assert!(got[5008..].iter().all(|&byte| byte == 0));
}

/// One system call sends at most 1024 pieces, and a page is a piece.
#[test]
fn a_reply_may_have_more_pages_than_a_system_call_sends() {
    let max = 4 << 20;
    let config = ServerConfig { max_payload_bytes: max, parked_bytes: 32 << 20, ..small_config() };
    let world = World::with(config, TestProgram::default());
    let mut client = world.client();
    for len in [1020 << 12, 1021 << 12, 1022 << 12, (1022 << 12) + 1, 1023 << 12, max] {
        for proc in [READ_PAGES, READ_OWN] {
            assert_read(&client.call(proc, &read_args(3, len as u32)).unwrap(), 3, len);
        }
    }
    // Replies that wait for the one before them are sent from the queue.
    for xid in 900..904 {
        client.send(&record(&message(xid, READ_PAGES, &read_args(u64::from(xid), max as u32))));
    }
    for _ in 900..904 {
        let reply = client.receive().unwrap();
        let xid = u32::from_be_bytes(reply[..4].try_into().unwrap());
        assert_read(&results(&reply, xid).unwrap(), u64::from(xid), max);
    }
}

#[test]
fn a_head_may_fill_the_reply_and_no_more() {
    let world = World::new();
    let mut client = world.client();
    let got = client.call(LONG_HEAD, &words(&[200_000])).unwrap();
    assert_eq!(to_words(&got), (0..200_000).collect::<Vec<_>>());
    let xid = client.xid + 1;
    assert_eq!(client.call(LONG_HEAD, &words(&[300_000])).unwrap_err(), [xid, 1, 0, 0, 0, 5]);
    world.assert_alive();
}

#[test]
fn large_calls_arrive_whole_however_they_are_cut() {
    let world = World::new();
    let mut client = world.client();
    for len in [1_usize, 4096, 40_000, 1 << 20] {
        let bytes: Vec<u8> = (0..len as u64).map(pattern).collect();
        let sum: u64 = bytes.iter().map(|&byte| u64::from(byte)).sum();
        let mut wanted = words(&[len as u32]);
        wanted.extend(sum.to_be_bytes());
        assert_eq!(client.call(SUM, &opaque(&bytes)).unwrap(), wanted);
        // In fragments of a third, each in two parts.
        client.xid += 1;
        let whole = message(client.xid, SUM, &opaque(&bytes));
        let third = whole.len().div_ceil(3);
        let nr = whole.len().div_ceil(third);
        for (index, piece) in whole.chunks(third).enumerate() {
            let last = u32::from(index + 1 == nr) << 31;
            client.send(&(piece.len() as u32 | last).to_be_bytes());
            let (one, two) = piece.split_at(piece.len() / 2);
            client.send(one);
            client.send(two);
        }
        let reply = client.receive().unwrap();
        assert_eq!(results(&reply, client.xid).unwrap(), wanted);
    }
}

#[test]
fn a_call_may_come_byte_by_byte() {
    let world = World::new();
    let mut client = world.client();
    for byte in record(&message(9, ECHO, &opaque(b"slow"))) {
        client.send(&[byte]);
    }
    assert_eq!(results(&client.receive().unwrap(), 9).unwrap(), opaque(b"slow"));
    // And in a fragment for each byte.
    for (index, byte) in message(10, ECHO, &opaque(b"slow")).iter().enumerate() {
        let last = u32::from(index + 1 == 48) << 31;
        client.send(&[&(1 | last).to_be_bytes()[..], &[*byte]].concat());
    }
    assert_eq!(results(&client.receive().unwrap(), 10).unwrap(), opaque(b"slow"));
}

#[test]
fn many_calls_of_one_connection_are_answered_each_once() {
    let world = World::new();
    let mut client = world.client();
    let mut reader = Client { stream: client.stream.try_clone().unwrap(), xid: 0 };
    let calls: u32 = 2000;
    let writer = std::thread::spawn(move || {
        for xid in 0..calls {
            let (proc, args) = match xid % 3 {
                0 => (ECHO, opaque(&xid.to_be_bytes())),
                1 => (READ_PAGES, read_args(u64::from(xid), 5000)),
                _ => (SUM, opaque(&vec![1; 9000])),
            };
            client.send(&record(&message(xid, proc, &args)));
        }
    });
    let mut seen = vec![false; calls as usize];
    for _ in 0..calls {
        let reply = reader.receive().unwrap();
        let xid = to_words(&reply[..4])[0];
        let got = results(&reply, xid).unwrap();
        match xid % 3 {
            0 => assert_eq!(got, opaque(&xid.to_be_bytes())),
            1 => assert_read(&got, u64::from(xid), 5000),
            _ => assert_eq!(to_words(&got), [9000, 0, 9000]),
        }
        assert!(!core::mem::replace(&mut seen[xid as usize], true), "answered twice: {xid}");
    }
    writer.join().unwrap();
}

#[test]
fn slow_calls_of_one_connection_run_at_once() {
    let world = World::new();
    let mut client = world.client();
    for xid in 1..=2 {
        client.send(&record(&message(xid, GATE, &words(&[xid]))));
    }
    world.program.gate.wait_for(2);
    client.send(&record(&message(3, ECHO, &opaque(b"go"))));
    assert_eq!(results(&client.receive().unwrap(), 3).unwrap(), opaque(b"go"));
    world.program.gate.open();
    for _ in 0..2 {
        client.receive().unwrap();
    }
}

#[test]
fn one_connection_leaves_a_thread_to_others() {
    for proc in [GATE, QUICK_GATE] {
        let world = World::new();
        let mut client = world.client();
        let calls = (1..=8).flat_map(|xid| record(&message(xid, proc, &words(&[xid]))));
        client.send(&calls.collect::<Vec<_>>());
        world.program.gate.wait_for(3);
        world.assert_alive();
        world.program.gate.open();
        let mut xids: Vec<_> = (0..8).map(|_| to_words(&client.receive().unwrap())[0]).collect();
        xids.sort_unstable();
        assert_eq!(xids, (1..=8).collect::<Vec<_>>(), "each is answered once");
    }
}

#[test]
fn a_call_that_panics_costs_its_connection_and_nothing_else() {
    let world = World::new();
    let stats = world.server.dispatcher().stats();
    let mut other = world.client();
    for (nr, proc) in [PANIC, SLOW_PANIC, PANIC, SLOW_PANIC, PANIC, SLOW_PANIC].iter().enumerate() {
        let mut client = world.client();
        // What was carried out before is answered. The number is the same each time: the end of the
        // call is known, so that it is carried out again.
        client.send(&record(&message(7, ECHO, &opaque(b"before"))));
        assert_eq!(results(&client.receive().unwrap(), 7), Ok(opaque(b"before")));
        client.send(&record(&message(8, *proc, &[])));
        client.assert_closed();
        assert_eq!(stats.panicked.value(), nr as u64 + 1);
        assert_eq!(other.call(ECHO, &opaque(b"on")).unwrap(), opaque(b"on"));
    }
    assert_eq!(world.server.nr_threads(), 4);
    world.await_that("only the other is left", |world| world.server.nr_connections() == 1);

    let panics = TestProgram { panics: true, ..TestProgram::default() };
    let world = World::with(small_config(), panics);
    for _ in 1..=8 {
        let mut client = world.client();
        client.send(&record(&message(1, ECHO, &[])));
        client.assert_closed();
    }
    assert_eq!(world.client().call(0, &[]).unwrap(), []);
    assert_eq!(world.server.dispatcher().stats().panicked.value(), 8);
    assert_eq!(world.server.dispatcher().stats().misbehaved.value(), 0);
}

#[test]
fn a_datagram_whose_call_panics_is_not_answered_and_the_next_is() {
    let world = World::new();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(world.udp_addr()).unwrap();
    socket.set_read_timeout(Some(common::PATIENCE)).unwrap();
    let panicked = &world.server.dispatcher().stats().panicked;
    for nr in 0..10 {
        let proc = if nr % 2 == 0 { PANIC } else { SLOW_PANIC };
        socket.send(&message(nr, proc, &[])).unwrap();
        // Sent once the first is over: a thread that holds the socket may be any.
        world.await_that("it panicked", |_| panicked.value() == u64::from(nr) + 1);
        socket.send(&message(100 + nr, ECHO, &opaque(b"on"))).unwrap();
        let mut reply = [0; 100];
        let len = socket.recv(&mut reply).unwrap();
        assert_eq!(results(&reply[..len], 100 + nr), Ok(opaque(b"on")));
    }
    assert_eq!(world.server.nr_threads(), 4);
}

/// Sends a call to `to` from a socket at `from`, and returns where the reply comes from.
fn answered_from(from: &str, to: SocketAddr) -> SocketAddr {
    let socket = UdpSocket::bind(from).expect("loopback works");
    socket.set_read_timeout(Some(common::PATIENCE)).expect("loopback works");
    socket.send_to(&message(1, ECHO, &opaque(b"text")), to).expect("loopback works");
    let mut reply = [0; 100];
    let (len, from) = socket.recv_from(&mut reply).expect("loopback works");
    assert_eq!(results(&reply[..len], 1), Ok(opaque(b"text")));
    from
}

#[test]
fn a_datagram_is_answered_from_the_address_that_was_asked() {
    let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
    let world = World::with_udp(small_config(), TestProgram::default(), udp);
    let port = world.udp_addr().port();
    for host in [1, 2, 3] {
        let to = SocketAddr::from(([127, 0, 0, host], port));
        assert_eq!(answered_from("127.0.0.1:0", to), to);
    }
    // One socket for IPv6 and IPv4.
    let Ok(udp) = UdpSocket::bind("[::]:0") else { return };
    let world = World::with_udp(small_config(), TestProgram::default(), udp);
    let port = world.udp_addr().port();
    let to = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    assert_eq!(answered_from("[::1]:0", to), to);
    let to = SocketAddr::from(([127, 0, 0, 2], port));
    assert_eq!(answered_from("127.0.0.1:0", to), to);
}

#[test]
fn calls_that_come_as_datagrams_leave_a_thread_to_connections() {
    let world = World::new();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for xid in 0..20 {
        socket.send_to(&message(xid, GATE, &[]), world.udp_addr()).unwrap();
    }
    // Of four threads.
    world.program.gate.wait_for(3);
    assert_eq!(world.client().call(ECHO, &opaque(b"on")).unwrap(), opaque(b"on"));
}

#[test]
fn a_quick_call_that_is_slow_after_all_holds_nobody_up() {
    let world = World::new();
    let mut client = world.client();
    let calls = [message(1, QUICK_GATE, &[]), message(2, ECHO, &opaque(b"on"))];
    client.send(&calls.iter().flat_map(|call| record(call)).collect::<Vec<_>>());
    assert_eq!(results(&client.receive().unwrap(), 2).unwrap(), opaque(b"on"));
    world.program.gate.open();
    results(&client.receive().unwrap(), 1).unwrap();
}

#[test]
fn calls_that_must_not_run_twice_are_answered_twice() {
    let world = World::new();
    let mut client = world.client();
    let call = record(&message(77, COUNT, &words(&[1])));
    for _ in 0..3 {
        client.send(&call);
        assert_eq!(results(&client.receive().unwrap(), 77).unwrap(), words(&[0, 0]));
    }
    assert_eq!(world.program.count.load(Ordering::SeqCst), 1);
    // Another call with that number is another call.
    client.send(&record(&message(77, COUNT, &words(&[2]))));
    assert_eq!(results(&client.receive().unwrap(), 77).unwrap(), words(&[0, 1]));
    // What failed is not kept.
    for nr in 3..5 {
        client.send(&record(&message(78, FAIL, &[])));
        assert_eq!(results(&client.receive().unwrap(), 78).unwrap_err(), [78, 1, 0, 0, 0, 5]);
        assert_eq!(world.program.count.load(Ordering::SeqCst), nr);
    }
}

#[test]
fn a_call_is_dropped_while_the_first_one_runs() {
    let world = World::new();
    let mut client = world.client();
    let call = record(&message(5, GATE, &[]));
    client.send(&call);
    world.program.gate.wait_for(1);
    client.send(&call);
    world.await_that("the second is dropped", |world| {
        world.server.dispatcher().replies().dropped.value() == 1
    });
    world.program.gate.open();
    results(&client.receive().unwrap(), 5).unwrap();
    // Asked once more, it is answered as before.
    client.send(&call);
    assert_eq!(results(&client.receive().unwrap(), 5).unwrap(), words(&[0, 0]));
    assert_eq!(world.program.count.load(Ordering::SeqCst), 1);
}

#[test]
fn datagrams_are_answered() {
    let file = file_of(&(0..9000).map(pattern).collect::<Vec<_>>());
    let world = World::with(small_config(), TestProgram { file: Some(file), ..Default::default() });
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_mins(3))).unwrap();
    socket.connect(world.udp_addr()).unwrap();
    let mut room = vec![0; 65_536];
    let mut exchange = |xid, proc, args: &[u8]| {
        socket.send(&message(xid, proc, args)).unwrap();
        let len = socket.recv(&mut room).unwrap();
        results(&room[..len], xid)
    };
    assert_eq!(exchange(1, 0, &[]).unwrap(), []);
    let long = opaque(&vec![9; 50_000]);
    assert_eq!(exchange(2, ECHO, &long).unwrap(), long);
    for proc in [READ_PAGES, READ_FILE] {
        assert_read(&exchange(3, proc, &read_args(1, 8000)).unwrap(), 1, 8000);
    }
    // What cannot fit into a datagram is an error, or less; it is never silence.
    assert_eq!(exchange(4, LONG_HEAD, &words(&[100_000])).unwrap_err()[5], 5);
    // Nonsense is not answered, and harms nobody.
    socket.send(&[]).unwrap();
    socket.send(&[1, 2, 3]).unwrap();
    socket.send(&words(&[1, 1, 2])).unwrap();
    assert_eq!(exchange(5, 0, &[]).unwrap(), []);
}

#[test]
fn the_number_of_threads_changes_while_it_runs() {
    let world = World::new();
    for nr in [1, 4, 2, 5, 3] {
        world.server.set_threads(nr).unwrap();
        world.await_that("there are as many threads", |world| world.server.nr_threads() == nr);
        world.assert_alive();
    }
    let message = world.server.set_threads(1000).unwrap_err().to_string();
    assert!(message.contains("pages needed"), "{message}");
    let message = world.server.set_threads(0).unwrap_err().to_string();
    assert!(message.contains("1 to 1024"), "{message}");
}

#[test]
fn a_stop_finishes_what_has_begun() {
    let world = World::new();
    let mut client = world.client();
    client.send(&record(&message(1, GATE, &[])));
    world.program.gate.wait_for(1);
    std::thread::scope(|scope| {
        let stop = scope.spawn(|| world.server.stop(Duration::from_mins(3)));
        world.program.gate.open();
        assert_eq!(results(&client.receive().unwrap(), 1).unwrap(), words(&[0, 0]));
        assert!(stop.join().unwrap());
    });
    client.assert_closed();
}

#[test]
fn replies_may_be_given_back_after_each() {
    let config = ServerConfig { keep_reply_pages: false, ..small_config() };
    let world = World::with(config, TestProgram::default());
    let mut client = world.client();
    for offset in 0..20 {
        assert_read(
            &client.call(READ_PAGES, &read_args(offset, 100_000)).unwrap(),
            offset,
            100_000,
        );
    }
    assert!(world.server.dispatcher().stats().refills.pages.value() > 20 * 25);
}

#[test]
fn statuses_are_those_of_the_protocol() {
    let world = World::new();
    let mut client = world.client();
    let head = |xid, rpcvers, prog, vers, proc| words(&[xid, 0, rpcvers, prog, vers, proc]);
    let none = words(&[0, 0, 0, 0]);
    let call = |head: Vec<u8>| [head, none.clone()].concat();
    assert_eq!(client.exchange(&call(head(1, 3, PROG, VERS, 0))), [1, 1, 1, 0, 2, 2]);
    assert_eq!(client.exchange(&call(head(2, 2, PROG + 1, VERS, 0))), [2, 1, 0, 0, 0, 1]);
    assert_eq!(client.exchange(&call(head(3, 2, PROG, 9, 0))), [3, 1, 0, 0, 0, 2, 2, 3]);
    assert_eq!(client.exchange(&call(head(4, 2, PROG, VERS, 99))), [4, 1, 0, 0, 0, 3]);
    assert_eq!(client.exchange(&call(head(5, 2, PROG, VERS, ECHO))), [5, 1, 0, 0, 0, 4]);
    assert_eq!(client.exchange(&call(head(6, 2, PROG, 2, 0))), [6, 1, 0, 0, 0, 0]);
    // AUTH_TLS and Kerberos are refused, not taken for nobody.
    for flavor in [2, 3, 6, 7, 0xffff_ffff] {
        let cred = words(&[flavor, 0, 0, 0]);
        let call = [head(7, 2, PROG, VERS, 0), cred].concat();
        assert_eq!(client.exchange(&call), [7, 1, 1, 1, 2]);
    }
}
