use alloc::collections::BTreeMap;
use core::time::Duration;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::Instant;

use tempfile::TempDir;

use super::*;
use crate::exports::{Access, ClientMatch, ClientRule, Squash, SquashWho};
use crate::protocol::attr::{FileKind, NfsTime, Sattr, SetTime};
use crate::protocol::name::Name;
use crate::vfs::durability::{Extent, Fault};
use crate::vfs::node::Need;
use crate::vfs::{ACCESS_ALL, Changed, Device, HowToCreate, Stability};

mod durability;
mod model;
mod setattr;

const MAX_NR_FILES: usize = 64;
const NR_ROUNDS: u64 = 500;

/// An exported scratch directory.
struct World {
    vfs: Vfs,
    dir: TempDir,
    options: ExportOptions,
    key: FhKey,
}

fn rw() -> ExportOptions {
    ExportOptions {
        access: Access::ReadWrite,
        ports: Ports::Any,
        squash: Squash { who: SquashWho::Nobody, ..Squash::default() },
        ..ExportOptions::default()
    }
}

fn rule(path: PathBuf, options: ExportOptions) -> ExportRule {
    ExportRule { path, clients: vec![ClientRule { client: ClientMatch::Any, options }] }
}

fn caller(claims: Option<(u32, u32, &[u32])>) -> Caller<'_> {
    Caller { addr: "127.0.0.1:2000".parse().unwrap(), claims }
}

fn vfs(key: &FhKey, actors: Actors) -> Vfs {
    Vfs::new(VfsConfig { key: key.clone(), actors, max_nr_files: MAX_NR_FILES, nr_threads: 0 })
        .unwrap()
}

fn vfs_of(world: &World) -> Vfs {
    vfs(&world.key, Actors::Server)
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

fn stability() -> Stability {
    Stability::Unstable
}

impl World {
    fn new(options: ExportOptions, actors: Actors) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = FhKey::new([7; 16]);
        let vfs = vfs(&key, actors);
        let root = dir.path().join("export");
        fs::create_dir(&root).unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o777)).unwrap();
        vfs.set_exports(vec![rule(root, options)]).unwrap();
        Self { vfs, dir, options, key }
    }

    fn server() -> Self {
        Self::new(rw(), Actors::Server)
    }

    fn root_path(&self) -> PathBuf {
        self.dir.path().join("export")
    }

    fn root(&self) -> Object {
        self.root_of(&caller(None))
    }

    fn root_of(&self, caller: &Caller<'_>) -> Object {
        let fh = self.vfs.mount(&self.root_path(), caller).unwrap();
        self.vfs.resolve(fh.as_bytes(), caller).unwrap()
    }

    fn find(&self, path: &str) -> NfsResult<Object> {
        path.split('/').try_fold(self.root(), |at, part| self.vfs.lookup(&at, &name(part)))
    }

    fn create(&self, dir: &Object, text: &str) -> Object {
        let how = HowToCreate::Guarded(Sattr { mode: Some(0o644), ..Sattr::default() });
        self.vfs.create(dir, &name(text), &how).result.unwrap()
    }

    fn names(&self, dir: &Object) -> Vec<String> {
        let mut names = Vec::new();
        let ended = self.vfs.list(dir, 0, 4096, |entry| {
            names.push(String::from_utf8(entry.name.to_vec()).unwrap());
            Ok(true)
        });
        assert_eq!(ended, Ok(true));
        names.retain(|name| name != "." && name != "..");
        names.sort();
        names
    }

    fn read_all(&self, file: &Object) -> Vec<u8> {
        let (range, _) = self.vfs.read(file, 0, usize::MAX).unwrap();
        let mut bytes = vec![0; range.len];
        let mut filled = 0;
        while filled < bytes.len() {
            let more = rustix::io::pread(&*range.file, &mut bytes[filled..], filled as u64);
            filled += more.unwrap();
        }
        bytes
    }

    fn write(&self, file: &Object, offset: u64, bytes: &[u8]) -> NfsResult<usize> {
        let write = |file: BorrowedFd<'_>| rustix::io::pwrite(file, bytes, offset);
        let written = self.vfs.write(file, offset, bytes.len(), stability(), write).0;
        written.map(|done| done.nr_bytes)
    }

    /// A server that was started anew, with the same secret and exports.
    fn restarted(&self, actors: Actors) -> Vfs {
        let vfs = vfs(&self.key, actors);
        vfs.set_exports(vec![rule(self.root_path(), self.options)]).unwrap();
        vfs
    }
}

#[test]
fn handles_survive_renames_and_restarts_until_the_file_is_gone() {
    let world = World::server();
    let (vfs, root) = (&world.vfs, world.root());
    let dir = vfs.mkdir(&root, &name("d"), &Sattr::default()).result.unwrap();
    let file = world.create(&dir, "f");
    world.write(&file, 0, b"content").unwrap();
    vfs.rename((&dir, &name("f")), (&root, &name("g"))).0.result.unwrap();
    let again = world.restarted(Actors::Server);
    let found = again.resolve(file.fh().as_bytes(), &caller(None)).unwrap();
    assert_eq!(again.attr(&found).unwrap().size, 7);
    assert_eq!(again.lookup(&root, &name("g")).unwrap().fh(), file.fh());
    fs::remove_file(world.root_path().join("g")).unwrap();
    for vfs in [vfs, &again] {
        let gone = resolve_patiently(vfs, file.fh());
        let status = gone.and_then(|object| vfs.attr(&object)).unwrap_err();
        assert_eq!(status, NfsStatus::Stale);
    }
}

/// A server of the world's export that may not open files by handle.
fn searching(world: &World) -> Vfs {
    searching_with_room(world, 1 << 20)
}

/// Such a server that remembers where it saw a few files at most.
fn searching_with_room(world: &World, room: usize) -> Vfs {
    let rule = rule(world.root_path(), world.options);
    let table = ExportTable::open_searching(rule, &world.key, room);
    let vfs = vfs_of(world);
    vfs.replace_table(table);
    vfs
}

/// Asks for a file as clients do, until there is an answer. Even where the kernel finds files it may
/// take two calls: it returns `ENOMEM` while it gives the number of a removed file to a new one.
fn resolve_patiently(vfs: &Vfs, fh: &Fh) -> NfsResult<Object> {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        match vfs.resolve(fh.as_bytes(), &caller(None)) {
            Err(NfsStatus::Jukebox) if Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(20));
            }
            answer => return answer,
        }
    }
}

#[test]
fn without_the_right_to_open_by_handle_files_are_searched_for() {
    let world = World::server();
    let (vfs, root) = (&world.vfs, world.root());
    let dir = vfs.mkdir(&root, &name("d"), &Sattr::default()).result.unwrap();
    let file = world.create(&dir, "f");
    let searching = searching(&world);
    let found = resolve_patiently(&searching, file.fh()).unwrap();
    assert_eq!(searching.attr(&found), vfs.attr(&file));
    drop(found);
    // What is moved where the table does not know is found again, and what is gone is not.
    searching.forget_all();
    fs::rename(world.root_path().join("d/f"), world.root_path().join("moved")).unwrap();
    resolve_patiently(&searching, file.fh()).unwrap();
    searching.forget_all();
    fs::rename(world.root_path().join("moved"), world.dir.path().join("outside")).unwrap();
    assert_eq!(resolve_patiently(&searching, file.fh()).unwrap_err(), NfsStatus::Stale);
}

#[test]
fn files_are_found_however_many_more_there_are_than_can_be_remembered() {
    let world = World::server();
    let (vfs, root) = (&world.vfs, world.root());
    let mut fhs = Vec::new();
    for outer in 0..20 {
        let dir = vfs.mkdir(&root, &name(&format!("d{outer}")), &Sattr::default()).result.unwrap();
        for inner in 0..20 {
            let text = name(&format!("d{inner}"));
            let dir = vfs.mkdir(&dir, &text, &Sattr::default()).result.unwrap();
            fhs.push(*world.create(&dir, "f").fh());
        }
    }
    let searching = searching_with_room(&world, 8);
    for fh in fhs.iter().step_by(37) {
        resolve_patiently(&searching, fh).unwrap();
    }
    // Names that are looked up drive out what was found; then it is searched for again.
    for outer in 0..20 {
        let dir = searching.lookup(&world_root(&world, &searching), &name(&format!("d{outer}")));
        searching.lookup(&dir.unwrap(), &name("d7")).unwrap();
    }
    searching.forget_all();
    resolve_patiently(&searching, &fhs[0]).unwrap();
    fs::remove_file(world.root_path().join("d3/d3/f")).unwrap();
    assert_eq!(resolve_patiently(&searching, &fhs[63]).unwrap_err(), NfsStatus::Stale);
}

#[test]
fn a_directory_with_many_entries_is_searched_to_its_end() {
    let world = World::server();
    let dir = world.root_path().join("many");
    fs::create_dir(&dir).unwrap();
    for index in 0..3000 {
        fs::create_dir(dir.join(format!("a directory with a long name {index}"))).unwrap();
    }
    let last = fs::read_dir(&dir).unwrap().last().unwrap().unwrap().path();
    fs::write(last.join("f"), "").unwrap();
    let last = last.file_name().unwrap().to_str().unwrap().to_owned();
    let fh = *world.find(&format!("many/{last}/f")).unwrap().fh();
    resolve_patiently(&searching_with_room(&world, 8), &fh).unwrap();
}

fn world_root(world: &World, vfs: &Vfs) -> Object {
    let fh = vfs.mount(&world.root_path(), &caller(None)).unwrap();
    vfs.resolve(fh.as_bytes(), &caller(None)).unwrap()
}

#[test]
fn an_export_that_is_withdrawn_keeps_nothing_open() {
    let world = World::server();
    let path = world.root_path();
    let held = || {
        let links = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| entry.ok());
        links.filter_map(|link| fs::read_link(link.path()).ok()).filter(|to| to.starts_with(&path))
    };
    let file = world.create(&world.root(), "f");
    world.write(&file, 0, b"x").unwrap();
    let in_hand = Arc::clone(&file.node);
    drop(file);
    assert_ne!(held().count(), 0);
    world.vfs.set_exports(Vec::new()).unwrap();
    // A call that was under way keeps a file as long as it lasts, and leaves it behind.
    assert_ne!(held().count(), 0);
    let (fh, object) = (*in_hand.fh(), *in_hand.object());
    drop(in_hand);
    // The closer thread may be at it still.
    while held().count() != 0 {
        std::thread::yield_now();
    }
    let opened = fs::File::open(path.join("f")).unwrap();
    drop(world.vfs.keep(Node::new(fh, object, opened.into()).unwrap()));
    assert_eq!(held().count(), 1);
    world.vfs.sweep();
    assert_eq!(held().count(), 0);
}

/// A socket stands for a file on a file system that hangs: closing it waits for data to be read.
#[test]
fn a_descriptor_whose_closing_hangs_delays_no_caller() {
    use rustix::net::sockopt::set_socket_linger;
    use std::io::Write;

    const LINGER: Duration = Duration::from_secs(300);
    let world = World::server();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let hung = || {
        let mut stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        set_socket_linger(&stream, Some(LINGER)).unwrap();
        stream.set_nonblocking(true).unwrap();
        while stream.write(&[0; 4096]).is_ok() {}
        OwnedFd::from(stream)
    };
    let since = Instant::now();
    let forgets: [fn(&World, &Object); 2] = [
        |world, file| {
            file.node.forget_opens();
            world.vfs.sweep();
        },
        |world, _| world.vfs.set_exports(Vec::new()).unwrap(),
    ];
    for forget in forgets {
        let file =
            world.vfs.create(&world.root(), &name("f"), &HowToCreate::Unchecked(Sattr::default()));
        let file = file.result.unwrap();
        let hung = world.vfs.durability.watch(*file.fh(), hung());
        file.node.keep_open(file.who, Need::Read, hung, &file.export.closer);
        forget(&world, &file);
    }
    assert!(since.elapsed() < LINGER / 2, "no caller waited");
    // The export is withdrawn by now, and is named nevertheless.
    while world.vfs.exports_at_work() != [world.root_path()] {
        assert!(since.elapsed() < LINGER / 2, "an export that hangs is not named");
        std::thread::yield_now();
    }
    // The other end resets the connections, which ends the closer's wait.
    listener.set_nonblocking(true).unwrap();
    while !world.vfs.exports_at_work().is_empty() {
        assert!(since.elapsed() < LINGER, "an export that does not hang is named");
        drop(listener.accept().map(|(stream, _)| stream));
    }
}

#[test]
fn what_was_moved_after_a_search_in_vain_is_not_stale() {
    let world = World::server();
    let [gone, moved] = ["gone", "here"].map(|text| *world.create(&world.root(), text).fh());
    let searching = searching(&world);
    fs::rename(world.root_path().join("gone"), world.dir.path().join("outside")).unwrap();
    assert_eq!(resolve_patiently(&searching, &gone).unwrap_err(), NfsStatus::Stale);
    // The search saw it, and the next one must wait a while.
    fs::rename(world.root_path().join("here"), world.root_path().join("there")).unwrap();
    let answer = searching.resolve(moved.as_bytes(), &caller(None));
    assert_ne!(answer.map(|_found| ()), Err(NfsStatus::Stale));
    resolve_patiently(&searching, &moved).unwrap();
    assert_eq!(resolve_patiently(&searching, &gone).unwrap_err(), NfsStatus::Stale);
}

#[test]
fn files_are_served_while_others_are_searched_for() {
    let world = World::server();
    let [gone, here, moved] =
        ["gone", "here", "moved"].map(|text| *world.create(&world.root(), text).fh());
    let searching = searching(&world);
    resolve_patiently(&searching, &here).unwrap();
    fs::rename(world.root_path().join("gone"), world.dir.path().join("outside")).unwrap();
    fs::rename(world.root_path().join("moved"), world.root_path().join("there")).unwrap();
    let export = Arc::clone(searching.exports().iter().next().unwrap());
    let brake = export.finder.brake();
    let resolve = |fh: &Fh| searching.resolve(fh.as_bytes(), &caller(None)).map(|_| ());
    std::thread::scope(|scope| {
        let asks = || (0..4).map(|_| resolve(&gone)).collect::<Vec<_>>();
        let many: Vec<_> = (0..8).map(|_| scope.spawn(asks)).collect();
        for _ in 0..100 {
            searching.forget_all();
            resolve(&here).unwrap();
        }
        for asking in many {
            assert_eq!(asking.join().unwrap(), [Err(NfsStatus::Jukebox); 4]);
        }
    });
    assert_eq!(resolve(&moved), Err(NfsStatus::Jukebox));
    drop(brake);
    assert_eq!(resolve_patiently(&searching, &gone).unwrap_err(), NfsStatus::Stale);
    resolve_patiently(&searching, &moved).unwrap();
}

#[test]
fn a_file_is_one_node_for_all_who_come_at_once() {
    let world = World::server();
    let (vfs, file) = (&world.vfs, world.create(&world.root(), "f"));
    let (fh, object) = (*file.fh(), *file.node.object());
    drop(file);
    let turn = AtomicU64::new(0);
    // Both at once, as near as can be: whoever is woken for it comes too late.
    let keep = |round: u64| {
        let path = fs::File::open(world.root_path().join("f")).unwrap();
        let node = Node::new(fh, object, path.into()).unwrap();
        turn.fetch_add(1, Ordering::Relaxed);
        while turn.load(Ordering::Relaxed) < 2 * round + 2 {
            core::hint::spin_loop();
        }
        vfs.keep(node)
    };
    let together = std::sync::Barrier::new(2);
    let all = || -> Vec<_> {
        let one = |round| {
            together.wait();
            let node = keep(round);
            // Held until both have theirs.
            together.wait();
            vfs.forget_all();
            node
        };
        (0..NR_ROUNDS).map(one).collect()
    };
    let (ours, others) = std::thread::scope(|scope| {
        let other = scope.spawn(all);
        (all(), other.join().unwrap())
    });
    for (ours, other) in ours.iter().zip(&others) {
        assert!(Arc::ptr_eq(ours, other));
    }
}

#[test]
fn a_file_in_use_stays_one_node_however_many_others_come() {
    let world = World::server();
    let (vfs, root) = (&world.vfs, world.root());
    let file = world.create(&root, "f");
    for index in 0..10 * MAX_NR_FILES {
        let other = world.create(&root, &format!("other{index}"));
        // Asked for again and again, as what is worth keeping.
        for _ in 0..4 {
            vfs.resolve(other.fh().as_bytes(), &caller(None)).unwrap();
        }
    }
    let again = vfs.resolve(file.fh().as_bytes(), &caller(None)).unwrap();
    assert!(Arc::ptr_eq(&again.node, &file.node));
    // A shard of the cache may be over its part by what is in use.
    assert!(vfs.nr_files() <= MAX_NR_FILES + 2, "{}", vfs.nr_files());
}

#[test]
fn handles_of_what_is_not_exported_are_stale() {
    let world = World::server();
    let fh = *world.root().fh();
    world.vfs.set_exports(Vec::new()).unwrap();
    let resolved = world.vfs.resolve(fh.as_bytes(), &caller(None));
    assert_eq!(resolved.unwrap_err(), NfsStatus::Stale);
}

#[test]
fn nothing_outside_of_the_export_is_reached() {
    let world = World::server();
    let (vfs, root) = (&world.vfs, world.root());
    fs::write(world.dir.path().join("secret"), "x").unwrap();
    fs::create_dir(world.dir.path().join("sibling")).unwrap();
    symlink(world.dir.path(), world.root_path().join("out")).unwrap();
    symlink("..", world.root_path().join("up")).unwrap();
    fs::create_dir_all(world.root_path().join("a/b")).unwrap();
    // Above the root there is the root.
    assert_eq!(world.find("..").unwrap().fh(), root.fh());
    assert_eq!(world.find("a/..").unwrap().fh(), root.fh());
    assert_eq!(world.find("a/b/../../..").unwrap().fh(), root.fh());
    // Links are files of their own, and no directories.
    for link in ["out", "up"] {
        let found = world.find(link).unwrap();
        assert_eq!(vfs.attr(&found).unwrap().kind, FileKind::Link);
        assert_eq!(vfs.lookup(&found, &name("secret")).unwrap_err(), NfsStatus::Notdir);
        let listed = vfs.list(&found, 0, 4096, |_| Ok(true));
        assert_eq!(listed, Err(NfsStatus::Notdir));
        assert_eq!(vfs.read(&found, 0, 1).unwrap_err(), NfsStatus::Inval);
        assert_eq!(world.write(&found, 0, b"x").unwrap_err(), NfsStatus::Inval);
        let made = vfs.create(&found, &name("x"), &HowToCreate::Unchecked(Sattr::default()));
        assert_eq!(made.result.unwrap_err(), NfsStatus::Notdir);
    }
    // Nor does mounting lead through them, or up.
    let mount = |path: &str| vfs.mount(&world.root_path().join(path), &caller(None)).map(|_| ());
    assert_eq!(mount("a/b"), Ok(()));
    assert_eq!(mount("out"), Err(NfsStatus::Acces));
    assert_eq!(mount("out/sibling"), Err(NfsStatus::Acces));
    assert_eq!(mount("../sibling"), Err(NfsStatus::Noent));
    assert_eq!(mount("a/../../sibling"), Err(NfsStatus::Noent));
    assert_eq!(mount("nowhere"), Err(NfsStatus::Noent));
    assert_eq!(vfs.mount(world.dir.path(), &caller(None)).unwrap_err(), NfsStatus::Noent);
    // A directory that was moved out of the export does not lead further up.
    let inner = world.find("a/b").unwrap();
    fs::rename(world.root_path().join("a/b"), world.dir.path().join("b")).unwrap();
    assert_eq!(vfs.lookup(&inner, &name("..")).unwrap_err(), NfsStatus::Noent);
}

#[test]
fn a_name_that_others_keep_exchanging_for_a_link_never_leads_out() {
    let world = World::server();
    let root_path = world.root_path();
    fs::create_dir(root_path.join("dir")).unwrap();
    fs::write(root_path.join("dir/inside"), "").unwrap();
    fs::write(world.dir.path().join("inside"), "secret").unwrap();
    symlink(world.dir.path(), root_path.join("link")).unwrap();
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            let root = rustix::fs::open(&root_path, OFlags::PATH, Mode::empty()).unwrap();
            while done.load(Ordering::Relaxed) == 0 {
                rustix::fs::renameat_with(&root, "dir", &root, "link", flags).unwrap();
            }
        });
        for _ in 0..3000 {
            let found = match world.find("dir") {
                Err(NfsStatus::Jukebox) => continue,
                found => found.unwrap(),
            };
            if let Ok(inside) = world.vfs.lookup(&found, &name("inside")) {
                assert_eq!(world.vfs.attr(&inside).unwrap().size, 0, "it came from outside");
            }
        }
        done.store(1, Ordering::Relaxed);
    });
}

#[test]
fn only_listed_clients_from_allowed_ports_are_served() {
    let world = World::new(ExportOptions { ports: Ports::Privileged, ..rw() }, Actors::Server);
    let high = caller(None);
    let low = Caller { addr: "127.0.0.1:1023".parse().unwrap(), ..high };
    let mount = |caller: &Caller<'_>| world.vfs.mount(&world.root_path(), caller);
    assert_eq!(mount(&high).unwrap_err(), NfsStatus::Acces);
    let fh = mount(&low).unwrap();
    assert_eq!(world.vfs.resolve(fh.as_bytes(), &high).unwrap_err(), NfsStatus::Acces);
    let mut rule = rule(world.root_path(), rw());
    rule.clients[0].client = ClientMatch::parse("10.0.0.0/8").unwrap();
    world.vfs.set_exports(vec![rule]).unwrap();
    assert_eq!(world.vfs.resolve(fh.as_bytes(), &low).unwrap_err(), NfsStatus::Acces);
}

#[test]
fn a_refused_mount_has_a_reason_and_a_remedy() {
    let world = World::new(ExportOptions { ports: Ports::Privileged, ..rw() }, Actors::Server);
    fs::write(world.root_path().join("file"), "").unwrap();
    symlink("..", world.root_path().join("up")).unwrap();
    let low = Caller { addr: "10.0.0.9:700".parse().unwrap(), claims: None };
    let high = Caller { addr: "10.0.0.9:50000".parse().unwrap(), claims: None };
    let root = world.root_path();
    let why = |path: &Path, caller: &Caller<'_>| {
        let status = world.vfs.mount(path, caller).unwrap_err();
        let why = world.vfs.mount_refusal(path, caller, status);
        assert!(!why.remedy.is_empty());
        why.reason
    };
    assert!(why(Path::new("/not/exported"), &low).contains("neither exported nor below"));
    assert!(why(&root.join("../x"), &low).contains("'..'"));
    assert!(why(&root, &high).contains("port 50000 is above 1023"));
    assert!(why(&root.join("gone"), &low).contains("no directory gone in"));
    assert!(why(&root.join("file"), &low).contains("file in"));
    assert!(why(&root.join("up"), &low).contains("up in"));
    let listed = |text: &str| {
        let mut rule = rule(root.clone(), rw());
        rule.clients[0].client = ClientMatch::parse(text).unwrap();
        world.vfs.set_exports(vec![rule]).unwrap();
    };
    listed("192.168.0.0/16");
    assert!(why(&root, &low).starts_with("10.0.0.9 is not among the clients of"));
    listed("a-host-without-address");
    assert!(why(&root, &low).contains("a-host-without-address has no address yet"));
}

#[test]
fn what_can_be_exported_is_when_something_else_cannot() {
    let world = World::server();
    let rules = || {
        let gone = world.dir.path().join("gone");
        let paths = [gone, world.root_path(), world.root_path()];
        paths.map(|path| rule(path, rw())).to_vec()
    };
    world.vfs.set_exports(rules()).unwrap_err();
    let bad = world.vfs.set_good_exports(rules()).unwrap();
    assert!(matches!(bad[..], [VfsError::Root { .. }, VfsError::Twice { .. }]), "{bad:?}");
    world.vfs.mount(&world.root_path(), &caller(None)).unwrap();
}

#[test]
fn an_export_that_cannot_be_opened_again_stays() {
    let world = World::server();
    let (path, away) = (world.root_path(), world.dir.path().join("away"));
    let fh = *world.root().fh();
    fs::rename(&path, &away).unwrap();
    // It fails in another way than a directory that is gone.
    symlink(&path, &path).unwrap();
    let set = || world.vfs.set_good_exports(vec![rule(path.clone(), rw())]).unwrap();
    assert!(matches!(&set()[..], [VfsError::Kept { .. }]));
    assert!(world.vfs.resolve(fh.as_bytes(), &caller(None)).is_ok());
    // Other rules open nothing.
    world.vfs.change_rules(|rule| rule.clients.clear());
    assert_eq!(world.vfs.resolve(fh.as_bytes(), &caller(None)).unwrap_err(), NfsStatus::Acces);
    fs::remove_file(&path).unwrap();
    assert!(matches!(&set()[..], [VfsError::Root { .. }]));
    assert_eq!(world.vfs.resolve(fh.as_bytes(), &caller(None)).unwrap_err(), NfsStatus::Stale);
}

#[test]
fn nothing_is_changed_through_a_read_only_export() {
    let world = World::new(ExportOptions { access: Access::ReadOnly, ..rw() }, Actors::Server);
    fs::write(world.root_path().join("f"), "content").unwrap();
    fs::create_dir(world.root_path().join("d")).unwrap();
    let (vfs, root) = (&world.vfs, world.root());
    let (file, dir) = (world.find("f").unwrap(), world.find("d").unwrap());
    let new = name("new");
    let empty = Sattr::default();
    let fifo = Device { kind: FileKind::Fifo, rdev: (0, 0), sattr: empty };
    let sized = Sattr { size: Some(0), ..empty };
    let statuses = [
        vfs.create(&root, &new, &HowToCreate::Unchecked(empty)).result.map(|_| ()),
        vfs.create(&root, &name("f"), &HowToCreate::Unchecked(sized)).result.map(|_| ()),
        vfs.mkdir(&root, &new, &empty).result.map(|_| ()),
        vfs.symlink(&root, &new, &empty, b"x").result.map(|_| ()),
        vfs.mknod(&root, &new, &fifo).result.map(|_| ()),
        vfs.remove(&root, &name("f")).result,
        vfs.rmdir(&root, &name("d")).result,
        vfs.rename((&root, &name("f")), (&dir, &new)).0.result,
        vfs.link(&file, &root, &new).result,
        vfs.setattr(&file, &sized, None).result,
        world.write(&file, 0, b"x").map(|_| ()),
    ];
    assert_eq!(statuses, [Err(NfsStatus::Rofs); 11]);
    assert_eq!(world.read_all(&file), b"content");
    assert_eq!(vfs.access(&root, ACCESS_ALL), Ok(0x03));
}

#[test]
fn sizes_and_offsets_that_the_system_does_not_know_are_refused() {
    let world = World::server();
    let file = world.create(&world.root(), "f");
    let max = i64::MAX.unsigned_abs();
    for offset in [max, max + 1, u64::MAX - 1, u64::MAX] {
        assert_eq!(world.write(&file, offset, b"x"), Err(NfsStatus::Fbig), "{offset}");
        let (range, _) = world.vfs.read(&file, offset, 10).unwrap();
        assert_eq!((range.len, range.eof), (0, true));
    }
    for size in [max + 1, u64::MAX] {
        let sattr = Sattr { size: Some(size), ..Sattr::default() };
        assert_eq!(world.vfs.setattr(&file, &sattr, None).result, Err(NfsStatus::Fbig));
    }
    assert_eq!(world.vfs.attr(&file).unwrap().size, 0);
}

#[test]
fn a_write_has_the_verifier_of_before_it() {
    let world = World::server();
    let file = world.create(&world.root(), "f");
    // What it was made with is open for writing still.
    file.node.forget_opens();
    let before = world.vfs.write_verifier();
    let changes = file.node.lock_changes();
    let written = std::thread::scope(|scope| {
        let write = scope.spawn(|| {
            let write = |file: BorrowedFd<'_>| rustix::io::pwrite(file, b"x", 0);
            world.vfs.write(&file, 0, 1, stability(), write).0.unwrap()
        });
        // It stands before the lock, the file opened.
        while file.node.opened(&file.who, Need::Write, false).is_none() {
            std::thread::yield_now();
        }
        // As when another call finds that what was written is lost.
        let lost = Fault { extent: Extent::FileSystem, fd: None, errno: rustix::io::Errno::IO };
        world.vfs.durability.faults.lock().unwrap().errors.push(lost);
        world.vfs.durability.sync(file.export.root(), Extent::FileSystem).unwrap_err();
        drop(changes);
        write.join().unwrap()
    });
    assert_eq!(written.verifier, before);
    assert_ne!(world.vfs.write_verifier(), before);
}

#[test]
fn an_exclusive_create_can_be_asked_for_twice() {
    let world = World::server();
    let root = world.root();
    let create = |verifier| {
        let how = HowToCreate::Exclusive(verifier);
        world.vfs.create(&root, &name("f"), &how).result.map(|object| *object.fh())
    };
    let made = create(*b"verifier").unwrap();
    assert_eq!(create(*b"verifier"), Ok(made));
    assert_eq!(create(*b"another!"), Err(NfsStatus::Exist));
    let again = world.restarted(Actors::Server);
    let how = HowToCreate::Exclusive(*b"verifier");
    assert_eq!(again.create(&root, &name("f"), &how).result.unwrap().fh(), &made);
    assert_ne!(again.write_verifier(), world.vfs.write_verifier());
}

#[test]
fn a_guard_keeps_others_changes() {
    let world = World::server();
    let file = world.create(&world.root(), "f");
    let ctime = world.vfs.attr(&file).unwrap().ctime;
    let sattr = Sattr { mode: Some(0o600), ..Sattr::default() };
    let wrong = NfsTime { nsecs: ctime.nsecs ^ 1, ..ctime };
    let refused = world.vfs.setattr(&file, &sattr, Some(wrong)).result;
    assert_eq!(refused, Err(NfsStatus::NotSync));
    let changed = world.vfs.setattr(&file, &sattr, Some(ctime));
    assert_eq!(changed.result, Ok(()));
    assert_eq!(changed.wcc.before.unwrap().ctime, ctime);
    assert_eq!(changed.wcc.after.unwrap().mode, 0o600);
}

#[test]
fn times_are_set_as_asked_for() {
    let world = World::server();
    let file = world.create(&world.root(), "f");
    let (past, kept) = (NfsTime { secs: 5, nsecs: 6 }, NfsTime { secs: 7, nsecs: 8 });
    let set = |atime, mtime| {
        let sattr = Sattr { atime, mtime, ..Sattr::default() };
        world.vfs.setattr(&file, &sattr, None).result.unwrap();
        let attr = world.vfs.attr(&file).unwrap();
        (attr.atime, attr.mtime)
    };
    assert_eq!(set(SetTime::To(past), SetTime::To(kept)), (past, kept));
    let (atime, mtime) = set(SetTime::Now, SetTime::Keep);
    assert!(atime.secs > 1_000_000_000 && mtime == kept);
    // The last two are what the system takes for "now" and "leave it".
    for nsecs in [1_000_000_000, 1 << 30, u32::MAX, (1 << 30) - 1, (1 << 30) - 2] {
        let atime = SetTime::To(NfsTime { secs: 0, nsecs });
        let wrong = Sattr { size: Some(9), atime, ..Sattr::default() };
        let refused = world.vfs.setattr(&file, &wrong, None).result;
        assert_eq!(refused, Err(NfsStatus::Inval), "{nsecs}");
    }
    assert_eq!(world.vfs.attr(&file).unwrap().size, 0, "nothing else was changed");
}

#[test]
fn places_in_a_directory_stay_good_while_it_changes() {
    let world = World::server();
    let root = world.root();
    let nr = 300;
    for at in 0..nr {
        world.create(&root, &format!("file-{at:03}"));
    }
    let mut seen = BTreeMap::new();
    let mut cookie = 0;
    loop {
        let mut nr_taken = 0;
        let ended = world.vfs.list(&root, cookie, 4096, |entry| {
            if nr_taken == 7 {
                return Ok(false);
            }
            nr_taken += 1;
            cookie = entry.cookie;
            *seen.entry(entry.name.to_vec()).or_insert(0) += 1;
            Ok(true)
        });
        if ended.unwrap() {
            break;
        }
        // What was seen goes, and something else comes.
        let gone = seen.keys().find(|name| name.starts_with(b"file")).cloned();
        if let Some(gone) = gone.filter(|gone| seen[gone] == 1) {
            world.vfs.remove(&root, &Name::new(&gone).unwrap()).result.unwrap();
            seen.insert(gone, 1_000);
        }
        world.create(&root, &format!("new-{cookie}"));
    }
    let files = seen.iter().filter(|(name, _)| name.starts_with(b"file"));
    let times: Vec<_> = files.map(|(_, times)| *times).collect();
    assert_eq!(times.len(), nr, "one was left out");
    assert!(times.iter().all(|&times| times == 1 || times == 1_000), "one was listed twice");
    let beyond = world.vfs.list(&root, u64::MAX, 4096, |_| Ok(true));
    assert_eq!(beyond, Err(NfsStatus::BadCookie));
}

#[test]
fn what_is_above_the_root_is_not_listed() {
    let world = World::server();
    let root = world.root();
    let own = fs::metadata(world.root_path()).unwrap().ino();
    world
        .vfs
        .list(&root, 0, 4096, |entry| {
            assert_eq!(entry.fileid, own);
            let (fh, attr) = world.vfs.entry(&root, entry).unwrap();
            assert_eq!((&fh, attr.fileid), (root.fh(), own));
            Ok(true)
        })
        .unwrap();
}

/// A world in which each caller acts for themselves, where the process has the right to that.
fn callers_world(options: ExportOptions) -> Option<World> {
    if Actors::detect() == Actors::Server {
        return None;
    }
    Some(World::new(options, Actors::Callers))
}

#[test]
fn callers_have_their_own_rights_and_no_others() {
    let Some(world) = callers_world(rw()) else { return };
    // On a thread of its own: identities stay with it.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (one, two) = (caller(Some((1000, 1000, &[]))), caller(Some((1001, 1001, &[]))));
            let root = world.root_of(&one);
            let file = world.create(&root, "private");
            let only_me = Sattr { mode: Some(0o600), ..Sattr::default() };
            world.vfs.setattr(&file, &only_me, None).result.unwrap();
            let stat = fs::metadata(world.root_path().join("private")).unwrap();
            assert_eq!((stat.uid(), stat.gid()), (1000, 1000));
            let theirs = world.vfs.lookup(&world.root_of(&two), &name("private")).unwrap();
            assert_eq!(world.vfs.read(&theirs, 0, 1).unwrap_err(), NfsStatus::Acces);
            assert_eq!(world.write(&theirs, 0, b"x"), Err(NfsStatus::Acces));
            assert_eq!(world.vfs.access(&theirs, ACCESS_ALL), Ok(0));
            let chmod = world.vfs.setattr(&theirs, &only_me, None).result;
            assert_eq!(chmod, Err(NfsStatus::Perm));
            // The owner goes on writing, whatever the mode becomes.
            let nobody = Sattr { mode: Some(0), ..Sattr::default() };
            world.vfs.setattr(&file, &nobody, None).result.unwrap();
            assert_eq!(world.write(&file, 0, b"mine"), Ok(4));
            assert_eq!(world.read_all(&file), b"mine");
            // A mode that ends somebody's rights ends them at once.
            let all = Sattr { mode: Some(0o666), ..Sattr::default() };
            world.vfs.setattr(&file, &all, None).result.unwrap();
            assert_eq!(world.write(&theirs, 0, b"ours"), Ok(4));
            world.vfs.setattr(&file, &only_me, None).result.unwrap();
            assert_eq!(world.write(&theirs, 0, b"ours"), Err(NfsStatus::Acces));
        });
    });
}

#[test]
fn root_is_nobody_unless_it_may_be_root() {
    let Some(world) = callers_world(ExportOptions { squash: Squash::default(), ..rw() }) else {
        return;
    };
    let uid_of_file_of = |claims, file: &str| {
        std::thread::scope(|scope| {
            let made = scope.spawn(|| {
                world.create(&world.root_of(&caller(claims)), file);
                fs::metadata(world.root_path().join(file)).unwrap().uid()
            });
            made.join().unwrap()
        })
    };
    assert_eq!(uid_of_file_of(Some((0, 0, &[])), "root"), 65534);
    assert_eq!(uid_of_file_of(None, "none"), 65534);
    assert_eq!(uid_of_file_of(Some((5, 5, &[])), "five"), 5);
    let open = rule(world.root_path(), rw());
    world.vfs.set_exports(vec![open]).unwrap();
    assert_eq!(uid_of_file_of(Some((0, 0, &[])), "trusted"), 0);
}

#[test]
fn writing_takes_set_user_id_away() {
    let Some(world) = callers_world(rw()) else { return };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let owner = caller(Some((1000, 1000, &[])));
            let file = world.create(&world.root_of(&owner), "tool");
            let set = Sattr { mode: Some(0o6777), ..Sattr::default() };
            world.vfs.setattr(&file, &set, None).result.unwrap();
            assert_eq!(world.vfs.attr(&file).unwrap().mode, 0o6777);
            world.write(&file, 0, b"x").unwrap();
            assert_eq!(world.vfs.attr(&file).unwrap().mode, 0o777);
        });
    });
}

#[test]
fn a_mount_point_is_not_part_of_the_export() {
    let root = Path::new("/");
    let vfs = vfs(&FhKey::new([1; 16]), Actors::Server);
    vfs.set_exports(vec![rule(root.to_owned(), rw())]).unwrap();
    let fh = vfs.mount(root, &caller(None)).unwrap();
    let root = vfs.resolve(fh.as_bytes(), &caller(None)).unwrap();
    assert_eq!(vfs.lookup(&root, &name("proc")).unwrap_err(), NfsStatus::Acces);
    assert_eq!(vfs.mount(Path::new("/proc/self"), &caller(None)).unwrap_err(), NfsStatus::Acces);
}

/// Several exports of one file system hang together, so they share what one of them may have.
#[test]
fn exports_of_one_file_system_share_its_threads() {
    let dir = tempfile::tempdir().unwrap();
    let paths = ["a", "b"].map(|name| dir.path().join(name));
    paths.iter().for_each(|path| fs::create_dir(path).unwrap());
    let config = VfsConfig {
        key: FhKey::new([7; 16]),
        actors: Actors::Server,
        max_nr_files: MAX_NR_FILES,
        nr_threads: 8,
    };
    let vfs = Vfs::new(config).unwrap();
    let other = PathBuf::from("/proc");
    let all = [&paths[0], &paths[1], &other].map(|path| rule(path.clone(), rw()));
    vfs.set_exports(all.into()).unwrap();
    let fhs: Vec<_> = vfs.exports().iter().map(|export| *export.root_fh()).collect();
    let addr = caller(None).addr.ip();
    let enter = |index: usize| vfs.enter(fhs[index].as_bytes(), addr).map(Option::unwrap);
    let hung: Vec<_> = (0..6).map(|_| enter(0).unwrap()).collect();
    assert_eq!(enter(1).unwrap_err(), NfsStatus::Jukebox, "the file system is at its limit");
    assert!(vfs.mount(&paths[1], &caller(None)).is_err(), "MOUNT counts too");
    assert_eq!(vfs.exports_at_work(), paths);
    drop(enter(2).unwrap());
    drop(hung);
    assert!(vfs.exports_at_work().is_empty());
    drop(enter(1).unwrap());
}
