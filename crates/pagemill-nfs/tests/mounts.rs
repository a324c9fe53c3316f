//! Exports on file systems that are mounted for the test: overlays, and others in their place.

#![expect(clippy::unwrap_used, reason = "what is not as expected fails the test")]
#![expect(clippy::print_stderr, reason = "a test that is skipped says so")]

extern crate alloc;

#[cfg(test)]
#[expect(dead_code, reason = "each test uses a part of this")]
mod common;

use core::time::Duration;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;

use common::namespace::{sh, with_mounts};
use pagemill_nfs::exports::{
    Access, ClientMatch, ClientRule, ExportOptions, ExportRule, Ports, Squash, SquashWho,
};
use pagemill_nfs::fh::{Fh, FhKey};
use pagemill_nfs::types::{Name, NfsResult, NfsStatus, Sattr};
use pagemill_nfs::vfs::{
    Actors, Caller, HandleLife, HowToCreate, Object, Stability, Vfs, VfsConfig,
};
use rustix::io::pwrite;
use rustix::process::{Pid, Signal, kill_process};

const CALLER: fn() -> Caller<'static> =
    || Caller { addr: "127.0.0.1:2000".parse().unwrap(), claims: Some((0, 0, &[])) };

/// A server as after a start, with the same secret as all others.
fn serve(path: &Path) -> Vfs {
    let options = ExportOptions {
        access: Access::ReadWrite,
        ports: Ports::Any,
        squash: Squash { who: SquashWho::Nobody, ..Squash::default() },
        ..ExportOptions::default()
    };
    let clients = vec![ClientRule { client: ClientMatch::Any, options }];
    let config = VfsConfig {
        key: FhKey::new([7; 16]),
        actors: Actors::Callers,
        max_nr_files: 64,
        nr_threads: 0,
    };
    let vfs = Vfs::new(config).unwrap();
    vfs.set_exports(vec![ExportRule { path: path.to_owned(), clients }]).unwrap();
    vfs
}

fn life(vfs: &Vfs) -> HandleLife {
    vfs.exports().iter().next().unwrap().handle_life()
}

fn root(vfs: &Vfs, path: &Path) -> Object {
    resolve(vfs, &vfs.mount(path, &CALLER()).unwrap()).unwrap()
}

/// Finds a file as clients do, which repeat a call that gets `NFS3ERR_JUKEBOX`.
fn resolve(vfs: &Vfs, fh: &Fh) -> NfsResult<Object> {
    for _ in 0..600 {
        match vfs.resolve(fh.as_bytes(), &CALLER()) {
            Err(NfsStatus::Jukebox) => {
                thread::sleep(Duration::from_millis(100));
            }
            found => return found,
        }
    }
    Err(NfsStatus::Jukebox)
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

fn create(vfs: &Vfs, dir: &Object, text: &str) -> NfsResult<Object> {
    vfs.create(dir, &name(text), &HowToCreate::Guarded(Sattr::default())).result
}

fn write(vfs: &Vfs, file: &Object, bytes: &[u8]) -> NfsResult<usize> {
    let write = |file: std::os::fd::BorrowedFd<'_>| pwrite(file, bytes, 0);
    let written = vfs.write(file, 0, bytes.len(), Stability::Unstable, write).0;
    written.map(|done| done.nr_bytes)
}

/// Mounts an overlay whose layers are on two file systems, which numbers files of each apart.
fn overlay(dir: &Path) -> PathBuf {
    let script = "cd \"$1\"; mkdir low up ov; mount -t tmpfs low low; mount -t tmpfs up up; \
         mkdir -p low/root/dir up/root up/work; echo low >low/root/file; echo low >low/root/dir/in; \
         mount -t overlay ov -o lowerdir=low/root,upperdir=up/root,workdir=up/work ov";
    sh(&script.replace("\"$1\"", &dir.display().to_string())).unwrap();
    dir.join("ov")
}

#[test]
fn files_of_all_layers_of_an_overlay_are_served() {
    with_mounts("files_of_all_layers_of_an_overlay_are_served", |dir| {
        let path = overlay(dir);
        let vfs = serve(&path);
        let top = root(&vfs, &path);
        let low = vfs.lookup(&top, &name("file")).unwrap();
        let made = create(&vfs, &top, "made").unwrap();
        let sub = vfs.mkdir(&top, &name("sub"), &Sattr::default()).result.unwrap();
        assert_eq!(vfs.lookup(&sub, &name("..")).unwrap().fh(), top.fh());
        let inner = vfs.lookup(&top, &name("dir")).unwrap();
        assert_eq!(vfs.lookup(&inner, &name("..")).unwrap().fh(), top.fh());
        let inner = vfs.lookup(&inner, &name("in")).unwrap();
        // Written to, a file of the lower layer moves to the upper one.
        write(&vfs, &low, b"new").unwrap();
        assert_eq!(fs::read(dir.join("up/root/file")).unwrap(), b"new\n");
        assert_eq!(vfs.lookup(&top, &name("file")).unwrap().fh(), low.fh());
        drop(vfs);
        let again = serve(&path);
        for (object, file) in [(&low, "file"), (&made, "made"), (&inner, "dir/in")] {
            let found = resolve(&again, object.fh()).unwrap();
            let fileid = again.attr(&found).unwrap().fileid;
            use std::os::unix::fs::MetadataExt;
            assert_eq!(fileid, fs::metadata(path.join(file)).unwrap().ino(), "{file}");
        }
    });
}

#[test]
fn handles_of_a_file_system_are_stale_once_another_is_in_its_place() {
    with_mounts("handles_of_a_file_system_are_stale_once_another_is_in_its_place", |dir| {
        let path = dir.join("disk");
        fs::create_dir(&path).unwrap();
        let mount = || sh(&format!("mount -t tmpfs disk {}", path.display())).unwrap();
        mount();
        let vfs = serve(&path);
        assert_eq!(life(&vfs), HandleLife::File);
        let top = root(&vfs, &path);
        let handles = [*top.fh(), *create(&vfs, &top, "a").unwrap().fh()];
        handles.iter().for_each(|fh| drop(resolve(&serve(&path), fh).unwrap()));
        drop((top, vfs));
        sh(&format!("umount {}", path.display())).unwrap();
        mount();
        fs::write(path.join("b"), "").unwrap();
        for fh in &handles {
            assert_eq!(resolve(&serve(&path), fh).unwrap_err(), NfsStatus::Stale);
        }
    });
}

#[test]
fn a_handle_of_a_fuse_mount_never_means_a_file_of_the_next() {
    with_mounts("a_handle_of_a_fuse_mount_never_means_a_file_of_the_next", |dir| {
        let [source, path] = ["source", "fuse"].map(|text| dir.join(text));
        fs::create_dir(&source).unwrap();
        fs::create_dir(&path).unwrap();
        let mount = format!("bindfs {} {}", source.display(), path.display());
        let unmount = format!("umount {}", path.display());
        if let Err(error) = sh(&mount) {
            return eprintln!("SKIPPED: bindfs does not mount: {error}");
        }
        for text in ["a", "b"] {
            fs::write(source.join(text), text).unwrap();
        }
        let vfs = serve(&path);
        assert_ne!(life(&vfs), HandleLife::File);
        let top = root(&vfs, &path);
        let fh = *vfs.lookup(&top, &name("a")).unwrap().fh();
        drop(top);
        // A restart leaves it good, as long as the file system stays.
        drop(vfs);
        let vfs = serve(&path);
        drop(resolve(&vfs, &fh).unwrap());
        drop(vfs);
        sh(&unmount).unwrap();
        sh(&mount).unwrap();
        // The first file that is looked up gets the number that the other had.
        let vfs = serve(&path);
        let top = root(&vfs, &path);
        let other = vfs.lookup(&top, &name("b")).unwrap();
        assert_ne!(other.fh(), &fh);
        assert_eq!(resolve(&vfs, &fh).unwrap_err(), NfsStatus::Stale);
        drop((top, other, vfs));
        sh(&unmount).unwrap();
    });
}

fn is_read_only(vfs: &Vfs) -> bool {
    vfs.exports().iter().next().unwrap().is_read_only()
}

#[test]
fn an_export_of_a_read_only_mount_is_known_as_one() {
    with_mounts("an_export_of_a_read_only_mount_is_known_as_one", |dir| {
        let path = dir.join("export");
        fs::create_dir(&path).unwrap();
        sh(&format!("mount --bind {0} {0}", path.display())).unwrap();
        let vfs = serve(&path);
        assert!(!is_read_only(&vfs));
        sh(&format!("mount -o remount,bind,ro {}", path.display())).unwrap();
        assert!(is_read_only(&serve(&path)));
    });
}

#[test]
fn a_file_system_that_stopped_is_not_asked_whether_it_is_read_only() {
    with_mounts("a_file_system_that_stopped_is_not_asked_whether_it_is_read_only", |dir| {
        let [source, path] = ["source", "fuse"].map(|text| dir.join(text));
        fs::create_dir(&source).unwrap();
        fs::create_dir(&path).unwrap();
        let before = path.metadata().unwrap().dev();
        let daemon = Command::new("bindfs").args(["-f", "-r"]).arg(&source).arg(&path).spawn();
        let mut daemon = match daemon {
            Ok(daemon) => daemon,
            Err(error) => return eprintln!("SKIPPED: bindfs does not mount: {error}"),
        };
        while path.metadata().unwrap().dev() == before {
            if daemon.try_wait().unwrap().is_some() {
                return eprintln!("SKIPPED: bindfs does not mount");
            }
            thread::sleep(Duration::from_millis(10));
        }
        let vfs = serve(&path);
        kill_process(Pid::from_child(&daemon), Signal::STOP).unwrap();
        // On a thread that can be left behind: a call of the file system would not end.
        let (sender, receiver) = channel();
        thread::spawn(move || sender.send(is_read_only(&vfs)));
        let known = receiver.recv_timeout(Duration::from_secs(60));
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        assert_eq!(known, Ok(true));
    });
}
