//! File data: READ, WRITE, COMMIT and size changes.

use alloc::sync::Arc;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Access as Rights, Mode, OFlags, SeekFrom, fstat, ftruncate, openat, seek};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::exports::Access;
use crate::protocol::attr::{Fattr, FileKind, Wcc};
use crate::protocol::status::{NfsResult, NfsStatus};
use crate::vfs::durability::{DataFile, Extent};
use crate::vfs::node::Need;
use crate::vfs::vfs::{Object, Vfs};

/// The largest offset and size that the system supports.
const MAX_OFFSET: u64 = i64::MAX.unsigned_abs();

/// How durable written data must be before the reply.
///
/// # Source
/// `rfc1813` section 3.3.7 `stable_how`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the protocol has these and no more")]
#[repr(u32)]
pub enum Stability {
    /// In memory.
    Unstable = 0,
    /// The data on disk, and the metadata needed to read it.
    DataSync = 1,
    /// The data and all metadata on disk.
    FileSync = 2,
}

/// The result of a write.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct Committed {
    /// Number of bytes written.
    pub nr_bytes: usize,
    /// How durable they are.
    pub stability: Stability,
    /// The write verifier before the write: if data in memory is lost after it, the client sees another
    /// verifier and writes again.
    pub verifier: [u8; 8],
}

/// A readable range of a file.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct DataRange {
    /// The file, open for reading.
    pub file: Arc<OwnedFd>,
    /// Offset of the range.
    pub offset: u64,
    /// Number of bytes that exist, of those requested.
    pub len: usize,
    /// Whether the file ends with them.
    pub eof: bool,
}

impl Vfs {
    /// Returns the requested range of a file, cut to the file's current size, and the attributes with
    /// that size.
    ///
    /// # Errors
    /// [`Isdir`](NfsStatus::Isdir), [`Inval`](NfsStatus::Inval) for other files that are not regular;
    /// [`Acces`](NfsStatus::Acces).
    ///
    /// # Cost
    /// One `fstat` if the file is open for the caller already.
    pub fn read(&self, object: &Object, offset: u64, max: usize) -> NfsResult<(DataRange, Fattr)> {
        let file = self.open(object, Need::Read)?;
        let attr = self.attr(object)?;
        let left = attr.size.saturating_sub(offset);
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(max);
        Ok((DataRange { file: file.shared(), offset, len, eof: len as u64 == left }, attr))
    }

    /// Writes `len` bytes to a file from `offset` on, using `write`, which returns how many it wrote.
    ///
    /// # Errors
    /// Those of [`read`](Self::read); [`Fbig`](NfsStatus::Fbig), [`Nospc`](NfsStatus::Nospc),
    /// [`Rofs`](NfsStatus::Rofs) and other errors of the file system.
    pub fn write(
        &self,
        object: &Object,
        offset: u64,
        len: usize,
        stability: Stability,
        write: impl FnOnce(BorrowedFd<'_>) -> rustix::io::Result<usize>,
    ) -> (NfsResult<Committed>, Wcc) {
        let mut wcc = Wcc::default();
        let result = self.try_write(object, offset, len, stability, write, &mut wcc);
        (result, wcc)
    }

    fn try_write(
        &self,
        object: &Object,
        offset: u64,
        len: usize,
        stability: Stability,
        write: impl FnOnce(BorrowedFd<'_>) -> rustix::io::Result<usize>,
        wcc: &mut Wcc,
    ) -> NfsResult<Committed> {
        check_writable(object)?;
        if offset.checked_add(len as u64).is_none_or(|end| end > MAX_OFFSET) {
            wcc.after = self.attr(object).ok();
            return Err(NfsStatus::Fbig);
        }
        let verifier = self.write_verifier();
        let opened = self.open(object, Need::Write);
        let (file, written, nr_failed) = {
            let _changes = object.node.lock_changes();
            wcc.before = self.attr(object).ok().map(|attr| attr.wcc());
            // On the caller's write, the kernel clears the set-user-id and set-group-id bits.
            let written = opened.and_then(|file| {
                self.act_for(object)?;
                let nr_failed = file.nr_failed();
                let written = if len == 0 { Ok(0) } else { write(file.as_fd()) };
                // After an error too: a part may have been written. Volatile data has no disk to fail.
                if stability == Stability::Unstable && !object.export.is_volatile() {
                    file.mark_written();
                }
                Ok((file, written?, nr_failed))
            });
            wcc.after = self.attr(object).ok();
            written?
        };
        match stability {
            Stability::Unstable => {}
            Stability::DataSync => file.sync(Extent::Data, nr_failed)?,
            Stability::FileSync => file.sync(Extent::File, nr_failed)?,
        }
        // Data that exists only in memory cannot become more durable.
        let stability = if object.export.is_volatile() { Stability::FileSync } else { stability };
        Ok(Committed { nr_bytes: written, stability, verifier })
    }

    /// Makes written data of a file durable.
    ///
    /// # Errors
    /// The error of the file system. The verifier then changes, so that clients write again.
    pub fn commit(&self, object: &Object) -> (NfsResult<()>, Wcc) {
        let before = self.attr(object).ok().map(|attr| attr.wcc());
        let result = check_regular(object).and_then(|()| {
            // Any caller that may write may commit; as with fsync, so may one that can only read.
            let file =
                self.open(object, Need::Write).or_else(|_refused| self.open(object, Need::Read))?;
            Ok(self.durability.commit(&file)?)
        });
        (result, Wcc { before, after: self.attr(object).ok() })
    }

    /// Sets a regular file's size.
    pub(crate) fn resize(&self, object: &Object, size: u64) -> NfsResult<()> {
        let file = self.open_to_resize(object, size)?;
        self.act_for(object)?;
        Ok(ftruncate(&file, size)?)
    }

    /// Checks that a regular file can have a size and that the caller may set it. Returns the
    /// descriptor with which to set it.
    pub(crate) fn open_to_resize(&self, object: &Object, size: u64) -> NfsResult<Arc<DataFile>> {
        check_regular(object)?;
        if size > MAX_OFFSET {
            return Err(NfsStatus::Fbig);
        }
        let file = self.open(object, Need::Write)?;
        if size > u64::try_from(fstat(&file)?.st_size).unwrap_or(0) {
            check_growth(&file, size)?;
        }
        Ok(file)
    }

    /// Returns a descriptor for the data of a regular file, open for the caller.
    ///
    /// The owner may always read and write, whatever the mode: the client checked when the file was
    /// opened there, and modes may have changed since. A caller that may execute a file may also read
    /// it.
    ///
    /// # Source
    /// `rfc1813` section 4.4
    pub(crate) fn open(&self, object: &Object, need: Need) -> NfsResult<Arc<DataFile>> {
        check_regular(object)?;
        // If all callers act as the server, a file that it could open once may be used from then on.
        let lasts = !self.can_override();
        if let Some(file) = object.node.opened(&object.who, need, lasts) {
            return Ok(file);
        }
        object.export.closer.make_room();
        self.act_for(object)?;
        let opened = match self.open_again(object, need) {
            Err(Errno::ACCESS) if self.can_override() && self.is_overridden(object, need)? => {
                self.act_as_server()?;
                self.open_again(object, need)
            }
            opened => opened,
        };
        let file = self.durability.watch(*object.fh(), opened?);
        Ok(object.node.keep_open(object.who, need, file, &object.export.closer))
    }

    fn open_again(&self, object: &Object, need: Need) -> rustix::io::Result<OwnedFd> {
        let flags = match need {
            Need::Read => OFlags::RDONLY,
            Need::Write => OFlags::WRONLY,
        };
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        openat(self.descriptors(), object.node.fd_name(), flags, Mode::empty())
    }

    fn is_overridden(&self, object: &Object, need: Need) -> NfsResult<bool> {
        let is_owner = object.node.stat()?.st_uid == object.who.uid();
        Ok(is_owner || (need == Need::Read && self.check(object, Rights::EXEC_OK).is_ok()))
    }
}

/// Checks that neither the file system nor this process's limit prevents a file of size `size`.
fn check_growth(file: &DataFile, size: u64) -> NfsResult<()> {
    if getrlimit(Resource::Fsize).current.is_some_and(|limit| size > limit) {
        return Err(NfsStatus::Fbig);
    }
    // The kernel checks against the file system's maximum size. The descriptor's position is unused:
    // all reads and writes pass an offset.
    match seek(file, SeekFrom::Start(size)) {
        Err(Errno::INVAL) => Err(NfsStatus::Fbig),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Checks that the caller may change anything.
pub(crate) fn check_writable(object: &Object) -> NfsResult<()> {
    match object.options.access {
        Access::ReadWrite => Ok(()),
        Access::ReadOnly => Err(NfsStatus::Rofs),
    }
}

fn check_regular(object: &Object) -> NfsResult<()> {
    match object.node.kind() {
        FileKind::Regular => Ok(()),
        FileKind::Directory => Err(NfsStatus::Isdir),
        _ => Err(NfsStatus::Inval),
    }
}
