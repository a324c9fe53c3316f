//! Sampler: a thread that asks the watched process for snapshots, so that the screen never waits for it.

use core::time::Duration;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::thread;

use pagemill_status::errors::FetchError;
use pagemill_status::{Snapshot, fetch};

/// How long a process may take for a snapshot.
pub(crate) const FETCH_LIMIT: Duration = Duration::from_secs(3);

/// Snapshots of one process, until it is dropped.
#[derive(Debug)]
pub(crate) struct Sampler {
    samples: Receiver<Result<Snapshot, FetchError>>,
    /// Its end stops the thread.
    _stop: std::sync::mpsc::Sender<()>,
}

impl Sampler {
    /// Starts to ask the process at `path` every `interval`.
    ///
    /// # Errors
    /// What the system answers where it refuses a thread.
    pub(crate) fn start(path: PathBuf, interval: Duration) -> io::Result<Self> {
        let (stop, stopped) = channel();
        // The thread waits while the screen does not take samples: no queue grows.
        let (sender, samples) = sync_channel(1);
        thread::Builder::new()
            .name("sampler".into())
            .spawn(move || sample(&path, interval, &sender, &stopped))?;
        Ok(Self { samples, _stop: stop })
    }

    /// Returns what came since the last call, if anything did.
    pub(crate) fn next(&self) -> Option<Result<Snapshot, FetchError>> {
        self.samples.try_recv().ok()
    }
}

fn sample(
    path: &Path,
    interval: Duration,
    sender: &SyncSender<Result<Snapshot, FetchError>>,
    stopped: &Receiver<()>,
) {
    loop {
        // Nobody receives it once the screen shows something else.
        if sender.send(fetch(path, FETCH_LIMIT)).is_err() {
            return;
        }
        if stopped.recv_timeout(interval) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}
