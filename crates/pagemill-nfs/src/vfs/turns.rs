//! Threads at work on each export: a file system that hangs leaves some for the others.
//!
//! An export may have three quarters of the threads that no other export has, and always one. A call
//! that finds its export at this limit waits while calls of the export end, as behind a slow disk.
//! If none ends for [`GRACE`], the export counts as hung: its calls are answered at once with
//! `NFS3ERR_JUKEBOX`, after which clients ask again, until one of those under way ends.

use core::time::Duration;
use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::fh::{BuildSpreadAlready, ExportId};
use crate::status::{NfsResult, NfsStatus};

/// How long no call of an export ends before the export counts as hung. Others may have to wait as
/// long for a thread, once.
const GRACE: Duration = Duration::from_millis(400);

/// The threads that are at work.
#[derive(Debug)]
pub(crate) struct Turns {
    /// All threads of the server; 0 for no limit.
    nr_threads: usize,
    /// Locked for a few instructions.
    busy: Mutex<Busy>,
    /// Tells those who wait that a call has ended.
    ended: Condvar,
}

#[derive(Debug, Default)]
struct Busy {
    /// Threads at work on all exports.
    nr_threads: usize,
    /// Exports with threads at work.
    exports: HashMap<ExportId, AtWork, BuildSpreadAlready>,
}

#[derive(Debug)]
struct AtWork {
    nr_threads: usize,
    /// When the last call ended or, if that was later, the limit was reached.
    progress: Instant,
    is_hung: bool,
}

/// A thread's permission to work on an export, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    export: ExportId,
}

/// What an export at its limit is told.
enum Full {
    /// To wait this long for a call to end.
    Wait(Duration),
    /// That none has ended for too long.
    Hung {
        /// Whether nobody knew.
        is_news: bool,
    },
}

impl Turns {
    pub(crate) fn new(nr_threads: usize) -> Self {
        Self { nr_threads, busy: Mutex::default(), ended: Condvar::new() }
    }

    /// Lets this thread work on an export.
    ///
    /// # Errors
    /// [`Jukebox`](NfsStatus::Jukebox) if the export has hung with as many threads as it may have.
    pub(crate) fn enter(&self, export: ExportId) -> NfsResult<Turn<'_>> {
        let mut busy = self.lock();
        loop {
            match busy.try_enter(export, self.nr_threads) {
                Ok(()) => return Ok(Turn { turns: self, export }),
                Err(Full::Wait(rest)) => {
                    let waited = self.ended.wait_timeout(busy, rest);
                    (busy, _) = waited.unwrap_or_else(PoisonError::into_inner);
                }
                Err(Full::Hung { is_news }) => {
                    drop(busy);
                    if is_news {
                        tracing::warn!(
                            "an export does not respond: no call has ended for {GRACE:?}; its \
                             clients are told to ask again"
                        );
                    }
                    return Err(NfsStatus::Jukebox);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Busy> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Busy {
    fn try_enter(&mut self, export: ExportId, nr_threads: usize) -> Result<(), Full> {
        let now = Instant::now();
        let fresh = AtWork { nr_threads: 0, progress: now, is_hung: false };
        let at_work = self.exports.entry(export).or_insert(fresh);
        let limit = limit(nr_threads, self.nr_threads - at_work.nr_threads);
        if at_work.nr_threads < limit {
            at_work.nr_threads += 1;
            self.nr_threads += 1;
            if at_work.nr_threads == limit {
                at_work.progress = now;
            }
            return Ok(());
        }
        match GRACE.checked_sub(now.duration_since(at_work.progress)) {
            Some(rest) if !at_work.is_hung && !rest.is_zero() => Err(Full::Wait(rest)),
            _ => Err(Full::Hung { is_news: !core::mem::replace(&mut at_work.is_hung, true) }),
        }
    }

    fn leave(&mut self, export: ExportId) {
        self.nr_threads -= 1;
        let Some(at_work) = self.exports.get_mut(&export) else { return };
        at_work.nr_threads -= 1;
        at_work.progress = Instant::now();
        at_work.is_hung = false;
        if at_work.nr_threads == 0 {
            self.exports.remove(&export);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.lock().leave(self.export);
        self.turns.ended.notify_all();
    }
}

/// Returns how many of `nr_threads` an export may have while others have `nr_of_others`.
fn limit(nr_threads: usize, nr_of_others: usize) -> usize {
    match nr_threads {
        0 => usize::MAX,
        _ => (nr_threads.saturating_sub(nr_of_others) * 3 / 4).max(1),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const HUNG: ExportId = ExportId(1);
    const OTHER: ExportId = ExportId(2);

    /// Takes what an export may have, as calls do that never end.
    fn hang<'a>(turns: &'a Turns, export: ExportId, nr: usize) -> Vec<Turn<'a>> {
        let taken: Vec<_> = (0..nr).map(|_| turns.enter(export).unwrap()).collect();
        assert_eq!(turns.enter(export).unwrap_err(), NfsStatus::Jukebox);
        taken
    }

    #[test]
    fn a_hung_export_leaves_threads_for_others_and_these_for_yet_others() {
        let turns = Turns::new(8);
        let first = hang(&turns, HUNG, 6);
        drop(turns.enter(OTHER).unwrap());
        let second = hang(&turns, OTHER, 1);
        let third = turns.enter(ExportId(3)).unwrap();
        drop((first, second, third));
        drop(hang(&turns, OTHER, 6));
    }

    #[test]
    fn a_hung_export_is_refused_at_once_until_a_call_ends() {
        let turns = Turns::new(8);
        let mut taken = hang(&turns, HUNG, 6);
        let since = Instant::now();
        for _ in 0..1000 {
            assert_eq!(turns.enter(HUNG).unwrap_err(), NfsStatus::Jukebox);
        }
        assert!(since.elapsed() < 1000 * GRACE, "none of them waited");
        taken.pop();
        drop(turns.enter(HUNG).unwrap());
    }

    #[test]
    fn a_slow_export_is_never_refused() {
        let turns = Turns::new(8);
        thread::scope(|scope| {
            // As many as a server has threads, each call as long as a disk may take.
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..10 {
                        let turn = turns.enter(HUNG).unwrap();
                        thread::sleep(GRACE / 20);
                        drop(turn);
                    }
                });
            }
        });
        assert_eq!(turns.lock().nr_threads, 0);
        assert!(turns.lock().exports.is_empty());
    }

    #[test]
    fn every_server_serves_each_export() {
        for nr_threads in 1..100 {
            assert!(limit(nr_threads, 0) >= 1);
            assert!(nr_threads == 1 || limit(nr_threads, 0) < nr_threads);
            assert_eq!(limit(nr_threads, nr_threads), 1);
        }
        assert_eq!(limit(0, 100), usize::MAX);
    }
}
