//! Place of a socket: private directories, names, and the removal of sockets whose process has ended.
//!
//! A socket has its final name only while somebody listens: it is bound and listened on under another
//! name, then renamed. So a connection that is refused shows that the process has ended.

use core::time::Duration;
use std::env;
use std::fs::{self, DirBuilder, Metadata};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use rustix::fs::{FlockOperation, Mode, OFlags, fchmod, flock, fstat, open};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};
use rustix::process::{geteuid, getpid};

use crate::error::ServeError;
use crate::text::shown;

/// Name of the directory for sockets in a directory for the files of running processes.
const FOLDER: &str = "pagemill";
/// End of a socket's name.
const SUFFIX: &str = ".sock";
/// The most characters of a program's name in a socket's name.
const MAX_NAME: usize = 32;
/// Connections that wait until the server accepts them.
const BACKLOG: i32 = 16;
/// The most sockets of a directory that are looked at.
const MAX_ENTRIES: usize = 1024;
/// Name of the file that is locked while sockets of ended processes are removed.
const LOCK: &str = ".lock";
/// How long to wait for another process that looks for ended ones.
const LOCK_LIMIT: Duration = Duration::from_secs(2);
/// The most temporary names of a process in a directory: of its threads that bind sockets now, and of
/// ended processes with the same number.
const MAX_HIDDEN: u32 = 64;

/// A listening socket at a path.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    pub(crate) listener: UnixListener,
    /// Device and inode of the socket's file.
    file: (u64, u64),
}

/// A socket that serves, or served, the status of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: PathBuf,
    pub(crate) program: String,
    pub(crate) pid: u32,
    pub(crate) owner: u32,
}

/// A directory in which sockets are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    /// The user that must own the directory; `None` where only root can create it, for any user.
    pub(crate) owner: Option<u32>,
}

impl Place {
    /// Listens on `<program>-<pid>.sock` in the first directory that can be used.
    pub(crate) fn in_private_directory(program: &str) -> Result<Self, ServeError> {
        Self::in_first_of(&own_directories(), program)
    }

    fn in_first_of(directories: &[PathBuf], program: &str) -> Result<Self, ServeError> {
        let mut tried = Vec::new();
        for path in directories {
            let why = match Self::in_directory(path, program) {
                Ok(place) => return Ok(place),
                Err(ServeError::Directory { why, .. }) => why,
                Err(ServeError::System { what, source, .. }) => format!("cannot {what}: {source}"),
                Err(error) => error.to_string(),
            };
            tried.push(format!("{}: {why}", shown(path)));
        }
        Err(ServeError::NoDirectory { tried })
    }

    fn in_directory(directory: &Path, program: &str) -> Result<Self, ServeError> {
        make_private_directory(directory)?;
        // Another process may hold the lock for as long as it is stopped. Old sockets harm nobody.
        let lock = lock(directory)?;
        if lock.is_some() {
            for entry in entries(directory, Some(geteuid().as_raw())) {
                if is_refused(&entry.path) {
                    // Under the lock, no other process has moved a socket there since.
                    let _another_removed_it = fs::remove_file(&entry.path);
                }
            }
        }
        Self::bind(directory.join(socket_name(program, own_pid())))
    }

    /// Listens at `path`, in a directory that only this user and root can write to. Replaces a socket
    /// whose process has ended.
    pub(crate) fn at(path: &Path) -> Result<Self, ServeError> {
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let refuse = |why: String| ServeError::Directory { path: directory.to_owned(), why };
        let facts = fs::metadata(directory).map_err(|error| refuse(error.to_string()))?;
        let is_sticky = facts.mode() & 0o1000 != 0;
        check_owner(&facts, &[geteuid().as_raw(), 0], is_sticky).map_err(refuse)?;
        let occupied = |why| ServeError::Occupied { path: path.to_owned(), why };
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(system(path, "look at what is there")(source)),
            Ok(facts) if !facts.file_type().is_socket() => {
                return Err(occupied("there is a file that is not a socket; name another path"));
            }
            Ok(facts) if facts.uid() != geteuid().as_raw() => {
                return Err(occupied("there is a socket of another user; name another path"));
            }
            Ok(_) if !is_refused(path) => {
                return Err(occupied("another process listens there; name another path"));
            }
            // It is replaced.
            Ok(_) => {}
        }
        Self::bind(path.to_owned())
    }

    /// Listens under a name of its own, then moves the socket to `path`.
    fn bind(path: PathBuf) -> Result<Self, ServeError> {
        let system = |what| system(&path, what);
        SocketAddrUnix::new(&path).map_err(|error| {
            system("use a path of this length (at most 108 bytes)")(error.into())
        })?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(|error| system("make a socket")(error.into()))?;
        // Linux gives the file the mode of the unbound socket: it is private from the first moment,
        // without a change of the umask, which is that of all threads.
        fchmod(&socket, Mode::RUSR | Mode::WUSR)
            .map_err(|error| system("make the socket private")(error.into()))?;
        let hidden = bind_hidden(&socket, &path)
            .map_err(|error| system("create the socket")(error.into()))?;
        let moved = listen(&socket, BACKLOG)
            .map_err(|error| system("listen")(error.into()))
            .and_then(|()| {
                let facts = fs::symlink_metadata(&hidden).map_err(system("look at the socket"))?;
                fs::rename(&hidden, &path).map_err(system("move the socket to its name"))?;
                Ok((facts.dev(), facts.ino()))
            });
        if moved.is_err() {
            let _not_there = fs::remove_file(&hidden);
        }
        let file = moved?;
        Ok(Self { path, listener: UnixListener::from(socket), file })
    }

    /// Removes the socket's file, unless another one is there by now.
    pub(crate) fn remove(&self) {
        let facts = fs::symlink_metadata(&self.path);
        if facts.is_ok_and(|facts| (facts.dev(), facts.ino()) == self.file) {
            let _not_there = fs::remove_file(&self.path);
        }
    }
}

/// Binds the socket to a temporary name beside `path`, and returns that path.
///
/// The name is shorter than `<program>-<pid>.sock`, so that it fits wherever that name does.
fn bind_hidden(socket: &OwnedFd, path: &Path) -> Result<PathBuf, Errno> {
    let pid = own_pid();
    for number in 0..MAX_HIDDEN {
        let hidden = path.with_file_name(format!(".{pid}.{number}"));
        match bind(socket, &SocketAddrUnix::new(&hidden)?) {
            Ok(()) => return Ok(hidden),
            Err(Errno::ADDRINUSE) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::ADDRINUSE)
}

pub(crate) fn own_pid() -> u32 {
    getpid().as_raw_nonzero().get().unsigned_abs()
}

fn system<'a>(path: &'a Path, what: &'static str) -> impl Fn(io::Error) -> ServeError + 'a {
    move |source| ServeError::System { path: path.to_owned(), what, source }
}

/// Returns the directories in which a process of this user may put its socket, the best first.
pub(crate) fn own_directories() -> Vec<PathBuf> {
    let user = geteuid().as_raw();
    let mut directories = Vec::new();
    // systemd's RuntimeDirectory=, whose paths stand between colons.
    if let Some(paths) = env::var_os("RUNTIME_DIRECTORY") {
        directories.extend(env::split_paths(&paths).find(|path| path.is_absolute()));
    }
    // Not one that sudo has left of another user.
    if let Some(path) = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)
        && path.is_absolute()
        && fs::metadata(&path).is_ok_and(|facts| facts.uid() == user)
    {
        directories.push(path.join(FOLDER));
    }
    if user == 0 {
        directories.push(Path::new("/run").join(FOLDER));
    }
    let of_user = Path::new("/run/user").join(user.to_string());
    if of_user.is_dir() {
        directories.push(of_user.join(FOLDER));
    }
    directories.push(env::temp_dir().join(format!("{FOLDER}-{user}")));
    directories.dedup();
    directories
}

/// Returns the directories in which sockets that this user may read are looked for.
pub(crate) fn all_directories() -> Vec<Source> {
    let user = geteuid().as_raw();
    let of_services = Path::new("/run").join(FOLDER);
    // A service of any user may own it, and only root can create it.
    let mut sources = vec![Source { path: of_services.clone(), owner: None }];
    let own = own_directories().into_iter().filter(|path| *path != of_services);
    sources.extend(own.map(|path| Source { path, owner: Some(user) }));
    if user == 0 {
        sources.extend(directories_of_users(Path::new("/run/user"), &env::temp_dir()));
    }
    let mut seen = Vec::new();
    sources.retain(|source| {
        let is_new = !seen.contains(&source.path);
        seen.push(source.path.clone());
        is_new
    });
    sources
}

/// Returns `<run_user>/<uid>/pagemill` and `<temp>/pagemill-<uid>` for each user that has one.
///
/// Every user can create entries in `temp`. Only those that belong to the user in their name count, so
/// that no user can act for another one, choose what root reads on the terminal, or hide the entries of
/// others behind many of its own.
fn directories_of_users(run_user: &Path, temp: &Path) -> Vec<Source> {
    let below = |directory: &Path, prefix: &str, end: &str| {
        let files = fs::read_dir(directory).into_iter().flatten().flatten();
        let source = |file: fs::DirEntry| {
            let name = file.file_name();
            let user = parse_decimal(name.to_str()?.strip_prefix(prefix)?)?;
            let path = if end.is_empty() { file.path() } else { file.path().join(end) };
            let facts = fs::symlink_metadata(&path).ok()?;
            (facts.is_dir() && facts.uid() == user).then_some(Source { path, owner: Some(user) })
        };
        files.filter_map(source).collect::<Vec<_>>()
    };
    let mut sources = below(run_user, "", FOLDER);
    sources.extend(below(temp, &format!("{FOLDER}-"), ""));
    sources
}

/// Reads a number that is written in the only usual way: without sign and leading zeros.
fn parse_decimal(text: &str) -> Option<u32> {
    text.parse::<u32>().ok().filter(|number| number.to_string() == text)
}

/// Creates the directory, if it does not exist, and checks that it belongs to this user, that no other
/// user can write to it, and that it is not a link.
fn make_private_directory(path: &Path) -> Result<(), ServeError> {
    let refuse = |why: String| ServeError::Directory { path: path.to_owned(), why };
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(refuse(error.to_string()));
        }
        _ => {}
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    let opened = open(path, flags, Mode::empty()).map_err(|error| match error {
        Errno::NOTDIR | Errno::LOOP => refuse("it is a link or not a directory".into()),
        error => refuse(io::Error::from(error).to_string()),
    })?;
    let facts = fstat(&opened).map_err(|error| refuse(io::Error::from(error).to_string()))?;
    check(facts.st_uid, facts.st_mode, &[geteuid().as_raw()], false).map_err(refuse)
}

fn check_owner(facts: &Metadata, owners: &[u32], is_sticky: bool) -> Result<(), String> {
    check(facts.uid(), facts.mode(), owners, is_sticky)
}

fn check(owner: u32, mode: u32, owners: &[u32], is_sticky: bool) -> Result<(), String> {
    if !owners.contains(&owner) {
        return Err(format!("it belongs to user {owner}"));
    }
    if mode & 0o022 != 0 && !is_sticky {
        return Err(format!("other users can write to it (mode {:04o})", mode & 0o7777));
    }
    Ok(())
}

/// Locks a directory against other processes that remove or add sockets; `None` if one of them holds the
/// lock for too long.
///
/// Locks a file of mode 0600: any user that can read a directory could lock the directory itself.
fn lock(directory: &Path) -> Result<Option<OwnedFd>, ServeError> {
    let flags = OFlags::CREATE | OFlags::NOFOLLOW | OFlags::RDWR | OFlags::CLOEXEC;
    let opened = open(directory.join(LOCK), flags, Mode::RUSR | Mode::WUSR)
        .map_err(|error| system(directory, "open the file .lock")(error.into()))?;
    let start = Instant::now();
    loop {
        match flock(opened.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(opened)),
            Err(Errno::WOULDBLOCK | Errno::INTR) if start.elapsed() < LOCK_LIMIT => {
                thread::sleep(LOCK_LIMIT / 200);
            }
            Err(Errno::WOULDBLOCK | Errno::INTR) => return Ok(None),
            Err(error) => return Err(system(directory, "lock the file .lock")(error.into())),
        }
    }
}

/// Returns whether nobody listens on the socket at `path`. `false` if that is not certain.
pub(crate) fn is_refused(path: &Path) -> bool {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let Ok(socket) = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None) else {
        return false;
    };
    let Ok(addr) = SocketAddrUnix::new(path) else { return false };
    matches!(connect(&socket, &addr), Err(Errno::CONNREFUSED))
}

impl Entry {
    /// Returns whether the process that the socket's name gives listens there, as the socket's owner.
    pub(crate) fn is_served(&self) -> bool {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let Ok(socket) = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None) else {
            return false;
        };
        let Ok(addr) = SocketAddrUnix::new(&self.path) else { return false };
        match connect(&socket, &addr) {
            // The credentials are those of the process that called listen(2).
            Ok(()) => socket_peercred(&socket).is_ok_and(|peer| {
                let pid = peer.pid.as_raw_nonzero().get().unsigned_abs();
                (peer.uid.as_raw(), pid) == (self.owner, self.pid)
            }),
            // Too many clients wait, so that there are no credentials: it hangs or is stopped.
            Err(Errno::AGAIN) => fs::metadata(format!("/proc/{}", self.pid))
                .is_ok_and(|facts| facts.uid() == self.owner),
            Err(_) => false,
        }
    }
}

/// Returns the name of a program's socket.
fn socket_name(program: &str, pid: u32) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let name: String =
        program.chars().map(|c| if is_plain(c) { c } else { '_' }).take(MAX_NAME).collect();
    let name = if name.is_empty() { "program" } else { &name };
    format!("{name}-{pid}{SUFFIX}")
}

/// Reads the name of a socket: the program, and the number of its process.
fn parse_name(name: &str) -> Option<(&str, u32)> {
    let (program, pid) = name.strip_suffix(SUFFIX)?.rsplit_once('-')?;
    let pid = pid.parse().ok()?;
    (socket_name(program, pid) == name).then_some((program, pid))
}

/// Returns the sockets in a directory that have the name of a status socket and the owner of the
/// directory, which must be `owner`.
///
/// None if the directory is a link, or other users can write to it.
pub(crate) fn entries(directory: &Path, owner: Option<u32>) -> Vec<Entry> {
    let Ok(facts) = fs::symlink_metadata(directory) else { return Vec::new() };
    let owner = owner.unwrap_or(facts.uid());
    if !facts.is_dir() || check_owner(&facts, &[owner], false).is_err() {
        return Vec::new();
    }
    // The owner may replace the directory by a link now. It leads to no socket but the owner's.
    let files = fs::read_dir(directory).into_iter().flatten().flatten();
    let entry = |file: fs::DirEntry| {
        let name = file.file_name();
        let (program, pid) = parse_name(name.to_str()?)?;
        let facts = fs::symlink_metadata(file.path()).ok()?;
        let is_ours = facts.file_type().is_socket() && facts.uid() == owner;
        is_ours.then(|| Entry { path: file.path(), program: program.to_owned(), pid, owner })
    };
    files.filter_map(entry).take(MAX_ENTRIES).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_name_is_read_as_it_was_written() {
        for (program, name) in [
            ("nfsd", "nfsd-7.sock"),
            ("my-app", "my-app-7.sock"),
            ("../evil\n", "___evil_-7.sock"),
            ("", "program-7.sock"),
        ] {
            assert_eq!(socket_name(program, 7), name);
            assert_eq!(parse_name(name).map(|(_, pid)| pid), Some(7));
        }
        let long = "x".repeat(100);
        assert_eq!(parse_name(&socket_name(&long, u32::MAX)), Some((&long[..MAX_NAME], u32::MAX)));
        for name in ["nfsd-7", "nfsd.sock", "nfsd-+1.sock", "nfsd-07.sock", "-7.sock", ".x-7.sock"]
        {
            assert_eq!(parse_name(name), None, "{name}");
        }
    }

    fn bound(directory: &Path, program: &str) -> Result<Place, ServeError> {
        Place::in_directory(directory, program)
    }

    fn names(directory: &Path) -> Vec<String> {
        let files = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> =
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != LOCK);
        names.sort();
        names
    }

    #[test]
    fn a_directory_is_made_private_and_a_public_one_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("run");
        let place = bound(&directory, "nfsd").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!((mode(&directory), mode(&place.path)), (0o700, 0o600));
        assert_eq!(names(&directory), [format!("nfsd-{}.sock", own_pid())]);

        fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
        let error = bound(&directory, "nfsd").unwrap_err().to_string();
        assert!(error.contains("other users can write to it (mode 0777)"), "{error}");
        assert_eq!(entries(&directory, None), []);
    }

    #[test]
    fn a_link_is_not_a_directory() {
        let parent = tempfile::tempdir().unwrap();
        let (real, link) = (parent.path().join("real"), parent.path().join("link"));
        let _place = bound(&real, "nfsd").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let error = bound(&link, "nfsd").unwrap_err().to_string();
        assert!(error.contains("it is a link or not a directory"), "{error}");
        assert_eq!((entries(&real, None).len(), entries(&link, None).len()), (1, 0));
    }

    #[test]
    fn only_sockets_of_ended_processes_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("run");
        let first = bound(&directory, "first").unwrap();
        drop(UnixListener::bind(directory.join("ended-1.sock")).unwrap());
        drop(UnixListener::bind(directory.join("of another kind")).unwrap());
        fs::write(directory.join("file-1.sock"), "").unwrap();
        let second = bound(&directory, "second").unwrap();
        let of_own = |program: &str| format!("{program}-{}.sock", own_pid());
        let expected =
            ["file-1.sock".into(), of_own("first"), "of another kind".into(), of_own("second")];
        assert_eq!(names(&directory), expected);
        let found = entries(&directory, None);
        assert_eq!(found.iter().filter(|entry| entry.pid == own_pid()).count(), 2, "{found:?}");
        first.remove();
        second.remove();
        assert_eq!(names(&directory), ["file-1.sock", "of another kind"]);
    }

    #[test]
    #[expect(clippy::print_stderr, reason = "a test tells that it is skipped")]
    fn a_directory_of_another_user_is_refused() {
        if !geteuid().is_root() {
            std::eprintln!("SKIPPED: a_directory_of_another_user_is_refused: not root");
            return;
        }
        let parent = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(parent.path(), Some(54_321), None).unwrap();
        let error = bound(parent.path(), "nfsd").unwrap_err().to_string();
        assert!(error.contains("it belongs to user 54321"), "{error}");
        let error = Place::at(&parent.path().join("x.sock")).unwrap_err().to_string();
        assert!(error.contains("it belongs to user 54321"), "{error}");
    }

    #[test]
    fn a_long_path_is_an_error_and_leaves_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("x".repeat(100));
        let error = Place::at(&path).unwrap_err().to_string();
        assert!(error.ends_with("cannot use a path of this length (at most 108 bytes)"), "{error}");
        assert_eq!(names(parent.path()), [""; 0]);
    }

    #[test]
    fn a_directory_that_cannot_be_used_does_not_end_the_search() {
        let parent = tempfile::tempdir().unwrap();
        let long = parent.path().join("x".repeat(100));
        let (file, good) = (parent.path().join("file"), parent.path().join("good"));
        fs::write(&file, "").unwrap();
        let place =
            Place::in_first_of(&[long.clone(), file.clone(), good.clone()], "nfsd").unwrap();
        assert_eq!(place.path.parent(), Some(&*good));
        let error = Place::in_first_of(&[long, file], "nfsd").unwrap_err().to_string();
        let parts =
            ["cannot use a path of this length (at most 108 bytes): ", "it is a link or not"];
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }

    #[test]
    fn the_temporary_name_needs_no_longer_path_than_the_socket() {
        let parent = tempfile::tempdir().unwrap();
        let name = socket_name("a", own_pid());
        let room = 108 - parent.path().as_os_str().len() - 2 - name.len();
        let place = bound(&parent.path().join("d".repeat(room)), "a").unwrap();
        assert_eq!(place.path.as_os_str().len(), 108);
        assert!(bound(&parent.path().join("d".repeat(room + 1)), "a").is_err());
    }

    #[test]
    fn a_lock_on_the_directory_delays_nobody_and_a_held_lock_delays_only_the_cleaning() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("run");
        let first = bound(&directory, "first").unwrap();
        drop(UnixListener::bind(directory.join("ended-1.sock")).unwrap());
        let mode = fs::metadata(directory.join(LOCK)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600, "no other user can open the file, and lock it");
        // What any user can do to a directory of mode 0755.
        let of_directory = fs::File::open(&directory).unwrap();
        flock(of_directory.as_fd(), FlockOperation::LockExclusive).unwrap();
        let held = lock(&directory).unwrap();
        assert!(held.is_some());
        let second = bound(&directory, "second").unwrap();
        let of_own = |program: &str| format!("{program}-{}.sock", own_pid());
        let with_ended = ["ended-1.sock".into(), of_own("first"), of_own("second")];
        assert_eq!(names(&directory), with_ended);
        drop(held);
        second.remove();
        let _third = bound(&directory, "third").unwrap();
        assert_eq!(names(&directory), [of_own("first"), of_own("third")]);
        first.remove();
    }

    #[test]
    fn another_process_in_the_name_is_not_served() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("run");
        let _place = bound(&directory, "nfsd").unwrap();
        // Process 1 exists, and does not listen here.
        let _forged = UnixListener::bind(directory.join("nfsd-1.sock")).unwrap();
        let found = entries(&directory, None);
        assert_eq!(found.len(), 2, "{found:?}");
        for entry in found {
            assert_eq!(entry.is_served(), entry.pid == own_pid(), "{entry:?}");
        }
    }

    const USER: u32 = 54_321;

    #[expect(clippy::print_stderr, reason = "a test tells that it is skipped")]
    fn is_root(test: &str) -> bool {
        let is_root = geteuid().is_root();
        if !is_root {
            std::eprintln!("SKIPPED: {test}: not root");
        }
        is_root
    }

    fn give(path: &Path, user: u32) {
        std::os::unix::fs::lchown(path, Some(user), Some(user)).unwrap();
    }

    #[test]
    fn only_the_directory_of_the_user_in_its_name_is_searched() {
        if !is_root("only_the_directory_of_the_user_in_its_name_is_searched") {
            return;
        }
        let parent = tempfile::tempdir().unwrap();
        let (temp, run_user) = (parent.path().join("tmp"), parent.path().join("user"));
        fs::create_dir(&temp).unwrap();
        // More than are looked at, by one user.
        for number in 0..=MAX_ENTRIES {
            let other = temp.join(format!("pagemill-{}", 100_000 + number));
            fs::create_dir(&other).unwrap();
            give(&other, USER);
        }
        for name in ["\x1b]0;title\x07", "0", "054321", "+54321", "54321x", ""] {
            let forged = temp.join(format!("pagemill-{name}"));
            fs::create_dir(&forged).unwrap();
            give(&forged, USER);
        }
        let link = temp.join("pagemill-54322");
        std::os::unix::fs::symlink(parent.path(), &link).unwrap();
        give(&link, 54_322);
        let (of_temp, of_run) = (temp.join("pagemill-54321"), run_user.join("54321/pagemill"));
        let of_other = run_user.join("54322/pagemill");
        for directory in [&of_temp, &of_run, &of_other] {
            fs::create_dir_all(directory).unwrap();
            give(directory, USER);
        }
        let found = directories_of_users(&run_user, &temp);
        let expected = [of_run, of_temp].map(|path| Source { path, owner: Some(USER) });
        assert_eq!(found, expected);
    }

    #[test]
    fn only_sockets_of_the_owner_of_a_private_directory_are_entries() {
        if !is_root("only_sockets_of_the_owner_of_a_private_directory_are_entries") {
            return;
        }
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("run");
        fs::create_dir(&directory).unwrap();
        give(&directory, USER);
        for (name, user) in [("mine-1.sock", USER), ("of_root-1.sock", 0), ("other-1.sock", 7)] {
            drop(UnixListener::bind(directory.join(name)).unwrap());
            give(&directory.join(name), user);
        }
        for other in 0..MAX_ENTRIES {
            fs::write(directory.join(format!("file-{other}.sock")), "").unwrap();
        }
        let programs = |owner| {
            let found = entries(&directory, owner).into_iter();
            found.map(|entry| (entry.program, entry.owner)).collect::<Vec<_>>()
        };
        let mine = [("mine".to_owned(), USER)];
        assert_eq!((programs(Some(USER)), programs(None)), (mine.to_vec(), mine.to_vec()));
        assert_eq!(programs(Some(0)), []);
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(programs(Some(USER)), []);
    }
}
