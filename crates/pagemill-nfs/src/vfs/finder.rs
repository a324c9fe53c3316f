//! From a file to its lasting name, and back.
//!
//! Where the file system makes handles, they are the name; where it does not, the inode's number
//! and its time of birth are. The way back is the kernel's, for a process that may open files by
//! handle, and else a table of what was seen where, filled by looking around when it is too short.

use alloc::sync::Arc;
use core::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd};

use pagemill_host::FileHandle;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, StatxFlags, openat2, statx};
use rustix::io::Errno;

use crate::fh::ObjectId;
use crate::name::Name;
use crate::status::{NfsResult, NfsStatus};
use crate::vfs::search::Searcher;

/// The object's bytes are a handle of the kernel's making.
const HOW_HANDLE: u8 = 0;
/// The object's bytes are the inode's number and its time of birth.
const HOW_INODE: u8 = 1;

/// How the kernel is kept within an export, whatever is at the path by now.
pub(crate) const CONFINED: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// How files are opened that only names are wanted of: whatever they are, nothing happens to them.
pub(crate) const AS_PATH: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// From the lasting names of the files of one export to the files.
#[derive(Debug)]
pub(crate) struct Finder {
    naming: Naming,
    /// For a process that cannot open by handle.
    searcher: Option<Arc<Searcher>>,
}

/// The naming of the files of one export.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Naming {
    how: How,
    /// The mount that the export is on.
    mount: Mount,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Handle,
    Inode,
}

/// A mount: by its number where handles come with it, else by the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mount {
    Id(i32),
    Device(u32, u32),
}

impl Finder {
    /// Finds out what the file system under `root` and the rights of this process allow.
    ///
    /// # Errors
    /// What the system answers when asked about the root.
    pub(crate) fn probe(root: BorrowedFd<'_>) -> rustix::io::Result<Self> {
        let (how, mount) = match FileHandle::of(root, c"") {
            Ok((handle, mount)) if object_of(&handle).is_some() => (How::Handle, Mount::Id(mount)),
            Ok(_) | Err(Errno::OPNOTSUPP | Errno::OVERFLOW) => {
                let stat = statx(root, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
                (How::Inode, Mount::Device(stat.stx_dev_major, stat.stx_dev_minor))
            }
            Err(errno) => return Err(errno),
        };
        let kernel_finds = how == How::Handle
            && FileHandle::of(root, c"").and_then(|(handle, _)| handle.open(root, AS_PATH)).is_ok();
        let finder = Self { naming: Naming { how, mount }, searcher: None };
        if kernel_finds { Ok(finder) } else { finder.with_searcher(root) }
    }

    fn with_searcher(mut self, root: BorrowedFd<'_>) -> rustix::io::Result<Self> {
        let root = self.name_of(root, c"").map_err(|_refused| Errno::STALE)?;
        self.searcher = Some(Arc::new(Searcher::new(self.naming, root)));
        Ok(self)
    }

    /// Finds files as a process must that may not open them by handle.
    #[cfg(test)]
    pub(crate) fn searching(root: BorrowedFd<'_>) -> Self {
        Self::probe(root).and_then(|finder| finder.with_searcher(root)).unwrap()
    }

    /// Keeps searches from going on as long as the guard lives.
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
    /// As [`Naming::name_of`].
    pub(crate) fn name_of(&self, dir: BorrowedFd<'_>, name: &CStr) -> NfsResult<ObjectId> {
        self.naming.name_of(dir, name)
    }

    /// Notes where a file was seen.
    pub(crate) fn seen(&self, object: &ObjectId, dir: &ObjectId, name: &Name) {
        if let Some(searcher) = &self.searcher {
            searcher.seen(*object, *dir, name.as_bytes());
        }
    }

    /// Opens a file by its lasting name.
    ///
    /// # Errors
    /// [`Stale`](NfsStatus::Stale) if it is gone; [`Jukebox`](NfsStatus::Jukebox) while it is
    /// searched for.
    pub(crate) fn open(&self, root: BorrowedFd<'_>, object: &ObjectId) -> NfsResult<OwnedFd> {
        let expected = if self.naming.how == How::Handle { HOW_HANDLE } else { HOW_INODE };
        if object.how != expected {
            return Err(NfsStatus::Stale);
        }
        if let Some(searcher) = &self.searcher {
            return searcher.open(root, object);
        }
        let handle = FileHandle::new(object.kind.into(), object.as_bytes());
        let handle = handle.ok_or(NfsStatus::Badhandle)?;
        handle.open(root, AS_PATH).map_err(|errno| match errno {
            // A handle that the file system cannot read is one of another file system that was
            // there before; the checksum says that it was made here.
            Errno::INVAL | Errno::NOENT => NfsStatus::Stale,
            errno => errno.into(),
        })
    }
}

impl Naming {
    /// Returns the lasting name of `name` in `dir`, or of `dir` itself if that is empty.
    ///
    /// # Errors
    /// [`Acces`](NfsStatus::Acces) for another mount: what is mounted in an export is not part of
    /// it.
    pub(crate) fn name_of(&self, dir: BorrowedFd<'_>, name: &CStr) -> NfsResult<ObjectId> {
        let (object, mount) = match self.how {
            How::Handle => {
                let (handle, mount) = FileHandle::of(dir, name).map_err(|errno| match errno {
                    // The export has handles: this is another file system.
                    Errno::OPNOTSUPP => NfsStatus::Acces,
                    errno => errno.into(),
                })?;
                (object_of(&handle).ok_or(NfsStatus::Serverfault)?, Mount::Id(mount))
            }
            How::Inode => {
                let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
                let stat = statx(dir, name, flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME)?;
                let mut bytes = [0; 20];
                bytes[..8].copy_from_slice(&stat.stx_ino.to_be_bytes());
                // Where it is not known, what stands there means nothing, and could change.
                if stat.stx_mask & StatxFlags::BTIME.bits() != 0 {
                    bytes[8..16].copy_from_slice(&stat.stx_btime.tv_sec.to_be_bytes());
                    bytes[16..].copy_from_slice(&stat.stx_btime.tv_nsec.to_be_bytes());
                }
                let object = ObjectId::new(HOW_INODE, 0, &bytes).ok_or(NfsStatus::Serverfault)?;
                (object, Mount::Device(stat.stx_dev_major, stat.stx_dev_minor))
            }
        };
        if mount == self.mount { Ok(object) } else { Err(NfsStatus::Acces) }
    }
}

/// Opens `name` in `dir` for its name only, without following anything.
///
/// # Errors
/// What `openat2` answers.
pub(crate) fn open_path(dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    openat2(dir, name, AS_PATH, Mode::empty(), CONFINED)
}

/// Takes a handle of the kernel's making as an object, if it is short enough.
fn object_of(handle: &FileHandle) -> Option<ObjectId> {
    ObjectId::new(HOW_HANDLE, u8::try_from(handle.kind()).ok()?, handle.as_bytes())
}
