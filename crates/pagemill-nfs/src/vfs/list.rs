//! Directory listing for READDIR and READDIRPLUS.
//!
//! A cookie is the position that the file system gives an entry, which stays valid while other entries
//! come and go; the server keeps no state between calls.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode, OFlags, RawDir, SeekFrom, openat, seek, statat};
use rustix::io::Errno;

use crate::protocol::attr::Fattr;
use crate::protocol::fh::Fh;
use crate::protocol::name::Name;
use crate::protocol::status::{NfsResult, NfsStatus};
use crate::vfs::vfs::{Object, Vfs};

/// Maximum number of bytes of entries that one call reads.
pub const MAX_LIST_BYTES: usize = 64 << 10;
/// Minimum number of bytes: one entry may need that many.
const MIN_LIST_BYTES: usize = 1 << 10;

/// An entry of a directory.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct Listed<'a> {
    /// The number of the file.
    pub fileid: u64,
    /// The name.
    pub name: &'a [u8],
    /// The position after this entry.
    pub cookie: u64,
}

impl Vfs {
    /// Lists a directory from `cookie` on, 0 for its start, until `take` wants no more. Returns whether
    /// the end was reached.
    ///
    /// `max_bytes` is the number of bytes to read at a time: approximately the room of the caller.
    ///
    /// # Errors
    /// [`BadCookie`](NfsStatus::BadCookie) for a position that the file system does not know.
    pub fn list(
        &self,
        dir: &Object,
        cookie: u64,
        max_bytes: usize,
        mut take: impl FnMut(&Listed<'_>) -> NfsResult<bool>,
    ) -> NfsResult<bool> {
        let open = self.open_directory(dir)?;
        if cookie != 0 {
            let offset = i64::try_from(cookie).map_err(|_beyond| NfsStatus::BadCookie)?;
            seek(&open, SeekFrom::Start(offset.unsigned_abs())).map_err(|errno| match errno {
                Errno::INVAL => NfsStatus::BadCookie,
                errno => errno.into(),
            })?;
        }
        let stat = dir.node.stat()?;
        let is_root = dir.export.is_root(stat.st_dev, stat.st_ino);
        let mut buffer = Vec::with_capacity(max_bytes.clamp(MIN_LIST_BYTES, MAX_LIST_BYTES));
        let mut entries = RawDir::new(&open, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            // The directory above the root must not be visible.
            let hidden = is_root && name == b"..";
            let fileid = if hidden { stat.st_ino } else { entry.ino() };
            let wants_more = take(&Listed { fileid, name, cookie: entry.next_entry_cookie() })?;
            if !wants_more {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns the handle and the attributes of an entry, for READDIRPLUS; neither for an entry that
    /// the caller may not see or that is gone.
    pub fn entry(&self, dir: &Object, entry: &Listed<'_>) -> Option<(Fh, Fattr)> {
        let name = Name::new(entry.name).ok()?;
        if name.is_dot() {
            let object = self.lookup(dir, &name).ok()?;
            return Some((*object.fh(), self.attr(&object).ok()?));
        }
        // The thread may still have the identity that looked up `..`.
        self.act_for(dir).ok()?;
        let (fh, _) = self.child_fh(dir, &name).ok()?;
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let stat = statat(dir.node.fd(), name.as_c_str(), flags).ok()?;
        // Another file may have got the name between the calls: then both are left out.
        let same = stat.st_ino == entry.fileid && self.child_fh(dir, &name).ok()?.0 == fh;
        same.then(|| (fh, Fattr::new(&stat, dir.export.fsid())))
    }

    fn open_directory(&self, dir: &Object) -> NfsResult<OwnedFd> {
        dir.node.check_directory()?;
        self.act_for(dir)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(openat(self.descriptors(), dir.node.fd_name(), flags, Mode::empty())?)
    }
}
