//! Searches for files that are not where they were seen: one at a time, on a thread of its own.
//!
//! Nobody who finds a file without a search waits for one. Who asks for a file that must be
//! searched for is told to ask again, unless the search is over at once; a handle is stale when a
//! search that began after somebody asked for it has ended without it.

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

/// How long whoever asks for a file waits for its search.
const PATIENCE: Duration = Duration::from_millis(100);
/// How many wait at a time: a server's threads are for those who need no search.
const MAX_NR_WAITING: usize = 2;
/// How long no search begins after one that was in vain, unless that took longer.
const PAUSE: Duration = Duration::from_secs(2);
/// The most handles that were asked for and not found; who asks for more is told to ask again.
const MAX_NR_ASKED: usize = 4096;
/// How long what was searched for in vain is stale without another search: longer than clients
/// wait before they ask again.
///
/// # Source
/// `linux-7.0` `fs/nfs/nfs3proc.c` `NFS_JUKEBOX_RETRY_TIME`: 5 s.
const GONE_LASTS: Duration = Duration::from_secs(15);
/// Bytes of entries that are read at a time.
const BUFFER_BYTES: usize = 32 << 10;

/// Where the files of an export were seen, and what is done about those that are not there.
#[derive(Debug)]
pub(crate) struct Searcher {
    naming: Naming,
    root: ObjectId,
    /// Locked over no system call.
    table: Mutex<Table>,
    /// Locked over no system call but the start of a thread, and never with `table`.
    desk: Mutex<Desk>,
    /// Tells those who wait that a search has ended.
    ended: Condvar,
    /// Tests hold it to keep a search from going on.
    #[cfg(test)]
    pub(crate) brake: Mutex<()>,
}

#[derive(Debug, Default)]
struct Desk {
    asked: HashMap<ObjectId, Asked>,
    /// Whether a search is under way.
    is_busy: bool,
    nr_waiting: usize,
    /// Searches that have ended.
    nr_ended: u64,
    /// When the next search may begin, if the last was in vain.
    pause_until: Option<Instant>,
}

/// What became of a file that somebody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// The next search looks for it.
    Waits,
    /// The search that is under way looks for it.
    Sought,
    /// The search that ended then did not find it.
    Gone(Instant),
}

impl Searcher {
    /// Makes a searcher that remembers at most `room` files.
    pub(crate) fn new(naming: Naming, root: ObjectId, room: usize) -> Self {
        Self {
            naming,
            root,
            table: Mutex::new(Table::with_room(root, room)),
            desk: Mutex::default(),
            ended: Condvar::new(),
            #[cfg(test)]
            brake: Mutex::new(()),
        }
    }

    /// Notes that `object` is `name` in `dir`.
    pub(crate) fn seen(&self, object: ObjectId, dir: ObjectId, name: &[u8]) {
        lock(&self.table).insert(object, dir, name);
    }

    /// Notes where a search has found a file, and the directories above it.
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
    /// [`Stale`](NfsStatus::Stale) if it was searched for in vain, [`Jukebox`](NfsStatus::Jukebox)
    /// if that is not known yet: clients give up a file after the one, and ask again after the
    /// other.
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
        lock(&self.desk).asked.remove(object);
        Ok(found)
    }

    /// Opens a file where it was last seen, if it still is the one there.
    fn open_known(&self, root: BorrowedFd<'_>, object: &ObjectId) -> Option<OwnedFd> {
        let names = lock(&self.table).way_to(object)?;
        let mut found = openat2(root, c".", AS_PATH, Mode::empty(), CONFINED).ok()?;
        for name in names {
            found = open_path(found.as_fd(), &name).ok()?;
        }
        (self.naming.name_of(found.as_fd(), c"").ok()? == *object).then_some(found)
    }

    /// Has a file searched for, and waits a while for the search to end.
    fn seek(self: &Arc<Self>, root: BorrowedFd<'_>, object: &ObjectId) -> NfsResult<()> {
        let mut desk = lock(&self.desk);
        desk.ask(object)?;
        if !desk.is_busy {
            desk.check_pause()?;
            self.begin(&mut desk, root)?;
        }
        if desk.nr_waiting >= MAX_NR_WAITING {
            return Err(NfsStatus::Jukebox);
        }
        desk.nr_waiting += 1;
        let before = desk.nr_ended;
        let goes_on = |desk: &mut Desk| desk.nr_ended == before;
        let waited = self.ended.wait_timeout_while(desk, PATIENCE, goes_on);
        let (mut desk, _) = waited.unwrap_or_else(PoisonError::into_inner);
        desk.nr_waiting -= 1;
        match desk.asked.get(object) {
            Some(Asked::Gone(_)) => Err(NfsStatus::Stale),
            _ => Ok(()),
        }
    }

    /// Starts a search for all that was asked for.
    fn begin(self: &Arc<Self>, desk: &mut Desk, root: BorrowedFd<'_>) -> NfsResult<()> {
        let root = root.try_clone_to_owned().map_err(|_error| NfsStatus::Jukebox)?;
        let wanted = desk.asked.iter().filter(|(_, asked)| **asked == Asked::Waits);
        let wanted: HashSet<_> = wanted.map(|(object, _)| *object).collect();
        let searcher = Arc::downgrade(self);
        let search = Search { searcher, root, wanted, saw_all: true, began: Instant::now() };
        // It inherits the identity of this thread, which acts for the server.
        let builder = thread::Builder::new().name("nfs-search".to_owned());
        builder.spawn(move || search.run()).map_err(|_error| NfsStatus::Jukebox)?;
        for asked in desk.asked.values_mut().filter(|asked| **asked == Asked::Waits) {
            *asked = Asked::Sought;
        }
        desk.is_busy = true;
        Ok(())
    }
}

impl Desk {
    /// Notes that somebody asks for a file, unless there is an answer.
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

/// A search; it is over when this is dropped.
struct Search {
    /// The search ends with the last who could ask for it.
    searcher: Weak<Searcher>,
    root: OwnedFd,
    /// What has not been found.
    wanted: HashSet<ObjectId>,
    /// Whether each directory was there when it was looked through. While directories move, what was
    /// not found may still be there.
    saw_all: bool,
    began: Instant,
}

/// A directory that a search is in.
///
/// A search holds those on the way to where it is, and of each the directories in the entries that
/// it read last: however large the tree is, that is little.
struct Level {
    dir: ObjectId,
    /// The name in the directory above; none for the root.
    name: Option<CString>,
    /// Where to read on.
    cookie: u64,
    /// Directories to look through before that.
    inner: Vec<(ObjectId, CString)>,
    is_read: bool,
}

impl Level {
    fn new(dir: ObjectId, name: Option<CString>) -> Self {
        Self { dir, name, cookie: 0, inner: Vec::new(), is_read: false }
    }
}

impl Search {
    /// Looks through the export until all that is wanted is found, however long that takes.
    ///
    /// # Cost
    /// A few system calls for every file of the export, at worst.
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
                // Nothing in there can be reached by this process.
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

    /// Opens the last directory, if it still is where it was found.
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
            // It did not look everywhere, so nothing is known to be gone.
            self.wanted.clear();
        }
        // What was renamed meanwhile may have been where the search was not at the time.
        let is_gone = |object: &ObjectId| searcher.open_known(self.root.as_fd(), object).is_none();
        self.wanted.retain(is_gone);
        let now = Instant::now();
        let mut desk = lock(&searcher.desk);
        desk.asked.retain(|object, asked| {
            if *asked == Asked::Sought && self.wanted.contains(object) {
                // What cannot be known yet is looked for again.
                *asked = if self.saw_all { Asked::Gone(now) } else { Asked::Waits };
            }
            *asked != Asked::Sought
        });
        // At most half of the time is spent on searches in vain.
        let pause = PAUSE.max(self.began.elapsed());
        desk.pause_until = (!self.wanted.is_empty()).then_some(now + pause);
        desk.is_busy = false;
        desk.nr_ended += 1;
        drop(desk);
        searcher.ended.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
