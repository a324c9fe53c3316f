//! Directories, entry by entry.
//!
//! A place in a directory is the number that the file system gives it, which stays good while
//! other entries come and go; the server keeps nothing between calls.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode, OFlags, RawDir, SeekFrom, openat, seek, statat};
use rustix::io::Errno;

use crate::protocol::attr::Fattr;
use crate::protocol::fh::Fh;
use crate::protocol::name::Name;
use crate::protocol::status::{NfsResult, NfsStatus};
use crate::vfs::vfs::{Object, Vfs};

/// The most bytes of entries that one call looks at.
pub const MAX_LIST_BYTES: usize = 64 << 10;
/// The fewest: what one entry can need.
const MIN_LIST_BYTES: usize = 1 << 10;

/// An entry of a directory.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct Listed<'a> {
    /// The number of the file.
    pub fileid: u64,
    /// The name.
    pub name: &'a [u8],
    /// Where to go on after this entry.
    pub cookie: u64,
}

impl Vfs {
    /// Goes through a directory from `cookie` on, 0 for its start, for as long as `take` wants
    /// more. Returns whether the end was reached.
    ///
    /// `max_bytes` says how much is read at a time, about what the caller has room for.
    ///
    /// # Errors
    /// [`BadCookie`](NfsStatus::BadCookie) for a place that the file system does not know.
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
            // What is above the root is nobody's business.
            let hidden = is_root && name == b"..";
            let fileid = if hidden { stat.st_ino } else { entry.ino() };
            let wants_more = take(&Listed { fileid, name, cookie: entry.next_entry_cookie() })?;
            if !wants_more {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Tells the handle and the attributes of an entry, as READDIRPLUS has them; neither for what
    /// is not, or no longer, the caller's to see.
    pub fn entry(&self, dir: &Object, entry: &Listed<'_>) -> Option<(Fh, Fattr)> {
        let name = Name::new(entry.name).ok()?;
        if name.is_dot() {
            let object = self.lookup(dir, &name).ok()?;
            return Some((*object.fh(), self.attr(&object).ok()?));
        }
        // Not as whoever looked for `..` just now.
        self.act_for(dir).ok()?;
        let (fh, _) = self.child_fh(dir, &name).ok()?;
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let stat = statat(dir.node.fd(), name.as_c_str(), flags).ok()?;
        // Another file may have got the name between the calls: then say nothing about it.
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
