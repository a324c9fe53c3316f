//! Supervisor thread: enforces the timeouts of calls, replies and idle connections, and reassigns
//! connections from slow calls.

use alloc::sync::Arc;
use core::cmp::Reverse;
use core::time::Duration;
use std::thread;

use crate::panics::caught;
use crate::rqst::pages::Frames;
use crate::server::idle_shrinker::IdleShrinker;
use crate::server::server_state::ServerState;
use crate::transport::run_queue::Lane;
use crate::transport::tcp::Connection;
use crate::wire::sync::{Ordering, lock};

/// Interval between checks of a busy server; also the time limit of a quick call.
const TICK: Duration = Duration::from_millis(10);
/// Interval between checks of an idle server.
const IDLE_TICK: Duration = Duration::from_millis(100);
/// Number of ticks, of either length, between checks of all connections' timeouts.
const SWEEP_TICKS: u32 = 10;

/// Enforces time limits until the server stops. As long as it runs, sleeping workers free their pages
/// when memory is short.
pub(crate) fn run<S: Frames>(state: &Arc<ServerState<S>>) {
    let shrinker = IdleShrinker::leak(state);
    let registered = state.source.allocator().register_shrinker(shrinker);
    if let Err(error) = &registered {
        tracing::warn!(%error, "sleeping workers keep their pages when memory is short");
    }
    watch(state);
    drop(registered);
    shrinker.clear();
}

fn watch<S: Frames>(state: &ServerState<S>) {
    let (mut calls, mut tick) = (0, 0_u32);
    while !state.is_stopping() {
        let now_calls = state.dispatcher.stats().calls.value();
        let is_quiet = now_calls == calls && state.scheduler.budget.nr_waiting() == 0;
        thread::park_timeout(if is_quiet { IDLE_TICK } else { TICK });
        calls = now_calls;
        tick = tick.wrapping_add(1);
        // After a panic, the next tick checks again.
        let _done = caught(
            || look(state, tick.is_multiple_of(SWEEP_TICKS)),
            |message| {
                state.dispatcher.stats().panicked.bump();
                tracing::error!(message, "the supervisor thread panicked");
            },
        );
    }
}

fn look<S: Frames>(state: &ServerState<S>, sweeps: bool) {
    take_over(state);
    state.retry_accept();
    if state.scheduler.budget.nr_waiting() > 0 {
        relieve(state);
    }
    if sweeps {
        sweep(state);
    }
}

/// Passes connections on from threads whose quick calls take too long.
fn take_over<S: Frames>(state: &ServerState<S>) {
    let now = state.now();
    let long = u64::try_from(TICK.as_millis()).unwrap_or(u64::MAX);
    let mut tokens = Vec::new();
    for slot in lock(&state.slots).iter() {
        let token = slot.token.load(Ordering::Relaxed);
        if token != 0 && now.saturating_sub(slot.since.load(Ordering::Relaxed)) >= long {
            tokens.push(token);
        }
    }
    for connection in tokens.into_iter().filter_map(|token| state.connection(token)) {
        // The call now counts as a blocking one, unless the connection has as many threads as it may.
        // Counted first: the thread reverts the count once it sees that its busy flag was cleared.
        let nr_running = connection.running.fetch_add(1, Ordering::Relaxed) + 1;
        if state.workers.may_have(nr_running + 1) && connection.busy.clear() {
            state.scheduler.push(connection, Lane::Busy);
        } else {
            connection.running.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Closes connections that hold memory which others wait for, until none waits.
///
/// Closes first those of strangers, then those of the client that holds most, of its address that holds
/// most, then those that have never completed a useful call, then those that hold most.
fn relieve<S: Frames>(state: &ServerState<S>) {
    let (now, budget) = (state.now(), &state.scheduler.budget);
    let mut holders: Vec<_> =
        state.connections().into_iter().filter(|connection| connection.holding() > 0).collect();
    holders.sort_by_cached_key(|connection| {
        let used = Reverse(budget.used_by(connection.client));
        let is_known = !connection.client.is_stranger();
        let is_proven = connection.times.useful.load(Ordering::Relaxed) != 0;
        (is_known, used, is_proven, Reverse(connection.holding()))
    });
    for connection in holders {
        if budget.nr_waiting() == 0 {
            break;
        }
        if let Some(why) = in_the_way(state, &connection, now) {
            state.evict(&connection, why);
        }
        // Dropping the last reference passes its memory to waiting connections.
        drop(connection);
    }
}

/// Returns why a connection that holds memory is closed while others wait for it; `None` if it is not.
fn in_the_way<S: Frames>(
    state: &ServerState<S>,
    connection: &Connection<S>,
    now: u64,
) -> Option<&'static str> {
    let since = |time: u64| Duration::from_millis(now.saturating_sub(time));
    let began = connection.began()?;
    let is_beyond = || state.scheduler.budget.is_beyond_its_share(connection.client);
    if since(began) >= state.config.share_timeout && is_beyond() {
        return Some("a client that holds less memory needs it");
    }
    // The server itself keeps the connection waiting, unless its client does not read replies. Such
    // connections could hold all of the memory that they wait for.
    let is_backlogged = connection.times.backlog.load(Ordering::Relaxed) != 0;
    if connection.is_waiting() && !is_backlogged {
        return None;
    }
    if since(connection.times.active.load(Ordering::Relaxed)) >= state.config.stall_timeout {
        return Some("it holds memory that others need, and nothing comes or goes");
    }
    if since(began) >= state.config.pressure_timeout {
        return Some("it holds memory that others need for too long");
    }
    None
}

/// Closes connections that exceeded a timeout.
fn sweep<S: Frames>(state: &ServerState<S>) {
    let now = state.now();
    for connection in state.connections() {
        if let Some(why) = overdue(state, &connection, now)
            && state.close(&connection)
        {
            state.dispatcher.stats().timed_out.bump();
            tracing::debug!(peer = %connection.peer.addr, why, "closed a connection");
        }
    }
}

fn overdue<S: Frames>(
    state: &ServerState<S>,
    connection: &Connection<S>,
    now: u64,
) -> Option<&'static str> {
    let config = &state.config;
    let since = |time: u64| Duration::from_millis(now.saturating_sub(time));
    let times = &connection.times;
    let record = times.record.load(Ordering::Relaxed);
    if record != 0 && since(record) >= config.record_timeout {
        return Some("a call did not come whole in time");
    }
    let backlog = times.backlog.load(Ordering::Relaxed);
    if backlog != 0 && since(backlog) >= config.reply_timeout {
        return Some("replies were not read in time");
    }
    let active = times.active.load(Ordering::Relaxed);
    if connection.is_idle() && since(active) >= config.idle_timeout {
        return Some("it was idle");
    }
    None
}
