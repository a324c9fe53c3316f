//! Closer thread: closes the data descriptors of one export.
//!
//! A file that was written to is synced first. Closing flushes a file on some file systems (FUSE, NFS).
//! Both block while the file system hangs. Each export has its own thread for this, so that neither the
//! sweep, nor a reload, nor another export waits.
//!
//! Clients can open files faster than the thread syncs them. So the number of descriptors that wait is
//! limited: beyond it, each call that opens a file of the export closes one of them first. Such a call
//! has a turn of its file system, so that one that hangs delays no other. Descriptors that calls of
//! other exports displace are queued beyond the limit; the export had them open within the limit on
//! files.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use crate::sync::{AtomicU64, Ordering};
use crate::vfs::durability::DataFile;

/// Passes descriptors to a closer thread, which starts with the first of them.
#[derive(Debug)]
pub(crate) struct Closer {
    /// The export's path, for the log.
    path: PathBuf,
    closings: Arc<Closings>,
    queue: Arc<Queue>,
    /// Whether the thread could be started.
    has_thread: OnceLock<bool>,
}

impl Closer {
    pub(crate) fn new(path: PathBuf, closings: Arc<Closings>) -> Self {
        Self { path, closings, queue: Arc::default(), has_thread: OnceLock::new() }
    }

    /// Closes a descriptor; if a call uses it, that call closes it at its end.
    pub(crate) fn close(&self, file: Arc<DataFile>) {
        let Some(file) = Arc::into_inner(file) else { return };
        if *self.has_thread.get_or_init(|| self.start()) {
            self.closings.add_waiting(1);
            self.queue.lock().files.push_back(file);
            self.queue.changed.notify_one();
        }
        // Without a thread it is closed here.
    }

    /// Closes one descriptor on this thread, if more wait than may.
    ///
    /// Blocks as the closer thread does: for calls that open a file of the export.
    pub(crate) fn make_room(&self) {
        if !self.is_full() {
            return;
        }
        // Not in one expression with the next: the lock would be held while the file is synced.
        let oldest = self.queue.lock().files.pop_front();
        if oldest.is_some() {
            self.closings.add_waiting(-1);
        }
        drop(oldest);
    }

    /// Returns whether no further descriptor should wait.
    ///
    /// An export may use as many places as it leaves free. So exports that hang never use all.
    fn is_full(&self) -> bool {
        let nr_free = self.closings.max_nr_waiting.saturating_sub(self.closings.nr_waiting());
        self.nr_waiting() >= nr_free
    }

    /// Returns the number of descriptors that wait for the thread.
    pub(crate) fn nr_waiting(&self) -> u64 {
        self.queue.lock().files.len() as u64
    }

    fn start(&self) -> bool {
        let (path, closings) = (self.path.clone(), Arc::clone(&self.closings));
        let queue = Arc::clone(&self.queue);
        let started = thread::Builder::new().name("closer".into()).spawn(move || {
            while let Some(file) = queue.next() {
                closings.add_waiting(-1);
                let _closing = closings.begin(&path);
                drop(file);
            }
        });
        if let Err(error) = &started {
            tracing::warn!(%error, "no thread for closing files: callers close them");
        }
        started.is_ok()
    }
}

impl Drop for Closer {
    fn drop(&mut self) {
        self.queue.lock().has_ended = true;
        self.queue.changed.notify_one();
    }
}

/// Descriptors that wait to be closed.
#[derive(Debug, Default)]
struct Queue {
    /// Not held over any system call.
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    files: VecDeque<DataFile>,
    /// Set when no more descriptors come.
    has_ended: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next descriptor; `None` if no more come.
    fn next(&self) -> Option<DataFile> {
        let is_idle = |waiting: &mut Waiting| waiting.files.is_empty() && !waiting.has_ended;
        let waiting = self.changed.wait_while(self.lock(), is_idle);
        waiting.unwrap_or_else(PoisonError::into_inner).files.pop_front()
    }
}

/// The closer threads of a server, including those of withdrawn exports.
#[derive(Debug, Default)]
pub(crate) struct Closings {
    /// Paths of exports whose threads are closing a file.
    paths: Mutex<Vec<PathBuf>>,
    /// Descriptors that wait for a thread.
    nr_waiting: AtomicU64,
    max_nr_waiting: u64,
}

impl Closings {
    /// Makes the books for closer threads for which at most `max_nr_waiting` descriptors should wait.
    pub(crate) fn new(max_nr_waiting: u64) -> Self {
        Self { max_nr_waiting, ..Self::default() }
    }

    /// Returns the paths of exports whose threads are closing a file.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.lock().clone()
    }

    fn nr_waiting(&self) -> u64 {
        // Relaxed: an estimate; a call that misses a change closes one descriptor more or less.
        self.nr_waiting.load(Ordering::Relaxed)
    }

    fn add_waiting(&self, nr: i64) {
        // Relaxed: see `nr_waiting`. Wraps around for negative numbers, as intended.
        self.nr_waiting.fetch_add(nr.cast_unsigned(), Ordering::Relaxed);
    }

    fn begin<'a>(&'a self, path: &'a Path) -> Closing<'a> {
        self.lock().push(path.to_owned());
        Closing { closings: self, path }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner)
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
