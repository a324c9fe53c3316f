//! Errors of write-back: no reply hides one from a client whose data may be lost.

use std::os::fd::AsRawFd;

use rustix::io::Errno;

use super::*;
use crate::vfs::Created;
use crate::vfs::durability::DataFile;

/// A world on a disk, with a file that has bytes which are not durable.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn world_on_disk() -> Option<(World, Object)> {
    let world = World::server();
    let root = world.root();
    if root.export.is_volatile() {
        eprintln!("SKIPPED: the temporary directory is not on a disk");
        return None;
    }
    let file = world.create(&root, "f");
    world.write(&file, 0, b"precious").unwrap();
    Some((world, file))
}

fn fail(durability: &Durability, extent: Extent, errno: Errno) {
    durability.faults.lock().unwrap().errors.push(Fault { extent, fd: None, errno });
}

#[test]
fn every_call_that_meets_a_lost_write_changes_the_verifier() {
    let Some((world, file)) = world_on_disk() else { return };
    let (vfs, root) = (&world.vfs, world.root());
    let mode = Sattr { mode: Some(0o600), ..Sattr::default() };
    let link = vfs.symlink(&root, &name("link"), &Sattr::default(), b"target").result.unwrap();
    let data = |stability| {
        let write = |file: BorrowedFd<'_>| rustix::io::pwrite(file, b"x", 0);
        vfs.write(&file, 0, 1, stability, write).0.map(drop)
    };
    type Calls<'a> = [(Extent, &'static str, &'a dyn Fn() -> NfsResult<()>); 7];
    let calls: Calls<'_> = [
        (Extent::File, "COMMIT", &|| vfs.commit(&file).0),
        (Extent::File, "WRITE of FILE_SYNC", &|| data(Stability::FileSync)),
        (Extent::Data, "WRITE of DATA_SYNC", &|| data(Stability::DataSync)),
        (Extent::File, "SETATTR", &|| vfs.setattr(&file, &mode, None).result),
        (Extent::File, "CREATE", &|| {
            let how = HowToCreate::Guarded(Sattr::default());
            vfs.create(&root, &name("new"), &how).result.map(drop)
        }),
        (Extent::File, "RENAME", &|| {
            vfs.rename((&root, &name("new")), (&root, &name("old"))).0.result
        }),
        (Extent::FileSystem, "SETATTR of a symbolic link", &|| {
            vfs.setattr(&link, &Sattr { mtime: SetTime::Now, ..Sattr::default() }, None).result
        }),
    ];
    for (extent, what, call) in calls {
        let before = vfs.write_verifier();
        // A file system is synced once more after an error.
        for _ in 0..if extent == Extent::FileSystem { 2 } else { 1 } {
            fail(&vfs.durability, extent, Errno::NOSPC);
        }
        assert_eq!(call(), Err(NfsStatus::Nospc), "{what}");
        assert_ne!(vfs.write_verifier(), before, "{what}");
        let before = vfs.write_verifier();
        data(Stability::FileSync).unwrap();
        assert_eq!(vfs.write_verifier(), before, "after {what}");
    }
}

/// Lets the next sync of the descriptor fail through which the file's data was written.
fn lose(world: &World, file: &Object) -> Arc<DataFile> {
    let written = world.vfs.open(file, Need::Write).unwrap();
    assert!(written.is_unsynced());
    let fault =
        Fault { extent: Extent::File, fd: Some(written.as_fd().as_raw_fd()), errno: Errno::NOSPC };
    world.vfs.durability.faults.lock().unwrap().errors.push(fault);
    written
}

/// Another process can learn of an error first, which the kernel then does not report to descriptors
/// that are opened later.
#[test]
fn no_error_is_lost_with_a_descriptor_that_is_closed() {
    type Closings = [(&'static str, fn(&World, &Object)); 4];
    let closings: Closings = [
        ("its permission may have changed", |_, file| file.node.forget_opens()),
        ("other users take its place", |world, file| {
            for uid in 1..=8 {
                let other = fs::File::open(world.root_path().join("f")).unwrap();
                let other = world.vfs.durability.watch(*file.fh(), other.into());
                let who = FsIdentity::new(uid, uid, &[]).unwrap();
                file.node.keep_open(who, Need::Read, other, &file.export.closer);
            }
        }),
        ("the file is forgotten", |world, _| world.vfs.forget_all()),
        ("the export is withdrawn", |world, _| world.vfs.set_exports(Vec::new()).unwrap()),
    ];
    for (why, close) in closings {
        let Some((world, file)) = world_on_disk() else { return };
        let before = world.vfs.write_verifier();
        drop(lose(&world, &file));
        close(&world, &file);
        drop(file);
        let since = Instant::now();
        while world.vfs.write_verifier() == before {
            assert!(since.elapsed() < Duration::from_mins(2), "the error is lost: {why}");
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_commit_learns_of_errors_of_descriptors_that_are_about_to_be_closed() {
    let Some((world, file)) = world_on_disk() else { return };
    let before = world.vfs.write_verifier();
    // Kept here, it is not closed yet.
    let written = lose(&world, &file);
    file.node.forget_opens();
    assert_eq!(world.vfs.commit(&file).0, Err(NfsStatus::Nospc));
    assert_ne!(world.vfs.write_verifier(), before);
    assert!(!written.is_unsynced());
    assert_eq!(world.vfs.commit(&file).0, Ok(()));
}

#[test]
fn a_descriptor_is_synced_before_it_is_closed_only_if_it_must_be() {
    let Some((world, file)) = world_on_disk() else { return };
    let (vfs, inode) = (&world.vfs, rustix::fs::fstat(file.node.fd()).unwrap().st_ino);
    let syncs = || {
        let faults = vfs.durability.faults.lock().unwrap();
        faults.synced.iter().filter(|synced| **synced == (Extent::File, inode)).count()
    };
    let close = || {
        let open = file.node.opened(&file.who, Need::Write, false);
        let gone = open.map(|file| Arc::downgrade(&file));
        file.node.forget_opens();
        while gone.as_ref().is_some_and(|gone| gone.strong_count() > 0) {
            std::thread::yield_now();
        }
    };
    vfs.commit(&file).0.unwrap();
    let before = syncs();
    close();
    assert_eq!(syncs(), before, "it was committed");
    let write = |file: BorrowedFd<'_>| rustix::io::pwrite(file, b"x", 0);
    vfs.write(&file, 0, 1, Stability::FileSync, write).0.unwrap();
    let before = syncs();
    close();
    assert_eq!(syncs(), before, "the write was durable");
}

#[test]
fn a_descriptor_with_unsynced_writes_is_not_replaced() {
    let Some((world, file)) = world_on_disk() else { return };
    let written = world.vfs.open(&file, Need::Write).unwrap();
    let again = || {
        let other = fs::File::options().write(true).open(world.root_path().join("f")).unwrap();
        let other = world.vfs.durability.watch(*file.fh(), other.into());
        file.node.keep_open(file.who, Need::Write, other, &file.export.closer)
    };
    assert!(Arc::ptr_eq(&again(), &written));
    world.vfs.commit(&file).0.unwrap();
    assert!(!Arc::ptr_eq(&again(), &written));
}

/// On XFS and btrfs, the sync of a directory makes no attributes of its files durable.
#[test]
fn what_a_create_changes_in_a_file_is_made_durable_before_its_name() {
    let Some((world, _file)) = world_on_disk() else { return };
    let (vfs, root) = (&world.vfs, world.root());
    let inode = |object: &Object| object.node.stat().unwrap().st_ino;
    let synced_by = |call: &dyn Fn() -> Created| {
        vfs.durability.faults.lock().unwrap().synced.clear();
        let object = call().result.unwrap();
        (vfs.durability.faults.lock().unwrap().synced.clone(), inode(&object))
    };
    let timed = Sattr { mtime: SetTime::To(NfsTime { secs: 5, nsecs: 6 }), ..Sattr::default() };
    let sized = Sattr { size: Some(0), ..Sattr::default() };
    let create = |text, how| vfs.create(&root, &name(text), &how);
    let calls: [(&str, &dyn Fn() -> Created); 5] = [
        ("truncation", &|| create("f", HowToCreate::Unchecked(sized))),
        ("times", &|| create("g", HowToCreate::Guarded(timed))),
        ("a verifier", &|| create("h", HowToCreate::Exclusive(*b"verifier"))),
        ("a verifier, again", &|| create("h", HowToCreate::Exclusive(*b"verifier"))),
        ("a directory", &|| vfs.mkdir(&root, &name("d"), &timed)),
    ];
    for (what, call) in calls {
        let (synced, made) = synced_by(call);
        assert_eq!(synced, [made, inode(&root)].map(|inode| (Extent::File, inode)), "{what}");
    }
    let mode = Sattr { mode: Some(0o640), ..Sattr::default() };
    for how in [HowToCreate::Guarded(mode), HowToCreate::Unchecked(mode)] {
        let (synced, _) = synced_by(&|| create("i", how));
        assert_eq!(synced, [(Extent::File, inode(&root))], "its directory alone");
    }
}

/// The sync of a file system reports errors of other files' data, once.
#[test]
fn an_error_of_another_file_fails_no_change_that_is_durable() {
    let Some((world, _file)) = world_on_disk() else { return };
    let (vfs, root) = (&world.vfs, world.root());
    let link = vfs.symlink(&root, &name("link"), &Sattr::default(), b"target").result.unwrap();
    let before = vfs.write_verifier();
    fail(&vfs.durability, Extent::FileSystem, Errno::IO);
    let now = Sattr { mtime: SetTime::Now, ..Sattr::default() };
    assert_eq!(vfs.setattr(&link, &now, None).result, Ok(()));
    assert_ne!(vfs.write_verifier(), before, "writes of another file are lost");
}
