//! Every procedure over the wire, by the client of the crate `nfs3_client`, which shares no code
//! with the server.

#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "what is not as expected fails the test"
)]

extern crate alloc;

#[cfg(test)]
#[expect(dead_code, reason = "each test uses a part of this")]
mod common;

use alloc::collections::BTreeSet;
use core::time::Duration;
use std::fs;
use std::thread;

use common::{World, wait};
use nfs3_client::Nfs3Client;
use nfs3_types::mount::dirpath;
use nfs3_types::nfs3::*;
use nfs3_types::xdr_codec::Opaque;

type Client = Nfs3Client<common::Io>;

fn at<'a>(dir: &nfs_fh3, name: &'a str) -> diropargs3<'a> {
    diropargs3 { dir: dir.clone(), name: filename3(Opaque::borrowed(name.as_bytes())) }
}

fn create(client: &mut Client, dir: &nfs_fh3, name: &str) -> nfs_fh3 {
    let sattr = sattr3 { mode: Nfs3Option::Some(0o644), ..sattr3::default() };
    let args = CREATE3args { where_: at(dir, name), how: createhow3::GUARDED(sattr) };
    wait(client.create(&args)).unwrap().unwrap().obj.unwrap()
}

fn write(client: &mut Client, file: &nfs_fh3, offset: u64, data: &[u8]) -> WRITE3resok {
    let args = WRITE3args {
        file: file.clone(),
        offset,
        count: u32::try_from(data.len()).unwrap(),
        stable: stable_how::UNSTABLE,
        data: Opaque::borrowed(data),
    };
    wait(client.write(&args)).unwrap().unwrap()
}

fn read(client: &mut Client, file: &nfs_fh3, offset: u64, count: u32) -> (Vec<u8>, bool) {
    let args = READ3args { file: file.clone(), offset, count };
    let ok = wait(client.read(&args)).unwrap().unwrap();
    assert_eq!(ok.count as usize, ok.data.len());
    (ok.data.to_vec(), ok.eof)
}

fn getattr(client: &mut Client, object: &nfs_fh3) -> fattr3 {
    let args = GETATTR3args { object: object.clone() };
    wait(client.getattr(&args)).unwrap().unwrap().obj_attributes
}

/// Asks for the attributes of a file that is gone, as clients do: `NFS3ERR_JUKEBOX` means again. The
/// kernel is out of memory, it says, while it gives the number of a removed file to a new one.
fn refusal_of_getattr(client: &mut Client, object: &nfs_fh3) -> nfsstat3 {
    let args = GETATTR3args { object: object.clone() };
    loop {
        match wait(client.getattr(&args)).unwrap() {
            Nfs3Result::Err((nfsstat3::NFS3ERR_JUKEBOX, _)) => {
                thread::sleep(Duration::from_millis(10));
            }
            Nfs3Result::Err((status, _)) => return status,
            Nfs3Result::Ok(found) => panic!("{found:?}"),
        }
    }
}

fn lookup(client: &mut Client, dir: &nfs_fh3, name: &str) -> Result<nfs_fh3, nfsstat3> {
    match wait(client.lookup(&LOOKUP3args { what: at(dir, name) })).unwrap() {
        Nfs3Result::Ok(ok) => Ok(ok.object),
        Nfs3Result::Err((status, _)) => Err(status),
    }
}

#[test]
fn null_and_fs_procedures_tell_the_truth() {
    let (world, mut client, root) = World::with_client();
    wait(client.null()).unwrap();
    let info = wait(client.fsinfo(&FSINFO3args { fsroot: root.clone() })).unwrap().unwrap();
    assert_eq!((info.rtmax, info.wtmax), (1 << 20, 1 << 20));
    assert_eq!(info.properties, 0x1b);
    let stat = wait(client.fsstat(&FSSTAT3args { fsroot: root.clone() })).unwrap().unwrap();
    let own = rustix::fs::statvfs(world.path()).unwrap();
    assert_eq!(stat.tbytes, own.f_blocks * own.f_frsize);
    assert_eq!(stat.tfiles, own.f_files);
    let conf = wait(client.pathconf(&PATHCONF3args { object: root })).unwrap().unwrap();
    assert_eq!(u64::from(conf.name_max), own.f_namemax);
    assert!(conf.no_trunc && conf.chown_restricted && conf.case_preserving);
    assert!(!conf.case_insensitive);
}

#[test]
fn files_are_made_written_read_and_removed() {
    for world in [World::new(), World::through_pages()] {
        let (mut client, root) = (world.nfs(), world.root());
        let file = create(&mut client, &root, "f");
        // Sizes around pages, padding, the switch between ways to send, and the maximum.
        for len in [1, 2, 3, 4, 5, 4095, 4096, 4097, 16383, 16384, 70001, (1 << 20) - 3, 1 << 20] {
            let data: Vec<u8> = (0..len).map(|at| (at * 7 + at / 251 + len) as u8).collect();
            let written = write(&mut client, &file, 5, &data);
            assert_eq!(written.count as usize, len);
            assert_eq!(fs::read(world.path().join("f")).unwrap()[5..5 + len], data);
            let (bytes, _) = read(&mut client, &file, 5, u32::try_from(len).unwrap());
            assert!(bytes == data, "{len} bytes came back changed");
        }
        let size = getattr(&mut client, &file).size;
        assert_eq!(size, (1 << 20) + 5);
        assert_eq!(read(&mut client, &file, size - 3, 10), (vec![0; 0].tap_len(3, &world), true));
        assert_eq!(read(&mut client, &file, size, 10), (Vec::new(), true));
        assert!(!read(&mut client, &file, 0, 10).1);
        assert_eq!(read(&mut client, &file, 0, 0), (Vec::new(), false));
        assert_eq!(read(&mut client, &file, 0, u32::MAX).0.len(), 1 << 20, "cut to the maximum");
        let commit = COMMIT3args { file: file.clone(), offset: 0, count: 0 };
        let first = wait(client.commit(&commit)).unwrap().unwrap().verf;
        assert_eq!(first.0, world.vfs.write_verifier());
        wait(client.remove(&REMOVE3args { object: at(&root, "f") })).unwrap().unwrap();
        assert_eq!(lookup(&mut client, &root, "f"), Err(nfsstat3::NFS3ERR_NOENT));
        assert_eq!(refusal_of_getattr(&mut client, &file), nfsstat3::NFS3ERR_STALE);
    }
}

/// The last bytes of the file in the test above.
trait TapLen {
    fn tap_len(self, len: usize, world: &World) -> Vec<u8>;
}

impl TapLen for Vec<u8> {
    fn tap_len(self, len: usize, world: &World) -> Vec<u8> {
        let bytes = fs::read(world.path().join("f")).unwrap();
        bytes[bytes.len() - len..].to_vec()
    }
}

#[test]
fn attributes_are_set_and_guarded() {
    let (_world, mut client, root) = World::with_client();
    let file = create(&mut client, &root, "f");
    let before = getattr(&mut client, &file);
    let time = nfstime3 { seconds: 1_000_000_000, nseconds: 5 };
    let set = |sattr, guard| SETATTR3args { object: file.clone(), new_attributes: sattr, guard };
    let sattr = sattr3 {
        mode: Nfs3Option::Some(0o600),
        uid: Nfs3Option::None,
        gid: Nfs3Option::None,
        size: Nfs3Option::Some(12345),
        atime: set_atime::SET_TO_SERVER_TIME,
        mtime: set_mtime::SET_TO_CLIENT_TIME(time),
    };
    let ok =
        wait(client.setattr(&set(sattr.clone(), Nfs3Option::Some(before.ctime)))).unwrap().unwrap();
    assert_eq!(ok.obj_wcc.before.unwrap().size, 0);
    let after = ok.obj_wcc.after.unwrap();
    assert_eq!((after.mode, after.size, after.mtime), (0o600, 12345, time));
    let late = wait(client.setattr(&set(sattr, Nfs3Option::Some(before.ctime)))).unwrap();
    assert!(matches!(late, Nfs3Result::Err((nfsstat3::NFS3ERR_NOT_SYNC, _))));
}

#[test]
fn directories_links_and_names_come_and_go() {
    let (_world, mut client, root) = World::with_client();
    let args = MKDIR3args { where_: at(&root, "d"), attributes: sattr3::default() };
    let dir = wait(client.mkdir(&args)).unwrap().unwrap().obj.unwrap();
    let file = create(&mut client, &dir, "f");
    let link = LINK3args { file: file.clone(), link: at(&root, "hard") };
    let linked = wait(client.link(&link)).unwrap().unwrap();
    assert_eq!(linked.file_attributes.unwrap().nlink, 2);
    assert_eq!(lookup(&mut client, &root, "hard"), Ok(file.clone()));
    let busy = wait(client.rmdir(&RMDIR3args { object: at(&root, "d") })).unwrap();
    assert!(matches!(busy, Nfs3Result::Err((nfsstat3::NFS3ERR_NOTEMPTY, _))));
    let rename = RENAME3args { from: at(&dir, "f"), to: at(&root, "moved") };
    let renamed = wait(client.rename(&rename)).unwrap().unwrap();
    assert!(renamed.fromdir_wcc.before.is_some() && renamed.todir_wcc.after.is_some());
    assert_eq!(lookup(&mut client, &root, "moved"), Ok(file));
    wait(client.rmdir(&RMDIR3args { object: at(&root, "d") })).unwrap().unwrap();

    let symlink = symlinkdata3 {
        symlink_attributes: sattr3::default(),
        symlink_data: nfspath3(Opaque::borrowed(b"../anywhere/at/all")),
    };
    let args = SYMLINK3args { where_: at(&root, "soft"), symlink };
    let soft = wait(client.symlink(&args)).unwrap().unwrap().obj.unwrap();
    let target = wait(client.readlink(&READLINK3args { symlink: soft })).unwrap().unwrap();
    assert_eq!(target.data.0.as_ref(), b"../anywhere/at/all");
    let no_link = wait(client.readlink(&READLINK3args { symlink: root.clone() })).unwrap();
    assert!(matches!(no_link, Nfs3Result::Err((nfsstat3::NFS3ERR_INVAL, _))));

    let what = mknoddata3::NF3FIFO(sattr3 { mode: Nfs3Option::Some(0o640), ..sattr3::default() });
    let fifo =
        wait(client.mknod(&MKNOD3args { where_: at(&root, "pipe"), what })).unwrap().unwrap();
    let attr = fifo.obj_attributes.unwrap();
    assert_eq!((attr.type_, attr.mode), (ftype3::NF3FIFO, 0o640));
}

#[test]
fn an_exclusive_create_is_the_same_when_repeated() {
    let (_world, mut client, root) = World::with_client();
    let mut exclusive = |verifier: &[u8; 8]| {
        let how = createhow3::EXCLUSIVE(createverf3(*verifier));
        match wait(client.create(&CREATE3args { where_: at(&root, "f"), how })).unwrap() {
            Nfs3Result::Ok(ok) => Ok(ok.obj.unwrap()),
            Nfs3Result::Err((status, _)) => Err(status),
        }
    };
    let made = exclusive(b"\xff\xff\xff\xff\xff\xff\xff\xff").unwrap();
    assert_eq!(exclusive(b"\xff\xff\xff\xff\xff\xff\xff\xff"), Ok(made));
    assert_eq!(exclusive(b"\x0f\xff\xff\xff\xff\xff\xff\xff"), Err(nfsstat3::NFS3ERR_EXIST));
}

#[test]
fn access_is_what_the_mode_says() {
    let (world, mut client, root) = World::with_client();
    let file = create(&mut client, &root, "f");
    let args = ACCESS3args { object: file, access: 0x3f };
    assert_eq!(wait(client.access(&args)).unwrap().unwrap().access, 0x0d, "root executes nothing");
    if pagemill_nfs::vfs::Actors::detect() == pagemill_nfs::vfs::Actors::Callers {
        let other = wait(world.nfs_as(1234).access(&args)).unwrap().unwrap();
        assert_eq!(other.access, 0x01);
    }
    let dir = ACCESS3args { object: root, access: 0x3f };
    assert_eq!(wait(client.access(&dir)).unwrap().unwrap().access, 0x1f);
}

/// Lists a directory in pieces of `count` bytes, with or without attributes.
fn list(client: &mut Client, dir: &nfs_fh3, count: u32, plus: bool) -> Vec<String> {
    let mut names = Vec::new();
    let (mut cookie, mut cookieverf) = (0, cookieverf3([0; 8]));
    loop {
        let (entries, verf, eof): (Vec<_>, _, _) = if plus {
            let (dircount, maxcount) = (count, count);
            let args =
                READDIRPLUS3args { dir: dir.clone(), cookie, cookieverf, dircount, maxcount };
            let ok = wait(client.readdirplus(&args)).unwrap().unwrap();
            for entry in &ok.reply.entries.0 {
                let Nfs3Option::Some(attr) = &entry.name_attributes else { panic!("{entry:?}") };
                assert_eq!(attr.fileid, entry.fileid);
                let Nfs3Option::Some(fh) = &entry.name_handle else { panic!("{entry:?}") };
                assert_eq!(getattr(client, fh).fileid, entry.fileid);
            }
            let entries = ok.reply.entries.0.into_iter();
            let entries = entries.map(|entry| (entry.name.0.to_vec(), entry.cookie)).collect();
            (entries, ok.cookieverf, ok.reply.eof)
        } else {
            let args = READDIR3args { dir: dir.clone(), cookie, cookieverf, count };
            let ok = wait(client.readdir(&args)).unwrap().unwrap();
            let entries = ok.reply.entries.0.into_iter();
            let entries = entries.map(|entry| (entry.name.0.to_vec(), entry.cookie)).collect();
            (entries, ok.cookieverf, ok.reply.eof)
        };
        cookie = entries.last().map_or(cookie, |(_, cookie)| *cookie);
        cookieverf = verf;
        names.extend(entries.into_iter().map(|(name, _)| String::from_utf8(name).unwrap()));
        if eof {
            return names;
        }
    }
}

#[test]
fn directories_are_listed_in_pieces_of_any_size() {
    let (world, mut client, root) = World::with_client();
    let mut expected = BTreeSet::from([".".to_owned(), "..".to_owned()]);
    for at in 0..200 {
        let name = format!("{at:0width$}", width = 1 + at);
        fs::write(world.path().join(&name), "").unwrap();
        expected.insert(name);
    }
    for plus in [false, true] {
        for count in [600, 1000, 4096, 65536, u32::MAX] {
            let names = list(&mut client, &root, count, plus);
            assert_eq!(names.len(), expected.len(), "{count} {plus}: one came twice or not");
            assert_eq!(names.into_iter().collect::<BTreeSet<_>>(), expected);
        }
    }
    let small = READDIR3args { dir: root, cookie: 0, cookieverf: cookieverf3([0; 8]), count: 100 };
    let refused = wait(client.readdir(&small)).unwrap();
    assert!(matches!(refused, Nfs3Result::Err((nfsstat3::NFS3ERR_TOOSMALL, _))));
}

#[test]
fn a_list_begun_with_another_verifier_is_refused() {
    let (_world, mut client, dir) = World::with_client();
    let args = READDIR3args { dir, cookie: 1, cookieverf: cookieverf3([1; 8]), count: 4096 };
    let refused = wait(client.readdir(&args)).unwrap();
    assert!(matches!(refused, Nfs3Result::Err((nfsstat3::NFS3ERR_BAD_COOKIE, _))));
}

#[test]
fn mount_lists_and_refuses() {
    let world = World::new();
    let mut mount = world.mount();
    wait(mount.null()).unwrap();
    let path = world.path();
    let shown = path.as_os_str().as_encoded_bytes();
    let dir = || dirpath(Opaque::borrowed(shown));
    assert_eq!(wait(mount.mnt(dir())).unwrap().auth_flavors, [1]);
    let exports = wait(mount.export()).unwrap().0;
    assert_eq!(exports[0].ex_dir.0.as_ref(), shown);
    assert_eq!(exports[0].ex_groups.0[0].0.as_ref(), b"*");
    let mounts = wait(mount.dump()).unwrap().0;
    assert_eq!((mounts.len(), mounts[0].ml_directory.0.as_ref()), (1, shown));
    wait(mount.umnt(dir())).unwrap();
    assert!(wait(mount.dump()).unwrap().0.is_empty());
    wait(mount.mnt(dir())).unwrap();
    wait(mount.umntall()).unwrap();
    assert!(wait(mount.dump()).unwrap().0.is_empty());
    assert!(wait(mount.mnt(dirpath(Opaque::borrowed(b"/etc")))).is_err());
    fs::create_dir(path.join("below")).unwrap();
    let below = path.join("below");
    let below = dirpath(Opaque::borrowed(below.as_os_str().as_encoded_bytes()));
    assert!(wait(mount.mnt(below)).is_ok());
}

#[test]
fn two_clients_work_in_one_directory_at_once() {
    let world = World::new();
    let root = world.root();
    thread::scope(|scope| {
        for who in 0..2 {
            let (world, root) = (&world, &root);
            scope.spawn(move || {
                let mut client = world.nfs();
                for at in 0..150 {
                    // Every name is both clients': one makes it, the other finds it there.
                    let how = createhow3::UNCHECKED(sattr3 {
                        mode: Nfs3Option::Some(0o666),
                        ..sattr3::default()
                    });
                    let name = format!("shared-{at}");
                    let args = CREATE3args { where_: at_(root, &name), how };
                    let file = wait(client.create(&args)).unwrap().unwrap().obj.unwrap();
                    write(&mut client, &file, who * 4, &[who as u8 + 1; 4]);
                    let own = format!("own-{who}-{at}");
                    let rename = RENAME3args {
                        from: at_(root, &own),
                        to: at_(root, &format!("renamed-{who}-{at}")),
                    };
                    create(&mut client, root, &own);
                    wait(client.rename(&rename)).unwrap().unwrap();
                }
            });
        }
    });
    let names = list(&mut world.nfs(), &root, 4096, true);
    assert_eq!(names.len(), 2 + 150 + 2 * 150);
    for at in 0..150 {
        let content = fs::read(world.path().join(format!("shared-{at}"))).unwrap();
        assert_eq!(content, [1, 1, 1, 1, 2, 2, 2, 2]);
    }
}

/// As [`at`], for a name that is made on the way.
fn at_(dir: &nfs_fh3, name: &str) -> diropargs3<'static> {
    let name = filename3(Opaque::owned(name.as_bytes().to_vec()));
    diropargs3 { dir: dir.clone(), name }
}
