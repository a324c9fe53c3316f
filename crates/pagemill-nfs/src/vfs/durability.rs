//! Durability: makes files durable, and changes the write verifier when that fails.
//!
//! The kernel reports a failed write-back once to each descriptor that was open then, and to the first
//! descriptor that is opened later. So every error must change the verifier, whichever operation
//! receives it: no later call may learn of it. `clippy.toml` keeps other modules from the system calls
//! that receive such errors.

use std::os::fd::AsFd;

#[cfg(test)]
use std::sync::Mutex;

use rustix::io::retry_on_intr;

use crate::sync::{AtomicU64, Ordering};
use crate::vfs::verifier::fresh_verifier;

/// Makes files durable, and knows the write verifier.
#[derive(Debug)]
pub(crate) struct Durability {
    /// Tells clients, by changing, that unstable writes may have been lost.
    verifier: AtomicU64,
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
        self.faults.lock().unwrap().meet(file.as_fd(), extent)?;
        match extent {
            Extent::Data => rustix::fs::fdatasync(file),
            Extent::File => rustix::fs::fsync(file),
            Extent::FileSystem => rustix::fs::syncfs(file),
        }
    }
}

/// The system calls so far, and errors for those to come.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// What was made durable, with its inode.
    pub(crate) synced: Vec<(Extent, u64)>,
    /// Errors that a system call for one of these extents gets in place of its own result, once each.
    pub(crate) errors: Vec<(Extent, rustix::io::Errno)>,
}

#[cfg(test)]
impl Faults {
    fn meet(
        &mut self,
        file: std::os::fd::BorrowedFd<'_>,
        extent: Extent,
    ) -> rustix::io::Result<()> {
        self.synced.push((extent, rustix::fs::fstat(file)?.st_ino));
        let error = self.errors.iter().position(|(of, _)| *of == extent);
        error.map_or(Ok(()), |index| Err(self.errors.remove(index).1))
    }
}
