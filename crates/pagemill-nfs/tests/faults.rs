//! Page allocation that fails at random: every call ends in a right answer, and none hangs.

#![expect(clippy::unwrap_used, reason = "what is not as expected fails the test")]

extern crate alloc;

#[cfg(test)]
#[expect(dead_code, reason = "each test uses a part of this")]
mod common;

use core::time::Duration;
use std::fs;
use std::time::Instant;

use common::{World, wait};
use nfs3_types::nfs3::*;
use nfs3_types::xdr_codec::Opaque;
use pagemill::debug::FaultConfig;
use pagemill::source::PageSource;

#[test]
fn every_call_is_answered_rightly_while_pages_are_short() {
    for world in [World::new(), World::through_pages()] {
        let root = world.root();
        for seed in 1..=4 {
            world.frames.allocator().inject_faults(&FaultConfig {
                probability: 700_000,
                seed,
                ..FaultConfig::EVERY
            });
            let since = Instant::now();
            std::thread::scope(|scope| {
                for who in 0..3 {
                    let (world, root) = (&world, &root);
                    scope.spawn(move || work(world, root, &format!("{seed}-{who}")));
                }
            });
            assert!(since.elapsed() < Duration::from_mins(3), "seed {seed} took too long");
        }
        world.frames.allocator().inject_faults(&FaultConfig::NEVER);
        world.assert_alive();
    }
}

/// Writes, reads back and lists; whatever is not `JUKEBOX` must be right.
fn work(world: &World, root: &nfs_fh3, name: &str) {
    let mut client = world.nfs();
    let at = || diropargs3 { dir: root.clone(), name: filename3(Opaque::owned(name.into())) };
    let how = createhow3::GUARDED(sattr3::default());
    let create = CREATE3args { where_: at(), how };
    let file = wait(client.create(&create)).unwrap().unwrap().obj.unwrap();
    for round in 0..12_u8 {
        let data = vec![round; 300_000 + usize::from(round)];
        let count = u32::try_from(data.len()).unwrap();
        let write = WRITE3args {
            file: file.clone(),
            offset: 0,
            count,
            stable: stable_how::UNSTABLE,
            data: Opaque::borrowed(&data),
        };
        match wait(client.write(&write)).unwrap() {
            Nfs3Result::Ok(ok) => assert_eq!(ok.count, count),
            Nfs3Result::Err((status, _)) => {
                assert_eq!(status, nfsstat3::NFS3ERR_JUKEBOX);
                continue;
            }
        }
        assert_eq!(fs::read(world.path().join(name)).unwrap(), data);
        let read = READ3args { file: file.clone(), offset: 0, count: 1 << 20 };
        match wait(client.read(&read)).unwrap() {
            Nfs3Result::Ok(ok) => assert!(ok.eof && *ok.data == data[..], "READ came back changed"),
            Nfs3Result::Err((status, _)) => assert_eq!(status, nfsstat3::NFS3ERR_JUKEBOX),
        }
    }
}
