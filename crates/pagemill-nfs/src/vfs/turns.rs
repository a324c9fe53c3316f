//! Turns: limits the worker threads per file system; calls beyond it wait, or get `NFS3ERR_JUKEBOX`.
//! So a slow or hanging file system does not block others.
//!
//! The exports of one file system may have three quarters of the threads that no other file system has,
//! and at least one. A call whose file system is at this limit waits for another call of it to end. It
//! gets `NFS3ERR_JUKEBOX`, after which clients repeat the call, once it has waited for [`GRACE`] and
//! no more calls have ended in that time than the file system may have threads: then the file system is
//! slow. Calls of a slow file system do not wait: those beyond the limit get `NFS3ERR_JUKEBOX` at once,
//! so that the remaining threads stay free for other exports.

use core::time::Duration;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::protocol::status::{NfsResult, NfsStatus};

/// Longest wait for a turn before the file system may count as slow. Calls of other file systems may
/// have to wait as long for a thread, once.
const GRACE: Duration = Duration::from_millis(400);
/// Shortest time between two warnings about one file system.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// A mounted file system.
///
/// The number of its device, which is the same for all mounts of it: bind mounts of a directory hang
/// together with the file system. Each subvolume of btrfs has its own number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FileSystem(pub(crate) u64);

/// Worker threads by file system.
#[derive(Debug)]
pub(crate) struct Turns {
    /// All threads of the server; 0 for no limit.
    nr_threads: usize,
    /// Held for a few instructions.
    busy: Mutex<Busy>,
    /// Notified when a call ends.
    ended: Condvar,
}

#[derive(Debug, Default)]
struct Busy {
    /// Threads that work on any file system.
    nr_threads: usize,
    /// File systems that threads work on.
    file_systems: HashMap<FileSystem, AtWork>,
    /// Time of the last logged warning about each slow file system.
    warned: HashMap<FileSystem, Instant>,
}

#[derive(Debug, Default)]
struct AtWork {
    nr_threads: usize,
    /// Calls that have ended since the entry was made.
    nr_ended: u64,
    /// Set while the file system is slow: the start of the current measurement, and `nr_ended` then.
    slow: Option<Span>,
}

/// The start of a time span in which ended calls are counted.
#[derive(Clone, Copy, Debug)]
struct Span {
    since: Instant,
    nr_ended: u64,
}

/// A thread's permission to work on a file system, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    fs: FileSystem,
}

/// The state that a call finds.
enum Found {
    /// A turn, which the call now has.
    Turn,
    /// The file system is at its limit.
    Full,
    /// The file system is at its limit, and slow.
    Slow,
}

impl Turns {
    pub(crate) fn new(nr_threads: usize) -> Self {
        Self { nr_threads, busy: Mutex::default(), ended: Condvar::new() }
    }

    /// Admits this thread to the file system of the export at `path`, which is for the log.
    ///
    /// # Errors
    /// [`Jukebox`](NfsStatus::Jukebox) if the file system is slow and at its limit.
    pub(crate) fn enter(&self, fs: FileSystem, path: &Path) -> NfsResult<Turn<'_>> {
        let mut busy = self.lock();
        let mut waiting: Option<Span> = None;
        loop {
            match busy.try_enter(fs, self.nr_threads) {
                Found::Turn => return Ok(Turn { turns: self, fs }),
                Found::Slow => return Err(NfsStatus::Jukebox),
                Found::Full => {}
            }
            let span = *waiting.get_or_insert_with(|| busy.span(fs));
            let rest = GRACE.saturating_sub(span.since.elapsed());
            if !rest.is_zero() {
                let waited = self.ended.wait_timeout(busy, rest);
                (busy, _) = waited.unwrap_or_else(PoisonError::into_inner);
            } else if busy.is_slow_since(fs, &span, self.nr_threads) {
                let is_news = busy.mark_slow(fs);
                drop(busy);
                if is_news {
                    tracing::warn!(
                        path = ?path,
                        "the file system of an export is slow or does not respond: its calls take \
                         longer than {GRACE:?}; calls beyond its share of the threads get \
                         NFS3ERR_JUKEBOX, and clients repeat them"
                    );
                }
                return Err(NfsStatus::Jukebox);
            } else {
                // Many calls ended, but other calls took their turns.
                waiting = None;
            }
        }
    }

    /// Returns whether threads work on a file system.
    pub(crate) fn are_at_work(&self, fs: FileSystem) -> bool {
        self.lock().file_systems.contains_key(&fs)
    }

    fn lock(&self) -> MutexGuard<'_, Busy> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Busy {
    fn try_enter(&mut self, fs: FileSystem, nr_threads: usize) -> Found {
        let limit = self.limit(fs, nr_threads);
        let at_work = self.file_systems.entry(fs).or_default();
        if at_work.nr_threads < limit {
            at_work.nr_threads += 1;
            self.nr_threads += 1;
            return Found::Turn;
        }
        if at_work.slow.is_some() { Found::Slow } else { Found::Full }
    }

    /// Returns how many threads a file system may have now.
    fn limit(&self, fs: FileSystem, nr_threads: usize) -> usize {
        let own = self.file_systems.get(&fs).map_or(0, |at_work| at_work.nr_threads);
        limit(nr_threads, self.nr_threads - own)
    }

    /// Starts to count the calls of a file system that end.
    fn span(&self, fs: FileSystem) -> Span {
        let nr_ended = self.file_systems.get(&fs).map_or(0, |at_work| at_work.nr_ended);
        Span { since: Instant::now(), nr_ended }
    }

    /// Returns whether fewer calls have ended than the file system may have threads.
    fn is_slow_since(&self, fs: FileSystem, span: &Span, nr_threads: usize) -> bool {
        let limit = self.limit(fs, nr_threads) as u64;
        self.file_systems
            .get(&fs)
            .is_some_and(|at_work| at_work.nr_ended.saturating_sub(span.nr_ended) <= limit)
    }

    /// Marks a file system as slow. Returns whether a warning is due.
    fn mark_slow(&mut self, fs: FileSystem) -> bool {
        let span = self.span(fs);
        let Some(at_work) = self.file_systems.get_mut(&fs) else { return false };
        at_work.slow = Some(span);
        let warned = self.warned.get(&fs);
        let is_news = warned.is_none_or(|warned| warned.elapsed() >= WARN_EVERY);
        if is_news {
            self.warned.retain(|_, warned| warned.elapsed() < WARN_EVERY);
            self.warned.insert(fs, span.since);
        }
        is_news
    }

    fn leave(&mut self, fs: FileSystem, nr_threads: usize) {
        let limit = self.limit(fs, nr_threads) as u64;
        self.nr_threads -= 1;
        let Some(at_work) = self.file_systems.get_mut(&fs) else { return };
        at_work.nr_threads -= 1;
        at_work.nr_ended += 1;
        if at_work.nr_threads == 0 {
            self.file_systems.remove(&fs);
            return;
        }
        let Some(span) = &mut at_work.slow else { return };
        if span.since.elapsed() >= GRACE {
            *span = Span { since: Instant::now(), nr_ended: at_work.nr_ended };
        } else if at_work.nr_ended - span.nr_ended > limit {
            at_work.slow = None;
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.lock().leave(self.fs, self.turns.nr_threads);
        self.turns.ended.notify_all();
    }
}

/// Returns how many of `nr_threads` a file system may have while others have `nr_of_others`.
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

    const HUNG: FileSystem = FileSystem(1);
    const OTHER: FileSystem = FileSystem(2);

    impl Turns {
        fn take(&self, fs: FileSystem) -> NfsResult<Turn<'_>> {
            self.enter(fs, Path::new("/export"))
        }
    }

    /// Takes what a file system may have, as calls do that never end.
    fn hang<'a>(turns: &'a Turns, fs: FileSystem, nr: usize) -> Vec<Turn<'a>> {
        let taken: Vec<_> = (0..nr).map(|_| turns.take(fs).unwrap()).collect();
        assert_eq!(turns.take(fs).unwrap_err(), NfsStatus::Jukebox);
        taken
    }

    #[test]
    fn a_hung_file_system_leaves_threads_for_a_second_and_a_third() {
        let turns = Turns::new(8);
        let first = hang(&turns, HUNG, 6);
        drop(turns.take(OTHER).unwrap());
        let second = hang(&turns, OTHER, 1);
        let third = turns.take(FileSystem(3)).unwrap();
        drop((first, second, third));
        drop(hang(&turns, OTHER, 6));
    }

    #[test]
    fn a_hung_file_system_is_refused_at_once_until_a_call_ends() {
        let turns = Turns::new(8);
        let mut taken = hang(&turns, HUNG, 6);
        let since = Instant::now();
        for _ in 0..1000 {
            assert_eq!(turns.take(HUNG).unwrap_err(), NfsStatus::Jukebox);
        }
        assert!(since.elapsed() < 1000 * GRACE, "none of them waited");
        taken.pop();
        drop(turns.take(HUNG).unwrap());
    }

    #[test]
    fn a_slow_file_system_is_never_refused() {
        let turns = Turns::new(8);
        thread::scope(|scope| {
            // As many as a server has threads, each call as long as a disk may take.
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..10 {
                        let turn = turns.take(HUNG).unwrap();
                        thread::sleep(GRACE / 20);
                        drop(turn);
                    }
                });
            }
        });
        assert_eq!(turns.lock().nr_threads, 0);
        assert!(turns.lock().file_systems.is_empty());
    }

    /// Calls longer than `GRACE`, of which one ends every now and then: none of those that come
    /// meanwhile may keep a thread for longer than `GRACE`, once.
    #[test]
    fn calls_of_a_slow_file_system_do_not_wait_on_their_threads() {
        let turns = Turns::new(8);
        let mut taken = hang(&turns, HUNG, 6);
        for _ in 0..10 {
            taken.remove(0);
            taken.push(turns.take(HUNG).unwrap());
            let since = Instant::now();
            for _ in 0..100 {
                assert_eq!(turns.take(HUNG).unwrap_err(), NfsStatus::Jukebox);
            }
            assert!(since.elapsed() < 100 * GRACE, "none of them waited");
        }
    }

    #[test]
    fn a_file_system_is_not_slow_because_others_took_threads() {
        let turns = Turns::new(8);
        let mut first: Vec<_> = (0..6).map(|_| turns.take(HUNG).unwrap()).collect();
        thread::sleep(GRACE);
        let second = turns.take(OTHER).unwrap();
        // The limit is 5 by now. Calls end: who waits gets a turn.
        thread::scope(|scope| {
            let waits = scope.spawn(|| turns.take(HUNG).map(drop));
            thread::sleep(GRACE / 20);
            first.truncate(4);
            assert_eq!(waits.join().unwrap(), Ok(()));
        });
        drop(second);
    }

    #[test]
    fn a_file_system_that_is_fast_again_is_not_slow() {
        let turns = Turns::new(8);
        let mut taken = hang(&turns, HUNG, 6);
        while turns.lock().file_systems[&HUNG].slow.is_some() {
            taken.pop();
            taken.push(turns.take(HUNG).unwrap());
        }
    }

    #[test]
    fn every_file_system_may_have_a_thread() {
        for nr_threads in 1..100 {
            assert!(limit(nr_threads, 0) >= 1);
            assert!(nr_threads == 1 || limit(nr_threads, 0) < nr_threads);
            assert_eq!(limit(nr_threads, nr_threads), 1);
        }
        assert_eq!(limit(0, 100), usize::MAX);
    }
}
