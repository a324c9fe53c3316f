//! READ of files that do not have what their sizes say, or cannot be read at all.
//!
//! The kernel's attributes of a network device are such files: each is said to have a page.

#![expect(clippy::unwrap_used, reason = "what is not as expected fails the test")]

extern crate alloc;

#[cfg(test)]
#[expect(dead_code, reason = "each test uses a part of this")]
mod common;

use std::fs;
use std::path::Path;

use common::{World, open_options, wait};
use nfs3_types::mount::dirpath;
use nfs3_types::nfs3::*;
use nfs3_types::xdr_codec::Opaque;
use pagemill_nfs::exports::{ClientMatch, ClientRule, ExportRule};
use pagemill_nfs::{NfsConfig, ReadPath};

const LOOPBACK: &str = "/sys/devices/virtual/net/lo";

/// Reads an attribute of the loopback device, with either path, and asserts that the connection
/// lives on.
fn read_attribute(name: &str, read_path: ReadPath) -> Result<(Vec<u8>, bool), nfsstat3> {
    let world = World::with(NfsConfig { read_path, ..NfsConfig::default() }, open_options());
    let clients = vec![ClientRule { client: ClientMatch::Any, options: open_options() }];
    world.vfs.set_exports(vec![ExportRule { path: LOOPBACK.into(), clients }]).unwrap();
    let path = dirpath(Opaque::borrowed(LOOPBACK.as_bytes()));
    let mounted = wait(world.mount().mnt(path)).unwrap();
    let dir = nfs_fh3 { data: Opaque::owned(mounted.fhandle.0.to_vec()) };
    let mut client = world.nfs();
    let what = diropargs3 { dir, name: filename3(Opaque::owned(name.into())) };
    let file = wait(client.lookup(&LOOKUP3args { what })).unwrap().unwrap().object;
    let read = wait(client.read(&READ3args { file, offset: 0, count: 64 << 10 })).unwrap();
    wait(client.null()).unwrap();
    match read {
        Nfs3Result::Ok(ok) => {
            assert_eq!(usize::try_from(ok.count).unwrap(), ok.data.len());
            Ok((ok.data.to_vec(), ok.eof))
        }
        Nfs3Result::Err((status, _)) => Err(status),
    }
}

const PATHS: [ReadPath; 2] = [ReadPath::Pages, ReadPath::File { min_bytes: 1 }];

#[test]
fn what_cannot_be_read_is_answered_with_the_reason() {
    let speed = Path::new(LOOPBACK).join("speed");
    let refused = fs::read(&speed).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput, "the loopback has no speed");
    for path in PATHS {
        assert_eq!(read_attribute("speed", path), Err(nfsstat3::NFS3ERR_INVAL), "{path:?}");
    }
}

#[test]
fn a_file_that_ends_before_its_size_ends_there() {
    let mtu = Path::new(LOOPBACK).join("mtu");
    let bytes = fs::read(&mtu).unwrap();
    assert!((bytes.len() as u64) < fs::metadata(&mtu).unwrap().len());
    for path in PATHS {
        assert_eq!(read_attribute("mtu", path), Ok((bytes.clone(), true)), "{path:?}");
    }
}
