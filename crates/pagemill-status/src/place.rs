//! Place of a socket: private directories, names, and the removal of sockets whose process has ended.
//!
//! A socket has its final name only while somebody listens: it is bound and listened on under another
//! name, then renamed. So a connection that is refused shows that the process has ended.

use core::time::Duration;
use std::env;
use std::ffi::OsStr;
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
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};
use rustix::process::{geteuid, getpid};

use crate::error::ServeError;

/// Name of the directory for sockets in a directory for the files of running processes.
const FOLDER: &str = "pagemill";
/// End of a socket's name.
const SUFFIX: &str = ".sock";
/// The most characters of a program's name in a socket's name.
const MAX_NAME: usize = 32;
/// Connections that wait until the server accepts them.
const BACKLOG: i32 = 16;
/// The most entries of a directory that are looked at.
const MAX_ENTRIES: usize = 1024;
/// How long to wait for another process that looks for ended ones.
const LOCK_LIMIT: Duration = Duration::from_secs(2);

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

impl Place {
    /// Listens on `<program>-<pid>.sock` in the first directory that is private.
    pub(crate) fn in_private_directory(program: &str) -> Result<Self, ServeError> {
        let mut tried = Vec::new();
        for path in own_directories() {
            match Self::in_directory(&path, program) {
                Ok(place) => return Ok(place),
                Err(ServeError::Directory { path, why }) => {
                    tried.push(format!("{}: {why}", path.display()));
                }
                Err(error) => return Err(error),
            }
        }
        Err(ServeError::NoDirectory { tried })
    }

    fn in_directory(directory: &Path, program: &str) -> Result<Self, ServeError> {
        let opened = private_directory(directory)?;
        let _lock = lock(opened, directory)?;
        for entry in entries(directory) {
            if entry.owner == geteuid().as_raw() && is_refused(&entry.path) {
                // Under the lock, no other process has moved a socket there since.
                let _another_removed_it = fs::remove_file(&entry.path);
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
        let name = path.file_name().unwrap_or(OsStr::new("")).to_string_lossy();
        let hidden = path.with_file_name(format!(".{name}.{}", own_pid()));
        let system = |what| system(&path, what);
        let _seldom_there = fs::remove_file(&hidden);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(|error| system("make a socket")(error.into()))?;
        // Linux gives the file the mode of the unbound socket: it is private from the first moment,
        // without a change of the umask, which is that of all threads.
        fchmod(&socket, Mode::RUSR | Mode::WUSR)
            .map_err(|error| system("make the socket private")(error.into()))?;
        let addr = SocketAddrUnix::new(&hidden)
            .map_err(|error| system("use a path of this length")(error.into()))?;
        bind(&socket, &addr).map_err(|error| system("create the socket")(error.into()))?;
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
pub(crate) fn all_directories() -> Vec<PathBuf> {
    let mut directories = own_directories();
    directories.push(Path::new("/run").join(FOLDER));
    if geteuid().is_root() {
        let below = |directory: &Path| {
            let entries = fs::read_dir(directory).into_iter().flatten().take(MAX_ENTRIES);
            entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect::<Vec<_>>()
        };
        let of_users = below(Path::new("/run/user")).into_iter().map(|path| path.join(FOLDER));
        directories.extend(of_users);
        let is_ours = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.strip_prefix(FOLDER).is_some_and(|rest| rest.starts_with('-'))
        };
        directories.extend(below(&env::temp_dir()).into_iter().filter(is_ours));
    }
    let mut seen = Vec::new();
    directories.retain(|path| {
        let is_new = !seen.contains(path);
        seen.push(path.clone());
        is_new
    });
    directories
}

/// Makes the directory, if it is not there, and opens it. It belongs to this user, no other one can
/// write to it, and it is not a link.
fn private_directory(path: &Path) -> Result<OwnedFd, ServeError> {
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
    check(facts.st_uid, facts.st_mode, &[geteuid().as_raw()], false).map_err(refuse)?;
    Ok(opened)
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

/// Locks a directory against other processes that remove or add sockets.
fn lock(opened: OwnedFd, directory: &Path) -> Result<OwnedFd, ServeError> {
    let start = Instant::now();
    loop {
        match flock(opened.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(opened),
            Err(Errno::WOULDBLOCK | Errno::INTR) if start.elapsed() < LOCK_LIMIT => {
                thread::sleep(LOCK_LIMIT / 200);
            }
            Err(error) => return Err(system(directory, "lock the directory")(error.into())),
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

/// Returns the sockets in a directory that have the name of a status socket.
///
/// None if the directory is a link, or can be changed by users other than its owner, this user and root.
pub(crate) fn entries(directory: &Path) -> Vec<Entry> {
    let user = geteuid().as_raw();
    let Ok(facts) = fs::symlink_metadata(directory) else { return Vec::new() };
    let is_trusted = user == 0 || check_owner(&facts, &[user, 0], false).is_ok();
    if !facts.is_dir() || !is_trusted {
        return Vec::new();
    }
    let files = fs::read_dir(directory).into_iter().flatten().take(MAX_ENTRIES).flatten();
    let entry = |file: fs::DirEntry| {
        let name = file.file_name();
        let (program, pid) = parse_name(name.to_str()?)?;
        let facts = fs::symlink_metadata(file.path()).ok()?;
        let (path, owner) = (file.path(), facts.uid());
        let is_socket = facts.file_type().is_socket();
        is_socket.then(|| Entry { path, program: program.to_owned(), pid, owner })
    };
    files.filter_map(entry).collect()
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
        let is_root = geteuid().is_root();
        assert_eq!(entries(&directory).len(), usize::from(is_root), "root checks each peer itself");
    }

    #[test]
    fn a_link_is_not_a_directory() {
        let parent = tempfile::tempdir().unwrap();
        let (real, link) = (parent.path().join("real"), parent.path().join("link"));
        let _place = bound(&real, "nfsd").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let error = bound(&link, "nfsd").unwrap_err().to_string();
        assert!(error.contains("it is a link or not a directory"), "{error}");
        assert_eq!((entries(&real).len(), entries(&link).len()), (1, 0));
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
        let found = entries(&directory);
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
        assert!(error.ends_with("cannot use a path of this length"), "{error}");
        assert_eq!(names(parent.path()), [""; 0]);
    }
}
