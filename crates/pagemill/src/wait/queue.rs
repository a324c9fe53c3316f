//! Wait queue: requests that wait for memory; requests for several blocks are served first come, first
//! served.
//!
//! A request for several blocks gathers them from some nodes, and keeps the blocks that it has while it
//! waits for more. Two such requests on one node could each hold half of the blocks that both need. So
//! each takes a ticket, and its turn comes when no older ticket claims one of its nodes; until then it
//! holds nothing. A request for one small block holds nothing while it waits, and needs no ticket.

use crate::base::policy::NodeMask;
use crate::base::sync::{AtomicU32, Lock, Ordering};
use crate::platform::platform::Platform;

/// The waiting requests and their tickets.
#[derive(Debug)]
pub(crate) struct WaitQueue {
    state: Lock<Tickets>,
    /// The number of waiting requests, for readers without the lock.
    nr_waiting: AtomicU32,
    /// Changes whenever memory may have been freed or a turn may have come.
    events: AtomicU32,
    /// Waits that succeeded without a wake-up before the last attempt.
    nr_polled: AtomicU32,
}

/// Number of tickets. A request that finds none free waits for one, in no particular order.
const NR_TICKETS: usize = 64;

/// The tickets from `oldest` up to, but not including, `next` are in use.
#[derive(Debug)]
struct Tickets {
    oldest: u32,
    next: u32,
    /// The nodes that ticket n claims, at index n modulo the length; none if its holder has left.
    claims: [NodeMask; NR_TICKETS],
}

/// A ticket in the queue, until dropped.
struct Ticket<'a, P: Platform> {
    queue: &'a WaitQueue,
    platform: &'a P,
    number: u32,
}

/// Counts as one waiting request, until dropped.
struct Waiter<'a>(&'a WaitQueue);

impl WaitQueue {
    pub(crate) fn new() -> Self {
        let claims = [NodeMask::NONE; NR_TICKETS];
        Self {
            state: Lock::new(Tickets { oldest: 0, next: 0, claims }),
            nr_waiting: AtomicU32::new(0),
            events: AtomicU32::new(0),
            nr_polled: AtomicU32::new(0),
        }
    }

    /// Calls `attempt` now, after each event, and approximately every 10 ms, until it succeeds. Returns
    /// `None` once `stop`, which is called after each attempt, returns true.
    ///
    /// If nodes are claimed, calls it only while no older ticket claims one of them. Then, and only
    /// then, `attempt` may keep what it takes from one call to the next.
    pub(crate) fn in_turn<T>(
        &self,
        platform: &impl Platform,
        claims: NodeMask,
        stop: Option<&dyn Fn() -> bool>,
        mut attempt: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let _waiter = Waiter::new(self);
        let mut ticket = None;
        let mut is_polled = false;
        loop {
            // Read before the attempt, so that a later event ends the wait.
            let seen = self.event();
            if ticket.is_none() && !claims.is_empty() {
                ticket = self.enter(platform, claims);
            }
            let is_turn = claims.is_empty() || ticket.as_ref().is_some_and(Ticket::is_served);
            if is_turn && let Some(success) = attempt() {
                if is_polled {
                    // Relaxed: a count for tests and people.
                    self.nr_polled.fetch_add(1, Ordering::Relaxed);
                }
                return Some(success);
            }
            if stop.is_some_and(|stop| stop()) {
                return None;
            }
            platform.wait(&|| self.event() == seen);
            is_polled = self.event() == seen;
        }
    }

    /// Returns the number of waits that succeeded although no wake-up came between the waiter's last
    /// two attempts.
    pub(crate) fn nr_polled(&self) -> u32 {
        // Relaxed: as where it is counted.
        self.nr_polled.load(Ordering::Relaxed)
    }

    /// Takes the next ticket; `None` if all are in use.
    fn enter<'a, P: Platform>(
        &'a self,
        platform: &'a P,
        claims: NodeMask,
    ) -> Option<Ticket<'a, P>> {
        let mut tickets = self.state.lock(|spins| platform.relax(spins));
        if tickets.next.wrapping_sub(tickets.oldest) as usize >= NR_TICKETS {
            return None;
        }
        let number = tickets.next;
        tickets.next = number.wrapping_add(1);
        *tickets.claim(number) = claims;
        Some(Ticket { queue: self, platform, number })
    }

    /// Returns whether any request waits.
    #[inline]
    pub(crate) fn has_waiters(&self) -> bool {
        // Relaxed: a request that begins to wait just now checks again after a while.
        self.nr_waiting.load(Ordering::Relaxed) != 0
    }

    /// Wakes all waiting requests, because memory may have been freed.
    pub(crate) fn notify(&self, platform: &impl Platform) {
        // Release pairs with the Acquire in `event`: a thread that sees the event sees the freed
        // memory.
        self.events.fetch_add(1, Ordering::Release);
        platform.wake();
    }

    /// Returns the number of the last event.
    fn event(&self) -> u32 {
        // Acquire pairs with the Release in `notify`.
        self.events.load(Ordering::Acquire)
    }
}

impl Tickets {
    /// Returns the entry for the claim of a ticket in use.
    fn claim(&mut self, number: u32) -> &mut NodeMask {
        &mut self.claims[number as usize % NR_TICKETS]
    }
}

impl<P: Platform> Ticket<'_, P> {
    /// Returns whether no older ticket claims a node that this one claims.
    fn is_served(&self) -> bool {
        let mut tickets = self.queue.state.lock(|spins| self.platform.relax(spins));
        let claims = *tickets.claim(self.number);
        let nr_before = self.number.wrapping_sub(tickets.oldest);
        (0..nr_before).all(|position| {
            let number = tickets.oldest.wrapping_add(position);
            tickets.claim(number).and(claims).is_empty()
        })
    }
}

impl<P: Platform> Drop for Ticket<'_, P> {
    /// Leaves the queue, whether the request was served or not, also if an attempt panicked.
    fn drop(&mut self) {
        let mut tickets = self.queue.state.lock(|spins| self.platform.relax(spins));
        *tickets.claim(self.number) = NodeMask::NONE;
        while tickets.oldest != tickets.next {
            let oldest = tickets.oldest;
            if !tickets.claim(oldest).is_empty() {
                break;
            }
            tickets.oldest = oldest.wrapping_add(1);
        }
        drop(tickets);
        self.queue.notify(self.platform);
    }
}

impl<'a> Waiter<'a> {
    fn new(queue: &'a WaitQueue) -> Self {
        // Relaxed: a hint for threads that free; the waiter checks again after a while in any case.
        queue.nr_waiting.fetch_add(1, Ordering::Relaxed);
        Self(queue)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        // Relaxed: as in `new`.
        self.0.nr_waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(all(test, loom))]
#[expect(unsafe_code, reason = "a platform for tests")]
mod loom;

#[cfg(all(test, not(loom)))]
#[expect(unsafe_code, reason = "a platform for tests")]
mod tests;
