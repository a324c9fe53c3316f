//! Durability: makes files durable, and changes the write verifier when that fails.
//!
//! The kernel reports a failed write-back once to each descriptor that was open then, and to the first
//! descriptor that is opened later. So every error must change the verifier, whichever operation
//! receives it: no later call may learn of it. `clippy.toml` keeps other modules from the system calls
//! that receive such errors.
//!
//! For the same reason, a descriptor that was written to is synced before it is closed, and until then
//! a COMMIT syncs it too. Another descriptor may not learn of its errors, because a process on this
//! machine can be told of them first.

use alloc::sync::Arc;
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rustix::io::{Errno, retry_on_intr};

use crate::protocol::fh::Fh;
use crate::sync::{AtomicBool, AtomicU64, Ordering};
use crate::vfs::verifier::fresh_verifier;

/// Makes files durable, and knows the write verifier.
#[derive(Debug)]
pub(crate) struct Durability {
    /// Tells clients, by changing, that unstable writes may have been lost.
    verifier: AtomicU64,
    /// Descriptors that were written to and not synced since, by the handles of their files. Not held
    /// over any system call.
    unsynced: Mutex<HashMap<Fh, Vec<Arc<Descriptor>>>>,
    /// Set when no client can see the verifier any more.
    has_ended: AtomicBool,
    #[cfg(test)]
    pub(crate) faults: Mutex<Faults>,
}

/// What is made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// A file's data, and the attributes that are needed to read it.
    Data,
    /// A file's or directory's data and attributes.
    File,
    /// The file system that a file belongs to.
    FileSystem,
}

impl Durability {
    pub(crate) fn new() -> Self {
        Self {
            verifier: AtomicU64::new(fresh_verifier()),
            unsynced: Mutex::default(),
            has_ended: AtomicBool::new(false),
            #[cfg(test)]
            faults: Mutex::default(),
        }
    }

    /// Returns the write verifier, a number by which clients detect that unstable writes may have been
    /// lost.
    pub(crate) fn verifier(&self) -> u64 {
        // Relaxed: a client compares two values from replies, each of which is valid alone.
        self.verifier.load(Ordering::Relaxed)
    }

    /// Makes a file durable.
    ///
    /// # Errors
    /// The error of the file system. The verifier has changed then, because it is unknown which unstable
    /// writes have been lost.
    pub(crate) fn sync(&self, file: impl AsFd, extent: Extent) -> rustix::io::Result<()> {
        let synced = retry_on_intr(|| self.call(&file, extent));
        if synced.is_err() {
            // Relaxed: see `verifier`.
            self.verifier.store(fresh_verifier(), Ordering::Relaxed);
        }
        synced
    }

    #[expect(clippy::disallowed_methods, reason = "its caller changes the verifier after an error")]
    fn call(&self, file: impl AsFd, extent: Extent) -> rustix::io::Result<()> {
        #[cfg(test)]
        self.meet(file.as_fd(), extent)?;
        match extent {
            Extent::Data => rustix::fs::fdatasync(file),
            Extent::File => rustix::fs::fsync(file),
            Extent::FileSystem => rustix::fs::syncfs(file),
        }
    }

    #[cfg(test)]
    fn meet(&self, file: BorrowedFd<'_>, extent: Extent) -> rustix::io::Result<()> {
        let is_closer = std::thread::current().name() == Some("closer");
        while is_closer && self.faults.lock().unwrap().closers_hang {
            std::thread::yield_now();
        }
        self.faults.lock().unwrap().meet(file, extent)
    }

    /// Returns the number of files with unsynced writes.
    #[cfg(test)]
    pub(crate) fn nr_unsynced(&self) -> usize {
        self.lock_unsynced().len()
    }

    /// Takes a descriptor of the file that `fh` names.
    pub(crate) fn watch(self: &Arc<Self>, fh: Fh, file: OwnedFd) -> Arc<DataFile> {
        let (syncs, ended) = (Mutex::default(), Condvar::new());
        let descriptor = Arc::new(Descriptor { fh, file: Arc::new(file), syncs, ended });
        Arc::new(DataFile { descriptor, durability: Arc::clone(self) })
    }

    /// Syncs a file through `file` and through each descriptor that has unsynced writes of it, those
    /// that are about to be closed included.
    ///
    /// # Errors
    /// Those of [`sync`](Self::sync).
    pub(crate) fn commit(&self, file: &DataFile) -> rustix::io::Result<()> {
        let own = &file.descriptor;
        let unsynced = self.lock_unsynced().get(&own.fh).cloned().unwrap_or_default();
        let mut committed = own.sync(self, Extent::File, own.nr_failed());
        for other in unsynced.iter().filter(|other| !Arc::ptr_eq(other, own)) {
            committed = committed.and(other.sync(self, Extent::File, other.nr_failed()));
        }
        committed
    }

    /// Stops syncing descriptors that are closed: whoever serves the files next has another verifier.
    pub(crate) fn end(&self) {
        // Relaxed: a descriptor that is synced nevertheless costs time only.
        self.has_ended.store(true, Ordering::Relaxed);
    }

    fn lock_unsynced(&self) -> MutexGuard<'_, HashMap<Fh, Vec<Arc<Descriptor>>>> {
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A descriptor for a file's data. It is synced before it is closed, if it was written to since it was
/// last synced.
#[derive(Debug)]
pub(crate) struct DataFile {
    descriptor: Arc<Descriptor>,
    durability: Arc<Durability>,
}

impl DataFile {
    /// Returns the descriptor, for uses other than writing.
    pub(crate) fn shared(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.descriptor.file)
    }

    /// Records that data was written, of which only a sync of this descriptor tells whether it is
    /// durable.
    pub(crate) fn mark_written(&self) {
        let descriptor = &self.descriptor;
        let mut syncs = descriptor.lock();
        syncs.nr_writes += 1;
        if !syncs.is_listed {
            syncs.is_listed = true;
            let mut unsynced = self.durability.lock_unsynced();
            unsynced.entry(descriptor.fh).or_default().push(Arc::clone(descriptor));
        }
    }

    /// Returns whether data was written since the last sync.
    pub(crate) fn is_unsynced(&self) -> bool {
        self.descriptor.lock().is_listed
    }

    /// Returns how many syncs of the descriptor have failed. Call this before a change that is then
    /// made durable with [`sync`](Self::sync).
    pub(crate) fn nr_failed(&self) -> NrFailed {
        self.descriptor.nr_failed()
    }

    /// Makes a change of the file durable. Calls that come during a sync of the descriptor share the
    /// next one, and its error.
    ///
    /// Between the change and this call, the sync of another call may have written the change back. The
    /// kernel has then reported a failure to that sync, and does not report it again.
    ///
    /// # Errors
    /// Those of [`Durability::sync`], also if another call's sync has failed since `before`, which was
    /// counted before the change.
    ///
    /// # Source
    /// `linux-7.0` `fs/nfsd/vfs.c` `nfsd_vfs_write`: `filemap_sample_wb_err` before the write,
    /// `filemap_check_wb_err` after the sync.
    pub(crate) fn sync(&self, extent: Extent, before: NrFailed) -> rustix::io::Result<()> {
        self.descriptor.sync(&self.durability, extent, before)
    }
}

impl AsFd for DataFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.file.as_fd()
    }
}

impl Drop for DataFile {
    fn drop(&mut self) {
        if !self.is_unsynced() {
            return;
        }
        // No client asks for the data of a file that has no name any more.
        let is_gone = rustix::fs::fstat(&*self).is_ok_and(|stat| stat.st_nlink == 0);
        // Relaxed: see `Durability::end`.
        if is_gone || self.durability.has_ended.load(Ordering::Relaxed) {
            self.descriptor.unlist(&mut self.descriptor.lock(), &self.durability);
            return;
        }
        // An error changes the verifier, by which clients learn of it.
        if let Err(error) = self.sync(Extent::File, self.nr_failed()) {
            tracing::warn!(%error, "cannot make a file durable before it is closed");
        }
    }
}

/// How many syncs of a descriptor had failed at some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NrFailed(u64);

#[derive(Debug)]
struct Descriptor {
    fh: Fh,
    file: Arc<OwnedFd>,
    /// Not held over any system call. Locked before `Durability::unsynced`.
    syncs: Mutex<Syncs>,
    /// Notified when a sync ends.
    ended: Condvar,
}

/// The syncs of a descriptor, one at a time.
///
/// Of two at once, one would receive an error, and the other could reply with the old verifier before
/// the first has changed it.
#[derive(Debug, Default)]
struct Syncs {
    nr_writes: u64,
    /// Whether the descriptor is in `Durability::unsynced`.
    is_listed: bool,
    is_busy: bool,
    /// Whether a call that waits for the next sync needs more than [`Extent::Data`].
    wants_file: bool,
    nr_begun: u64,
    nr_failed: NrFailed,
    /// The error of the last sync that failed.
    last_error: Option<Errno>,
}

impl Descriptor {
    fn lock(&self) -> MutexGuard<'_, Syncs> {
        self.syncs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn nr_failed(&self) -> NrFailed {
        self.lock().nr_failed
    }

    fn sync(
        self: &Arc<Self>,
        durability: &Durability,
        extent: Extent,
        before: NrFailed,
    ) -> rustix::io::Result<()> {
        let mut syncs = self.lock();
        // A sync that has begun may have missed the caller's data.
        let number = syncs.nr_begun + 1;
        syncs.wants_file |= extent == Extent::File;
        while syncs.is_busy && syncs.nr_begun <= number {
            syncs = self.ended.wait(syncs).unwrap_or_else(PoisonError::into_inner);
        }
        if syncs.nr_begun < number {
            self.sync_next(syncs, durability);
            syncs = self.lock();
        }
        match syncs.last_error {
            Some(errno) if syncs.nr_failed != before => Err(errno),
            _ => Ok(()),
        }
    }

    fn sync_next(self: &Arc<Self>, mut syncs: MutexGuard<'_, Syncs>, durability: &Durability) {
        syncs.is_busy = true;
        syncs.nr_begun += 1;
        let nr_writes = syncs.nr_writes;
        let wants_file = core::mem::take(&mut syncs.wants_file);
        drop(syncs);
        let extent = if wants_file { Extent::File } else { Extent::Data };
        let synced = durability.sync(&self.file, extent);
        let mut syncs = self.lock();
        syncs.is_busy = false;
        if let Err(errno) = synced {
            syncs.nr_failed.0 += 1;
            syncs.last_error = Some(errno);
        }
        // After an error too: the changed verifier makes clients write again.
        if syncs.is_listed && syncs.nr_writes == nr_writes {
            self.unlist(&mut syncs, durability);
        }
        drop(syncs);
        self.ended.notify_all();
    }

    fn unlist(self: &Arc<Self>, syncs: &mut Syncs, durability: &Durability) {
        syncs.is_listed = false;
        let mut unsynced = durability.lock_unsynced();
        if let Some(descriptors) = unsynced.get_mut(&self.fh) {
            descriptors.retain(|descriptor| !Arc::ptr_eq(descriptor, self));
            if descriptors.is_empty() {
                unsynced.remove(&self.fh);
            }
        }
    }
}

/// The system calls so far, and errors for those to come.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// What was made durable, with its inode.
    pub(crate) synced: Vec<(Extent, u64)>,
    /// Errors that a system call gets in place of its own result, once each.
    pub(crate) errors: Vec<Fault>,
    /// Whether the system calls of closer threads do not return.
    pub(crate) closers_hang: bool,
}

/// An error that a system call gets.
#[cfg(test)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) extent: Extent,
    /// The descriptor; none for any.
    pub(crate) fd: Option<std::os::fd::RawFd>,
    pub(crate) errno: Errno,
}

#[cfg(test)]
impl Faults {
    fn meet(&mut self, file: BorrowedFd<'_>, extent: Extent) -> rustix::io::Result<()> {
        use std::os::fd::AsRawFd;

        self.synced.push((extent, rustix::fs::fstat(file)?.st_ino));
        let is_met = |fault: &Fault| {
            fault.extent == extent && fault.fd.is_none_or(|fd| fd == file.as_raw_fd())
        };
        let error = self.errors.iter().position(is_met);
        error.map_or(Ok(()), |index| Err(self.errors.remove(index).errno))
    }
}
