//! Turns: limits the worker threads per file system; calls beyond it wait, or get `NFS3ERR_JUKEBOX`.
//! So a slow or hanging file system does not block others.
//!
//! The exports of one file system share a limit: three quarters of the threads that do not work on other
//! file systems, and at least one. A call whose file system is at this limit waits, on its thread, for
//! another call of the file system to end. If it has waited for [`GRACE`], and no more calls have ended
//! in that time than the file system may have threads, the file system is slow. The call then gets
//! `NFS3ERR_JUKEBOX`, after which clients repeat it. Calls of a slow file system do not wait: those
//! beyond the limit get `NFS3ERR_JUKEBOX` at once, so that the remaining threads stay free for other
//! exports.
//!
//! So a file system is slow if its calls take [`GRACE`] or longer while its threads are all busy. Calls
//! of a faster one may wait on all threads, because each wait is short. They are not counted against the
//! limit: the limit is reached often on a fast file system too, and a Linux client repeats a refused
//! call only after 5 s. If no other file system is exported, only calls that need no file are kept
//! waiting, so the time is [`GRACE_ALONE`]: a slow disk then delays calls, and seldom refuses them.
//!
//! Clients that call a slow file system share its threads: none may have more than an equal part, or
//! the client that repeats its calls fastest would have them all.

use core::net::{IpAddr, Ipv6Addr};
use core::time::Duration;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::protocol::status::{NfsResult, NfsStatus};

/// Longest wait for a turn before the file system may count as slow, if others are exported.
///
/// Longer than a sync of a hard disk usually takes. It bounds what a file system that is not slow costs
/// others: a call of another client waits until a thread is free, which takes at most as long as a wait
/// and a call, twice this time. The server takes clients in turn, so further calls of the first client
/// do not add to that. A client's own calls wait for each other.
const GRACE: Duration = Duration::from_millis(100);
/// The same if no other file system is exported: how long a file system that does not respond may delay
/// calls that need no file, such as `NULL`.
const GRACE_ALONE: Duration = Duration::from_secs(1);
/// How long a client without a call counts among the clients of a slow file system: longer than clients
/// wait before they retry.
///
/// # Source
/// `linux-7.0` `fs/nfs/nfs3proc.c` `NFS_JUKEBOX_RETRY_TIME`: 5 s.
const CLIENT_LASTS: Duration = Duration::from_secs(15);
/// Maximum number of clients that are counted. With as many, none may have more than one thread.
const MAX_NR_CLIENTS: usize = 64;
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
    /// Calls of any file system that have ended.
    nr_ended: u64,
    /// File systems that threads work on.
    file_systems: HashMap<FileSystem, AtWork>,
    /// Time of the last logged warning about each slow file system.
    warned: HashMap<FileSystem, Instant>,
    /// Whether a single file system is exported.
    is_alone: bool,
}

#[derive(Debug, Default)]
struct AtWork {
    nr_threads: usize,
    /// Calls of this file system that have ended, plus `Busy::nr_ended` when the entry was made: if an
    /// entry is made again, the number is at least that of the earlier one.
    nr_ended: u64,
    /// Set while the file system is slow: the start of the current measurement, and `nr_ended` then.
    slow: Option<Span>,
    clients: HashMap<Client, Calls>,
}

/// A client: an IPv4 address, or an IPv6 network of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Client(IpAddr);

impl Client {
    pub(crate) fn of(addr: IpAddr) -> Self {
        Self(match addr.to_canonical() {
            IpAddr::V6(addr) => Ipv6Addr::from_bits(addr.to_bits() & !u128::from(u64::MAX)).into(),
            addr => addr,
        })
    }
}

/// The calls of one client on one file system.
#[derive(Clone, Copy, Debug)]
struct Calls {
    nr_threads: usize,
    /// Time of the last call, refused calls included.
    last: Instant,
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
    /// The client, if its threads are counted.
    client: Option<Client>,
}

/// The state that a call finds.
enum Found {
    /// A turn, which the call now has, and the client if its threads are counted.
    Turn(Option<Client>),
    /// The file system is at its limit.
    Full,
    /// The file system is slow, and the file system or the client is at its limit.
    Slow,
}

impl Turns {
    pub(crate) fn new(nr_threads: usize) -> Self {
        Self { nr_threads, busy: Mutex::default(), ended: Condvar::new() }
    }

    /// Admits this thread, for a call of `client`, to the file system of the export at `path`, which is
    /// for the log.
    ///
    /// # Errors
    /// [`Jukebox`](NfsStatus::Jukebox) if the file system is slow, and it or the client is at its limit.
    pub(crate) fn enter(&self, fs: FileSystem, client: Client, path: &Path) -> NfsResult<Turn<'_>> {
        let mut busy = self.lock();
        let mut waiting: Option<Span> = None;
        loop {
            match busy.try_enter(fs, client, self.nr_threads) {
                Found::Turn(client) => return Ok(Turn { turns: self, fs, client }),
                Found::Slow => return Err(NfsStatus::Jukebox),
                Found::Full => {}
            }
            let span = *waiting.get_or_insert_with(|| busy.span(fs));
            let grace = busy.grace();
            let rest = grace.saturating_sub(span.since.elapsed());
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
                         longer than {grace:?}; calls beyond its share of the threads get \
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

    /// Sets which file systems are exported.
    pub(crate) fn set_exported(&self, file_systems: impl IntoIterator<Item = FileSystem>) {
        let mut file_systems = file_systems.into_iter();
        let first = file_systems.next();
        self.lock().is_alone = file_systems.all(|other| Some(other) == first);
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
    fn try_enter(&mut self, fs: FileSystem, client: Client, nr_threads: usize) -> Found {
        let limit = self.limit(fs, nr_threads);
        let nr_ended = self.nr_ended;
        let at_work =
            self.file_systems.entry(fs).or_insert_with(|| AtWork { nr_ended, ..AtWork::default() });
        let is_slow = at_work.slow.is_some();
        let may = at_work.may_have(client, limit, is_slow);
        if may && at_work.nr_threads < limit {
            at_work.nr_threads += 1;
            self.nr_threads += 1;
            let counted = at_work.clients.get_mut(&client).map(|calls| {
                calls.nr_threads += 1;
                client
            });
            return Found::Turn(counted);
        }
        if is_slow { Found::Slow } else { Found::Full }
    }

    /// Returns how many threads a file system may have now.
    fn limit(&self, fs: FileSystem, nr_threads: usize) -> usize {
        let own = self.file_systems.get(&fs).map_or(0, |at_work| at_work.nr_threads);
        limit(nr_threads, self.nr_threads - own)
    }

    fn grace(&self) -> Duration {
        if self.is_alone { GRACE_ALONE } else { GRACE }
    }

    /// Starts to count the calls of a file system that end.
    fn span(&self, fs: FileSystem) -> Span {
        let nr_ended = self.file_systems.get(&fs).map_or(0, |at_work| at_work.nr_ended);
        Span { since: Instant::now(), nr_ended }
    }

    /// Returns whether no more calls have ended than the file system may have threads.
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

    fn leave(&mut self, fs: FileSystem, client: Option<Client>, nr_threads: usize) {
        let (limit, grace) = (self.limit(fs, nr_threads) as u64, self.grace());
        self.nr_threads -= 1;
        self.nr_ended += 1;
        let Some(at_work) = self.file_systems.get_mut(&fs) else { return };
        at_work.nr_threads -= 1;
        at_work.nr_ended += 1;
        if let Some(calls) = client.and_then(|client| at_work.clients.get_mut(&client)) {
            calls.nr_threads -= 1;
        }
        if at_work.nr_threads == 0 {
            self.file_systems.remove(&fs);
            return;
        }
        let Some(span) = &mut at_work.slow else { return };
        if span.since.elapsed() >= grace {
            *span = Span { since: Instant::now(), nr_ended: at_work.nr_ended };
        } else if at_work.nr_ended - span.nr_ended > limit {
            at_work.slow = None;
        }
    }
}

impl AtWork {
    /// Records a call of a client. Returns whether the client may have one more of the `limit` threads.
    fn may_have(&mut self, client: Client, limit: usize, is_slow: bool) -> bool {
        let now = Instant::now();
        if !self.clients.contains_key(&client) && self.clients.len() >= MAX_NR_CLIENTS {
            self.clients.retain(|_, calls| calls.is_recent(now));
            if self.clients.len() >= MAX_NR_CLIENTS {
                return true;
            }
        }
        let calls = self.clients.entry(client).or_insert(Calls { nr_threads: 0, last: now });
        calls.last = now;
        let own = calls.nr_threads;
        if !is_slow || own == 0 {
            return true;
        }
        let nr_clients = self.clients.values().filter(|calls| calls.is_recent(now)).count();
        own < limit.div_ceil(nr_clients.max(1))
    }
}

impl Calls {
    fn is_recent(&self, now: Instant) -> bool {
        self.nr_threads > 0 || now.duration_since(self.last) < CLIENT_LASTS
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.lock().leave(self.fs, self.client, self.turns.nr_threads);
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
    use alloc::collections::VecDeque;
    use std::thread;

    use super::*;

    const HUNG: FileSystem = FileSystem(1);
    const OTHER: FileSystem = FileSystem(2);

    impl Turns {
        fn take(&self, fs: FileSystem) -> NfsResult<Turn<'_>> {
            self.take_for(fs, 1)
        }

        fn take_for(&self, fs: FileSystem, client: u8) -> NfsResult<Turn<'_>> {
            self.enter(fs, Client::of([10, 0, 0, client].into()), Path::new("/export"))
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
    fn a_file_system_is_slow_if_no_more_calls_end_than_it_may_have_threads() {
        let turns = Turns::new(8);
        let _busy = turns.take(HUNG).unwrap();
        let span = turns.lock().span(HUNG);
        for _ in 0..6 {
            assert!(turns.lock().is_slow_since(HUNG, &span, 8));
            drop(turns.take(HUNG).unwrap());
        }
        assert!(turns.lock().is_slow_since(HUNG, &span, 8));
        drop(turns.take(HUNG).unwrap());
        assert!(!turns.lock().is_slow_since(HUNG, &span, 8));
    }

    #[test]
    fn every_turn_comes_back() {
        let turns = Turns::new(8);
        thread::scope(|scope| {
            for client in 0..8 {
                let turns = &turns;
                scope.spawn(move || {
                    for _ in 0..10 {
                        // Refused where the machine is too busy for this test.
                        let turn = turns.take_for(HUNG, client % 3);
                        thread::sleep(GRACE / 50);
                        drop(turn);
                    }
                });
            }
        });
        assert_eq!(turns.lock().nr_threads, 0);
        assert!(turns.lock().file_systems.is_empty());
    }

    #[test]
    fn a_client_that_repeats_its_calls_faster_does_not_have_every_turn() {
        let turns = Turns::new(8);
        let mut fast = hang(&turns, HUNG, 6);
        assert_eq!(turns.take_for(HUNG, 2).unwrap_err(), NfsStatus::Jukebox);
        // The second client repeats its call later.
        let mut second = Vec::new();
        for _ in 0..3 {
            fast.pop();
            assert_eq!(turns.take_for(HUNG, 1).unwrap_err(), NfsStatus::Jukebox);
            second.push(turns.take_for(HUNG, 2).unwrap());
        }
        fast.pop();
        assert_eq!(turns.take_for(HUNG, 2).unwrap_err(), NfsStatus::Jukebox, "it has its half");
        drop(turns.take_for(HUNG, 1).unwrap());
    }

    #[test]
    fn calls_that_end_count_also_if_all_have_ended_meanwhile() {
        let turns = Turns::new(8);
        let last = turns.take(HUNG).unwrap();
        for _ in 0..100 {
            drop(turns.take(HUNG).unwrap());
        }
        let span = turns.lock().span(HUNG);
        drop(last);
        assert!(!turns.are_at_work(HUNG));
        let _others: Vec<_> = (0..5).map(|_| turns.take(HUNG).unwrap()).collect();
        for _ in 0..6 {
            drop(turns.take(HUNG).unwrap());
        }
        assert!(!turns.lock().is_slow_since(HUNG, &span, 8), "7 calls have ended");
    }

    #[test]
    fn a_call_of_a_client_beyond_the_table_frees_no_thread_of_a_later_one() {
        let turns = Turns::new(4 * MAX_NR_CLIENTS);
        let first: Vec<_> = (0..64).map(|client| turns.take_for(HUNG, client).unwrap()).collect();
        assert_eq!(first.len(), MAX_NR_CLIENTS);
        let uncounted: Vec<_> = (0..5).map(|_| turns.take_for(HUNG, 200).unwrap()).collect();
        // The first clients call no more, and their time is over.
        drop(first);
        turns.lock().file_systems.get_mut(&HUNG).unwrap().clients.clear();
        let counted: Vec<_> = (0..3).map(|_| turns.take_for(HUNG, 200).unwrap()).collect();
        drop(uncounted);
        let client = Client::of([10, 0, 0, 200].into());
        let nr_threads = || turns.lock().file_systems[&HUNG].clients[&client].nr_threads;
        assert_eq!(nr_threads(), 3);
        let _other = turns.take(HUNG).unwrap();
        drop(counted);
        assert_eq!(nr_threads(), 0);
    }

    #[test]
    fn addresses_of_one_network_are_one_client() {
        let of = |addr: &str| Client::of(addr.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::2:3"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }

    /// Threads of a server, and a queue of connections, each with one call at a time.
    struct Crew {
        turns: Turns,
        queue: Mutex<VecDeque<FileSystem>>,
        /// How many calls of the slow file system have ended, were refused, and how many calls of the
        /// other have ended.
        counts: Mutex<[u64; 3]>,
        counted: Condvar,
    }

    impl Crew {
        fn work(&self, service: Duration) {
            loop {
                let Some(fs) = self.queue.lock().unwrap().pop_front() else {
                    thread::yield_now();
                    continue;
                };
                let count = match (fs, self.turns.take(fs)) {
                    (HUNG, Ok(turn)) => {
                        thread::sleep(service);
                        drop(turn);
                        0
                    }
                    (HUNG, Err(_)) => 1,
                    (OTHER, turn) => {
                        drop(turn.unwrap());
                        2
                    }
                    _ => return,
                };
                if fs == HUNG {
                    self.queue.lock().unwrap().push_back(fs);
                }
                self.counts.lock().unwrap()[count] += 1;
                self.counted.notify_all();
            }
        }

        fn wait(&self, done: impl Fn(&[u64; 3]) -> bool) -> [u64; 3] {
            let counts = self.counts.lock().unwrap();
            *self.counted.wait_while(counts, |counts| !done(counts)).unwrap()
        }
    }

    /// The calls of another file system that come while `nr_connections` sync files for 150 ms each:
    /// how long each takes, and how many syncs end meanwhile.
    fn calls_beside(nr_connections: usize) -> Vec<(Duration, u64)> {
        const NR_THREADS: usize = 8;
        const STOP: FileSystem = FileSystem(3);
        let crew = Crew {
            turns: Turns::new(NR_THREADS),
            queue: Mutex::new(vec![HUNG; nr_connections].into()),
            counts: Mutex::default(),
            counted: Condvar::new(),
        };
        thread::scope(|scope| {
            for _ in 0..NR_THREADS {
                scope.spawn(|| crew.work(Duration::from_millis(150)));
            }
            // Until the file system counts as slow, or a few rounds have passed.
            crew.wait(|[ended, refused, _]| *refused > 0 || *ended > 18);
            let calls = (1..=5).map(|nr| {
                let before = crew.counts.lock().unwrap()[0];
                let since = Instant::now();
                crew.queue.lock().unwrap().push_back(OTHER);
                let after = crew.wait(|[_, _, others]| *others == nr);
                (since.elapsed(), after[0] - before)
            });
            let calls = calls.collect();
            crew.queue.lock().unwrap().extend([STOP; NR_THREADS]);
            calls
        })
    }

    #[test]
    #[expect(clippy::print_stderr, reason = "the figures are in the log")]
    fn a_call_of_another_file_system_does_not_wait_for_those_of_a_slow_one() {
        for nr_connections in [1, 16, 250] {
            let mut calls = calls_beside(nr_connections);
            calls.sort_by_key(|(_, ended)| *ended);
            eprintln!("{nr_connections} connections: {calls:?}");
            // In the time of one sync, each of six threads ends at most two. The middle one of the calls
            // counts: a machine that stalls may delay any one of them.
            let (_, nr_waited) = calls[calls.len() / 2];
            assert!(nr_waited <= 12, "{nr_connections} connections: {calls:?}");
        }
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

    /// One try in many must succeed: a machine that stalls for longer than `GRACE` makes the file system
    /// slow indeed.
    #[test]
    fn a_file_system_is_not_slow_because_others_took_threads() {
        let is_served = || {
            let turns = Turns::new(8);
            let mut first: Vec<_> = (0..6).map(|_| turns.take(HUNG).unwrap()).collect();
            thread::sleep(GRACE);
            let _second = turns.take(OTHER).unwrap();
            // The limit is 5 by now. Calls end: who waits gets a turn.
            thread::scope(|scope| {
                let waits = scope.spawn(|| turns.take(HUNG).map(drop));
                thread::sleep(GRACE / 20);
                first.truncate(4);
                waits.join().unwrap() == Ok(())
            })
        };
        assert!((0..20).any(|_| is_served()));
    }

    /// Calls take longer than `GRACE`, and each of six threads ends several in `GRACE_ALONE`.
    #[test]
    fn calls_of_the_only_file_system_wait_where_those_of_several_would_be_refused() {
        let is_served = || {
            let turns = Turns::new(8);
            turns.set_exported([HUNG, HUNG]);
            let mut taken: Vec<_> = (0..6).map(|_| turns.take(HUNG).unwrap()).collect();
            thread::scope(|scope| {
                let waits = scope.spawn(|| turns.take(HUNG).map(drop));
                thread::sleep(2 * GRACE);
                taken.pop();
                waits.join().unwrap() == Ok(())
            })
        };
        // One try in many must succeed: a machine that stalls makes the file system slow indeed.
        assert!((0..20).any(|_| is_served()));
        let turns = Turns::new(8);
        turns.set_exported([HUNG]);
        drop(hang(&turns, HUNG, 6));
        for exported in [vec![], vec![HUNG], vec![HUNG, OTHER], vec![HUNG, HUNG, OTHER]] {
            let is_alone = !exported.contains(&OTHER);
            turns.set_exported(exported);
            assert_eq!(turns.lock().grace() == GRACE_ALONE, is_alone);
        }
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
