//! Searches for files that are not where they were seen: one at a time, on a thread of its own.
//!
//! Nobody who finds a file without a search waits for one. Who asks for a file that must be
//! searched for is told to ask again, unless the search is over at once; a handle is stale when a
//! search that began after somebody asked for it has ended without it.

use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use core::time::Duration;
use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use rustix::fs::{FileType, Mode, OFlags, RawDir, openat2};

use crate::fh::ObjectId;
use crate::status::{NfsResult, NfsStatus};
use crate::vfs::finder::{AS_PATH, CONFINED, Naming, open_path};
use crate::vfs::table::{MAX_DEPTH, Table};

/// How long whoever asks for a file waits for its search.
const PATIENCE: Duration = Duration::from_millis(100);
/// How many wait at a time: a server's threads are for those who need no search.
const MAX_NR_WAITING: usize = 2;
/// How long no search begins after one that was in vain.
const PAUSE: Duration = Duration::from_secs(2);
/// How long a search lasts at most; what it has not found then is given up.
const MAX_DURATION: Duration = Duration::from_secs(60);
/// How many files a search looks at, at most; likewise.
const MAX_NR_SEEN: usize = 16 << 20;
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
    /// When the last search ended, if it was in vain.
    in_vain: Option<Instant>,
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
    pub(crate) fn new(naming: Naming, root: ObjectId) -> Self {
        Self {
            naming,
            root,
            table: Mutex::new(Table::new(root)),
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
        let search = Search { searcher: Arc::downgrade(self), root, wanted, nr_seen: 0 };
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
        let is_pause = self.in_vain.is_some_and(|then| then.elapsed() < PAUSE);
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
    nr_seen: usize,
}

impl Search {
    /// Looks through the export until all that is wanted is found, and notes all that it sees.
    ///
    /// # Cost
    /// A few system calls for every file of the export, at worst.
    fn run(mut self) {
        let Some(root) = self.searcher.upgrade().map(|searcher| searcher.root) else { return };
        let end = Instant::now() + MAX_DURATION;
        let mut dirs = VecDeque::from([(root, 0)]);
        let mut buffer = Vec::with_capacity(BUFFER_BYTES);
        while let Some((dir, depth)) = dirs.pop_front() {
            let Some(searcher) = self.searcher.upgrade() else { return };
            #[cfg(test)]
            drop(lock(&searcher.brake));
            let Some(path) = searcher.open_known(self.root.as_fd(), &dir) else { continue };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let Ok(open) = openat2(&path, c".", flags, Mode::empty(), CONFINED) else { continue };
            let mut entries = RawDir::new(&open, buffer.spare_capacity_mut());
            while let Some(Ok(entry)) = entries.next() {
                let name = entry.file_name();
                if matches!(name.to_bytes(), b"." | b"..") {
                    continue;
                }
                if self.nr_seen >= MAX_NR_SEEN || Instant::now() >= end {
                    tracing::warn!(self.nr_seen, "a search for moved files was given up");
                    return;
                }
                self.nr_seen += 1;
                let Ok(object) = searcher.naming.name_of(path.as_fd(), name) else { continue };
                searcher.seen(object, dir, name.to_bytes());
                let may_be_dir =
                    matches!(entry.file_type(), FileType::Directory | FileType::Unknown);
                if may_be_dir && depth < MAX_DEPTH {
                    dirs.push_back((object, depth + 1));
                }
                if self.wanted.remove(&object) && self.wanted.is_empty() {
                    return;
                }
            }
        }
    }
}

impl Drop for Search {
    fn drop(&mut self) {
        let Some(searcher) = self.searcher.upgrade() else { return };
        // What was renamed meanwhile may have been where the search was not at the time.
        let is_gone = |object: &ObjectId| searcher.open_known(self.root.as_fd(), object).is_none();
        self.wanted.retain(is_gone);
        let now = Instant::now();
        let mut desk = lock(&searcher.desk);
        desk.asked.retain(|object, asked| {
            if *asked == Asked::Sought && self.wanted.contains(object) {
                *asked = Asked::Gone(now);
            }
            *asked != Asked::Sought
        });
        desk.in_vain = (!self.wanted.is_empty()).then_some(now);
        desk.is_busy = false;
        desk.nr_ended += 1;
        drop(desk);
        searcher.ended.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
