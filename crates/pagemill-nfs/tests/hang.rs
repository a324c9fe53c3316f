//! An export whose file system hangs: others are served, and its own calls get an answer.
//!
//! A frozen ext4 hangs in every change, and is thawed when the test likes.

#![expect(clippy::unwrap_used, reason = "what is not as expected fails the test")]
#![expect(clippy::print_stderr, reason = "a test that is skipped says so")]

extern crate alloc;

#[cfg(test)]
#[expect(dead_code, reason = "each test uses a part of this")]
mod common;

use core::time::Duration;
use std::path::Path;
use std::thread;

use common::namespace::{sh, with_mounts};
use common::{Answer, Args, Raw, World, open_options, wait, words};
use nfs3_types::mount::dirpath;
use nfs3_types::nfs3::nfs_fh3;
use nfs3_types::xdr_codec::Opaque;
use pagemill_nfs::exports::{ClientMatch, ClientRule, ExportRule};

const GETATTR: u32 = 1;
const SETATTR: u32 = 2;
const JUKEBOX: u32 = 10008;
const BADHANDLE: u32 = 10001;

fn mount(world: &World, path: &Path) -> nfs_fh3 {
    let path = dirpath(Opaque::borrowed(path.as_os_str().as_encoded_bytes()));
    let mounted = wait(world.mount().mnt(path)).unwrap();
    nfs_fh3 { data: Opaque::owned(mounted.fhandle.0.to_vec()) }
}

fn status(answer: &Answer) -> u32 {
    match answer {
        Answer::Results(results) => words(results)[0],
        other => panic!("{other:?}"),
    }
}

/// Arguments of every procedure from GETATTR to COMMIT, about `fh` and nothing that exists.
fn calls(fh: &nfs_fh3) -> Vec<(u32, Args)> {
    let dirop = || Args::fh(fh).opaque(b"none");
    vec![
        (1, Args::fh(fh)),
        (2, Args::fh(fh).no_sattr().u32(0)),
        (3, dirop()),
        (4, Args::fh(fh).u32(0x3f)),
        (5, Args::fh(fh)),
        (6, Args::fh(fh).u64(0).u32(1)),
        (7, Args::fh(fh).u64(0).u32(4).u32(0).opaque(b"four")),
        (8, dirop().u32(1).no_sattr()),
        (9, dirop().no_sattr()),
        (10, dirop().no_sattr().opaque(b"target")),
        (11, dirop().u32(7).no_sattr()),
        (12, dirop()),
        (13, dirop()),
        (14, dirop().opaque(&fh.data).opaque(b"other")),
        (15, Args::fh(fh).opaque(&fh.data).opaque(b"name")),
        (16, Args::fh(fh).u64(0).u64(0).u32(4096)),
        (17, Args::fh(fh).u64(0).u64(0).u32(4096).u32(4096)),
        (18, Args::fh(fh)),
        (19, Args::fh(fh)),
        (20, Args::fh(fh)),
        (21, Args::fh(fh).u64(0).u32(0)),
    ]
}

/// Thaws a file system at the end.
struct Thaws<'a>(&'a Path);

impl Drop for Thaws<'_> {
    fn drop(&mut self) {
        sh(&format!("fsfreeze --unfreeze {}", self.0.display())).unwrap();
    }
}

#[test]
fn a_hung_export_leaves_others_their_threads() {
    with_mounts("a_hung_export_leaves_others_their_threads", |dir| {
        let made = format!(
            "cd {}; mkdir frozen; truncate -s 16M image; mkfs.ext4 -q image; \
             mount -o loop image frozen",
            dir.display()
        );
        if let Err(error) = sh(&made) {
            return eprintln!("SKIPPED: ext4 on a loop device cannot be mounted: {error}");
        }
        let path = dir.join("frozen");
        let world = World::new();
        let clients = vec![ClientRule { client: ClientMatch::Any, options: open_options() }];
        let rule = |path: &Path| ExportRule { path: path.to_owned(), clients: clients.clone() };
        world.vfs.set_exports(vec![rule(&world.path()), rule(&path)]).unwrap();
        let (frozen, other) = (mount(&world, &path), world.root());

        sh(&format!("fsfreeze --freeze {}", path.display())).unwrap();
        // Whatever becomes of the test: calls that hang could not be waited for.
        let thaws = Thaws(&path);
        let chmod = Args::fh(&frozen).u32(1).u32(0o755).u32(0).u32(0).u32(0).u32(0).u32(0).u32(0);
        thread::scope(|scope| {
            // More than the server has threads. A client that gets NFS3ERR_JUKEBOX repeats the call.
            let asks: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let mut raw = Raw::new(&world);
                        loop {
                            match status(&raw.nfs(SETATTR, &chmod.0)) {
                                JUKEBOX => thread::sleep(Duration::from_millis(10)),
                                status => return status,
                            }
                        }
                    })
                })
                .collect();
            // From some time on, all calls of the export get this answer.
            let mut raw = Raw::new(&world);
            while status(&raw.nfs(GETATTR, &Args::fh(&frozen).0)) != JUKEBOX {
                thread::sleep(Duration::from_millis(10));
            }
            for (proc, args) in calls(&frozen) {
                let refused = raw.nfs(proc, &args.0);
                assert_eq!(status(&refused), JUKEBOX, "procedure {proc}");
                // It is as long as any that refuses without attributes.
                let nobodys = calls(&nfs_fh3 { data: Opaque::borrowed(b"none") });
                let bad = raw.nfs(proc, &nobodys[usize::try_from(proc).unwrap() - 1].1.0);
                assert_eq!(status(&bad), BADHANDLE, "procedure {proc}");
                let (Answer::Results(refused), Answer::Results(bad)) = (refused, bad) else {
                    unreachable!()
                };
                assert_eq!(refused[4..], bad[4..], "procedure {proc}");
            }
            for _ in 0..10 {
                assert_eq!(status(&raw.nfs(GETATTR, &Args::fh(&other).0)), 0);
            }
            // Nothing there waits for the disk that is frozen.
            world.vfs.sweep();
            drop(thaws);
            for asking in asks {
                assert_eq!(asking.join().unwrap(), 0);
            }
            assert_eq!(status(&raw.nfs(GETATTR, &Args::fh(&frozen).0)), 0);
        });
        world.vfs.set_exports(Vec::new()).unwrap();
        drop(world);
        sh(&format!("umount {}", path.display())).unwrap();
    });
}
