//! In which order those who wait for memory are served: first come, first served.
//!
//! Only the one whose turn it is takes pages while it waits for more; the others hold none of what
//! they have begun to gather. So two callers that each need all of what is left finish one after
//! the other, where both would starve if each sat on half of it.

use crate::platform::Platform;
use crate::sync::{AtomicU32, Lock, Ordering};

/// Who waits.
#[derive(Debug)]
pub(crate) struct WaitQueue {
    state: Lock<Tickets>,
    /// How many are in the queue, for those who do not hold the lock.
    nr_waiting: AtomicU32,
    /// Changes whenever there may be more memory, or the turn passed on.
    events: AtomicU32,
}

/// The tickets from `serving` up to, but not including, `next` are out.
#[derive(Debug)]
struct Tickets {
    serving: u32,
    next: u32,
    /// Bit n: the holder of ticket `serving + n` went away before its turn.
    gone: u64,
}

/// A place in the queue.
#[derive(Debug)]
pub(crate) struct Ticket(u32);

impl WaitQueue {
    pub(crate) fn new() -> Self {
        Self {
            state: Lock::new(Tickets { serving: 0, next: 0, gone: 0 }),
            nr_waiting: AtomicU32::new(0),
            events: AtomicU32::new(0),
        }
    }

    /// Makes `attempt` whenever something happened and all who waited before have been served,
    /// until it succeeds; `None` if `stop` says so first.
    ///
    /// Only an attempt on its turn may keep what it takes from one call to the next.
    pub(crate) fn in_turn<T>(
        &self,
        platform: &impl Platform,
        stop: Option<&dyn Fn() -> bool>,
        mut attempt: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let is_stopped = || stop.is_some_and(|stop| stop());
        let ticket = loop {
            match self.enter(platform) {
                Some(ticket) => break ticket,
                None if is_stopped() => return None,
                None => self.wait(self.event(), platform),
            }
        };
        let result = loop {
            // Read before the attempt, so that what happens after it ends the wait.
            let seen = self.event();
            if is_stopped() {
                break None;
            }
            if self.is_served(&ticket, platform)
                && let Some(success) = attempt()
            {
                break Some(success);
            }
            self.wait(seen, platform);
        };
        self.leave(ticket, platform);
        result
    }

    /// Takes a place at the end; `None` if 64 are waiting.
    fn enter(&self, platform: &impl Platform) -> Option<Ticket> {
        let mut tickets = self.state.lock(|spins| platform.relax(spins));
        if tickets.next.wrapping_sub(tickets.serving) >= u64::BITS {
            return None;
        }
        let ticket = tickets.next;
        tickets.next = ticket.wrapping_add(1);
        // Relaxed: a hint for those who free; they are waited for no longer than a while.
        self.nr_waiting.fetch_add(1, Ordering::Relaxed);
        Some(Ticket(ticket))
    }

    /// Tells whether the ticket's turn has come.
    fn is_served(&self, ticket: &Ticket, platform: &impl Platform) -> bool {
        self.state.lock(|spins| platform.relax(spins)).serving == ticket.0
    }

    /// Leaves the queue, before or after being served.
    fn leave(&self, ticket: Ticket, platform: &impl Platform) {
        let mut tickets = self.state.lock(|spins| platform.relax(spins));
        tickets.gone |= 1 << ticket.0.wrapping_sub(tickets.serving);
        while tickets.gone & 1 != 0 {
            tickets.gone >>= 1;
            tickets.serving = tickets.serving.wrapping_add(1);
        }
        drop(tickets);
        // Relaxed: as in `enter`.
        self.nr_waiting.fetch_sub(1, Ordering::Relaxed);
        self.notify(platform);
    }

    /// Tells whether anybody waits.
    #[inline]
    pub(crate) fn has_waiters(&self) -> bool {
        // Relaxed: who begins to wait just now looks again after a while.
        self.nr_waiting.load(Ordering::Relaxed) != 0
    }

    /// Wakes all who wait: there may be more memory.
    pub(crate) fn notify(&self, platform: &impl Platform) {
        // Release pairs with the Acquire in `event`: who sees the event sees the memory.
        self.events.fetch_add(1, Ordering::Release);
        platform.wake();
    }

    /// Returns the number of the last event.
    fn event(&self) -> u32 {
        // Acquire pairs with the Release in `notify`.
        self.events.load(Ordering::Acquire)
    }

    /// Waits a while for an event after number `seen`.
    fn wait(&self, seen: u32, platform: &impl Platform) {
        platform.wait(&|| self.event() == seen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{CpuId, Pfn};

    struct Alone;

    impl Platform for Alone {
        fn nr_cpus(&self) -> u32 {
            1
        }
        fn pin(&self) -> CpuId {
            CpuId::new(0)
        }
        unsafe fn zero_pages(&self, _pfn: Pfn, _nr_pages: usize) {}
    }

    #[test]
    fn turns_come_in_order_and_skip_who_left() {
        let queue = WaitQueue::new();
        let [a, b, c] = [(); 3].map(|()| queue.enter(&Alone).unwrap());
        assert!(queue.is_served(&a, &Alone) && !queue.is_served(&b, &Alone));
        queue.leave(b, &Alone);
        assert!(!queue.is_served(&c, &Alone));
        queue.leave(a, &Alone);
        assert!(queue.is_served(&c, &Alone) && queue.has_waiters());
        queue.leave(c, &Alone);
        assert!(!queue.has_waiters());
    }

    #[test]
    fn the_queue_has_64_places_and_tickets_wrap() {
        let queue = WaitQueue::new();
        queue.state.try_lock().unwrap().serving = u32::MAX;
        queue.state.try_lock().unwrap().next = u32::MAX;
        let tickets: alloc::vec::Vec<_> = (0..64).map(|_| queue.enter(&Alone).unwrap()).collect();
        assert!(queue.enter(&Alone).is_none());
        for ticket in tickets {
            assert!(queue.is_served(&ticket, &Alone));
            queue.leave(ticket, &Alone);
        }
        assert!(queue.enter(&Alone).is_some());
    }
}
