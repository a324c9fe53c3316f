//! Closer thread: closes the data descriptors of one export.
//!
//! Closing flushes a file where the file system wants it (FUSE, NFS), and does not return while the
//! server of that file system hangs. Each export has a thread of its own for this, so that neither
//! the sweep, nor a reload, nor another export waits.

use alloc::sync::Arc;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

/// Hands descriptors to a closer thread, which the first of them starts.
#[derive(Debug)]
pub(crate) struct Closer {
    /// The export's path, for the log.
    path: PathBuf,
    closings: Arc<Closings>,
    /// `None` if the thread could not be started.
    thread: OnceLock<Option<Sender<Arc<OwnedFd>>>>,
}

impl Closer {
    pub(crate) fn new(path: PathBuf, closings: Arc<Closings>) -> Self {
        Self { path, closings, thread: OnceLock::new() }
    }

    /// Closes a descriptor, once no call uses it.
    pub(crate) fn close(&self, file: Arc<OwnedFd>) {
        match self.thread.get_or_init(|| self.start()) {
            // A thread that is gone returns the descriptor, which is closed here.
            Some(thread) => drop(thread.send(file)),
            None => drop(file),
        }
    }

    fn start(&self) -> Option<Sender<Arc<OwnedFd>>> {
        let (sender, files) = channel::<Arc<OwnedFd>>();
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
                tracing::warn!(%error, "files are closed without a thread for it");
                None
            }
        }
    }
}

/// Exports whose closer threads are closing a file, those of withdrawn exports among them.
#[derive(Debug, Default)]
pub(crate) struct Closings(Mutex<Vec<PathBuf>>);

impl Closings {
    /// Returns the paths of the exports.
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

/// A file that is being closed, until this is dropped.
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
