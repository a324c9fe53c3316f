//! Server: one thread that replies to clients of the same user or root, and sleeps while there are none.

use core::panic::AssertUnwindSafe;
use core::time::Duration;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use pagemill::source::PageSource;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;

use crate::error::ServeError;
use crate::place::{Place, own_pid};
use crate::protocol::{MAX_REQUEST_BYTES, Request, error_reply, snapshot_reply, version_reply};
use crate::section::Section;
use crate::snapshot::{AllocatorStatus, PoolStatus, ProcessStatus, Snapshot};

/// The most connections at a time. For a further one, the oldest is closed.
const MAX_CONNECTIONS: usize = 8;
/// How long a connection may last.
const CONNECTION_LIMIT: Duration = Duration::from_secs(5);
/// How long to wait where no connection can be accepted, for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

type Source = Box<dyn Fn(&mut Snapshot) + Send + Sync>;

/// What a process shows of itself: its allocators, its pools, and sections of its own.
///
/// # Examples
/// ```no_run
/// use pagemill_host::{HostAllocator, SharedAllocator};
/// use pagemill_status::{Section, Status, Unit};
///
/// # fn main() -> Result<(), Box<dyn core::error::Error>> {
/// let frames = SharedAllocator::new(HostAllocator::new(64 << 20)?);
/// let _server = Status::of("store", env!("CARGO_PKG_VERSION"))
///     .allocator("frames", frames.clone())
///     .section(|| Section::new("jobs", "Jobs").counter("done", Unit::Count, 7))
///     .serve()?;
/// # Ok(())
/// # }
/// ```
pub struct Status {
    program: String,
    version: String,
    start: Instant,
    sources: Vec<Source>,
}

impl Status {
    /// Makes the status of a program.
    #[must_use]
    pub fn of(program: impl Into<String>, version: impl Into<String>) -> Self {
        let (program, version) = (program.into(), version.into());
        Self { program, version, start: Instant::now(), sources: Vec::new() }
    }

    /// Adds an allocator, which lives at least as long as the status.
    #[must_use]
    pub fn allocator<S>(self, name: impl Into<String>, source: S) -> Self
    where
        S: PageSource + Send + Sync + 'static,
    {
        let name = name.into();
        self.source(move |snapshot| {
            let status = AllocatorStatus::of(name.as_str(), source.allocator());
            snapshot.allocators.push(status);
        })
    }

    /// Adds a page pool. `read` is called for each snapshot; with `None`, there is no pool at the moment.
    #[must_use]
    pub fn pool(self, read: impl Fn() -> Option<PoolStatus> + Send + Sync + 'static) -> Self {
        self.source(move |snapshot| snapshot.pools.extend(read()))
    }

    /// Adds a section. `read` is called for each snapshot, on the thread of the server, and must not
    /// wait.
    #[must_use]
    pub fn section(self, read: impl Fn() -> Section + Send + Sync + 'static) -> Self {
        self.source(move |snapshot| snapshot.sections.push(read()))
    }

    fn source(mut self, read: impl Fn(&mut Snapshot) + Send + Sync + 'static) -> Self {
        self.sources.push(Box::new(read));
        self
    }

    /// Reads everything.
    ///
    /// # Cost
    /// For each allocator, that of [`AllocatorStatus::of`]. No lock is held longer than in the views of
    /// [`PageAllocator`](pagemill::PageAllocator).
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let uptime_us = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut snapshot = Snapshot {
            process: ProcessStatus {
                program: self.program.clone(),
                version: self.version.clone(),
                pid: own_pid(),
                uptime_us,
            },
            allocators: Vec::new(),
            pools: Vec::new(),
            sections: Vec::new(),
        };
        self.sources.iter().for_each(|read| read(&mut snapshot));
        for section in snapshot.sections.iter_mut().filter(|section| section.taken_us == 0) {
            section.taken_us = uptime_us;
        }
        snapshot
    }

    /// Serves it on a socket `<program>-<pid>.sock` in a private directory: that of
    /// `$RUNTIME_DIRECTORY` (systemd), `$XDG_RUNTIME_DIR/pagemill`, for root `/run/pagemill`, else
    /// `/run/user/<uid>/pagemill` or `pagemill-<uid>` in the directory for temporary files.
    ///
    /// Removes sockets there whose processes have ended.
    ///
    /// # Errors
    /// No such directory can be used, or the system refuses a socket or a thread.
    pub fn serve(self) -> Result<StatusServer, ServeError> {
        let place = Place::in_private_directory(&self.program)?;
        StatusServer::start(place, self)
    }

    /// Serves it on a socket at `path`. Replaces a socket there whose process has ended.
    ///
    /// # Errors
    /// Users other than this one and root can write to the directory, something else is at `path`, or
    /// the system refuses a socket or a thread.
    pub fn serve_at(self, path: impl AsRef<Path>) -> Result<StatusServer, ServeError> {
        let place = Place::at(path.as_ref())?;
        StatusServer::start(place, self)
    }
}

impl core::fmt::Debug for Status {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { program, version, start: _, sources: _ } = self;
        f.debug_struct("Status").field("program", program).field("version", version).finish()
    }
}

/// A status that is served until it is dropped.
///
/// The thread sleeps while no client is connected. A connection lasts up to 5 s, and there are up to 8:
/// for a further one, the oldest is closed. Clients must have the user of this process, or root.
///
/// Drop removes the socket. In a child of `fork`, which has no such thread, it leaves the socket to the
/// parent.
#[derive(Debug)]
#[must_use = "the status is served until this is dropped"]
pub struct StatusServer {
    path: PathBuf,
    /// The process that started it.
    pid: u32,
    /// Its end wakes the thread.
    wake: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl StatusServer {
    fn start(place: Place, status: Status) -> Result<Self, ServeError> {
        let path = place.path.clone();
        let refused = |what| {
            let path = path.clone();
            move |source| ServeError::System { path, what, source }
        };
        // Removes the socket if the thread does not start.
        let place = PlaceGuard(place);
        let (wake, woken) = UnixStream::pair().map_err(refused("make a socket"))?;
        let thread = thread::Builder::new()
            .name("status".into())
            .spawn(move || run(&place.0.listener, &woken, &status))
            .map_err(refused("start a thread"))?;
        Ok(Self { path, pid: own_pid(), wake: Some(wake), thread: Some(thread) })
    }

    /// Returns the path of the socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for StatusServer {
    fn drop(&mut self) {
        if self.pid != own_pid() {
            // The thread and the socket are the parent's. Closing this copy of the descriptor does not
            // end the parent's connection to its thread.
            drop(self.thread.take());
            return;
        }
        drop(self.wake.take());
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// Removes the socket's file.
struct PlaceGuard(Place);

impl Drop for PlaceGuard {
    fn drop(&mut self) {
        self.0.remove();
    }
}

/// One client.
struct Connection {
    stream: UnixStream,
    since: Instant,
    request: Vec<u8>,
    /// The reply, once the request is complete, and how much of it was sent.
    reply: Option<(Vec<u8>, usize)>,
}

/// Serves until the other end of `woken` is closed.
fn run(listener: &UnixListener, woken: &UnixStream, status: &Status) {
    let mut connections: Vec<Connection> = Vec::new();
    loop {
        let oldest = connections.iter().map(|it| it.since).min();
        let left = oldest.map(|since| CONNECTION_LIMIT.saturating_sub(since.elapsed()));
        let ready = match wait(listener, woken, &connections, left) {
            Ok(ready) => ready,
            Err(rustix::io::Errno::INTR) => continue,
            // Memory may be there again soon.
            Err(_) => {
                thread::sleep(ACCEPT_PAUSE);
                continue;
            }
        };
        if ready.is_woken {
            return;
        }
        let mut index = 0;
        connections.retain_mut(|connection| {
            let is_ready = ready.connections[index];
            index += 1;
            connection.since.elapsed() < CONNECTION_LIMIT
                && (!is_ready || connection.proceed(status))
        });
        if ready.is_asked {
            accept(listener, &mut connections);
        }
    }
}

struct Ready {
    is_woken: bool,
    is_asked: bool,
    connections: Vec<bool>,
}

fn wait(
    listener: &UnixListener,
    woken: &UnixStream,
    connections: &[Connection],
    left: Option<Duration>,
) -> rustix::io::Result<Ready> {
    let mut polled = vec![
        PollFd::from_borrowed_fd(woken.as_fd(), PollFlags::IN),
        PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN),
    ];
    for connection in connections {
        let flags = if connection.reply.is_some() { PollFlags::OUT } else { PollFlags::IN };
        polled.push(PollFd::from_borrowed_fd(connection.stream.as_fd(), flags));
    }
    // Rounded up: a poll that returns a moment early would be repeated at once.
    let left = left.map(|left| left + Duration::from_millis(1));
    let timeout = left.and_then(|left| Timespec::try_from(left).ok());
    poll(&mut polled, timeout.as_ref())?;
    let mut ready = polled.iter().map(|it| !it.revents().is_empty());
    let (is_woken, is_asked) = (ready.next() == Some(true), ready.next() == Some(true));
    Ok(Ready { is_woken, is_asked, connections: ready.collect() })
}

/// Accepts what waits, and closes the oldest connections for new ones.
fn accept(listener: &UnixListener, connections: &mut Vec<Connection>) {
    // Not for ever: a client that connects in a loop must not keep the others waiting.
    for _ in 0..MAX_CONNECTIONS {
        match listener.accept() {
            Ok((stream, _)) => {
                if let Some(connection) = Connection::new(stream) {
                    if connections.len() == MAX_CONNECTIONS {
                        connections.remove(0);
                    }
                    connections.push(connection);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => {
                thread::sleep(ACCEPT_PAUSE);
                return;
            }
        }
    }
}

impl Connection {
    /// Begins to serve a client; `None` if it may not be served.
    fn new(mut stream: UnixStream) -> Option<Self> {
        stream.set_nonblocking(true).ok()?;
        let (user, own) = (socket_peercred(&stream).ok()?.uid.as_raw(), geteuid().as_raw());
        if user != own && user != 0 {
            let why = format!("only user {own} and root may read the status, not user {user}");
            let _not_read = stream.write(&error_reply(&why));
            return None;
        }
        Some(Self { stream, since: Instant::now(), request: Vec::new(), reply: None })
    }

    /// Reads or writes without waiting. Returns `false` once the connection is to be closed.
    fn proceed(&mut self, status: &Status) -> bool {
        if self.reply.is_none() {
            let mut bytes = [0; MAX_REQUEST_BYTES];
            match self.stream.read(&mut bytes[self.request.len()..]) {
                Ok(0) => return false,
                Ok(nr) => self.request.extend_from_slice(&bytes[self.request.len()..][..nr]),
                Err(error) => return is_temporary(&error),
            }
            let reply = match Request::parse(&self.request) {
                Request::Incomplete => return true,
                Request::Snapshot => read(status),
                Request::Version(_) => version_reply(),
                Request::Unknown => error_reply("the request is unknown"),
            };
            self.reply = Some((reply, 0));
        }
        let Some((reply, nr_sent)) = &mut self.reply else { return false };
        while *nr_sent < reply.len() {
            match self.stream.write(&reply[*nr_sent..]) {
                Ok(0) => return false,
                Ok(nr) => *nr_sent += nr,
                Err(error) => return is_temporary(&error),
            }
        }
        false
    }
}

fn is_temporary(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Returns the reply with a snapshot. A section that panics costs the reply, not the process.
fn read(status: &Status) -> Vec<u8> {
    // The snapshot is dropped whole, and what a source changes is its own.
    match catch_unwind(AssertUnwindSafe(|| snapshot_reply(&status.snapshot()))) {
        Ok(reply) => reply,
        Err(_panic) => error_reply("reading the status panicked"),
    }
}

#[cfg(test)]
mod tests {
    use crate::client::fetch;

    use super::*;

    #[test]
    fn a_child_leaves_the_socket_to_its_parent() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("test.sock");
        let mut server = Status::of("test", "1").serve_at(&path).unwrap();
        // A child has copies of the descriptors, and another number.
        let (wake, thread) = (server.wake.take(), server.thread.take());
        server.pid += 1;
        drop(server);
        assert!(fetch(&path, Duration::from_mins(5)).is_ok());
        drop(wake);
        thread.unwrap().join().unwrap();
        assert!(!path.exists());
    }
}
