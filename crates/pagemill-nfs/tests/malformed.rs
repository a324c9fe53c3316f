//! Calls that no honest client makes. For each, the answer is a refusal: nothing stalls, nothing is
//! allocated by a length that was not checked, nothing leaves the export, and the next client is
//! served.

#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "what is not as expected fails the test"
)]

extern crate alloc;

#[cfg(test)]
#[expect(dead_code, reason = "each test uses a part of this")]
mod common;

use core::time::Duration;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::time::Instant;

use common::{Answer, Args, GARBAGE, Raw, World, words};
use nfs3_types::nfs3::nfs_fh3;
use nfs3_types::xdr_codec::Opaque;

const GETATTR: u32 = 1;
const LOOKUP: u32 = 3;
const READ: u32 = 6;
const WRITE: u32 = 7;
const CREATE: u32 = 8;
const READDIR: u32 = 16;
const READDIRPLUS: u32 = 17;

const OK: u32 = 0;
const NOTDIR: u32 = 20;
const INVAL: u32 = 22;
const NAMETOOLONG: u32 = 63;
const BADHANDLE: u32 = 10001;

fn garbage() -> Answer {
    Answer::Refused(GARBAGE.to_vec())
}

fn lookup(raw: &mut Raw, dir: &nfs_fh3, name: &[u8]) -> u32 {
    raw.status(LOOKUP, &Args::fh(dir).opaque(name).0)
}

fn fh_of(results: &[u8]) -> nfs_fh3 {
    let len = usize::try_from(words(results)[1]).unwrap();
    nfs_fh3 { data: Opaque::owned(results[8..8 + len].to_vec()) }
}

fn found(raw: &mut Raw, dir: &nfs_fh3, name: &[u8]) -> nfs_fh3 {
    match raw.nfs(LOOKUP, &Args::fh(dir).opaque(name).0) {
        Answer::Results(results) if words(&results)[0] == OK => fh_of(&results),
        other => panic!("{other:?}"),
    }
}

/// The peak of this process's memory, in KiB.
fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn handles_with_any_byte_flipped_or_of_any_other_length_are_refused() {
    let (world, root, mut raw) = World::with_raw();
    for at in 0..root.data.len() {
        for bit in 0..8 {
            let mut forged = root.data.to_vec();
            forged[at] ^= 1 << bit;
            assert_eq!(raw.status(GETATTR, &Args::default().opaque(&forged).0), BADHANDLE);
        }
    }
    for len in (0..=64).filter(|&len| len != root.data.len()) {
        let mut forged = root.data.to_vec();
        forged.resize(len, 0);
        assert_eq!(raw.status(GETATTR, &Args::default().opaque(&forged).0), BADHANDLE, "{len}");
    }
    let random: Vec<u8> = (0..32_u8).map(|at| at.wrapping_mul(151) ^ 0x5a).collect();
    assert_eq!(raw.status(GETATTR, &Args::default().opaque(&random).0), BADHANDLE);
    assert_eq!(raw.nfs(GETATTR, &Args::default().opaque(&[0; 65]).0), garbage());
    world.assert_alive();
}

#[test]
fn names_are_never_paths() {
    let (world, root, mut raw) = World::with_raw();
    fs::write(world.dir.path().join("secret"), "secret").unwrap();
    fs::create_dir(world.path().join("d")).unwrap();
    fs::write(world.path().join("d/f"), "").unwrap();
    for bad in [&b"d/f"[..], b"/", b"/etc", b"../secret", b"d/../../secret", b"d\0", b"\0", b""] {
        assert_eq!(lookup(&mut raw, &root, bad), INVAL, "{bad:?}");
        let create = Args::fh(&root).opaque(bad).u32(0).no_sattr();
        assert_eq!(raw.status(CREATE, &create.0), INVAL, "{bad:?}");
    }
    assert_eq!(lookup(&mut raw, &root, &[b'x'; 256]), NAMETOOLONG);
    assert_eq!(raw.nfs(LOOKUP, &Args::fh(&root).opaque(&[b'x'; 4000]).0), garbage());
    // Above the root there is the root; above a directory, what it is in.
    assert_eq!(found(&mut raw, &root, b".."), root);
    let dir = found(&mut raw, &root, b"d");
    assert_eq!(found(&mut raw, &dir, b".."), root);
}

#[test]
fn links_that_clients_make_lead_nowhere_here() {
    let (world, root, mut raw) = World::with_raw();
    symlink("/etc", world.path().join("etc")).unwrap();
    symlink("/etc/hostname", world.path().join("hostname")).unwrap();
    let etc = found(&mut raw, &root, b"etc");
    assert_eq!(lookup(&mut raw, &etc, b"hostname"), NOTDIR);
    let list = Args::fh(&etc).u64(0).u64(0).u32(4096);
    assert_eq!(raw.status(READDIR, &list.0), NOTDIR);
    assert_eq!(raw.status(READDIRPLUS, &list.u32(4096).0), NOTDIR);
    let hostname = found(&mut raw, &root, b"hostname");
    assert_eq!(raw.status(READ, &Args::fh(&hostname).u64(0).u32(100).0), INVAL);
    let write = Args::fh(&hostname).u64(0).u32(1).u32(0).opaque(b"x");
    assert_eq!(raw.status(WRITE, &write.0), INVAL);
    // CREATE over a link does not write through it.
    let create = Args::fh(&root).opaque(b"hostname").u32(0).no_sattr();
    assert_ne!(raw.status(CREATE, &create.0), OK);
    let mount =
        |path: &str| Args::default().opaque(world.path().join(path).as_os_str().as_encoded_bytes());
    match raw.mount(1, &mount("etc").0) {
        Answer::Results(results) => assert_eq!(words(&results), [13]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn counts_that_disagree_with_the_data_are_garbage() {
    let (world, root, mut raw) = World::with_raw();
    fs::write(world.path().join("f"), "content").unwrap();
    let file = found(&mut raw, &root, b"f");
    let head = |count| Args::fh(&file).u64(0).u32(count).u32(0);
    assert_eq!(raw.nfs(WRITE, &head(8).opaque(b"four").0), garbage());
    assert_eq!(raw.nfs(WRITE, &head(2).opaque(b"four").0), garbage());
    assert_eq!(raw.nfs(WRITE, &head(0).opaque(b"four").0), garbage());
    for len in [5, 1 << 20, (1 << 20) + 1, 0x7fff_ffff, 0xffff_fffc, u32::MAX] {
        let mut args = head(len).u32(len);
        args.0.extend_from_slice(b"four");
        assert_eq!(raw.nfs(WRITE, &args.0), garbage(), "{len:#x}");
    }
    let stable = Args::fh(&file).u64(0).u32(4).u32(3).opaque(b"four");
    assert_eq!(raw.nfs(WRITE, &stable.0), garbage());
    assert_eq!(fs::read(world.path().join("f")).unwrap(), b"content");
}

#[test]
fn every_procedure_cut_short_anywhere_is_garbage() {
    let (world, root, mut raw) = World::with_raw();
    fs::write(world.path().join("f"), "content").unwrap();
    let dirop = || Args::fh(&root).opaque(b"name");
    let calls = [
        (1, Args::fh(&root)),
        (2, Args::fh(&root).no_sattr().u32(1).u64(0)),
        (3, dirop()),
        (4, Args::fh(&root).u32(0x3f)),
        (5, Args::fh(&root)),
        (6, Args::fh(&root).u64(0).u32(1)),
        (7, Args::fh(&root).u64(0).u32(4).u32(0).opaque(b"four")),
        (8, dirop().u32(1).no_sattr()),
        (9, dirop().no_sattr()),
        (10, dirop().no_sattr().opaque(b"target")),
        (11, dirop().u32(7).no_sattr()),
        (12, dirop()),
        (13, dirop()),
        (14, dirop().opaque(&root.data).opaque(b"other")),
        (15, Args::fh(&root).opaque(&root.data).opaque(b"name")),
        (16, Args::fh(&root).u64(0).u64(0).u32(4096)),
        (17, Args::fh(&root).u64(0).u64(0).u32(4096).u32(4096)),
        (18, Args::fh(&root)),
        (19, Args::fh(&root)),
        (20, Args::fh(&root)),
        (21, Args::fh(&root).u64(0).u32(0)),
    ];
    for (proc, args) in &calls {
        for len in (0..args.0.len()).step_by(4) {
            assert_eq!(raw.nfs(*proc, &args.0[..len]), garbage(), "{proc} cut at {len}");
        }
        // What follows the arguments is nobody's business.
        let longer = [&args.0[..], &[0xff; 64]].concat();
        assert!(matches!(raw.nfs(*proc, &longer), Answer::Results(_)), "{proc}");
    }
    let names: Vec<_> =
        fs::read_dir(world.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| name != "target"), "{names:?}");
    assert_eq!(raw.nfs(22, &[]), Answer::Refused(vec![1, 0, 0, 0, 3]), "there is no procedure 22");
}

#[test]
fn every_length_word_at_its_limits_is_refused_at_once() {
    let (_world, root, mut raw) = World::with_raw();
    drop(root);
    let before = peak_kib();
    let since = Instant::now();
    for proc in 1..22 {
        for len in [65, 0x7fff_fffc, 0x7fff_ffff, 0x8000_0000, 0xffff_fffc, 0xffff_ffff] {
            let mut args = Args::default().u32(len);
            args.0.extend_from_slice(&[0; 256]);
            assert_eq!(raw.nfs(proc, &args.0), garbage(), "{proc} {len:#x}");
        }
    }
    assert!(since.elapsed() < Duration::from_mins(2));
    assert!(peak_kib() - before < 32 << 10, "memory grew by what a client claimed");
}

#[test]
fn a_call_padded_to_the_maximum_takes_nothing_from_its_reply() {
    let (world, root, mut raw) = World::with_raw();
    let content: Vec<u8> = (0..1 << 20).map(|at: u32| (at / 3) as u8).collect();
    fs::write(world.path().join("f"), &content).unwrap();
    let file = found(&mut raw, &root, b"f");
    for (proc, mut args) in [
        (READ, Args::fh(&file).u64(0).u32(u32::MAX)),
        (READDIR, Args::fh(&root).u64(0).u64(0).u32(u32::MAX)),
        (READDIRPLUS, Args::fh(&root).u64(0).u64(0).u32(u32::MAX).u32(u32::MAX)),
    ] {
        args.0.resize(1 << 20, 0xa5);
        match raw.nfs(proc, &args.0) {
            Answer::Results(results) if proc == READ => {
                assert_eq!(words(&results)[0], OK);
                assert!(results.ends_with(&content), "READ came back changed");
            }
            Answer::Results(results) => assert_eq!(words(&results)[0], OK),
            other => panic!("{proc}: {other:?}"),
        }
    }
}

#[test]
fn offsets_and_sizes_beyond_63_bits_are_refused() {
    let (world, root, mut raw) = World::with_raw();
    fs::write(world.path().join("f"), "content").unwrap();
    let file = found(&mut raw, &root, b"f");
    for offset in [i64::MAX.unsigned_abs(), 1 << 63, u64::MAX] {
        let write = Args::fh(&file).u64(offset).u32(4).u32(0).opaque(b"four");
        assert_eq!(raw.status(WRITE, &write.0), 27);
        match raw.nfs(READ, &Args::fh(&file).u64(offset).u32(u32::MAX).0) {
            Answer::Results(results) => {
                assert_eq!(words(&results)[0], OK);
                assert_eq!(words(&results)[words(&results).len() - 3..], [0, 1, 0]);
            }
            other => panic!("{other:?}"),
        }
        let list = Args::fh(&root).u64(offset).u64(0).u32(4096);
        let status = raw.status(READDIR, &list.0);
        assert!(status == OK || status == 10003, "{status}");
    }
    let size = Args::fh(&file).u32(0).u32(0).u32(0).u32(1).u64(1 << 63).u32(0).u32(0).u32(0);
    assert_eq!(raw.status(2, &size.0), 27);
    assert_eq!(fs::read(world.path().join("f")).unwrap(), b"content");
}

#[test]
fn truth_values_and_choices_that_are_none_are_garbage() {
    let (world, root, mut raw) = World::with_raw();
    let dirop = || Args::fh(&root).opaque(b"new");
    assert_eq!(raw.nfs(CREATE, &dirop().u32(3).no_sattr().0), garbage());
    assert_eq!(raw.nfs(CREATE, &dirop().u32(0).u32(2).no_sattr().0), garbage());
    assert_eq!(raw.nfs(11, &dirop().u32(8).no_sattr().0), garbage());
    assert_eq!(raw.nfs(11, &dirop().u32(0).no_sattr().0), garbage());
    assert_eq!(raw.status(11, &dirop().u32(1).0), 10007);
    let bad_time = Args::fh(&root).u32(0).u32(0).u32(0).u32(0).u32(3).u32(0).u32(0);
    assert_eq!(raw.nfs(2, &bad_time.0), garbage());
    let write = Args::fh(&root).u64(0).u32(1).u32(3).opaque(b"x");
    assert_eq!(raw.nfs(7, &write.0), garbage());
    assert_eq!(fs::read_dir(world.path()).unwrap().count(), 0);
}

#[test]
fn credentials_that_are_none_are_refused_and_never_anonymous() {
    let world = World::new();
    let root = world.root();
    let getattr = Args::fh(&root).0;
    let sys = |body: &[u8]| Args::default().u32(1).opaque(body).u32(0).u32(0).0;
    let body = |name: usize, gids: u32| {
        let args = Args::default().u32(0).opaque(&vec![b'x'; name]).u32(0).u32(0).u32(gids);
        (0..gids).fold(args, Args::u32).0
    };
    let mut raw = Raw::new(&world);
    let mut with = |auth: Vec<u8>| {
        raw.auth = auth;
        match raw.nfs(GETATTR, &getattr) {
            Answer::Closed => {
                raw = Raw::new(&world);
                Answer::Closed
            }
            answer => answer,
        }
    };
    assert!(matches!(with(sys(&body(4, 16))), Answer::Results(_)));
    assert!(matches!(with(Args::default().u32(0).u32(0).u32(0).u32(0).0), Answer::Results(_)));
    let denied = [
        sys(&body(4, 17)),
        sys(&body(256, 0)),
        sys(&body(4, 2)[..20]),
        sys(b""),
        Args::default().u32(1).u32(404).0.into_iter().chain([0; 412]).collect(),
        Args::default().u32(1).u32(u32::MAX).0,
        Args::default().u32(0).u32(0).u32(0).u32(0x7fff_ffff).0,
        Args::default().u32(6).u32(0).u32(0).u32(0).0,
        Args::default().u32(7).u32(0).u32(0).u32(0).0,
        Args::default().u32(0x1234_5678).u32(0).u32(0).u32(0).0,
    ];
    for (at, auth) in denied.into_iter().enumerate() {
        let answer = with(auth);
        assert!(!matches!(answer, Answer::Results(_)), "{at}: {answer:?}");
    }
    world.assert_alive();
}

#[test]
fn records_that_are_none_cost_their_connection_and_no_memory() {
    let world = World::new();
    let before = peak_kib();
    let mut huge = Raw::new(&world);
    huge.stream.write_all(&[0x7f, 0xff, 0xff, 0xff, 1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
    // It is closed at once, or waits until its time is over: it takes no memory either way.
    huge.stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut byte = [0];
    assert!(!matches!(huge.stream.read(&mut byte), Ok(1)), "nothing is to be answered");
    let mut empty = Raw::new(&world);
    // It may be closed before all of them are sent.
    let _closed = empty.stream.write_all(&vec![0; 4 * 20_000]);
    world.assert_alive();
    assert!(peak_kib() - before < 32 << 10, "memory grew by what a client claimed");
    // A call in fragments of one byte is a call.
    let mut split = Raw::new(&world);
    let message = Args::default().u32(9).u32(0).u32(2).u32(100_003).u32(3).u32(0).u64(0).u64(0).0;
    for (at, &byte) in message.iter().enumerate() {
        let last = if at + 1 == message.len() { 0x80 } else { 0 };
        split.stream.write_all(&[last, 0, 0, 1, byte]).unwrap();
    }
    let mut reply = [0; 28];
    split.stream.read_exact(&mut reply).unwrap();
    assert_eq!(words(&reply), [0x8000_0018, 9, 1, 0, 0, 0, 0]);
}

#[test]
fn a_call_sent_twice_is_answered_twice_and_carried_out_once() {
    let (_world, root, mut raw) = World::with_raw();
    let create = Args::fh(&root).opaque(b"f").u32(1).no_sattr();
    let first = raw.nfs(CREATE, &create.0);
    raw.xid -= 1;
    let second = raw.nfs(CREATE, &create.0);
    assert_eq!(first, second);
    assert!(matches!(first, Answer::Results(results) if words(&results)[0] == OK));
    assert_eq!(raw.status(CREATE, &create.0), 17, "another call finds the name taken");
}
