//! Closer thread: closes the data descriptors of one export.
//!
//! A file that was written to is synced first. Closing flushes a file on some file systems (FUSE, NFS).
//! Both block while the file system hangs. Each export has its own thread for this, so that neither the
//! sweep, nor a reload, nor another export waits.

use alloc::sync::Arc;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use crate::vfs::durability::DataFile;

/// Passes descriptors to a closer thread, which starts with the first of them.
#[derive(Debug)]
pub(crate) struct Closer {
    /// The export's path, for the log.
    path: PathBuf,
    closings: Arc<Closings>,
    /// `None` if the thread could not be started.
    thread: OnceLock<Option<Sender<Arc<DataFile>>>>,
}

impl Closer {
    pub(crate) fn new(path: PathBuf, closings: Arc<Closings>) -> Self {
        Self { path, closings, thread: OnceLock::new() }
    }

    /// Closes a descriptor; if a call uses it, that call closes it at its end.
    pub(crate) fn close(&self, file: Arc<DataFile>) {
        match self.thread.get_or_init(|| self.start()) {
            // If the thread is gone, the descriptor comes back and is closed here.
            Some(thread) => drop(thread.send(file)),
            None => drop(file),
        }
    }

    fn start(&self) -> Option<Sender<Arc<DataFile>>> {
        let (sender, files) = channel::<Arc<DataFile>>();
        let (path, closings) = (self.path.clone(), Arc::clone(&self.closings));
        let started = thread::Builder::new().name("closer".into()).spawn(move || {
            for file in files {
                let _closing = closings.begin(&path);
                drop(file);
            }
        });
        match started {
            Ok(_detached) => Some(sender),
            Err(error) => {
                tracing::warn!(%error, "no thread for closing files: callers close them");
                None
            }
        }
    }
}

/// Exports whose closer threads are closing a file, including withdrawn exports.
#[derive(Debug, Default)]
pub(crate) struct Closings(Mutex<Vec<PathBuf>>);

impl Closings {
    /// Returns the paths of these exports.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.lock().clone()
    }

    fn begin<'a>(&'a self, path: &'a Path) -> Closing<'a> {
        self.lock().push(path.to_owned());
        Closing { closings: self, path }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Marks a file as being closed, until this is dropped.
struct Closing<'a> {
    closings: &'a Closings,
    path: &'a Path,
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let mut paths = self.closings.lock();
        if let Some(index) = paths.iter().position(|path| path == self.path) {
            paths.swap_remove(index);
        }
    }
}
