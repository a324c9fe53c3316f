//! Search: finds files that were moved, for a process that cannot open files by handle; one thread.
//!
//! Calls for files that are found without a search never wait for one. A call for a file that must be
//! searched for gets `NFS3ERR_JUKEBOX`, unless the search ends at once. A handle becomes stale when a
//! search that began after the call has ended without finding the file.

use alloc::ffi::CString;
use alloc::sync::{Arc, Weak};
use core::time::Duration;
use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use rustix::fs::{FileType, Mode, OFlags, RawDir, SeekFrom, openat2, seek};
use rustix::io::Errno;

use crate::protocol::fh::ObjectId;
use crate::protocol::status::{NfsResult, NfsStatus};
use crate::vfs::naming::{AS_PATH, CONFINED, Naming, open_path};
use crate::vfs::table::{MAX_DEPTH, Table};

/// How long a call waits for the search for its file.
const PATIENCE: Duration = Duration::from_millis(100);
/// Maximum number of waiting calls: a server's threads are reserved for calls that need no search.
const MAX_NR_WAITING: usize = 2;
/// Pause between searches after one that found nothing, unless that one took longer.
const PAUSE: Duration = Duration::from_secs(2);
/// Maximum number of handles to be searched for; calls for others are told to retry.
const MAX_NR_ASKED: usize = 4096;
/// How long a file that a search did not find stays stale without another search: longer than clients
/// wait before they retry.
///
/// # Source
/// `linux-7.0` `fs/nfs/nfs3proc.c` `NFS_JUKEBOX_RETRY_TIME`: 5 s.
const GONE_LASTS: Duration = Duration::from_secs(15);
/// Bytes of entries that are read at a time.
const BUFFER_BYTES: usize = 32 << 10;

/// The locations of an export's files, and the searches for files that are not there.
#[derive(Debug)]
pub(crate) struct Searcher {
    naming: Naming,
    root: ObjectId,
    /// Not held over any system call.
    table: Mutex<Table>,
    /// Not held over any system call except the start of a thread, and never together with `table`.
    state: Mutex<SearchState>,
    /// Notifies waiting calls that a search has ended.
    ended: Condvar,
    /// Tests hold it to keep a search from continuing.
    #[cfg(test)]
    pub(crate) brake: Mutex<()>,
}

#[derive(Debug, Default)]
struct SearchState {
    asked: HashMap<ObjectId, Asked>,
    /// Whether a search is in progress.
    is_busy: bool,
    nr_waiting: usize,
    /// Number of searches that have ended.
    nr_ended: u64,
    /// When the next search may begin, if the last one found nothing.
    pause_until: Option<Instant>,
}

/// The state of a file that a call has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// The next search looks for it.
    Waits,
    /// The search in progress looks for it.
    Sought,
    /// The search that ended at this time did not find it.
    Gone(Instant),
}

impl Searcher {
    /// Makes a searcher that remembers up to `room` files.
    pub(crate) fn new(naming: Naming, root: ObjectId, room: usize) -> Self {
        Self {
            naming,
            root,
            table: Mutex::new(Table::with_room(root, room)),
            state: Mutex::default(),
            ended: Condvar::new(),
            #[cfg(test)]
            brake: Mutex::new(()),
        }
    }

    /// Records that `object` is `name` in `dir`.
    pub(crate) fn seen(&self, object: ObjectId, dir: ObjectId, name: &[u8]) {
        lock(&self.table).insert(object, dir, name);
    }

    /// Records where a search has found a file, and the directories above it.
    fn found(&self, object: ObjectId, levels: &[Level], name: &[u8]) {
        let mut table = lock(&self.table);
        for pair in levels.windows(2) {
            if let Some(name) = &pair[1].name {
                table.insert(pair[1].dir, pair[0].dir, name.to_bytes());
            }
        }
        if let Some(level) = levels.last() {
            table.insert(object, level.dir, name);
        }
    }

    /// Opens a file where it was last seen, or where a search finds it.
    ///
    /// # Errors
    /// [`Stale`](NfsStatus::Stale) if a search did not find it, after which clients give up the file;
    /// [`Jukebox`](NfsStatus::Jukebox) if that is not known yet, after which clients retry.
    pub(crate) fn open(
        self: &Arc<Self>,
        root: BorrowedFd<'_>,
        object: &ObjectId,
    ) -> NfsResult<OwnedFd> {
        if let Some(found) = self.open_known(root, object) {
            return Ok(found);
        }
        self.seek(root, object)?;
        let found = self.open_known(root, object).ok_or(NfsStatus::Jukebox)?;
        lock(&self.state).asked.remove(object);
        Ok(found)
    }

    /// Opens a file where it was last seen, if it is still there.
    fn open_known(&self, root: BorrowedFd<'_>, object: &ObjectId) -> Option<OwnedFd> {
        let names = lock(&self.table).way_to(object)?;
        let mut found = openat2(root, c".", AS_PATH, Mode::empty(), CONFINED).ok()?;
        for name in names {
            found = open_path(found.as_fd(), &name).ok()?;
        }
        (self.naming.name_of(found.as_fd(), c"").ok()? == *object).then_some(found)
    }

    /// Requests a search for a file, and waits a while for it to end.
    fn seek(self: &Arc<Self>, root: BorrowedFd<'_>, object: &ObjectId) -> NfsResult<()> {
        let mut state = lock(&self.state);
        state.ask(object)?;
        if !state.is_busy {
            state.check_pause()?;
            self.begin(&mut state, root)?;
        }
        if state.nr_waiting >= MAX_NR_WAITING {
            return Err(NfsStatus::Jukebox);
        }
        state.nr_waiting += 1;
        let before = state.nr_ended;
        let goes_on = |state: &mut SearchState| state.nr_ended == before;
        let waited = self.ended.wait_timeout_while(state, PATIENCE, goes_on);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.nr_waiting -= 1;
        match state.asked.get(object) {
            Some(Asked::Gone(_)) => Err(NfsStatus::Stale),
            _ => Ok(()),
        }
    }

    /// Starts a search for all requested files.
    fn begin(self: &Arc<Self>, state: &mut SearchState, root: BorrowedFd<'_>) -> NfsResult<()> {
        let root = root.try_clone_to_owned().map_err(|_error| NfsStatus::Jukebox)?;
        let wanted = state.asked.iter().filter(|(_, asked)| **asked == Asked::Waits);
        let wanted: HashSet<_> = wanted.map(|(object, _)| *object).collect();
        let searcher = Arc::downgrade(self);
        let search = Search { searcher, root, wanted, saw_all: true, began: Instant::now() };
        // It inherits the identity of this thread, which acts for the server.
        let builder = thread::Builder::new().name("nfs-search".to_owned());
        builder.spawn(move || search.run()).map_err(|_error| NfsStatus::Jukebox)?;
        for asked in state.asked.values_mut().filter(|asked| **asked == Asked::Waits) {
            *asked = Asked::Sought;
        }
        state.is_busy = true;
        Ok(())
    }
}

impl SearchState {
    /// Records that a call asks for a file, unless the result is known.
    fn ask(&mut self, object: &ObjectId) -> NfsResult<()> {
        match self.asked.get(object) {
            Some(Asked::Gone(then)) if then.elapsed() < GONE_LASTS => Err(NfsStatus::Stale),
            Some(Asked::Waits | Asked::Sought) => Ok(()),
            Some(Asked::Gone(_)) | None => {
                if self.asked.len() >= MAX_NR_ASKED {
                    let is_old = |then: &Instant| then.elapsed() >= GONE_LASTS;
                    let forget = |asked: &Asked| matches!(asked, Asked::Gone(then) if is_old(then));
                    self.asked.retain(|_, asked| !forget(asked));
                }
                if self.asked.len() >= MAX_NR_ASKED {
                    return Err(NfsStatus::Jukebox);
                }
                self.asked.insert(*object, Asked::Waits);
                Ok(())
            }
        }
    }

    fn check_pause(&self) -> NfsResult<()> {
        let is_pause = self.pause_until.is_some_and(|until| Instant::now() < until);
        if is_pause { Err(NfsStatus::Jukebox) } else { Ok(()) }
    }
}

/// A search in progress; it ends when this is dropped.
struct Search {
    /// The search ends when no call can ask for its files any more.
    searcher: Weak<Searcher>,
    root: OwnedFd,
    /// Files that have not been found.
    wanted: HashSet<ObjectId>,
    /// Whether each directory was still in place when it was read. While directories move, files that
    /// were not found may still exist.
    saw_all: bool,
    began: Instant,
}

/// A directory on the path of a search.
///
/// A search holds only the directories on its current path, and for each of them the subdirectories
/// among the entries that it read last. So it needs little memory, however large the tree is.
struct Level {
    dir: ObjectId,
    /// Its name in the parent directory; none for the root.
    name: Option<CString>,
    /// The position at which to continue reading.
    cookie: u64,
    /// Subdirectories to search before that.
    inner: Vec<(ObjectId, CString)>,
    is_read: bool,
}

impl Level {
    fn new(dir: ObjectId, name: Option<CString>) -> Self {
        Self { dir, name, cookie: 0, inner: Vec::new(), is_read: false }
    }
}

impl Search {
    /// Searches the export until all wanted files are found, however long that takes.
    ///
    /// # Cost
    /// A few system calls for every file of the export, in the worst case.
    fn run(mut self) {
        let Some(root) = self.searcher.upgrade().map(|searcher| searcher.root) else { return };
        let mut levels = vec![Level::new(root, None)];
        let mut buffer = Vec::with_capacity(BUFFER_BYTES);
        while let Some(level) = levels.last_mut() {
            if let Some((dir, name)) = level.inner.pop() {
                levels.push(Level::new(dir, Some(name)));
                continue;
            }
            if level.is_read {
                levels.pop();
                continue;
            }
            let Some(searcher) = self.searcher.upgrade() else { return };
            #[cfg(test)]
            drop(lock(&searcher.brake));
            match self.read_on(&searcher, &mut levels, &mut buffer) {
                Ok(()) => {}
                // This process cannot reach any file in there.
                Err(Errno::ACCESS | Errno::PERM) => drop(levels.pop()),
                Err(_moved) => {
                    self.saw_all = false;
                    levels.pop();
                }
            }
            if self.wanted.is_empty() {
                return;
            }
        }
    }

    /// Reads the next entries of the last directory.
    fn read_on(
        &mut self,
        searcher: &Searcher,
        levels: &mut [Level],
        buffer: &mut Vec<u8>,
    ) -> rustix::io::Result<()> {
        let path = self.open_levels(searcher, levels)?;
        let depth = levels.len();
        let at = levels.len() - 1;
        let (dir, cookie) = (levels[at].dir, levels[at].cookie);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = openat2(&path, c".", flags, Mode::empty(), CONFINED)?;
        if cookie != 0 {
            seek(&open, SeekFrom::Start(cookie))?;
        }
        let mut entries = RawDir::new(&open, buffer.spare_capacity_mut());
        loop {
            let Some(entry) = entries.next() else {
                levels[at].is_read = true;
                return Ok(());
            };
            let entry = entry?;
            levels[at].cookie = entry.next_entry_cookie();
            let name = entry.file_name();
            if !matches!(name.to_bytes(), b"." | b"..")
                && let Ok(object) = searcher.naming.name_of(path.as_fd(), name)
            {
                if self.wanted.remove(&object) {
                    searcher.found(object, levels, name.to_bytes());
                } else {
                    lock(&searcher.table).insert_if_room(object, dir, name.to_bytes());
                }
                let may_be_dir =
                    matches!(entry.file_type(), FileType::Directory | FileType::Unknown);
                if may_be_dir && depth < MAX_DEPTH {
                    levels[at].inner.push((object, name.to_owned()));
                }
            }
            if self.wanted.is_empty() || entries.is_buffer_empty() {
                return Ok(());
            }
        }
    }

    /// Opens the last directory, if it is still where it was found.
    fn open_levels(&self, searcher: &Searcher, levels: &[Level]) -> rustix::io::Result<OwnedFd> {
        let mut found = openat2(&self.root, c".", AS_PATH, Mode::empty(), CONFINED)?;
        for name in levels.iter().filter_map(|level| level.name.as_ref()) {
            found = open_path(found.as_fd(), name)?;
        }
        let dir = levels.last().map(|level| level.dir);
        let same = searcher.naming.name_of(found.as_fd(), c"").ok() == dir;
        if same { Ok(found) } else { Err(Errno::NOENT) }
    }
}

impl Drop for Search {
    fn drop(&mut self) {
        let Some(searcher) = self.searcher.upgrade() else { return };
        if thread::panicking() {
            // The search was incomplete, so no file is known to be gone.
            self.wanted.clear();
        }
        // A file that was renamed during the search may have been in a place that was already searched.
        let is_gone = |object: &ObjectId| searcher.open_known(self.root.as_fd(), object).is_none();
        self.wanted.retain(is_gone);
        let now = Instant::now();
        let mut state = lock(&searcher.state);
        state.asked.retain(|object, asked| {
            if *asked == Asked::Sought && self.wanted.contains(object) {
                // Files whose state is still unknown are searched for again.
                *asked = if self.saw_all { Asked::Gone(now) } else { Asked::Waits };
            }
            *asked != Asked::Sought
        });
        // Searches that find nothing take at most half of the time.
        let pause = PAUSE.max(self.began.elapsed());
        state.pause_until = (!self.wanted.is_empty()).then_some(now + pause);
        state.is_busy = false;
        state.nr_ended += 1;
        drop(state);
        searcher.ended.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
