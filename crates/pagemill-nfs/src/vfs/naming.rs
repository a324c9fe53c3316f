//! Lasting names of files: kernel handles if the file system has them, else kernel identifiers, else
//! device, inode number and time of birth.

use core::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd};

use pagemill_host::os::FileHandle;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Statx, StatxFlags, openat2, statx};
use rustix::io::Errno;

use crate::protocol::fh::{MAX_OBJECT_BYTES, ObjectId};
use crate::protocol::status::{NfsResult, NfsStatus};
use crate::vfs::mounted::Mounted;

/// The object's bytes are a kernel handle.
const HOW_HANDLE: u8 = 0;
/// The object's bytes are device, inode number and time of birth.
const HOW_INODE: u8 = 1;
/// The object's bytes are the inode number and a kernel handle.
const HOW_NODE: u8 = 2;
/// The object's bytes are a kernel identifier.
const HOW_IDENTIFIER: u8 = 3;

/// Flags that keep a look-up within an export, whatever is at the path now.
pub(crate) const CONFINED: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Flags to open a file only as a reference: of whatever type it is, opening has no effect on it.
pub(crate) const AS_PATH: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// How the files of one export are named.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Naming {
    pub(crate) how: How,
    /// The mount of the export.
    mount: Mount,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum How {
    /// By a kernel handle that can be opened and is never reused for another file.
    Handle = HOW_HANDLE,
    /// By a kernel handle that may be reused for another file, and the inode number to distinguish
    /// them.
    Node = HOW_NODE,
    /// By an identifier that is never reused for another file.
    Identifier = HOW_IDENTIFIER,
    /// By device, inode number and time of birth.
    Inode = HOW_INODE,
}

/// A mount: by its number with handles, by its number in `statx`, or by its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mount {
    OfHandle(i32),
    Id(u64),
    Device(u32, u32),
}

impl Naming {
    /// Detects how the file system under `root` names its files.
    ///
    /// # Errors
    /// The error of the system when it is asked about the root.
    pub(crate) fn probe(root: BorrowedFd<'_>, fs: &Mounted) -> rustix::io::Result<Self> {
        let by_handle = if fs.reuses_names { How::Node } else { How::Handle };
        let (how, mount) = match FileHandle::of(root, c"") {
            Ok((handle, mount)) if object_of(by_handle, &handle, 0).is_some() => {
                (by_handle, Mount::OfHandle(mount))
            }
            Ok(_) | Err(Errno::OPNOTSUPP | Errno::OVERFLOW) => Self::probe_without_handles(root)?,
            Err(errno) => return Err(errno),
        };
        Ok(Self { how, mount })
    }

    fn probe_without_handles(root: BorrowedFd<'_>) -> rustix::io::Result<(How, Mount)> {
        match FileHandle::id_of(root, c"") {
            // A generic identifier is the inode's number, which is reused.
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

    /// Returns the lasting name of `name` in `dir`, or of `dir` itself if that is empty.
    ///
    /// # Errors
    /// [`Acces`](NfsStatus::Acces) for another mount: a file system that is mounted in an export is not
    /// part of it.
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
                // On an overlay, files have the numbers of their layers, each with its own device.
                bytes[..4].copy_from_slice(&stat.stx_dev_major.to_be_bytes());
                bytes[4..8].copy_from_slice(&stat.stx_dev_minor.to_be_bytes());
                bytes[8..16].copy_from_slice(&stat.stx_ino.to_be_bytes());
                // If it is not known, the field is undefined and could change.
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

/// Opens `name` in `dir` only as a reference, without following anything.
///
/// # Errors
/// The error of `openat2`.
pub(crate) fn open_path(dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    openat2(dir, name, AS_PATH, Mode::empty(), CONFINED)
}

/// Makes an object from a kernel handle, if it is short enough.
fn object_of(how: How, handle: &FileHandle, ino: u64) -> Option<ObjectId> {
    let mut bytes = [0; MAX_OBJECT_BYTES];
    let head = if how == How::Node { INO_BYTES } else { 0 };
    bytes[..head].copy_from_slice(&ino.to_be_bytes()[..head]);
    let len = head + handle.as_bytes().len();
    bytes.get_mut(head..len)?.copy_from_slice(handle.as_bytes());
    ObjectId::new(how as u8, u8::try_from(handle.kind()).ok()?, &bytes[..len])
}

/// Returns the inode number of `name` in `dir`, or of `dir` itself if that is empty, as the kernel has
/// it in memory: the file system is not asked.
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
pub(crate) const INO_BYTES: usize = 8;
/// # Source
/// `linux-7.0` `include/linux/exportfs.h`
const FILEID_INO64_GEN: i32 = 0x81;
