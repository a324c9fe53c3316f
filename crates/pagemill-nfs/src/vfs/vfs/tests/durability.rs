//! Errors of write-back: no reply hides one from a client whose data may be lost.

use rustix::io::Errno;

use super::*;

/// A world on a disk, with a file that has bytes which are not durable.
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
    durability.faults.lock().unwrap().errors.push((extent, errno));
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
    let calls: [(Extent, &str, &dyn Fn() -> NfsResult<()>); 7] = [
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
        fail(&vfs.durability, extent, Errno::NOSPC);
        assert_eq!(call(), Err(NfsStatus::Nospc), "{what}");
        assert_ne!(vfs.write_verifier(), before, "{what}");
        let before = vfs.write_verifier();
        data(Stability::FileSync).unwrap();
        assert_eq!(vfs.write_verifier(), before, "after {what}");
    }
}
