//! Finder: opens files by their lasting names, through the kernel or by a search.
//!
//! The kernel finds files for a process that may open them by handle. For any other process there is a
//! table of where files were seen, and a search for files that are not in the table.

use alloc::sync::Arc;
use core::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pagemill_host::os::FileHandle;
use rustix::io::Errno;

use crate::protocol::fh::ObjectId;
use crate::protocol::name::Name;
use crate::protocol::status::{NfsResult, NfsStatus};
use crate::vfs::mounted::Mounted;
use crate::vfs::naming::{AS_PATH, How, INO_BYTES, Naming};
use crate::vfs::search::Searcher;
use crate::vfs::table::MAX_NR_ENTRIES;

/// Opens the files of one export by their lasting names.
#[derive(Debug)]
pub(crate) struct Finder {
    naming: Naming,
    /// For a process that cannot open files by handle.
    searcher: Option<Arc<Searcher>>,
}

impl Finder {
    /// Detects what the file system under `root` and the rights of this process allow.
    ///
    /// # Errors
    /// The error of the system when it is asked about the root.
    pub(crate) fn probe(root: BorrowedFd<'_>, fs: &Mounted) -> rustix::io::Result<Self> {
        let naming = Naming::probe(root, fs)?;
        let kernel_finds = matches!(naming.how, How::Handle | How::Node)
            && FileHandle::of(root, c"").and_then(|(handle, _)| handle.open(root, AS_PATH)).is_ok();
        let finder = Self { naming, searcher: None };
        if kernel_finds { Ok(finder) } else { finder.with_searcher(root, MAX_NR_ENTRIES) }
    }

    fn with_searcher(mut self, root: BorrowedFd<'_>, room: usize) -> rustix::io::Result<Self> {
        let root = self.name_of(root, c"").map_err(|_refused| Errno::STALE)?;
        self.searcher = Some(Arc::new(Searcher::new(self.naming, root, room)));
        Ok(self)
    }

    /// Makes a finder for a process that may not open files by handle.
    #[cfg(test)]
    pub(crate) fn searching(root: BorrowedFd<'_>, room: usize) -> Self {
        let fs = Mounted::of(root).unwrap();
        Self::probe(root, &fs).and_then(|finder| finder.with_searcher(root, room)).unwrap()
    }

    /// Keeps searches from continuing as long as the guard lives.
    #[cfg(test)]
    pub(crate) fn brake(&self) -> std::sync::MutexGuard<'_, ()> {
        self.searcher.as_ref().unwrap().brake.lock().unwrap()
    }

    /// Returns whether the kernel finds files by handle, so that no table is kept.
    pub(crate) fn kernel_finds(&self) -> bool {
        self.searcher.is_none()
    }

    /// Returns the lasting name of `name` in `dir`, or of `dir` itself if that is empty.
    ///
    /// # Errors
    /// The errors of [`Naming::name_of`].
    pub(crate) fn name_of(&self, dir: BorrowedFd<'_>, name: &CStr) -> NfsResult<ObjectId> {
        self.naming.name_of(dir, name)
    }

    /// Records where a file was seen.
    pub(crate) fn seen(&self, object: &ObjectId, dir: &ObjectId, name: &Name) {
        if let Some(searcher) = &self.searcher {
            searcher.seen(*object, *dir, name.as_bytes());
        }
    }

    /// Opens a file by its lasting name.
    ///
    /// # Errors
    /// [`Stale`](NfsStatus::Stale) if the file is gone; [`Jukebox`](NfsStatus::Jukebox) while it is
    /// being searched for.
    pub(crate) fn open(&self, root: BorrowedFd<'_>, object: &ObjectId) -> NfsResult<OwnedFd> {
        if object.how != self.naming.how as u8 {
            return Err(NfsStatus::Stale);
        }
        if let Some(searcher) = &self.searcher {
            return searcher.open(root, object);
        }
        let bytes = match self.naming.how {
            How::Node => object.as_bytes().get(INO_BYTES..).ok_or(NfsStatus::Badhandle)?,
            _ => object.as_bytes(),
        };
        let handle = FileHandle::new(object.kind.into(), bytes).ok_or(NfsStatus::Badhandle)?;
        let found = handle.open(root, AS_PATH).map_err(|errno| match errno {
            // A handle that the file system cannot parse belongs to another file system that was there
            // before; the checksum proves that this server made it.
            Errno::INVAL | Errno::NOENT => NfsStatus::Stale,
            errno => errno.into(),
        })?;
        // The kernel compares generations, which do not distinguish files here.
        if self.naming.how == How::Node && self.name_of(found.as_fd(), c"")? != *object {
            return Err(NfsStatus::Stale);
        }
        Ok(found)
    }
}
