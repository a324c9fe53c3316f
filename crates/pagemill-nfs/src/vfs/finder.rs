//! From a file to its lasting name, and back.
//!
//! Where the file system makes handles, they are the name; where it does not, the identifier that
//! the kernel makes of a file is, and else device, inode number and time of birth. The way back is the kernel's, for a process that may open files by
//! handle, and else a table of what was seen where, filled by looking around when it is too short.

use alloc::sync::Arc;
use core::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pagemill_host::FileHandle;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Statx, StatxFlags, openat2, statx};
use rustix::io::Errno;

use crate::fh::{MAX_OBJECT_BYTES, ObjectId};
use crate::name::Name;
use crate::status::{NfsResult, NfsStatus};
use crate::vfs::mounted::Mounted;
use crate::vfs::search::Searcher;
use crate::vfs::table::MAX_NR_ENTRIES;

/// The object's bytes are a handle of the kernel's making.
const HOW_HANDLE: u8 = 0;
/// The object's bytes are device, inode number and time of birth.
const HOW_INODE: u8 = 1;
/// The object's bytes are the inode number and a handle of the kernel's making.
const HOW_NODE: u8 = 2;
/// The object's bytes are an identifier of the kernel's making.
const HOW_IDENTIFIER: u8 = 3;

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
#[repr(u8)]
enum How {
    /// By a handle that the kernel opens, and that no other file will have.
    Handle = HOW_HANDLE,
    /// By a handle that another file may get later, and the inode number that tells.
    Node = HOW_NODE,
    /// By an identifier that no other file will have.
    Identifier = HOW_IDENTIFIER,
    /// By device, inode number and time of birth.
    Inode = HOW_INODE,
}

/// A mount: by the number that handles come with, by the number that `statx` tells, by the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mount {
    OfHandle(i32),
    Id(u64),
    Device(u32, u32),
}

impl Finder {
    /// Finds out what the file system under `root` and the rights of this process allow.
    ///
    /// # Errors
    /// What the system answers when asked about the root.
    pub(crate) fn probe(root: BorrowedFd<'_>, fs: &Mounted) -> rustix::io::Result<Self> {
        let by_handle = if fs.reuses_names { How::Node } else { How::Handle };
        let (how, mount) = match FileHandle::of(root, c"") {
            Ok((handle, mount)) if object_of(by_handle, &handle, 0).is_some() => {
                (by_handle, Mount::OfHandle(mount))
            }
            Ok(_) | Err(Errno::OPNOTSUPP | Errno::OVERFLOW) => Self::probe_without_handles(root)?,
            Err(errno) => return Err(errno),
        };
        let kernel_finds = matches!(how, How::Handle | How::Node)
            && FileHandle::of(root, c"").and_then(|(handle, _)| handle.open(root, AS_PATH)).is_ok();
        let finder = Self { naming: Naming { how, mount }, searcher: None };
        if kernel_finds { Ok(finder) } else { finder.with_searcher(root, MAX_NR_ENTRIES) }
    }

    fn probe_without_handles(root: BorrowedFd<'_>) -> rustix::io::Result<(How, Mount)> {
        match FileHandle::id_of(root, c"") {
            // An identifier of the general kind is the inode's number, which others get later.
            Ok((id, mount))
                if id.kind() != FILEID_INO64_GEN
                    && object_of(How::Identifier, &id, 0).is_some() =>
            {
                Ok((How::Identifier, Mount::OfHandle(mount)))
            }
            _ => {
                let wanted = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
                let stat = statx(root, c"", AtFlags::EMPTY_PATH, wanted)?;
                Ok((How::Inode, mount_of(&stat)))
            }
        }
    }

    fn with_searcher(mut self, root: BorrowedFd<'_>, room: usize) -> rustix::io::Result<Self> {
        let root = self.name_of(root, c"").map_err(|_refused| Errno::STALE)?;
        self.searcher = Some(Arc::new(Searcher::new(self.naming, root, room)));
        Ok(self)
    }

    /// Finds files as a process must that may not open them by handle.
    #[cfg(test)]
    pub(crate) fn searching(root: BorrowedFd<'_>, room: usize) -> Self {
        let fs = Mounted::of(root).unwrap();
        Self::probe(root, &fs).and_then(|finder| finder.with_searcher(root, room)).unwrap()
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
            // A handle that the file system cannot read is one of another file system that was
            // there before; the checksum says that it was made here.
            Errno::INVAL | Errno::NOENT => NfsStatus::Stale,
            errno => errno.into(),
        })?;
        // The kernel compares generations, which do not tell files apart here.
        if self.naming.how == How::Node && self.name_of(found.as_fd(), c"")? != *object {
            return Err(NfsStatus::Stale);
        }
        Ok(found)
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
            How::Handle | How::Node | How::Identifier => {
                let asked = match self.how {
                    How::Identifier => FileHandle::id_of(dir, name),
                    _ => FileHandle::of(dir, name),
                };
                let (handle, mount) = asked.map_err(|errno| match errno {
                    // The export has handles: this is another file system.
                    Errno::OPNOTSUPP => NfsStatus::Acces,
                    errno => errno.into(),
                })?;
                let ino = if self.how == How::Node { known_ino(dir, name)? } else { 0 };
                let object = object_of(self.how, &handle, ino).ok_or(NfsStatus::Serverfault)?;
                (object, Mount::OfHandle(mount))
            }
            How::Inode => {
                let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
                let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID;
                let stat = statx(dir, name, flags, wanted)?;
                let mut bytes = [0; 28];
                // Of an overlay, files have the numbers of their layers, each with a device.
                bytes[..4].copy_from_slice(&stat.stx_dev_major.to_be_bytes());
                bytes[4..8].copy_from_slice(&stat.stx_dev_minor.to_be_bytes());
                bytes[8..16].copy_from_slice(&stat.stx_ino.to_be_bytes());
                // Where it is not known, what stands there means nothing, and could change.
                if stat.stx_mask & StatxFlags::BTIME.bits() != 0 {
                    bytes[16..24].copy_from_slice(&stat.stx_btime.tv_sec.to_be_bytes());
                    bytes[24..].copy_from_slice(&stat.stx_btime.tv_nsec.to_be_bytes());
                }
                let object = ObjectId::new(HOW_INODE, 0, &bytes).ok_or(NfsStatus::Serverfault)?;
                (object, mount_of(&stat))
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
fn object_of(how: How, handle: &FileHandle, ino: u64) -> Option<ObjectId> {
    let mut bytes = [0; MAX_OBJECT_BYTES];
    let head = if how == How::Node { INO_BYTES } else { 0 };
    bytes[..head].copy_from_slice(&ino.to_be_bytes()[..head]);
    let len = head + handle.as_bytes().len();
    bytes.get_mut(head..len)?.copy_from_slice(handle.as_bytes());
    ObjectId::new(how as u8, u8::try_from(handle.kind()).ok()?, &bytes[..len])
}

/// Returns the inode number of `name` in `dir`, or of `dir` itself if that is empty, as the kernel
/// has it in memory: the file system is not asked.
fn known_ino(dir: BorrowedFd<'_>, name: &CStr) -> NfsResult<u64> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_DONT_SYNC;
    Ok(statx(dir, name, flags, StatxFlags::INO)?.stx_ino)
}

fn mount_of(stat: &Statx) -> Mount {
    match stat.stx_mask & StatxFlags::MNT_ID.bits() {
        0 => Mount::Device(stat.stx_dev_major, stat.stx_dev_minor),
        _ => Mount::Id(stat.stx_mnt_id),
    }
}

/// Bytes of the inode number before the handle.
const INO_BYTES: usize = 8;
/// # Source
/// `linux-7.0` `include/linux/exportfs.h`
const FILEID_INO64_GEN: i32 = 0x81;
