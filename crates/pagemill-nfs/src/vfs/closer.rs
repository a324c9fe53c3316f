//! Closer thread: closes the data descriptors of one export.
//!
//! Closing flushes a file where the file system wants it (FUSE, NFS), which takes for ever if the
//! other end hangs. Each export has a thread of its own for this, so that neither the sweep, nor a
//! reload, nor another export waits.

use alloc::sync::Arc;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;

/// Hands descriptors to a closer thread, which the first of them starts.
#[derive(Debug, Default)]
pub(crate) struct Closer {
    /// `None` if the thread could not be started.
    thread: OnceLock<Option<Sender<Arc<OwnedFd>>>>,
}

impl Closer {
    /// Closes a descriptor, once nobody else uses it.
    pub(crate) fn close(&self, file: Arc<OwnedFd>) {
        match self.thread.get_or_init(start) {
            // A thread that is gone gives the descriptor back, which closes it here.
            Some(thread) => drop(thread.send(file)),
            None => drop(file),
        }
    }
}

fn start() -> Option<Sender<Arc<OwnedFd>>> {
    let (sender, files) = channel::<Arc<OwnedFd>>();
    let started = thread::Builder::new()
        .name("closer".into())
        .spawn(move || files.into_iter().for_each(drop));
    match started {
        Ok(_detached) => Some(sender),
        Err(error) => {
            tracing::warn!(%error, "files are closed without a thread for it");
            None
        }
    }
}
