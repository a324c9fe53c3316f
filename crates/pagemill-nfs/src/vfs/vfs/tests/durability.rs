//! Errors of write-back: no reply hides one from a client whose data may be lost.

use std::os::fd::AsRawFd;

use rustix::io::Errno;

use super::*;
use crate::exports::Commit;
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
        // A file system is synced before the change too.
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
        let gone = open.map(|file| Arc::downgrade(&file.shared()));
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

fn inode(object: &Object) -> u64 {
    object.node.stat().unwrap().st_ino
}

/// Returns what a call synced, in order.
fn synced_by<T>(world: &World, call: impl FnOnce() -> T) -> (Vec<(Extent, u64)>, T) {
    let synced = || core::mem::take(&mut world.vfs.durability.faults.lock().unwrap().synced);
    synced();
    let result = call();
    (synced(), result)
}

/// On XFS and btrfs, the sync of a directory makes no attributes of its files durable; on ext2, it does
/// not make a new file durable.
#[test]
fn a_new_file_is_made_durable_before_its_name() {
    let Some((world, _file)) = world_on_disk() else { return };
    let (vfs, root) = (&world.vfs, world.root());
    let timed = Sattr { mtime: SetTime::To(NfsTime { secs: 5, nsecs: 6 }), ..Sattr::default() };
    let sized = Sattr { size: Some(0), ..Sattr::default() };
    let plain = Sattr::default();
    let create = |text, how| vfs.create(&root, &name(text), &how);
    let calls: [(&str, &dyn Fn() -> Created); 9] = [
        ("truncation", &|| create("f", HowToCreate::Unchecked(sized))),
        ("times", &|| create("g", HowToCreate::Guarded(timed))),
        ("a verifier", &|| create("h", HowToCreate::Exclusive(*b"verifier"))),
        ("a verifier, again", &|| create("h", HowToCreate::Exclusive(*b"verifier"))),
        ("no attributes", &|| create("i", HowToCreate::Guarded(plain))),
        ("a new name", &|| create("j", HowToCreate::Unchecked(plain))),
        ("an existing name", &|| create("j", HowToCreate::Unchecked(plain))),
        ("a directory with a time", &|| vfs.mkdir(&root, &name("d"), &timed)),
        ("a directory", &|| vfs.mkdir(&root, &name("e"), &plain)),
    ];
    for (what, call) in calls {
        let (synced, made) = synced_by(&world, call);
        let expected = [inode(&made.result.unwrap()), inode(&root)];
        assert_eq!(synced, expected.map(|inode| (Extent::File, inode)), "{what}");
    }
    let (synced, _) = synced_by(&world, || vfs.symlink(&root, &name("l"), &plain, b"target"));
    assert_eq!(synced, [(Extent::File, inode(&root))], "a link cannot be opened");
}

#[test]
fn names_are_made_durable_in_the_order_in_which_none_is_lost() {
    let Some((world, file)) = world_on_disk() else { return };
    let (vfs, root) = (&world.vfs, world.root());
    let dir = vfs.mkdir(&root, &name("d"), &Sattr::default()).result.unwrap();
    let link = vfs.symlink(&root, &name("s"), &Sattr::default(), b"target").result.unwrap();
    let rename = |from, to| vfs.rename(from, to).0.result;
    let [f, g, h, s, t] = ["f", "g", "h", "s", "t"].map(name);
    type Calls<'a> = [(&'static str, &'a dyn Fn() -> NfsResult<()>, Vec<&'a Object>); 6];
    let calls: Calls<'_> = [
        ("LINK", &|| vfs.link(&file, &dir, &g).result, vec![&file, &dir]),
        ("LINK of a symbolic link", &|| vfs.link(&link, &root, &t).result, vec![&root]),
        ("RENAME", &|| rename((&root, &f), (&root, &h)), vec![&root]),
        ("RENAME into a directory", &|| rename((&root, &h), (&dir, &h)), vec![&dir, &root]),
        ("RENAME out of a directory", &|| rename((&dir, &h), (&root, &f)), vec![&root, &dir]),
        ("REMOVE", &|| vfs.remove(&root, &s).result, vec![&root]),
    ];
    for (what, call, expected) in calls {
        let (synced, result) = synced_by(&world, call);
        assert_eq!(result, Ok(()), "{what}");
        let expected: Vec<_> = expected.iter().map(|it| (Extent::File, inode(it))).collect();
        assert_eq!(synced, expected, "{what}");
    }
    world.vfs.change_rules(|rule| rule.clients[0].options.commit = Commit::Later);
    let root = world.root();
    let (synced, _) = synced_by(&world, || world.create(&root, "asynchronous"));
    assert_eq!(synced, []);
}

/// The sync of a file system reports errors of all its files, once.
#[test]
fn an_error_before_a_change_does_not_fail_it_and_one_after_it_does() {
    let Some((world, _file)) = world_on_disk() else { return };
    let (vfs, root) = (&world.vfs, world.root());
    let link = vfs.symlink(&root, &name("link"), &Sattr::default(), b"target").result.unwrap();
    let before = vfs.write_verifier();
    fail(&vfs.durability, Extent::FileSystem, Errno::IO);
    let now = Sattr { mtime: SetTime::Now, ..Sattr::default() };
    assert_eq!(vfs.setattr(&link, &now, None).result, Ok(()));
    assert_ne!(vfs.write_verifier(), before, "writes of another file are lost");
    let sync = vfs.before_change(&link).unwrap();
    fail(&vfs.durability, Extent::FileSystem, Errno::IO);
    assert_eq!(vfs.finish(sync), Err(NfsStatus::Io), "it may be the error of the link");
}

/// A descriptor that is opened after a change does not learn of an error that another call received
/// before.
#[test]
fn what_a_change_is_synced_with_is_opened_before_the_change() {
    use rustix::fs::inotify::{
        CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init as inotify_init,
    };

    let Some((world, file)) = world_on_disk() else { return };
    let (vfs, root) = (&world.vfs, world.root());
    let dir = vfs.mkdir(&root, &name("d"), &Sattr::default()).result.unwrap();
    let changes = [
        ReadFlags::ATTRIB,
        ReadFlags::MODIFY,
        ReadFlags::CREATE,
        ReadFlags::DELETE,
        ReadFlags::MOVED_FROM,
        ReadFlags::MOVED_TO,
    ];
    let changes = changes.into_iter().collect::<ReadFlags>();
    let sized = Sattr { size: Some(3), ..Sattr::default() };
    let mode = Sattr { mode: Some(0o600), ..Sattr::default() };
    let [f, g, h] = ["f", "g", "h"].map(name);
    type Calls<'a> = [(&'static str, &'a dyn Fn() -> NfsResult<()>, Vec<&'static str>); 6];
    let calls: Calls<'_> = [
        ("SETATTR of the size", &|| vfs.setattr(&file, &sized, None).result, vec!["f"]),
        ("SETATTR of the mode", &|| vfs.setattr(&file, &mode, None).result, vec!["f"]),
        (
            "CREATE with a size",
            &|| vfs.create(&root, &f, &HowToCreate::Unchecked(sized)).result.map(drop),
            vec!["f"],
        ),
        ("LINK", &|| vfs.link(&file, &dir, &g).result, vec!["f", "d"]),
        ("RENAME", &|| vfs.rename((&root, &f), (&dir, &h)).0.result, vec!["", "d"]),
        ("REMOVE", &|| vfs.remove(&dir, &g).result, vec!["d"]),
    ];
    for (what, call, changed) in calls {
        // Already open for writing, as after a WRITE.
        let _written = vfs.open(&file, Need::Write).unwrap();
        let watches = changed.into_iter().map(|path| {
            let watch = inotify_init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
            let at = world.root_path().join(path);
            add_watch(&watch, &at, WatchFlags::ALL_EVENTS).unwrap();
            (path, watch)
        });
        let watches: Vec<_> = watches.collect();
        call().unwrap();
        for (path, watch) in watches {
            let mut buffer = [const { core::mem::MaybeUninit::uninit() }; 4096];
            let mut reader = Reader::new(&watch, &mut buffer);
            let mut events = Vec::new();
            while let Ok(event) = reader.next() {
                // Events of the watched object itself, and changes of the names in it.
                if event.file_name().is_none() || event.events().intersects(changes) {
                    events.push(event.events());
                }
            }
            let changed = events.iter().position(|event| event.intersects(changes));
            let opened = events.iter().rposition(|event| event.intersects(ReadFlags::OPEN));
            let are_seen = changed.is_some() && opened.is_some();
            assert!(are_seen && opened < changed, "{what}, {path}: {events:?}");
        }
    }
}

#[test]
fn a_create_learns_of_an_error_that_another_call_received() {
    let Some((world, file)) = world_on_disk() else { return };
    let written = world.vfs.open(&file, Need::Write).unwrap();
    let commit_in_vain = || {
        fail(&world.vfs.durability, Extent::File, Errno::IO);
        assert_eq!(world.vfs.commit(&file).0, Err(NfsStatus::Io));
    };
    commit_in_vain();
    let sync = || Vfs::before_change_of_new(&file, &written);
    assert_eq!(world.vfs.finish(sync()), Ok(()));
    let sync = sync();
    commit_in_vain();
    assert_eq!(world.vfs.finish(sync), Err(NfsStatus::Io));
}

/// The kernel reports an error of write-back once to each descriptor, and calls share descriptors.
#[test]
fn a_stable_write_learns_of_an_error_that_another_call_received() {
    let Some((world, file)) = world_on_disk() else { return };
    let commit_in_vain = || {
        fail(&world.vfs.durability, Extent::File, Errno::IO);
        assert_eq!(world.vfs.commit(&file).0, Err(NfsStatus::Io));
    };
    for stability in [Stability::DataSync, Stability::FileSync] {
        let write = |fd: BorrowedFd<'_>| {
            let written = rustix::io::pwrite(fd, b"x", 0);
            commit_in_vain();
            written
        };
        let (reply, _) = world.vfs.write(&file, 0, 1, stability, write);
        assert_eq!(reply.map(drop), Err(NfsStatus::Io), "{stability:?}");
        commit_in_vain();
        let write = |fd: BorrowedFd<'_>| rustix::io::pwrite(fd, b"x", 0);
        let (reply, _) = world.vfs.write(&file, 0, 1, stability, write);
        assert_eq!(reply.map(drop), Ok(()), "the error is older than the write");
    }
}

/// Clients can open files faster than their data gets durable.
#[test]
fn unsynced_descriptors_that_wait_for_the_closer_are_limited() {
    let Some((world, _file)) = world_on_disk() else { return };
    let root = world.root();
    let max_nr_waiting = MAX_NR_FILES as u64 * 3 / 4;
    world.vfs.durability.faults.lock().unwrap().closers_hang = true;
    for number in 0..10 * MAX_NR_FILES {
        let file = world.create(&root, &number.to_string());
        world.write(&file, 0, b"unstable").unwrap();
        drop(file);
        let nr_waiting = root.export.closer.nr_waiting();
        assert!(nr_waiting <= max_nr_waiting, "{nr_waiting} wait after {number} files");
        // Those that wait, one that the thread is at, and those of files that are held open.
        let nr_unsynced = world.vfs.durability.nr_unsynced();
        assert!(nr_unsynced <= MAX_NR_FILES * 2, "{nr_unsynced} after {number} files");
    }
    assert!(
        root.export.closer.nr_waiting() >= MAX_NR_FILES as u64 / 4,
        "they are not all closed by calls"
    );
    world.vfs.durability.faults.lock().unwrap().closers_hang = false;
}

#[test]
fn a_removed_file_is_not_synced_before_it_is_closed() {
    let Some((world, file)) = world_on_disk() else { return };
    let removed = inode(&file);
    drop(file);
    let since = Instant::now();
    world.vfs.durability.faults.lock().unwrap().synced.clear();
    world.vfs.remove(&world.root(), &name("f")).result.unwrap();
    while world.vfs.durability.nr_unsynced() > 0 {
        assert!(since.elapsed() < Duration::from_mins(2), "it is not closed");
        std::thread::yield_now();
    }
    let faults = world.vfs.durability.faults.lock().unwrap();
    assert!(faults.synced.iter().all(|(_, inode)| *inode != removed), "{:?}", faults.synced);
}
