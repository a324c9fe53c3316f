//! SETATTR: all of it or nothing, by the rules of the kernel's server.

use super::*;

const OWNER: u32 = 1000;
const OTHER: u32 = 1001;

const GIVEN: SetTime = SetTime::To(NfsTime { secs: 5, nsecs: 6 });

/// Runs `test` with a file of `OWNER`'s that has this mode and some bytes, on a thread of its own,
/// as identities stay with threads.
fn with_file(mode: u32, test: impl FnOnce(&World, &Object) + Send) {
    let Some(world) = callers_world(rw()) else { return };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = world.create(&world.root_of(&by(OWNER)), "shared");
            world.write(&file, 0, b"precious").unwrap();
            let sattr = Sattr { mode: Some(mode), ..Sattr::default() };
            world.vfs.setattr(&file, &sattr, None).result.unwrap();
            test(&world, &file);
        });
    });
}

fn by(uid: u32) -> Caller<'static> {
    caller(Some((uid, uid, &[])))
}

/// Sets attributes of the file for a user.
fn set(world: &World, uid: u32, sattr: &Sattr) -> Changed<()> {
    let file = world.vfs.lookup(&world.root_of(&by(uid)), &name("shared")).unwrap();
    world.vfs.setattr(&file, sattr, None)
}

fn sized(size: u64) -> Sattr {
    Sattr { size: Some(size), ..Sattr::default() }
}

#[test]
fn a_caller_that_may_write_may_truncate_and_set_the_time_to_now() {
    with_file(0o666, |world, file| {
        let old = Sattr { atime: GIVEN, mtime: GIVEN, ..Sattr::default() };
        world.vfs.setattr(file, &old, None).result.unwrap();
        // What the Linux client sends for `echo > file`, `cp` onto it, and `truncate`.
        let truncated = set(world, OTHER, &Sattr { mtime: SetTime::Now, ..sized(3) });
        assert_eq!(truncated.result, Ok(()));
        let attr = world.vfs.attr(file).unwrap();
        assert_ne!(attr.mtime.secs, 5, "the file was written now");
        assert_eq!(attr.atime.secs, 5, "and not read");
        assert_eq!(world.read_all(file), b"pre");
    });
}

#[test]
fn a_caller_that_may_write_may_set_each_time_to_now_only() {
    let now = |atime, mtime| Sattr { atime, mtime, ..Sattr::default() };
    with_file(0o666, |world, file| {
        for (atime, mtime) in [
            (SetTime::Now, SetTime::Keep),
            (SetTime::Keep, SetTime::Now),
            (SetTime::Now, SetTime::Now),
        ] {
            world.vfs.setattr(file, &now(GIVEN, GIVEN), None).result.unwrap();
            assert_eq!(set(world, OTHER, &now(atime, mtime)).result, Ok(()));
            let attr = world.vfs.attr(file).unwrap();
            assert_eq!(attr.atime.secs != 5, atime == SetTime::Now, "{atime:?} {mtime:?}");
            assert_eq!(attr.mtime.secs != 5, mtime == SetTime::Now, "{atime:?} {mtime:?}");
            let made = fs::metadata(world.root_path().join("shared")).unwrap();
            assert_eq!(made.uid(), OWNER);
        }
        for (atime, mtime) in [(GIVEN, SetTime::Keep), (SetTime::Now, GIVEN)] {
            assert_eq!(set(world, OTHER, &now(atime, mtime)).result, Err(NfsStatus::Perm));
        }
    });
    with_file(0o644, |world, _| {
        for (atime, mtime) in [(SetTime::Now, SetTime::Now), (SetTime::Keep, SetTime::Now)] {
            assert_eq!(set(world, OTHER, &now(atime, mtime)).result, Err(NfsStatus::Acces));
        }
    });
}

#[test]
fn what_is_refused_in_part_changes_nothing() {
    with_file(0o666, |world, file| {
        let before = world.vfs.attr(file).unwrap();
        for (refused, status) in [
            (Sattr { mode: Some(0o600), ..sized(0) }, NfsStatus::Perm),
            (Sattr { uid: Some(OTHER), ..sized(0) }, NfsStatus::Perm),
            (Sattr { gid: Some(OTHER), ..sized(0) }, NfsStatus::Perm),
            (Sattr { mtime: GIVEN, ..sized(0) }, NfsStatus::Perm),
            (Sattr { atime: GIVEN, mtime: SetTime::Now, ..sized(0) }, NfsStatus::Perm),
            (Sattr { uid: Some(u32::MAX), ..sized(0) }, NfsStatus::Inval),
        ] {
            assert_eq!(set(world, OTHER, &refused).result, Err(status), "{refused:?}");
            assert_eq!(world.vfs.attr(file).unwrap(), before, "{refused:?}");
        }
        // The owner may set mode, times and group, and not so large a size.
        let much = Sattr { mode: Some(0o600), mtime: GIVEN, ..sized(u64::MAX) };
        assert_eq!(set(world, OWNER, &much).result, Err(NfsStatus::Fbig));
        assert_eq!(world.vfs.attr(file).unwrap(), before);
        assert_eq!(world.read_all(file), b"precious");
    });
    with_file(0o644, |world, file| {
        assert_eq!(set(world, OTHER, &sized(0)).result, Err(NfsStatus::Acces));
        assert_eq!(world.read_all(file), b"precious");
    });
}

/// Changing the mode and back would leave a moment for another process, whose change it would undo.
#[test]
fn a_size_that_the_file_system_does_not_take_changes_nothing() {
    with_file(0o4755, |world, file| {
        let before = world.vfs.attr(file).unwrap();
        let much = Sattr { mode: Some(0o4755), gid: Some(OWNER), ..sized(1 << 62) };
        match set(world, OWNER, &much).result {
            // tmpfs has files of any size.
            Ok(()) => assert_eq!(world.vfs.attr(file).unwrap().size, 1 << 62),
            // The time of the last change too is what it was.
            refused => {
                assert_eq!(refused, Err(NfsStatus::Fbig));
                assert_eq!(world.vfs.attr(file).unwrap(), before);
            }
        }
    });
}

#[test]
fn a_descriptor_of_before_does_not_truncate_where_times_are_refused() {
    with_file(0o666, |world, file| {
        let path = world.root_path().join("shared");
        let sattr = Sattr { atime: SetTime::Now, ..sized(0) };
        let other = world.vfs.lookup(&world.root_of(&by(OTHER)), &name("shared")).unwrap();
        let written = world.vfs.setattr(&other, &sized(4), None);
        assert_eq!(written.result, Ok(()));
        // The last call on this thread may have left it acting for anyone.
        world.vfs.act_as_server().unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(world.vfs.setattr(&other, &sattr, None).result, Err(NfsStatus::Acces));
        assert_eq!(world.read_all(file), b"prec");
    });
}

#[test]
fn the_mode_of_a_symbolic_link_is_ignored() {
    let world = World::server();
    symlink("target", world.root_path().join("link")).unwrap();
    let link = world.find("link").unwrap();
    let sattr = Sattr { mode: Some(0o600), mtime: GIVEN, ..Sattr::default() };
    assert_eq!(world.vfs.setattr(&link, &sattr, None).result, Ok(()));
    assert_eq!(world.vfs.attr(&link).unwrap().mtime.secs, 5);
}

#[test]
fn a_name_that_was_given_to_another_file_is_not_removed() {
    let world = World::server();
    let root = world.root();
    let made = world.create(&root, "f").node.stat().unwrap();
    fs::rename(world.root_path().join("f"), world.root_path().join("g")).unwrap();
    fs::write(world.root_path().join("f"), b"other").unwrap();
    world.vfs.unmake(&root, &name("f"), &made, rustix::fs::AtFlags::empty());
    assert_eq!(world.names(&root), ["f", "g"]);
    world.vfs.unmake(&root, &name("g"), &made, rustix::fs::AtFlags::empty());
    assert_eq!(world.names(&root), ["f"]);
}

#[test]
fn the_owner_truncates_whatever_the_mode_says() {
    with_file(0o444, |world, file| {
        assert_eq!(set(world, OWNER, &sized(1)).result, Ok(()));
        assert_eq!(world.read_all(file), b"p");
    });
}

#[test]
fn a_new_size_or_owner_clears_the_bits_that_lend_rights() {
    let mode_of = |world: &World, file: &Object| world.vfs.attr(file).unwrap().mode;
    with_file(0o6777, |world, file| {
        set(world, OTHER, &Sattr { mtime: SetTime::Now, ..sized(2) }).result.unwrap();
        assert_eq!(mode_of(world, file), 0o777);
        // The owner may set them in the same call.
        set(world, OWNER, &Sattr { mode: Some(0o6755), ..sized(1) }).result.unwrap();
        assert_eq!(mode_of(world, file), 0o6755);
        // Not for a new owner.
        let given = Sattr { uid: Some(OTHER), mode: Some(0o6755), ..Sattr::default() };
        set(world, 0, &given).result.unwrap();
        assert_eq!(mode_of(world, file), 0o755);
        set(world, OTHER, &Sattr { mode: Some(0o6711), ..Sattr::default() }).result.unwrap();
        set(world, 0, &Sattr { gid: Some(7), ..Sattr::default() }).result.unwrap();
        assert_eq!(mode_of(world, file), 0o711);
    });
}

#[test]
fn a_guard_is_looked_at_before_rights() {
    with_file(0o600, |world, file| {
        let ctime = world.vfs.attr(file).unwrap().ctime;
        let wrong = NfsTime { nsecs: ctime.nsecs ^ 1, ..ctime };
        let other = world.vfs.lookup(&world.root_of(&by(OTHER)), &name("shared")).unwrap();
        let guarded = |guard| world.vfs.setattr(&other, &sized(0), Some(guard)).result;
        assert_eq!(guarded(wrong), Err(NfsStatus::NotSync));
        assert_eq!(guarded(ctime), Err(NfsStatus::Acces));
        assert_eq!(world.read_all(file), b"precious");
    });
}
