//! Data that is spliced on its way from a connection to a file: every byte comes to its place, and
//! nothing of it is taken for what follows.

#![expect(
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    reason = "the numbers are small, and what is not as expected fails the test"
)]

mod common;

extern crate alloc;

use alloc::sync::Arc;
use core::time::Duration;
use std::fs::File;
use std::time::Instant;

use common::{
    ECHO, STORE, TestProgram, World, file_of, message, opaque, record, results, small_config,
};
use common::{pattern, words};
use pagemill_rpc::ServerConfig;

const SLOT_BYTES: u64 = 1 << 20;
const NR_SLOTS: u64 = 8;

const TO_FILE: u32 = 0;
const TO_FULL: u32 = 1;
const NOWHERE: u32 = 2;
/// `ENOSPC`.
const FULL: u32 = 28;

fn world() -> World {
    let file = Some(file_of(&vec![0; (SLOT_BYTES * NR_SLOTS) as usize]));
    let full = File::options().write(true).open("/dev/full").unwrap();
    let program = TestProgram { file, full: Some(Arc::new(full.into())), ..Default::default() };
    World::with(small_config(), program)
}

fn data(seed: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| pattern(at + seed * 7919)).collect()
}

fn store(xid: u32, how: u32, offset: u64, data: &[u8]) -> Vec<u8> {
    let mut args = words(&[how, (offset >> 32) as u32, offset as u32, data.len() as u32]);
    args.extend(opaque(data));
    message(xid, STORE, &args)
}

/// Sends calls together, so that some are there as a whole, and asserts what becomes of each.
fn round(world: &World, seed: u64) {
    let sizes = [1 << 20, (1 << 20) - 3, 300_001, 5, 140_002, 1 << 20, 0, 700_003];
    let hows = [TO_FILE, TO_FILE, TO_FILE, TO_FILE, TO_FULL, NOWHERE, TO_FILE, TO_FILE];
    let all: Vec<_> =
        sizes.iter().enumerate().map(|(i, &len)| data(seed + i as u64, len)).collect();
    let mut client = world.client();
    let mut sender = common::Client { stream: client.stream.try_clone().unwrap(), xid: 0 };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for (slot, (data, how)) in all.iter().zip(hows).enumerate() {
                let call = store(slot as u32, how, slot as u64 * SLOT_BYTES, data);
                if slot % 2 == 0 {
                    sender.send(&record(&call));
                } else {
                    // In two fragments, the end of the first anywhere.
                    let (one, two) = call.split_at(call.len().min(5000 + slot) / 4 * 3);
                    sender.send(&(one.len() as u32).to_be_bytes());
                    sender.send(one);
                    sender.send(&record(two));
                }
            }
            sender.send(&record(&message(99, ECHO, &opaque(b"after"))));
        });
        for _ in 0..=all.len() {
            let reply = client.receive().unwrap();
            let xid = u32::from_be_bytes(reply[..4].try_into().unwrap());
            let got = results(&reply, xid);
            if xid == 99 {
                assert_eq!(got, Ok(opaque(b"after")));
                continue;
            }
            match hows[xid as usize] {
                TO_FILE => assert_eq!(got, Ok(words(&[all[xid as usize].len() as u32]))),
                TO_FULL => assert_eq!(got, Ok(words(&[FULL]))),
                _ => assert!(got.is_err()),
            }
        }
    });
    let file = world.program.file.as_ref().unwrap();
    for (slot, (data, how)) in all.iter().zip(hows).enumerate() {
        if how == TO_FILE {
            let mut stored = vec![0; data.len()];
            rustix::io::pread(file, &mut stored, slot as u64 * SLOT_BYTES).unwrap();
            assert!(stored == *data, "the data of call {slot} of {seed} are others");
        }
    }
}

#[test]
fn data_that_was_spliced_comes_to_its_place() {
    let world = world();
    let splice = || world.server.dispatcher().stats().spliced_bytes.value();
    let begun = Instant::now();
    // Whether all of a call is there when its head is read is for the kernel to say.
    for seed in 0.. {
        round(&world, seed);
        if seed >= 8 && splice() > 8 << 20 {
            break;
        }
        assert!(begun.elapsed().as_secs() < 60, "only {} bytes were spliced", splice());
    }
    world.assert_alive();
}

#[test]
fn data_that_comes_late_is_waited_for() {
    let world = world();
    let mut client = world.client();
    let all = data(1, 1 << 20);
    for pieces in [2, 64] {
        let call = record(&store(7, TO_FILE, 0, &all));
        for piece in call.chunks(call.len().div_ceil(pieces)) {
            client.send(piece);
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(results(&client.receive().unwrap(), 7), Ok(words(&[1 << 20])));
        // The socket is readable from the first byte on again.
        assert_eq!(client.call(ECHO, &opaque(b"x")), Ok(opaque(b"x")));
        let mut stored = vec![0; all.len()];
        rustix::io::pread(world.program.file.as_ref().unwrap(), &mut stored, 0).unwrap();
        assert!(stored == all);
    }
}

#[test]
fn who_goes_away_within_the_data_is_let_go() {
    let world = world();
    let call = record(&store(7, TO_FILE, 0, &data(1, 1 << 20)));
    for len in [5_000, 20_000, 500_000, call.len() - 1] {
        let mut client = world.client();
        client.send(&call[..len]);
        client.stream.shutdown(std::net::Shutdown::Write).unwrap();
        client.assert_closed();
    }
    world.await_that("they are gone", |world| world.server.nr_connections() == 0);
    world.assert_alive();
}

#[test]
fn data_that_never_comes_ends_the_connection() {
    let config = ServerConfig { record_timeout: Duration::from_millis(300), ..small_config() };
    let file = Some(file_of(&[]));
    let world = World::with(config, TestProgram { file, ..Default::default() });
    let mut client = world.client();
    client.send(&record(&store(7, TO_FILE, 0, &data(1, 1 << 20)))[..500_000]);
    client.assert_closed();
    world.assert_alive();
}
