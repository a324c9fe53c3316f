//! Node: a file that is held open between calls, and its cached data descriptors.

use alloc::sync::Arc;
use core::time::Duration;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use pagemill_host::os::FsIdentity;
use rustix::fs::{AtFlags, Stat, StatxFlags, fstat, statx};
use rustix::path::DecInt;

use crate::protocol::attr::FileKind;
use crate::protocol::fh::{Fh, ObjectId};
use crate::protocol::status::{NfsResult, NfsStatus};
use crate::vfs::closer::Closer;
use crate::vfs::durability::DataFile;

/// The use of a data descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Reading.
    Read,
    /// Writing.
    Write,
}

/// How long the permission that a descriptor was opened with is assumed to hold.
///
/// Changes of permissions through this server end it at once; this limit is for changes made outside of
/// the server.
pub(crate) const MAX_OPEN_AGE: Duration = Duration::from_secs(3);

/// How long a descriptor with unsynced writes is kept when it is not used. By then the kernel has written
/// most data back by itself, so that syncing it costs little.
///
/// # Source
/// `linux-7.0` `mm/page-writeback.c` `dirty_expire_interval`: 30 s.
const MAX_UNSYNCED_AGE: Duration = Duration::from_secs(60);

/// Maximum number of descriptors for one file's data.
const MAX_NR_OPENS: usize = 8;

/// Maximum number of descriptors per file that is held open: one that identifies the file, those for its
/// data, one per reading and one per writing user, and one of an earlier file that waits to be closed.
pub const MAX_DESCRIPTORS_PER_FILE: usize = 1 + MAX_NR_OPENS + 1;

/// A file.
#[derive(Debug)]
pub(crate) struct Node {
    fh: Fh,
    object: ObjectId,
    kind: FileKind,
    /// Open only as a reference (`O_PATH`).
    path: OwnedFd,
    /// Held from reading the attributes before a change to reading those after it.
    changes: Mutex<()>,
    opens: Mutex<Vec<Open>>,
}

#[derive(Debug)]
struct Open {
    who: FsIdentity,
    need: Need,
    /// `None` only during drop.
    file: Option<Arc<DataFile>>,
    closer: Arc<Closer>,
    since: Instant,
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            self.closer.close(file);
        }
    }
}

impl Node {
    /// Takes ownership of a descriptor of the file that `fh` and `object` name.
    pub(crate) fn new(fh: Fh, object: ObjectId, path: OwnedFd) -> NfsResult<Self> {
        let stat = fstat(&path)?;
        if stat.st_nlink == 0 {
            return Err(NfsStatus::Stale);
        }
        let kind = FileKind::of_mode(stat.st_mode);
        let (changes, opens) = (Mutex::new(()), Mutex::new(Vec::new()));
        Ok(Self { fh, object, kind, path, changes, opens })
    }

    /// Returns the handle.
    pub(crate) fn fh(&self) -> &Fh {
        &self.fh
    }

    /// Returns the lasting name.
    pub(crate) fn object(&self) -> &ObjectId {
        &self.object
    }

    /// Returns the type.
    pub(crate) fn kind(&self) -> FileKind {
        self.kind
    }

    /// Returns the descriptor, which is only a reference (`O_PATH`).
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.path.as_fd()
    }

    /// Returns the descriptor's name in the folder of this process's descriptors.
    pub(crate) fn fd_name(&self) -> DecInt {
        DecInt::from_fd(&self.path)
    }

    /// Returns the system's attributes of the file.
    ///
    /// # Errors
    /// [`Stale`](NfsStatus::Stale) if it has no name any more.
    pub(crate) fn stat(&self) -> NfsResult<Stat> {
        let stat = fstat(&self.path)?;
        if stat.st_nlink == 0 { Err(NfsStatus::Stale) } else { Ok(stat) }
    }

    /// Returns whether the kernel knows that the file has no name any more. Does not ask the file
    /// system, which may hang.
    pub(crate) fn is_gone(&self) -> bool {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        statx(&self.path, c"", flags, StatxFlags::NLINK).is_ok_and(|stat| stat.stx_nlink == 0)
    }

    /// Checks that this is a directory.
    ///
    /// # Errors
    /// [`Notdir`](NfsStatus::Notdir).
    pub(crate) fn check_directory(&self) -> NfsResult<()> {
        if self.kind == FileKind::Directory { Ok(()) } else { Err(NfsStatus::Notdir) }
    }

    /// Locks out other changes of the file through this server.
    pub(crate) fn lock_changes(&self) -> MutexGuard<'_, ()> {
        // The state that it guards is in the file system, and no panic leaves that half done.
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a descriptor that was opened recently for `who`, or was last used recently if the
    /// permission `lasts`.
    pub(crate) fn opened(
        &self,
        who: &FsIdentity,
        need: Need,
        lasts: bool,
    ) -> Option<Arc<DataFile>> {
        let mut opens = self.lock_opens();
        let found = opens.iter_mut().find(|open| open.need == need && open.who == *who)?;
        let now = Instant::now();
        if now.duration_since(found.since) >= MAX_OPEN_AGE {
            return None;
        }
        if lasts {
            found.since = now;
        }
        found.file.clone()
    }

    /// Keeps a descriptor for the next call of `who`, in place of an older one. Returns the descriptor to
    /// use: the older one if it has unsynced writes, because only that one learns of all their errors.
    ///
    /// `closer` closes it when it is not kept any more.
    pub(crate) fn keep_open(
        &self,
        who: FsIdentity,
        need: Need,
        file: Arc<DataFile>,
        closer: &Arc<Closer>,
    ) -> Arc<DataFile> {
        let now = Instant::now();
        let mut opens = self.lock_opens();
        if let Some(open) = opens.iter_mut().find(|open| open.need == need && open.who == who)
            && let Some(older) = open.file.as_ref().filter(|older| older.is_unsynced())
        {
            // That `file` could be opened shows that `who` still has the permission.
            open.since = now;
            return Arc::clone(older);
        }
        opens.retain(|open| open.need != need || open.who != who);
        if opens.len() >= MAX_NR_OPENS {
            opens.remove(0);
        }
        let (kept, closer) = (Some(Arc::clone(&file)), Arc::clone(closer));
        opens.push(Open { who, need, file: kept, closer, since: now });
        file
    }

    /// Drops all descriptors, so that permissions are checked again.
    pub(crate) fn forget_opens(&self) {
        self.lock_opens().clear();
    }

    /// Closes descriptors that are too old to be used again.
    pub(crate) fn close_idle(&self) {
        self.lock_opens().retain(|open| {
            let age = open.since.elapsed();
            let is_unsynced = || open.file.as_ref().is_some_and(|file| file.is_unsynced());
            age < MAX_OPEN_AGE || (age < MAX_UNSYNCED_AGE && is_unsynced())
        });
    }

    fn lock_opens(&self) -> MutexGuard<'_, Vec<Open>> {
        self.opens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
