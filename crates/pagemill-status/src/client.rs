//! Client: finds processes that serve their status, and asks one for a snapshot.

use core::time::Duration;
use std::fs;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{Pid, geteuid, test_kill_process};
use serde::{Deserialize, Serialize};

use crate::error::{FetchError, ReplyError};
use crate::place::{Entry, all_directories, entries, is_refused};
use crate::proc;
use crate::protocol::{MAX_REPLY_BYTES, Request, is_complete, parse_reply};
use crate::snapshot::Snapshot;

/// A process that serves its status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Process {
    /// The program, as its socket's name says.
    pub program: String,
    /// The number of the process, as its socket's name says.
    pub pid: u32,
    /// The user that owns the socket.
    pub user: u32,
    /// The socket.
    pub path: PathBuf,
    /// Its command line, without the directory of the program: up to 4096 bytes, without control
    /// characters. Empty if the system does not tell.
    #[serde(default)]
    pub command: String,
    /// How long it has run, if the system tells.
    #[serde(default)]
    pub age: Option<Duration>,
}

/// Returns the processes whose status this user may read, by number: its own; for root, those of all
/// users.
///
/// Skips a socket unless the process in its name listens there, and unless the same user owns the process,
/// the socket and its directory: no user can add an entry for the process of another one.
#[must_use]
pub fn processes() -> Vec<Process> {
    let user = geteuid().as_raw();
    let found = all_directories().into_iter().flat_map(|it| entries(&it.path, it.owner));
    let may_read = found.filter(|entry| user == 0 || entry.owner == user);
    let alive = may_read.filter(Entry::is_served);
    let mut processes: Vec<_> = alive
        .map(|entry| {
            let (program, pid, path) = (entry.program, entry.pid, entry.path);
            let (command, age) = (proc::command(pid), proc::age(pid));
            Process { program, pid, user: entry.owner, path, command, age }
        })
        .collect();
    processes.sort_by(|one, other| (one.pid, &one.path).cmp(&(other.pid, &other.path)));
    processes
}

/// Asks the process at `path` for a snapshot, and waits up to `limit` for it.
///
/// Sets the number of the process to what the system says of the process that listens, whatever the
/// snapshot says.
///
/// # Errors
/// [`FetchError::Gone`] once the process has ended; that it is another user's, does not reply in time, or
/// replies something else.
///
/// # Cost
/// One connection. Memory in proportion to the reply, of which more than 4 MiB are refused.
pub fn fetch(path: &Path, limit: Duration) -> Result<Snapshot, FetchError> {
    let deadline = Deadline { path, end: Instant::now() + limit };
    let owner = check_socket(path)?;
    let mut stream = deadline.connect()?;
    let peer = socket_peercred(&stream)
        .map_err(|error| system(path, "ask who listens on")(error.into()))?;
    let actual = peer.uid.as_raw();
    if actual != owner {
        return Err(FetchError::WrongPeer { path: path.to_owned(), expected: owner, actual });
    }
    let pid = peer.pid.as_raw_nonzero().get().unsigned_abs();
    match deadline.exchange(&mut stream) {
        Ok(mut snapshot) => {
            snapshot.process.pid = pid;
            Ok(snapshot)
        }
        // A child may hold the socket of a parent that has ended.
        Err(FetchError::NoReply { .. }) if has_ended(peer.pid) => Err(gone(path)),
        Err(FetchError::NoReply { path, .. }) => Err(FetchError::NoReply { path, pid }),
        Err(error) => Err(error),
    }
}

fn has_ended(pid: Pid) -> bool {
    test_kill_process(pid) == Err(Errno::SRCH)
}

fn gone(path: &Path) -> FetchError {
    FetchError::Gone { path: path.to_owned() }
}

fn system<'a>(path: &'a Path, what: &'static str) -> impl Fn(io::Error) -> FetchError + 'a {
    move |source| FetchError::System { path: path.to_owned(), what, source }
}

/// Checks that the path is a socket that this user may trust, and returns its owner.
fn check_socket(path: &Path) -> Result<u32, FetchError> {
    let facts = fs::symlink_metadata(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => gone(path),
        _ => system(path, "look at")(error),
    })?;
    if !facts.file_type().is_socket() {
        return Err(FetchError::NotASocket { path: path.to_owned() });
    }
    let (owner, user) = (facts.uid(), geteuid().as_raw());
    if owner != user && user != 0 {
        return Err(FetchError::NotOurs { path: path.to_owned(), owner, user });
    }
    Ok(owner)
}

/// The end of the time for one snapshot.
struct Deadline<'a> {
    path: &'a Path,
    end: Instant,
}

impl Deadline<'_> {
    fn left(&self) -> Result<Duration, FetchError> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(FetchError::NoReply { path: self.path.to_owned(), pid: 0 });
        }
        Ok(left)
    }

    fn connect(&self) -> Result<UnixStream, FetchError> {
        let failed = |error: Errno| system(self.path, "connect to")(error.into());
        let addr = SocketAddrUnix::new(self.path).map_err(failed)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        loop {
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
            let socket = socket.map_err(failed)?;
            match connect(&socket, &addr) {
                Ok(()) => return Ok(UnixStream::from(socket)),
                Err(Errno::CONNREFUSED | Errno::NOENT) => return Err(gone(self.path)),
                // Too many clients wait already.
                Err(Errno::AGAIN | Errno::INTR) => {
                    thread::sleep(self.left()?.min(Duration::from_millis(10)));
                }
                Err(error) => return Err(failed(error)),
            }
        }
    }

    fn exchange(&self, stream: &mut UnixStream) -> Result<Snapshot, FetchError> {
        let failed = |source| FetchError::Reply { path: self.path.to_owned(), source };
        let request = Request::snapshot();
        let mut to_send = request.as_bytes();
        while !to_send.is_empty() {
            match stream.write(to_send) {
                Ok(nr) => to_send = &to_send[nr..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.wait(stream, PollFlags::OUT)?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // It may have refused this client, and said why.
                Err(_) => break,
            }
        }
        let (mut reply, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
        while !is_complete(&reply).map_err(failed)? {
            if reply.len() > MAX_REPLY_BYTES {
                return Err(failed(ReplyError::TooLong { max: MAX_REPLY_BYTES }));
            }
            match stream.read(&mut buffer) {
                Ok(0) if reply.is_empty() && is_refused(self.path) => return Err(gone(self.path)),
                Ok(0) => break,
                Ok(nr) => reply.extend_from_slice(&buffer[..nr]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.wait(stream, PollFlags::IN)?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A server that did not read the request resets the connection behind its reply.
                Err(_) if !reply.is_empty() => break,
                Err(_) if is_refused(self.path) => return Err(gone(self.path)),
                Err(error) => return Err(system(self.path, "read from")(error)),
            }
            // Also of a server that never stops sending.
            self.left()?;
        }
        parse_reply(&reply).map_err(failed)
    }

    fn wait(&self, stream: &UnixStream, flags: PollFlags) -> Result<(), FetchError> {
        let timeout = Timespec::try_from(self.left()?).ok();
        let mut polled = [PollFd::from_borrowed_fd(stream.as_fd(), flags)];
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(system(self.path, "wait for")(error.into())),
        }
    }
}
