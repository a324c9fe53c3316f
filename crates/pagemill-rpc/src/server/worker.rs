//! Worker thread: takes connections and datagrams from the queue, runs their calls and sends the
//! replies.

use alloc::sync::Arc;
use core::time::Duration;
use std::net::UdpSocket;
use std::thread;

use pagemill::units::PAGE_SIZE;

use crate::dispatch::dispatch::{Outcome, Route, Verdict};
use crate::dispatch::program::{Blocking, Peer, Transport};
use crate::panics::caught;
use crate::rqst::pages::Frames;
use crate::rqst::reply::Body;
use crate::rqst::rqst::Rqst;
use crate::server::server_state::{ServerState, WorkerSlot};
use crate::transport::input::Scratch;
use crate::transport::listener::Socket;
use crate::transport::receive::Received;
use crate::transport::run_queue::{Lane, RunQueue};
use crate::transport::scheduler::Task;
use crate::transport::tcp::Connection;
use crate::transport::udp::{self, Origin};
use crate::wire::record::MARK_BYTES;
use crate::wire::sync::{AtomicUsize, Ordering, lock};

/// Gathered replies are sent once they have this many bytes.
const BATCH_BYTES: usize = 32 << 10;
/// Maximum number of calls of one connection that a thread carries out before it turns to others.
const MAX_TURN: u32 = 64;
/// Milliseconds after which a thread begins no further call of one connection before it turns to others.
const MAX_TURN_MS: u64 = 10;
/// Number of turns after which a thread polls for events although the queue is not empty. New
/// connections, datagrams, and clients that the queue does not know of wait for this poll.
const POLL_TURNS: u32 = 16;
/// Milliseconds of a turn after which a thread polls for events before the next turn. The events that
/// the kernel keeps are in the order in which they came; only the queue takes clients in turn.
///
/// After shorter turns it does not: other clients wait for `POLL_TURNS` of them at most, and a poll
/// would make each of them longer.
const POLL_MS: u64 = 1;

/// Pause of a thread after a panic, so that a panic that recurs at once does not occupy a CPU.
const PAUSE: Duration = Duration::from_millis(10);

/// Processes calls until the server stops or has too many threads. After a panic, the thread starts
/// again with new pages.
pub(crate) fn run<S: Frames>(state: &ServerState<S>) {
    let has_left = loop {
        let done = caught(
            || work(state),
            |message| {
                state.dispatcher.stats().panicked.bump();
                tracing::error!(message, "a worker thread panicked outside of a procedure");
            },
        );
        match done {
            Some(has_left) => break has_left,
            None => thread::sleep(PAUSE),
        }
    };
    if !has_left {
        state.workers.on_exit();
    }
}

/// Processes calls; returns true if the thread has already been uncounted.
fn work<S: Frames>(state: &ServerState<S>) -> bool {
    let slot = Arc::new(WorkerSlot::new());
    let _remove = RemoveSlot { state, slot: Arc::clone(&slot) };
    lock(&state.slots).push(Arc::clone(&slot));
    let mut worker = Worker::new(state, slot);
    loop {
        match worker.turn() {
            Some(false) => {}
            Some(true) => return true,
            None => return false,
        }
    }
}

/// Removes a thread's slot on drop, also during a panic.
struct RemoveSlot<'a, S: Frames> {
    state: &'a ServerState<S>,
    slot: Arc<WorkerSlot<S>>,
}

impl<S: Frames> Drop for RemoveSlot<'_, S> {
    fn drop(&mut self) {
        lock(&self.state.slots).retain(|slot| !Arc::ptr_eq(slot, &self.slot));
    }
}

/// Cancels a thread's announcement that it sleeps on drop, also during a panic.
struct AwakeOnDrop<'a, T>(&'a RunQueue<T>);

impl<T> Drop for AwakeOnDrop<'_, T> {
    fn drop(&mut self) {
        self.0.awake();
    }
}

/// Arms a socket if the thread panics before it has done so: without that, the socket would raise no
/// further event.
struct ArmOnPanic<'a, S: Frames> {
    state: &'a ServerState<S>,
    token: u64,
}

impl<S: Frames> Drop for ArmOnPanic<'_, S> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.state.arm_socket(self.token);
        }
    }
}

/// Closes a connection if its thread panics: no thread would process it any more.
struct CloseOnPanic<'a, S: Frames> {
    state: &'a ServerState<S>,
    connection: &'a Arc<Connection<S>>,
}

impl<S: Frames> Drop for CloseOnPanic<'_, S> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.state.close(self.connection);
        }
    }
}

struct Worker<'a, S: Frames> {
    state: &'a ServerState<S>,
    rqst: Rqst<S>,
    scratch: Scratch,
    /// Complete replies to the current connection that have not been sent.
    batch: Vec<u8>,
    slot: Arc<WorkerSlot<S>>,
    turn: u32,
    /// The time, in milliseconds of the server's clock, when the current call began.
    now: u64,
    /// The time when the current turn began.
    began: u64,
}

/// What the thread does with a connection after one of its calls.
enum Then {
    /// The thread continues with the connection.
    Continue,
    /// The connection is armed, or another thread processes it.
    Release,
    /// It is closed.
    Close,
}

impl<'a, S: Frames> Worker<'a, S> {
    fn new(state: &'a ServerState<S>, slot: Arc<WorkerSlot<S>>) -> Self {
        let rqst = Rqst::new(state.source.clone(), state.config.max_payload_bytes);
        Self {
            state,
            rqst,
            scratch: Scratch::default(),
            batch: Vec::new(),
            slot,
            turn: 0,
            now: 0,
            began: 0,
        }
    }

    /// Runs one task. Returns `None` to stop, and true once the thread is uncounted because there were
    /// too many.
    fn turn(&mut self) -> Option<bool> {
        if self.state.workers.is_above_target() && self.state.workers.try_stop() {
            return Some(true);
        }
        if self.state.is_stopping() {
            return None;
        }
        if !self.refill() {
            return Some(false);
        }
        match self.next() {
            Some(Task::Calls(connection)) => self.serve(&connection),
            Some(Task::Event(connection)) => self.event(&connection),
            Some(Task::Socket(token)) => {
                let _arm = ArmOnPanic { state: self.state, token };
                match self.state.socket(token) {
                    Some(Socket::Tcp(listener, parked)) => {
                        self.state.accept(token, listener, parked);
                    }
                    Some(Socket::Udp(socket, running)) => self.datagram(token, socket, running),
                    None => {}
                }
            }
            None => {}
        }
        Some(false)
    }

    /// Refills the request's pages; returns false if the thread is to end.
    fn refill(&mut self) -> bool {
        let state = self.state;
        let stop = || state.is_stopping() || state.workers.is_above_target();
        self.rqst.alloc_arg(state.config.refill, &stop, &state.dispatcher.stats().refills)
    }

    /// Returns the next task of this thread; `None` if there is none, or the server stops.
    fn next(&mut self) -> Option<Task<Connection<S>>> {
        self.turn = self.turn.wrapping_add(1);
        let before = core::mem::replace(&mut self.began, self.state.now());
        self.now = self.began;
        let ready = &self.state.scheduler.run_queue;
        let polls = self.turn.is_multiple_of(POLL_TURNS) || self.began >= before + POLL_MS;
        let task = if polls { self.state.poll() } else { ready.pop() };
        if task.is_some() {
            return task;
        }
        if !ready.sleep() {
            return None;
        }
        let task = {
            let _awake = AwakeOnDrop(ready);
            self.slot.idle.swap(&mut self.rqst);
            let task = self.state.wait();
            self.slot.idle.swap(&mut self.rqst);
            task
        };
        self.began = self.state.now();
        self.now = self.began;
        if self.rqst.is_filled() {
            return task;
        }
        // Memory was short meanwhile. While this thread replaces its pages, another may take the task.
        self.state.scheduler.push_tasks(task);
        None
    }

    /// Sends queued replies. Then carries out calls, unless another thread has the right to receive.
    fn event(&mut self, connection: &Arc<Connection<S>>) {
        if self.send_backlog(connection) && connection.take_reading() {
            self.serve(connection);
        }
    }

    /// Sends queued replies; returns true if none is left.
    fn send_backlog(&self, connection: &Arc<Connection<S>>) -> bool {
        let _close = CloseOnPanic { state: self.state, connection };
        if !connection.is_backlogged() {
            return true;
        }
        match connection.flush(self.state.now()) {
            Ok((bytes, all)) => {
                self.state.dispatcher.stats().sent_bytes.add(bytes as u64);
                if !all {
                    self.state.arm(connection, false);
                }
                all
            }
            Err(_) => {
                self.state.close(connection);
                false
            }
        }
    }

    /// Receives and carries out calls of a connection.
    fn serve(&mut self, connection: &Arc<Connection<S>>) {
        let _close = CloseOnPanic { state: self.state, connection };
        let mut then = Then::Continue;
        let end = self.began + MAX_TURN_MS;
        for _ in 0..MAX_TURN {
            then = self.one_call(connection);
            if !matches!(then, Then::Continue) || !self.refill() {
                break;
            }
            self.now = self.state.now();
            if self.now >= end {
                break;
            }
        }
        if self.flush(connection).is_err() {
            then = Then::Close;
        }
        match then {
            Then::Continue => self.state.scheduler.push(Arc::clone(connection), Lane::Busy),
            Then::Release => {}
            Then::Close => {
                self.state.close(connection);
            }
        }
    }

    /// Receives and carries out one call.
    fn one_call(&mut self, connection: &Arc<Connection<S>>) -> Then {
        let now = self.now;
        let stats = self.state.dispatcher.stats();
        if connection.is_backlogged() {
            self.state.arm(connection, true);
            return Then::Release;
        }
        let more = match connection.receive(&mut self.rqst, &mut self.scratch, now, &|rqst| {
            self.state.dispatcher.may_splice(rqst)
        }) {
            Received::Call { more } => more,
            Received::Partly => return self.rest(connection),
            Received::Parked => {
                stats.parked.bump();
                return Then::Release;
            }
            Received::Closed => return Then::Close,
            Received::Bad(error) => {
                stats.misbehaved.bump();
                tracing::debug!(peer = %connection.peer.addr, %error, "closed a connection");
                return Then::Close;
            }
        };
        stats.received_bytes.add((self.rqst.call_len() + MARK_BYTES) as u64);
        stats.spliced_bytes.add(self.rqst.splice().len() as u64);
        let route = self.state.dispatcher.route(&mut self.rqst, &connection.peer);
        if matches!(route, Route::Close) {
            return Then::Close;
        }
        match route.blocking() {
            Blocking::No => self.quick(connection, &route, more, now),
            Blocking::Yes => self.slow(connection, &route, more, now),
        }
    }

    /// Sends the gathered replies and waits for more input.
    fn rest(&mut self, connection: &Arc<Connection<S>>) -> Then {
        if self.flush(connection).is_err() {
            return Then::Close;
        }
        self.state.arm(connection, true);
        Then::Release
    }

    /// Carries out a quick call; the connection stays busy during the call.
    fn quick(
        &mut self,
        connection: &Arc<Connection<S>>,
        route: &Route,
        more: bool,
        now: u64,
    ) -> Then {
        self.slot.since.store(now, Ordering::Relaxed);
        self.slot.token.store(connection.token, Ordering::Relaxed);
        connection.busy.set();
        let verdict = self.judge(connection, route, now);
        let held = connection.busy.clear();
        self.slot.token.store(0, Ordering::Relaxed);
        let sent = match verdict {
            Verdict::Reply => self.send(connection).is_ok(),
            Verdict::Silence => true,
            Verdict::Close => false,
        };
        if !sent {
            return Then::Close;
        }
        match (held, more) {
            // The call took too long, and another thread processes the connection; the supervisor
            // counted it.
            (false, _) => {
                connection.running.fetch_sub(1, Ordering::Relaxed);
                Then::Release
            }
            (true, true) => Then::Continue,
            (true, false) => self.rest(connection),
        }
    }

    /// Carries out a call that may block. Other threads process the connection meanwhile, as long as
    /// that leaves a thread to other connections.
    fn slow(
        &mut self,
        connection: &Arc<Connection<S>>,
        route: &Route,
        more: bool,
        now: u64,
    ) -> Then {
        // Short calls, which may ask for large replies, wait while unread replies fill the budget.
        let len = self.rqst.call_len();
        if len <= PAGE_SIZE && self.state.scheduler.budget.is_full() {
            self.state.dispatcher.stats().parked.bump();
            if connection.postpone(&mut self.rqst, len) {
                return Then::Release;
            }
            return Then::Continue;
        }
        if self.flush(connection).is_err() {
            return Then::Close;
        }
        // Relaxed: the count keeps the supervisor from treating the connection as idle, and limits the
        // threads of the connection. A thread increments it only while it has the right to receive.
        let nr_running = connection.running.fetch_add(1, Ordering::Relaxed) + 1;
        let kept = !self.state.workers.may_have(nr_running + 1);
        if kept {
            // No other thread has the connection until this call ends.
        } else if more {
            self.state.scheduler.push(Arc::clone(connection), Lane::Busy);
        } else {
            self.state.arm(connection, true);
        }
        let verdict = self.judge(connection, route, now);
        // Before the reply: a client that has the reply may rely on the call having ended. The time
        // keeps the supervisor from treating the connection as idle after a call of minutes.
        connection.times.active.store(self.state.now(), Ordering::Relaxed);
        connection.running.fetch_sub(1, Ordering::Relaxed);
        let sent = match verdict {
            Verdict::Reply => self.send_now(connection).is_ok(),
            Verdict::Silence => true,
            Verdict::Close => false,
        };
        match sent {
            false => Then::Close,
            true if !kept => Then::Release,
            true if more => Then::Continue,
            true => self.rest(connection),
        }
    }

    /// Carries out a call, and records whether it was useful.
    fn judge(&mut self, connection: &Connection<S>, route: &Route, now: u64) -> Verdict {
        self.rqst.reply().set_may_send_file(self.state.may_keep_file());
        let Outcome { verdict, is_useful } =
            self.state.dispatcher.judge(&mut self.rqst, &connection.peer, route);
        if is_useful {
            connection.times.useful.store(now, Ordering::Relaxed);
        }
        verdict
    }

    /// Sends the reply; a small one is gathered with others.
    fn send(&mut self, connection: &Arc<Connection<S>>) -> std::io::Result<()> {
        let reply = self.rqst.reply();
        let head = reply.head_len();
        if matches!(reply.body(), Body::None) && head <= PAGE_SIZE {
            reply.seal();
            if let Some(page) = reply.pages().bytes(0) {
                self.batch.extend_from_slice(&page[..head]);
            }
            return if self.batch.len() >= BATCH_BYTES { self.flush(connection) } else { Ok(()) };
        }
        self.send_now(connection)
    }

    fn send_now(&mut self, connection: &Arc<Connection<S>>) -> std::io::Result<()> {
        let sent = connection.send(&self.batch, Some(self.rqst.reply()), self.state.now());
        self.batch.clear();
        self.sent(connection, sent)?;
        if !self.state.config.keep_reply_pages {
            self.rqst.release_pages();
        }
        Ok(())
    }

    fn flush(&mut self, connection: &Arc<Connection<S>>) -> std::io::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let sent = connection.send(&self.batch, None, self.state.now());
        self.batch.clear();
        self.sent(connection, sent)
    }

    fn sent(
        &self,
        connection: &Arc<Connection<S>>,
        sent: std::io::Result<(usize, bool)>,
    ) -> std::io::Result<()> {
        let (bytes, all) = sent?;
        let stats = self.state.dispatcher.stats();
        stats.sent_bytes.add(bytes as u64);
        if !all {
            stats.backlogged.bump();
            self.state.arm(connection, false);
        }
        Ok(())
    }

    /// Carries out a call that came as a datagram. Other threads may receive meanwhile, as long as the
    /// socket's calls leave a thread to connections.
    fn datagram(&mut self, token: u64, socket: &UdpSocket, running: &AtomicUsize) {
        let received = udp::receive(socket, &mut self.rqst);
        // Relaxed: the count limits the threads of the socket; only the thread that holds the socket
        // increments it.
        let nr_running = running.fetch_add(1, Ordering::Relaxed) + 1;
        let _running = Running(running);
        let kept = !self.state.workers.may_have(nr_running + 1);
        if !kept {
            self.state.arm_socket(token);
        }
        if let Ok(Some(from)) = received {
            self.answer(socket, &from);
        }
        if kept {
            self.state.arm_socket(token);
        }
    }

    fn answer(&mut self, socket: &UdpSocket, from: &Origin) {
        let peer = Peer { addr: from.addr, transport: Transport::Udp };
        let stats = self.state.dispatcher.stats();
        stats.received_bytes.add(self.rqst.args_len() as u64);
        let route = self.state.dispatcher.route(&mut self.rqst, &peer);
        self.rqst.reply().limit_to(udp::MAX_DATAGRAM_BYTES);
        if self.state.dispatcher.run(&mut self.rqst, &peer, &route) == Verdict::Reply {
            match udp::send(socket, from, self.rqst.reply()) {
                Ok(sent) => stats.sent_bytes.add(sent as u64),
                Err(error) => {
                    tracing::debug!(addr = %from.addr, %error, "a reply could not be sent");
                }
            }
        }
    }
}

/// Decrements a thread count on drop, also during a panic.
struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
