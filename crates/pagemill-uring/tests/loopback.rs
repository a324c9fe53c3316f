//! Shows that rings receive, send and end over TCP on this machine, whatever the order of events is.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

extern crate alloc;

mod common;

use core::time::Duration;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use common::{Frames, check, finish, pair, read_stream, run, run_until_closed, write_stream};
use pagemill_uring::{Event, ReceiveConfig, Received, UringError};

#[test]
fn a_stream_arrives_complete_and_in_order_and_then_ends() {
    for bundles in [true, false] {
        for (len, piece) in [(1, 1), (5000, 7), (20 << 20, 1 << 20), (3 << 20, 4095)] {
            let frames = Frames::new();
            let config = ReceiveConfig { bundles, ..ReceiveConfig::new() };
            let Some(mut ring) = frames.ring(&config) else { return };
            let (socket, peer) = pair();
            let id = ring.add(socket).unwrap();
            let writer = thread::spawn(move || write_stream(&peer, len, piece));
            let mut place = 0;
            run(&mut ring, |ring, event| match event {
                Event::Data { connection, received } => {
                    assert_eq!(connection, id);
                    received.pieces().for_each(|piece| check(piece, &mut place));
                    ring.put(received);
                    false
                }
                Event::End { connection } => {
                    assert_eq!(connection, id);
                    true
                }
                other => panic!("{other:?}"),
            });
            assert_eq!(place, len);
            writer.join().unwrap();
            ring.close(id).unwrap();
            run_until_closed(&mut ring, id);
            assert_eq!(ring.close(id), Err(UringError::NoConnection));
            assert!(bundles || ring.stats().nr_deliveries == ring.stats().pages_received);
            finish(ring);
        }
    }
}

/// Serves an echo until `nr` connections were closed.
fn serve(ring: &mut common::Ring, nr: usize) {
    let mut nr_closed = 0;
    run(ring, |ring, event| {
        match event {
            Event::Data { connection, received } => ring.send(connection, received).unwrap(),
            Event::End { connection } => ring.close(connection).unwrap(),
            Event::Closed { .. } => nr_closed += 1,
            Event::Accepted { .. } => {}
            other => panic!("{other:?}"),
        }
        nr_closed == nr
    });
}

#[test]
fn an_echo_returns_every_byte_and_waits_for_slow_readers() {
    const NR: usize = 8;
    const LEN: u64 = 6 << 20;
    let frames = Frames::new();
    let config = ReceiveConfig {
        nr_held_per_connection_max: 64,
        nr_held_max: 256,
        nr_buffers: 256,
        ..ReceiveConfig::new()
    };
    let Some(mut ring) = frames.ring(&config) else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let listening = ring.listen(listener).unwrap();
    let peer = move || {
        let stream = TcpStream::connect(address).unwrap();
        let writing = stream.try_clone().unwrap();
        let writer = thread::spawn(move || write_stream(&writing, LEN, 100_000));
        read_stream(&stream, LEN);
        writer.join().unwrap();
    };
    let peers: Vec<_> = (0..NR).map(|_| thread::spawn(peer)).collect();
    serve(&mut ring, NR);
    peers.into_iter().for_each(|peer| peer.join().unwrap());
    let stats = ring.stats();
    assert_eq!((stats.bytes_received, stats.bytes_sent), (NR as u64 * LEN, NR as u64 * LEN));
    assert_eq!((stats.nr_held, stats.nr_connections), (0, 1), "{stats:?}");
    ring.close(listening).unwrap();
    run_until_closed(&mut ring, listening);
    finish(ring);
}

#[test]
fn a_consumer_that_keeps_pages_pauses_its_connection_and_loses_nothing() {
    const LEN: u64 = 8 << 20;
    let frames = Frames::new();
    let config = ReceiveConfig {
        nr_buffers: 64,
        nr_held_max: 128,
        nr_held_per_connection_max: 100,
        ..ReceiveConfig::new()
    };
    let Some(mut ring) = frames.ring(&config) else { return };
    let (socket, peer) = pair();
    ring.add(socket).unwrap();
    let writer = thread::spawn(move || write_stream(&peer, LEN, 1 << 16));
    let mut kept: Vec<Received<_>> = Vec::new();
    let mut place = 0;
    while ring.stats().nr_paused == 0 {
        ring.wait(Some(Duration::from_millis(50))).unwrap();
        while let Some(event) = ring.next_event() {
            if let Event::Data { received, .. } = event {
                kept.push(received);
            }
        }
    }
    // While they are kept, no more comes than the kernel had pages for.
    for _ in 0..5 {
        ring.wait(Some(Duration::from_millis(5))).unwrap();
        while let Some(event) = ring.next_event() {
            let Event::Data { received, .. } = event else { panic!("{event:?}") };
            kept.push(received);
        }
    }
    let nr_held: usize = kept.iter().map(Received::nr_pages).sum();
    assert_eq!(ring.stats().nr_held, nr_held);
    assert!((101..=128 + 64).contains(&nr_held), "{nr_held}");
    // Another thread returns them.
    let kept = thread::spawn(move || {
        kept.iter().flat_map(Received::pieces).for_each(|piece| check(piece, &mut place));
        drop(kept);
        place
    });
    place = kept.join().unwrap();
    run(&mut ring, |_ring, event| match event {
        Event::Data { received, .. } => {
            received.pieces().for_each(|piece| check(piece, &mut place));
            false
        }
        Event::End { .. } => true,
        other => panic!("{other:?}"),
    });
    assert_eq!(place, LEN);
    writer.join().unwrap();
    finish(ring);
}

#[test]
fn a_ring_without_pages_starves_and_goes_on_when_they_return() {
    let frames = Frames::new();
    let config = ReceiveConfig {
        nr_buffers: 4,
        nr_held_max: 1,
        nr_held_per_connection_max: 1000,
        ..ReceiveConfig::new()
    };
    let Some(mut ring) = frames.ring(&config) else { return };
    let (socket, mut peer) = pair();
    ring.add(socket).unwrap();
    peer.write_all(&vec![7; 40_000]).unwrap();
    let mut kept = Vec::new();
    while ring.stats().nr_starved == 0 {
        ring.wait(Some(Duration::from_millis(50))).unwrap();
        kept.extend(ring.events().map(|event| match event {
            Event::Data { received, .. } => received,
            other => panic!("{other:?}"),
        }));
    }
    assert!(ring.stats().nr_withheld > 0);
    let mut len: usize = kept.iter().map(Received::len).sum();
    assert!(len <= 5 * 4096, "{len}");
    drop(kept);
    run(&mut ring, |_ring, event| {
        if let Event::Data { received, .. } = event {
            len += received.len();
        }
        len == 40_000
    });
    finish(ring);
}

#[test]
fn a_peer_that_resets_is_an_error_and_can_be_closed() {
    let frames = Frames::new();
    let Some(mut ring) = frames.ring(&ReceiveConfig::new()) else { return };
    let (socket, peer) = pair();
    // Unread bytes at the peer make its close a reset.
    (&socket).write_all(b"never read").unwrap();
    let id = ring.add(socket).unwrap();
    ring.wait(Some(Duration::ZERO)).unwrap();
    drop(peer);
    run(&mut ring, |ring, event| match event {
        Event::Error { connection, error } => {
            assert_eq!((connection, error.raw()), (id, libc::ECONNRESET));
            ring.close(id).unwrap();
            false
        }
        Event::Closed { connection } => connection == id,
        other => panic!("{other:?}"),
    });
    finish(ring);
}

#[test]
fn a_ring_can_be_dropped_in_the_middle_of_everything() {
    for drop_pages_first in [true, false] {
        let frames = Frames::new();
        let Some(mut ring) = frames.ring(&ReceiveConfig::new()) else { return };
        let sockets: Vec<_> = (0..10).map(|_| pair()).collect();
        let mut peers = Vec::new();
        for (socket, mut peer) in sockets {
            ring.add(socket).unwrap();
            peer.write_all(&[1; 10_000]).unwrap();
            peers.push(peer);
        }
        ring.listen(TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
        let mut kept = Vec::new();
        let mut is_kept = false;
        run(&mut ring, |ring, event| {
            let Event::Data { connection, received } = event else { panic!("{event:?}") };
            // Half of it is being sent, to peers that do not read.
            is_kept = !is_kept;
            if is_kept {
                kept.push(received);
            } else {
                ring.send(connection, received).unwrap();
            }
            kept.len() == 5
        });
        if drop_pages_first {
            kept.clear();
        }
        drop(ring);
        assert!(kept.iter().flat_map(Received::pieces).flatten().all(|&byte| byte == 1));
        drop(kept);
        // The sockets are closed.
        for mut peer in peers {
            let mut bytes = Vec::new();
            let _reset_or_end = peer.read_to_end(&mut bytes);
        }
    }
}

#[test]
fn a_send_that_does_not_end_is_ended_by_an_abort() {
    let frames = Frames::new();
    let config = ReceiveConfig {
        nr_held_max: 100_000,
        nr_held_per_connection_max: 100_000,
        ..ReceiveConfig::new()
    };
    let Some(mut ring) = frames.ring(&config) else { return };
    let (stuck, _never_reads) = pair();
    let stuck = ring.add(stuck).unwrap();
    let (source, peer) = pair();
    let source = ring.add(source).unwrap();
    let writer = thread::spawn(move || write_stream(&peer, 32 << 20, 1 << 16));
    run(&mut ring, |ring, event| match event {
        Event::Data { received, .. } => {
            ring.send(stuck, received).unwrap();
            // The buffers of two sockets hold approximately 10 MiB.
            ring.nr_unsent(stuck).unwrap() > 8 << 20
        }
        other => panic!("{other:?}"),
    });
    // It waits for the bytes, and the kernel has pages of them.
    ring.close(stuck).unwrap();
    ring.wait(Some(Duration::from_millis(20))).unwrap();
    assert!(ring.nr_unsent(stuck).unwrap() > 0);
    ring.abort(stuck).unwrap();
    ring.abort(source).unwrap();
    let mut nr_closed = 0;
    run(&mut ring, |_ring, event| {
        nr_closed += usize::from(matches!(event, Event::Closed { .. }));
        nr_closed == 2
    });
    assert_eq!(ring.stats().nr_held, 0);
    let _reset = writer.join();
    finish(ring);
}

#[test]
fn what_is_no_stream_socket_is_an_event_and_not_a_panic() {
    let frames = Frames::new();
    let Some(mut ring) = frames.ring(&ReceiveConfig::new()) else { return };
    let file = ring.add(std::fs::File::open("/dev/null").unwrap()).unwrap();
    let unbound = ring.listen(pair().0).unwrap();
    let mut wrong = vec![file, unbound];
    run(&mut ring, |ring, event| match event {
        Event::Error { connection, .. } => {
            ring.close(connection).unwrap();
            false
        }
        Event::Closed { connection } => {
            wrong.retain(|&id| id != connection);
            wrong.is_empty()
        }
        other => panic!("{other:?}"),
    });
    finish(ring);
}

#[test]
fn a_full_table_refuses_more_and_takes_others_after_a_close() {
    let frames = Frames::new();
    let config = ReceiveConfig { nr_connections_max: 2, ..ReceiveConfig::new() };
    let Some(mut ring) = frames.ring(&config) else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    ring.listen(listener).unwrap();
    let _first = TcpStream::connect(address).unwrap();
    let mut accepted = None;
    run(&mut ring, |_ring, event| {
        if let Event::Accepted { connection, .. } = event {
            accepted = Some(connection);
        }
        true
    });
    assert_eq!(ring.add(pair().0), Err(UringError::TooManyConnections { max: 2 }));
    let mut refused = TcpStream::connect(address).unwrap();
    while ring.stats().nr_refused == 0 {
        ring.wait(Some(Duration::from_millis(50))).unwrap();
    }
    assert!(refused.read(&mut [0]).map_or(true, |nr| nr == 0));
    let accepted = accepted.unwrap();
    ring.close(accepted).unwrap();
    run_until_closed(&mut ring, accepted);
    let other = ring.add(pair().0).unwrap();
    assert_ne!(other, accepted);
    assert_eq!(ring.nr_unsent(accepted), None);
    finish(ring);
}

#[test]
fn many_short_completions_overflow_the_queue_and_lose_nothing() {
    const NR: usize = 200;
    const LEN: usize = 40_000;
    let frames = Frames::new();
    let config = ReceiveConfig {
        nr_completions: 512,
        bundles: false,
        nr_buffers: 4096,
        nr_held_max: 10_000,
        ..ReceiveConfig::new()
    };
    let Some(mut ring) = frames.ring(&config) else { return };
    let mut peers = Vec::new();
    for _ in 0..NR {
        let (socket, mut peer) = pair();
        ring.add(socket).unwrap();
        peer.write_all(&vec![3; LEN]).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        peers.push(peer);
    }
    let (mut len, mut nr_ended) = (0, 0);
    run(&mut ring, |ring, event| {
        match event {
            Event::Data { received, .. } => {
                len += received.len();
                ring.put(received);
            }
            Event::End { .. } => nr_ended += 1,
            other => panic!("{other:?}"),
        }
        nr_ended == NR
    });
    assert_eq!(len, NR * LEN);
    assert!(ring.stats().nr_armed >= NR as u64);
    finish(ring);
}
