//! Synchronous exports: makes changes of names and attributes durable before the reply.

use alloc::sync::Arc;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use crate::exports::Commit;
use crate::protocol::attr::FileKind;
use crate::protocol::status::NfsResult;
use crate::vfs::durability::{DataFile, Extent, NrFailed};
use crate::vfs::vfs::{Object, Vfs};

/// A sync of a file or directory that is about to be changed.
///
/// Has a descriptor that was opened before the change. The kernel reports an error of write-back to it
/// even if another call has received the same error by then; a descriptor that is opened after that does
/// not learn of the error.
#[derive(Debug)]
#[must_use = "a change is durable only after `Vfs::finish`"]
pub(crate) enum ChangeSync {
    /// Nothing is synced.
    Omitted,
    /// Of one file or directory.
    File(OwnedFd),
    /// Of a file that this call creates, by the descriptor that it was created with. Other calls may use
    /// this descriptor, so their errors count.
    New(Arc<DataFile>, NrFailed),
    /// Of the whole file system, for an object that cannot be opened.
    FileSystem(OwnedFd),
}

impl Vfs {
    /// Prepares the sync of an object that is changed next, if its export is synchronous. The thread
    /// acts as the server then.
    pub(crate) fn before_change(&self, object: &Object) -> NfsResult<ChangeSync> {
        if !is_synchronous(object) {
            return Ok(ChangeSync::Omitted);
        }
        self.act_as_server()?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = match object.node.kind() {
            FileKind::Regular | FileKind::Directory => {
                openat(self.descriptors(), object.node.fd_name(), flags, Mode::empty())
            }
            _ => Err(Errno::ACCESS),
        };
        match opened {
            Ok(file) => Ok(ChangeSync::File(file)),
            Err(Errno::ACCESS) => {
                let flags = flags | OFlags::DIRECTORY;
                let root = openat(object.export.root(), c".", flags, Mode::empty())?;
                // The kernel reports errors of all files, those before this change included. They must
                // not fail it: the changed verifier tells the clients of those files.
                let _of_earlier_writes = self.durability.sync(&root, Extent::FileSystem);
                Ok(ChangeSync::FileSystem(root))
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Prepares the sync of `object`, which was created with the descriptor `file`.
    pub(crate) fn before_change_of_new(object: &Object, file: &Arc<DataFile>) -> ChangeSync {
        match is_synchronous(object) {
            true => ChangeSync::New(Arc::clone(file), file.nr_failed()),
            false => ChangeSync::Omitted,
        }
    }

    /// Makes a change durable.
    ///
    /// # Errors
    /// The error of the file system. The sync of a whole file system also fails if the data of another
    /// file could not be written since [`before_change`](Self::before_change). Another sync would not
    /// tell whose error it was: the kernel reports it once.
    pub(crate) fn finish(&self, sync: ChangeSync) -> NfsResult<()> {
        match sync {
            ChangeSync::Omitted => {}
            ChangeSync::File(file) => self.durability.sync(file, Extent::File)?,
            ChangeSync::New(file, before) => file.sync(Extent::File, before)?,
            ChangeSync::FileSystem(root) => self.durability.sync(root, Extent::FileSystem)?,
        }
        Ok(())
    }
}

fn is_synchronous(object: &Object) -> bool {
    object.options.commit != Commit::Later && !object.export.is_volatile()
}
