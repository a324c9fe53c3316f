//! The thread that looks after time limits: of calls, replies, idle connections and long holds.

use alloc::sync::Arc;
use core::time::Duration;
use std::thread;

use crate::hub::Hub;
use crate::pages::Frames;
use crate::sync::{Ordering, lock};
use crate::transport::tcp::Connection;

/// How often a busy server is looked at; also how long a quick call may take.
const TICK: Duration = Duration::from_millis(10);
/// How often an idle one is.
const IDLE_TICK: Duration = Duration::from_millis(100);
/// How often all connections are looked at, in ticks of either length.
const SWEEP_TICKS: u32 = 10;

/// Looks after time limits until the server stops.
pub(crate) fn run<S: Frames>(hub: &Hub<S>) {
    let (mut calls, mut tick) = (0, 0_u32);
    while !hub.is_stopping() {
        let now_calls = hub.dispatcher.stats().calls.value();
        thread::park_timeout(if now_calls == calls { IDLE_TICK } else { TICK });
        calls = now_calls;
        tick = tick.wrapping_add(1);
        take_over(hub);
        hub.retry_accept();
        if tick.is_multiple_of(SWEEP_TICKS) {
            sweep(hub);
        }
    }
}

/// Takes connections from threads whose quick calls take long after all.
fn take_over<S: Frames>(hub: &Hub<S>) {
    let now = hub.now();
    let long = u64::try_from(TICK.as_millis()).unwrap_or(u64::MAX);
    let mut tokens = Vec::new();
    for desk in lock(&hub.desks).iter() {
        let token = desk.token.load(Ordering::Relaxed);
        if token != 0 && now.saturating_sub(desk.since.load(Ordering::Relaxed)) >= long {
            tokens.push(token);
        }
    }
    for connection in tokens.into_iter().filter_map(|token| hub.connection(token)) {
        // The call counts as one that others need not wait for, unless the connection has as many
        // threads as it may. Counted first: the thread takes it back once it sees the hold gone.
        let nr_running = connection.running.fetch_add(1, Ordering::Relaxed) + 1;
        if hub.crew.may_have(nr_running + 1) && connection.hold.end() {
            hub.gate.push(connection);
        } else {
            connection.running.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Closes connections whose time is up.
fn sweep<S: Frames>(hub: &Hub<S>) {
    let now = hub.now();
    let pressed = hub.gate.budget.nr_waiting() > 0;
    for connection in hub.connections() {
        if let Some(why) = overdue(hub, &connection, now, pressed)
            && hub.close(&connection)
        {
            hub.dispatcher.stats().timed_out.bump();
            tracing::debug!(peer = %connection.peer.addr, why, "closed a connection");
        }
    }
}

fn overdue<S: Frames>(
    hub: &Hub<S>,
    connection: &Arc<Connection<S>>,
    now: u64,
    pressed: bool,
) -> Option<&'static str> {
    let config = &hub.config;
    let since = |time: u64| Duration::from_millis(now.saturating_sub(time));
    // Looked at before the times: those that waited for their part begin when they get it.
    let is_in_the_way = pressed && connection.holds_budget();
    let limit = |usual: Duration| {
        if is_in_the_way { usual.min(config.pressure_timeout) } else { usual }
    };
    let times = &connection.times;
    let record = times.record.load(Ordering::Relaxed);
    if record != 0 && since(record) >= limit(config.record_timeout) {
        return Some("a call did not come whole in time");
    }
    let backlog = times.backlog.load(Ordering::Relaxed);
    if backlog != 0 && since(backlog) >= limit(config.reply_timeout) {
        return Some("replies were not read in time");
    }
    let active = times.active.load(Ordering::Relaxed);
    if connection.is_idle() && since(active) >= config.idle_timeout {
        return Some("it was idle");
    }
    None
}
