//! A file that is held by a descriptor between calls.

use alloc::sync::Arc;
use core::time::Duration;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use pagemill_host::FsIdentity;
use rustix::fs::{AtFlags, Stat, StatxFlags, fstat, statx};
use rustix::path::DecInt;

use crate::protocol::attr::FileKind;
use crate::protocol::fh::{Fh, ObjectId};
use crate::protocol::status::{NfsResult, NfsStatus};
use crate::vfs::closer::Closer;

/// What a descriptor for a file's data is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Reading.
    Read,
    /// Writing.
    Write,
}

/// How long the permission that a descriptor was opened with is taken to hold.
///
/// Changes of permissions through this server end it at once; this is for those made beside it.
pub(crate) const MAX_OPEN_AGE: Duration = Duration::from_secs(3);

/// The most descriptors for one file's data.
const MAX_NR_OPENS: usize = 8;

/// The most descriptors that a file which is kept open takes: one for its name, and those for its
/// data, one for each of those who read and each of those who write.
pub const MAX_DESCRIPTORS_PER_FILE: usize = 1 + MAX_NR_OPENS;

/// A file.
#[derive(Debug)]
pub(crate) struct Node {
    fh: Fh,
    object: ObjectId,
    kind: FileKind,
    /// Open for its name only.
    path: OwnedFd,
    /// Held from the attributes before a change to those after it.
    changes: Mutex<()>,
    opens: Mutex<Vec<Open>>,
}

#[derive(Debug)]
struct Open {
    who: FsIdentity,
    need: Need,
    /// `None` while it is dropped.
    file: Option<Arc<OwnedFd>>,
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
    /// Takes over a descriptor of the file that `fh` and `object` name.
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

    /// Returns the descriptor, which is good for its name only.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.path.as_fd()
    }

    /// Returns the descriptor's name in the folder of this process's descriptors.
    pub(crate) fn fd_name(&self) -> DecInt {
        DecInt::from_fd(&self.path)
    }

    /// Asks the system about the file.
    ///
    /// # Errors
    /// [`Stale`](NfsStatus::Stale) if it has no name any more.
    pub(crate) fn stat(&self) -> NfsResult<Stat> {
        let stat = fstat(&self.path)?;
        if stat.st_nlink == 0 { Err(NfsStatus::Stale) } else { Ok(stat) }
    }

    /// Returns whether the kernel knows that the file has no name any more. The file system is not
    /// asked: it may hang.
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

    /// Keeps others from changing the file through this server.
    pub(crate) fn lock_changes(&self) -> MutexGuard<'_, ()> {
        // What it guards is in the file system, and no panic leaves that half done.
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a descriptor that was opened for `who` a short while ago, or last used then if the
    /// permission `lasts`.
    pub(crate) fn opened(&self, who: &FsIdentity, need: Need, lasts: bool) -> Option<Arc<OwnedFd>> {
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

    /// Keeps a descriptor for the next call of `who`, in the place of an older one.
    ///
    /// `closer` closes it when it is not kept any more.
    pub(crate) fn keep_open(
        &self,
        who: FsIdentity,
        need: Need,
        file: Arc<OwnedFd>,
        closer: &Arc<Closer>,
    ) {
        let (file, closer) = (Some(file), Arc::clone(closer));
        let mut opens = self.lock_opens();
        opens.retain(|open| open.need != need || open.who != who);
        if opens.len() >= MAX_NR_OPENS {
            opens.remove(0);
        }
        opens.push(Open { who, need, file, closer, since: Instant::now() });
    }

    /// Forgets all descriptors, so that permissions are looked at again.
    pub(crate) fn forget_opens(&self) {
        self.lock_opens().clear();
    }

    /// Closes descriptors that are too old to be used again.
    pub(crate) fn close_idle(&self) {
        self.lock_opens().retain(|open| open.since.elapsed() < MAX_OPEN_AGE);
    }

    fn lock_opens(&self) -> MutexGuard<'_, Vec<Open>> {
        self.opens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
