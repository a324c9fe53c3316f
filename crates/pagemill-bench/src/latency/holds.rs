//! Lock hold times: measured by the thread that takes and releases the lock.
//!
//! The measurement's own time is excluded: the clock is read last after a lock was taken, and first
//! before it is released. The time of zone lock events within a hold of a CPU's lists is subtracted
//! from that hold. What remains is one reading of the clock per zone lock in a hold, approximately 20
//! ns. Other threads wait longer for a lock that is measured, so calls are timed on another allocator.
//!
//! Before and after each hold, the kernel is asked how many times it has preempted the thread. A hold
//! is *calm* if both numbers are equal: the thread had its CPU all the time. Calm holds still include
//! interrupts, and time that a host takes from a virtual machine. A thread that only reads the clock
//! shows how much that is: [`longest_gap`].

use core::cell::RefCell;
use core::time::Duration;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use pagemill::debug::Event;
use pagemill_host::debug::Tracer;
use pagemill_host::machine::context_switches;

use super::waits::Waits;
use crate::clock::Clock;

/// Hold times of one kind of lock.
#[derive(Clone, Debug)]
pub struct Held {
    /// All holds, in ticks.
    pub all: Waits,
    /// The longest hold in ticks during which the scheduler did not preempt the holder.
    calm_max: Option<u64>,
    /// Number of holds during which it did.
    pub nr_switched: u64,
}

/// Hold times of each kind of lock.
#[derive(Clone, Debug)]
pub struct Holds {
    /// Zone locks.
    pub zone: Held,
    /// The per-CPU lists.
    pub lists: Held,
}

/// Times the holds of all threads; each thread keeps its own until it calls
/// [`flush`](HoldMeter::flush).
#[derive(Debug)]
pub struct HoldMeter {
    clock: Clock,
    flushed: Mutex<Holds>,
}

/// The measurements of a thread, and its current holds.
struct Thread {
    holds: Holds,
    zone: Option<Begun>,
    lists: Option<Begun>,
}

/// A hold in progress.
struct Begun {
    switches: u64,
    start: u64,
    /// Ticks since then that the measurement itself took.
    excluded: u64,
}

thread_local! {
    static THREAD: RefCell<Thread> =
        RefCell::new(Thread { holds: Holds::new(), zone: None, lists: None });
}

impl HoldMeter {
    /// Makes a meter without measurements.
    pub fn new(clock: Clock) -> Self {
        Self { clock, flushed: Mutex::new(Holds::new()) }
    }

    /// Adds this thread's measurements to the result of [`take`](Self::take).
    pub fn flush(&self) {
        let holds =
            THREAD.with_borrow_mut(|thread| core::mem::replace(&mut thread.holds, Holds::new()));
        self.flushed.lock().unwrap_or_else(PoisonError::into_inner).add(&holds);
    }

    /// Returns and clears the measurements.
    pub fn take(&self) -> Holds {
        let mut flushed = self.flushed.lock().unwrap_or_else(PoisonError::into_inner);
        core::mem::replace(&mut flushed, Holds::new())
    }

    fn begin(&self) -> Begun {
        let switches = context_switches();
        Begun { switches, start: self.clock.now(), excluded: 0 }
    }
}

impl Tracer for HoldMeter {
    #[inline]
    fn event(&self, event: Event) {
        let is_lock = matches!(event, Event::ZoneLocked { .. } | Event::ListsLocked);
        let is_unlock = matches!(event, Event::ZoneUnlocked { .. } | Event::ListsUnlocked);
        if !is_lock && !is_unlock {
            return;
        }
        let now = self.clock.now();
        THREAD.with_borrow_mut(|thread| match event {
            Event::ListsLocked => thread.lists = Some(self.begin()),
            Event::ListsUnlocked => {
                if let Some(begun) = thread.lists.take() {
                    thread.holds.lists.end(&begun, now);
                }
            }
            Event::ZoneLocked { .. } => {
                let begun = self.begin();
                if let Some(outer) = &mut thread.lists {
                    outer.excluded += begun.start.saturating_sub(now);
                }
                thread.zone = Some(begun);
            }
            _ => {
                if let Some(begun) = thread.zone.take() {
                    thread.holds.zone.end(&begun, now);
                }
                if let Some(outer) = &mut thread.lists {
                    outer.excluded += self.clock.now().saturating_sub(now);
                }
            }
        });
    }
}

impl Holds {
    /// Makes hold times without a hold.
    pub fn new() -> Self {
        Self { zone: Held::new(), lists: Held::new() }
    }

    /// Adds the holds of `more`.
    pub fn add(&mut self, more: &Self) {
        self.zone.add(&more.zone);
        self.lists.add(&more.lists);
    }
}

impl Held {
    /// Makes hold times without a hold.
    pub fn new() -> Self {
        Self { all: Waits::new(), calm_max: None, nr_switched: 0 }
    }

    /// Records a hold of `ticks`.
    pub fn note(&mut self, ticks: u64, is_calm: bool) {
        self.all.note(ticks);
        if is_calm {
            self.calm_max = self.calm_max.max(Some(ticks));
        } else {
            self.nr_switched += 1;
        }
    }

    /// Returns the duration of the longest calm hold, in ns.
    pub fn calm_max_ns(&self, clock: Clock) -> Option<f64> {
        self.calm_max.map(|ticks| clock.net_ns(ticks, 1))
    }

    fn end(&mut self, begun: &Begun, now: u64) {
        let ticks = now.saturating_sub(begun.start).saturating_sub(begun.excluded);
        self.note(ticks, context_switches() == begun.switches);
    }

    fn add(&mut self, more: &Self) {
        self.all.add(&more.all);
        self.calm_max = self.calm_max.max(more.calm_max);
        self.nr_switched += more.nr_switched;
    }
}

/// Returns the longest time in ticks between two readings of the clock, during approximately `time`, in
/// which the scheduler did not preempt the thread: what interrupts and the machine take from any
/// thread.
pub fn longest_gap(clock: Clock, time: Duration) -> u64 {
    let (start, mut longest) = (Instant::now(), 0);
    loop {
        let before = context_switches();
        let (mut last, mut gap) = (clock.now(), 0);
        for _ in 0..READINGS {
            let now = clock.now();
            gap = gap.max(now.saturating_sub(last));
            last = now;
        }
        if context_switches() == before {
            longest = longest.max(gap);
        }
        if start.elapsed() >= time {
            return longest;
        }
    }
}

/// Clock readings between two calls to the kernel: approximately 10 microseconds, so that few gaps
/// coincide with a preemption.
const READINGS: usize = 500;

#[cfg(test)]
mod tests {
    use std::thread;

    use pagemill::units::NodeId;
    use pagemill::{AllocPages, Gfp, Order};
    use pagemill_host::debug::traced_allocator;
    use pagemill_host::{AllocatorConfig, ArenaConfig};

    use super::*;

    const LOCKED: Event = Event::ZoneLocked { node: NodeId::new(0), zone: 0, shard: 0 };
    const UNLOCKED: Event = Event::ZoneUnlocked { node: NodeId::new(0), zone: 0, shard: 0 };

    fn spin(clock: Clock, ticks: u64) {
        let start = clock.now();
        while clock.now() - start < ticks {}
    }

    #[test]
    fn a_hold_is_as_long_as_it_lasts() {
        let clock = Clock::detect();
        let meter = HoldMeter::new(clock);
        thread::scope(|scope| {
            scope.spawn(|| {
                meter.event(Event::ListsLocked);
                meter.event(LOCKED);
                spin(clock, 1_000_000);
                meter.event(UNLOCKED);
                spin(clock, 1_000_000);
                meter.event(Event::ListsUnlocked);
                meter.flush();
            });
        });
        let Holds { zone, lists } = meter.take();
        let longest = |held: &Held| held.all.percentiles(clock).max;
        assert_eq!((zone.all.percentiles(clock).calls, lists.all.percentiles(clock).calls), (1, 1));
        assert!(longest(&zone) >= clock.net_ns(990_000, 1), "{zone:?}");
        assert!(longest(&lists) >= longest(&zone) * 1.5 || zone.nr_switched > 0, "{lists:?}");
        assert!(zone.nr_switched <= lists.nr_switched);
        assert_eq!(meter.take().zone.all.percentiles(clock).calls, 0, "it was taken");
    }

    #[test]
    fn a_hold_with_a_switch_is_not_calm() {
        let clock = Clock::detect();
        let meter = HoldMeter::new(clock);
        thread::scope(|scope| {
            scope.spawn(|| {
                meter.event(LOCKED);
                // Who waits until another thread has run was switched out, or waited for nothing.
                let before = context_switches();
                while context_switches() == before {
                    thread::spawn(|| {}).join().unwrap();
                }
                meter.event(UNLOCKED);
                meter.flush();
            });
        });
        let zone = meter.take().zone;
        assert_eq!((zone.nr_switched, zone.calm_max_ns(clock)), (1, None));
    }

    #[test]
    fn every_hold_of_an_allocator_is_counted() {
        let clock = Clock::detect();
        let config = AllocatorConfig::new(ArenaConfig::new(16 << 20));
        let frames = traced_allocator(&config, HoldMeter::new(clock)).unwrap();
        let meter = frames.platform().tracer();
        meter.flush();
        meter.take();
        for _ in 0..100 {
            drop(frames.alloc_pages(Gfp::KERNEL, Order::new(4).unwrap()));
        }
        meter.flush();
        let calls = |held: &Held| held.all.percentiles(clock).calls;
        let Holds { zone, lists } = meter.take();
        assert_eq!((calls(&zone), calls(&lists)), (200, 0));
        (0..100).for_each(|_| drop(frames.alloc_page(Gfp::KERNEL)));
        meter.flush();
        let Holds { zone, lists } = meter.take();
        assert_eq!(calls(&zone), 1);
        assert!((200..=202).contains(&calls(&lists)), "{}", calls(&lists));
    }

    #[test]
    fn gaps_are_longer_than_a_reading() {
        let clock = Clock::detect();
        // A round in which the thread was switched out says nothing.
        while longest_gap(clock, Duration::ZERO) == 0 {}
    }
}
