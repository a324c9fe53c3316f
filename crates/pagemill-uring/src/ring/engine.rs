//! Engine: moves pages from the supply to the kernel and from the kernel into events, and decides which
//! connections receive.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::time::Duration;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use pagemill_host::os::OsError;

use crate::config::ReceiveConfig;
use crate::error::UringError;
use crate::kernel::port::{Cancelled, Completion, Port};
use crate::pages::filled::FilledPage;
use crate::pages::held::{Held, Lease};
use crate::pages::parcel::Parcel;
use crate::pages::received::Received;
use crate::pages::supply::PageSupply;
use crate::ring::connections::{Closing, Connection, Connections, Input};
use crate::ring::event::{ConnectionId, Event};
use crate::stats::RingStats;
use crate::sync::{AtomicUsize, Ordering};

/// The state of a ring over some kernel.
#[derive(Debug)]
pub(crate) struct Engine<P: PageSupply, K> {
    /// Dropped first: it returns pages to the supply.
    port: K,
    supply: P,
    connections: Connections<P::Page>,
    events: VecDeque<Event<P::Page>>,
    /// Connections that wait for pages on the buffer ring.
    starved: VecDeque<ConnectionId>,
    /// Connections of which users hold too many pages.
    paused: Vec<ConnectionId>,
    /// Pages between the supply and the port; empty between calls unless the port has no room for them.
    pages: Vec<P::Page>,
    /// Pages on their way back to the supply; empty between calls.
    returned: Vec<P::Page>,
    nr_held: Arc<AtomicUsize>,
    config: ReceiveConfig,
    stats: RingStats,
}

/// How often connections that wait for pages are looked at while nothing else happens: pages return on
/// other threads, without a signal.
const PRESSURE_PERIOD: Duration = Duration::from_millis(5);

impl<P: PageSupply, K: Port<P::Page>> Engine<P, K> {
    /// Makes a ring without connections.
    pub(crate) fn new(port: K, supply: P, config: &ReceiveConfig) -> Self {
        Self {
            port,
            supply,
            connections: Connections::new(config.nr_connections_max),
            events: VecDeque::new(),
            starved: VecDeque::new(),
            paused: Vec::new(),
            pages: Vec::new(),
            returned: Vec::new(),
            nr_held: Arc::new(AtomicUsize::new(0)),
            config: *config,
            stats: RingStats::default(),
        }
    }

    /// Adds a socket, and receives from it.
    pub(crate) fn add(&mut self, socket: OwnedFd) -> Result<ConnectionId, UringError> {
        let id = self.insert(socket, false)?;
        self.arm_or_remove(id)
    }

    /// Adds a listening socket, and accepts its connections.
    pub(crate) fn listen(&mut self, socket: OwnedFd) -> Result<ConnectionId, UringError> {
        let id = self.insert(socket, true)?;
        self.arm_or_remove(id)
    }

    /// Sends received bytes, after those that were to be sent before.
    pub(crate) fn send(
        &mut self,
        id: ConnectionId,
        received: Received<P::Page>,
    ) -> Result<(), UringError> {
        let connection = self.connections.get_mut(id).ok_or(UringError::NoConnection)?;
        if connection.is_listener || connection.closing != Closing::No {
            return Err(UringError::NotSending);
        }
        connection.unsent.push(received);
        self.start_send(id)
    }

    /// Closes a connection, once everything is sent or at once.
    pub(crate) fn close(&mut self, id: ConnectionId, how: Closing) -> Result<(), UringError> {
        let connection = self.connections.get_mut(id).ok_or(UringError::NoConnection)?;
        if connection.closing != Closing::AtOnce {
            connection.closing = how;
        }
        let is_sending = connection.is_sending;
        if how == Closing::AtOnce {
            connection.unsent = Parcel::new();
            if is_sending {
                self.port.cancel(id.to_number(), Cancelled::Send)?;
            }
        }
        self.stop_input(id)?;
        self.finish_if_done(id);
        Ok(())
    }

    /// Returns the socket of a connection.
    pub(crate) fn socket(&self, id: ConnectionId) -> Option<BorrowedFd<'_>> {
        self.connections.get(id).map(|connection| connection.socket.as_fd())
    }

    /// Returns how many bytes of a connection the kernel has not yet sent.
    pub(crate) fn nr_unsent(&self, id: ConnectionId) -> Option<usize> {
        let connection = self.connections.get(id)?;
        Some(connection.unsent.len() + connection.nr_sending)
    }

    /// Waits for events, at most for `timeout`, and returns how many there are.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> Result<usize, UringError> {
        let start = Instant::now();
        loop {
            self.refill();
            self.resume()?;
            let left = timeout.map(|timeout| timeout.saturating_sub(start.elapsed()));
            self.port.wait(self.patience(left))?;
            while let Some(completion) = self.port.next()? {
                self.complete(completion)?;
            }
            if !self.events.is_empty() || left.is_some_and(|left| left.is_zero()) {
                self.refill();
                return Ok(self.events.len());
            }
        }
    }

    /// Removes and returns the oldest event.
    #[inline]
    pub(crate) fn next_event(&mut self) -> Option<Event<P::Page>> {
        self.events.pop_front()
    }

    /// Takes pages back directly, which is cheaper than dropping them.
    #[inline]
    pub(crate) fn put(&mut self, received: Received<P::Page>) {
        let mut filled = received.into_pages();
        self.returned.extend(filled.drain(..).map(FilledPage::into_page));
        self.supply.put(&mut self.returned);
        self.port.keep_vec(filled);
    }

    /// Returns the counters.
    pub(crate) fn stats(&self) -> RingStats {
        RingStats {
            has_bundles: self.port.has_bundles(),
            nr_overflows: self.port.nr_overflows(),
            nr_posted: self.port.nr_posted(),
            nr_held: self.nr_held(),
            nr_connections: self.connections.nr(),
            ..self.stats
        }
    }

    /// Ends all requests, closes all connections, and returns the supply with the pages that the kernel
    /// had; the error if the kernel still has some.
    pub(crate) fn shut(self, patience: Duration) -> (P, Result<(), UringError>) {
        let Self { mut port, mut supply, connections, events, mut pages, .. } = self;
        let shut = port.shut(patience, &mut pages);
        supply.put(&mut pages);
        drop((events, connections));
        (supply, shut.map_err(|nr_pages| UringError::Leaked { nr_pages }))
    }

    fn nr_held(&self) -> usize {
        // Relaxed: a limit that is noticed a moment later is noticed at the next turn.
        self.nr_held.load(Ordering::Relaxed)
    }

    fn insert(&mut self, socket: OwnedFd, is_listener: bool) -> Result<ConnectionId, UringError> {
        let connection = Connection {
            socket,
            is_listener,
            input: Input::Idle,
            held: Held::new(&self.nr_held),
            unsent: Parcel::new(),
            is_sending: false,
            nr_sending: 0,
            closing: Closing::No,
        };
        let full = UringError::TooManyConnections { max: self.config.nr_connections_max };
        self.connections.add(Box::new(connection)).map_err(|_closed| full)
    }

    fn arm_or_remove(&mut self, id: ConnectionId) -> Result<ConnectionId, UringError> {
        match self.arm(id) {
            Ok(()) => Ok(id),
            Err(error) => {
                self.connections.remove(id);
                Err(error)
            }
        }
    }

    /// Starts to receive or to accept, unless the connection is being closed.
    fn arm(&mut self, id: ConnectionId) -> Result<(), UringError> {
        let Some(connection) = self.connections.get_mut(id) else { return Ok(()) };
        if connection.input != Input::Idle || connection.closing != Closing::No {
            return Ok(());
        }
        let socket = connection.socket.as_fd();
        if connection.is_listener {
            self.port.accept(id.to_number(), socket)?;
        } else {
            self.port.receive(id.to_number(), socket)?;
        }
        connection.input = Input::Armed;
        self.stats.nr_armed += 1;
        Ok(())
    }

    fn stop_input(&mut self, id: ConnectionId) -> Result<(), UringError> {
        let Some(connection) = self.connections.get_mut(id) else { return Ok(()) };
        if connection.input == Input::Armed {
            let what = if connection.is_listener { Cancelled::Accept } else { Cancelled::Receive };
            self.port.cancel(id.to_number(), what)?;
            connection.input = Input::Stopping;
        }
        Ok(())
    }

    /// Moves pages from the supply to the buffer ring, unless users hold too many.
    fn refill(&mut self) {
        let room = self.port.room();
        if room == 0 {
            return;
        }
        if self.nr_held() >= self.config.nr_held_max {
            self.stats.nr_withheld += 1;
            return;
        }
        let wanted = room.saturating_sub(self.pages.len());
        if self.supply.take(wanted, &mut self.pages) < wanted {
            self.stats.nr_short += 1;
        }
        self.port.post(&mut self.pages);
    }

    /// Starts requests again for which there are pages now.
    fn resume(&mut self) -> Result<(), UringError> {
        let nr = self.starved.len().min(self.port.nr_posted());
        for id in self.starved.drain(..nr).collect::<Vec<_>>() {
            self.restart(id, Input::Starved)?;
        }
        let limit = self.config.nr_held_per_connection_max / 2;
        let connections = &self.connections;
        let is_below = |id: &ConnectionId| {
            connections.get(*id).is_none_or(|connection| connection.held.nr() <= limit)
        };
        for id in self.paused.extract_if(.., |id| is_below(id)).collect::<Vec<_>>() {
            self.restart(id, Input::Paused)?;
        }
        Ok(())
    }

    fn restart(&mut self, id: ConnectionId, from: Input) -> Result<(), UringError> {
        if let Some(connection) = self.connections.get_mut(id)
            && connection.input == from
        {
            connection.input = Input::Idle;
            self.arm(id)?;
        }
        Ok(())
    }

    /// Returns how long one wait may last.
    fn patience(&self, left: Option<Duration>) -> Option<Duration> {
        if !self.events.is_empty() {
            return Some(Duration::ZERO);
        }
        if self.starved.is_empty() && self.paused.is_empty() && self.port.nr_posted() > 0 {
            return left;
        }
        Some(left.map_or(PRESSURE_PERIOD, |left| left.min(PRESSURE_PERIOD)))
    }

    fn complete(&mut self, completion: Completion<P::Page>) -> Result<(), UringError> {
        match completion {
            Completion::Received { number, pages, len, has_more } => {
                self.received(ConnectionId::from_number(number), pages, len, has_more)
            }
            Completion::ReceiveEnded { number, error } => {
                self.receive_ended(ConnectionId::from_number(number), error)
            }
            Completion::Accepted { number, socket, has_more } => {
                self.accepted(ConnectionId::from_number(number), socket, has_more)
            }
            Completion::AcceptEnded { number, error } => {
                self.accept_ended(ConnectionId::from_number(number), error)
            }
            Completion::Sent { number, parcel, result } => {
                self.sent(ConnectionId::from_number(number), parcel, result)
            }
        }
    }

    /// Returns a connection of which the kernel has a request; an error if it cannot have one.
    fn pending(&mut self, id: ConnectionId) -> Result<&mut Connection<P::Page>, UringError> {
        let unknown = UringError::Broken { what: "an unknown connection", value: id.to_number() };
        let connection = self.connections.get_mut(id).ok_or(unknown)?;
        if connection.input.is_pending() { Ok(connection) } else { Err(unknown) }
    }

    fn received(
        &mut self,
        id: ConnectionId,
        pages: Vec<FilledPage<P::Page>>,
        len: usize,
        has_more: bool,
    ) -> Result<(), UringError> {
        let limit = self.config.nr_held_per_connection_max;
        let connection = self.pending(id)?;
        let nr = pages.len();
        let received = Received::new(pages, len, Lease::new(&connection.held, nr));
        if !has_more {
            connection.input = Input::Idle;
        }
        if connection.closing != Closing::No {
            // Nobody waits for these bytes.
            self.put(received);
            self.finish_if_done(id);
            return Ok(());
        }
        let is_over = connection.held.nr() > limit;
        self.stats.bytes_received += len as u64;
        self.stats.pages_received += nr as u64;
        self.stats.nr_deliveries += 1;
        self.events.push_back(Event::Data { connection: id, received });
        match (is_over, has_more) {
            (true, true) => self.stop_input(id),
            (true, false) => self.pause(id),
            (false, true) => Ok(()),
            (false, false) => self.arm(id),
        }
    }

    fn pause(&mut self, id: ConnectionId) -> Result<(), UringError> {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.input = Input::Paused;
            self.paused.push(id);
            self.stats.nr_paused += 1;
        }
        Ok(())
    }

    fn receive_ended(
        &mut self,
        id: ConnectionId,
        error: Option<OsError>,
    ) -> Result<(), UringError> {
        let limit = self.config.nr_held_per_connection_max;
        let connection = self.pending(id)?;
        let is_over = connection.held.nr() > limit;
        connection.input = Input::Idle;
        if connection.closing != Closing::No {
            self.finish_if_done(id);
            return Ok(());
        }
        match error.map(OsError::raw) {
            Some(libc::ENOBUFS) => {
                connection.input = Input::Starved;
                self.starved.push_back(id);
                self.stats.nr_starved += 1;
                Ok(())
            }
            Some(libc::ECANCELED) if is_over => self.pause(id),
            Some(libc::ECANCELED | libc::EINTR | libc::EAGAIN) => self.arm(id),
            _ => {
                connection.input = Input::Ended;
                self.events.push_back(match error {
                    None => Event::End { connection: id },
                    Some(error) => Event::Error { connection: id, error },
                });
                Ok(())
            }
        }
    }

    fn accepted(
        &mut self,
        listener: ConnectionId,
        socket: OwnedFd,
        has_more: bool,
    ) -> Result<(), UringError> {
        let connection = self.pending(listener)?;
        if !has_more {
            connection.input = Input::Idle;
        }
        if connection.closing != Closing::No {
            self.finish_if_done(listener);
            return Ok(());
        }
        match self.insert(socket, false) {
            Ok(connection) => {
                self.events.push_back(Event::Accepted { listener, connection });
                self.arm(connection)?;
            }
            Err(_full) => self.stats.nr_refused += 1,
        }
        self.arm(listener)
    }

    fn accept_ended(&mut self, id: ConnectionId, error: OsError) -> Result<(), UringError> {
        let connection = self.pending(id)?;
        connection.input = Input::Idle;
        if connection.closing != Closing::No {
            self.finish_if_done(id);
            return Ok(());
        }
        match error.raw() {
            libc::ECANCELED | libc::EINTR | libc::EAGAIN | libc::ECONNABORTED => self.arm(id),
            _ => {
                connection.input = Input::Ended;
                self.events.push_back(Event::Error { connection: id, error });
                Ok(())
            }
        }
    }

    /// Gives the kernel what waits to be sent, unless it is sending.
    fn start_send(&mut self, id: ConnectionId) -> Result<(), UringError> {
        let Some(connection) = self.connections.get_mut(id) else { return Ok(()) };
        if connection.is_sending || connection.unsent.len() == 0 {
            return Ok(());
        }
        let parcel = core::mem::replace(&mut connection.unsent, Parcel::new());
        let nr_sending = parcel.len();
        self.port.send(id.to_number(), connection.socket.as_fd(), parcel)?;
        (connection.is_sending, connection.nr_sending) = (true, nr_sending);
        Ok(())
    }

    fn sent(
        &mut self,
        id: ConnectionId,
        mut parcel: Parcel<P::Page>,
        result: Result<usize, OsError>,
    ) -> Result<(), UringError> {
        let unknown = UringError::Broken { what: "an unknown connection", value: id.to_number() };
        let connection = self.connections.get_mut(id).ok_or(unknown)?;
        if !connection.is_sending {
            return Err(unknown);
        }
        (connection.is_sending, connection.nr_sending) = (false, 0);
        match result {
            Ok(nr) => {
                self.stats.bytes_sent += nr as u64;
                parcel.advance(nr);
                let later = core::mem::replace(&mut connection.unsent, parcel);
                connection.unsent.append(later);
            }
            Err(_why) if connection.closing == Closing::AtOnce => {}
            Err(error) => {
                connection.unsent = Parcel::new();
                if connection.closing == Closing::No {
                    self.events.push_back(Event::Error { connection: id, error });
                }
            }
        }
        if connection.closing == Closing::AtOnce {
            connection.unsent = Parcel::new();
        }
        self.start_send(id)?;
        self.finish_if_done(id);
        Ok(())
    }

    /// Removes a connection that is to be closed, if the kernel has nothing of it any more.
    fn finish_if_done(&mut self, id: ConnectionId) {
        if self.connections.get(id).is_some_and(Connection::is_done) {
            // Dropping it closes the socket.
            drop(self.connections.remove(id));
            self.events.push_back(Event::Closed { connection: id });
        }
    }
}

#[cfg(test)]
mod tests;
