//! Shard: adjacent pageblocks of a zone, and the lock that guards their free frames.

use crate::base::stats::ZoneEvents;
use crate::base::sync::{Counter, Lock, LockGuard};
use crate::base::units::NodeId;
use crate::platform::platform::Platform;
use crate::platform::trace::Event;
use crate::zone::buddy::Buddy;

/// A part of a zone's pageblocks with its own lock.
///
/// Occupies its own cache lines: a CPU that finds what it needs in its shard shares none with CPUs of
/// other shards.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Shard {
    /// Guards the free frames and, for writing, `nr_free` and `events`.
    buddy: Lock<Buddy>,
    /// The number of free frames, for readers without the lock.
    nr_free: Counter,
    /// Counts of pages taken and freed past the per-CPU lists.
    events: ZoneEvents,
    place: ShardId,
}

/// The zone of a shard and its index there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShardId {
    pub(crate) node: NodeId,
    pub(crate) zone: u16,
    /// Index of the shard in the zone.
    pub(crate) shard: u16,
}

/// The lock of a shard; interrupts are off while it is held.
pub(crate) struct ShardGuard<'a, P: Platform> {
    shard: &'a Shard,
    /// Taken out only by `drop`, which must unlock before it restores interrupts.
    buddy: Option<LockGuard<'a, Buddy>>,
    platform: &'a P,
    irq_state: usize,
}

impl Shard {
    pub(crate) fn new(place: ShardId, buddy: Buddy) -> Self {
        let nr_free = Counter::new();
        nr_free.set(buddy.nr_free());
        Self { buddy: Lock::new(buddy), nr_free, events: ZoneEvents::new(), place }
    }

    /// Returns the number of free frames, without the lock, so the result may be outdated.
    #[inline]
    pub(crate) fn nr_free(&self) -> u64 {
        self.nr_free.get()
    }

    /// Returns the counters, for reading.
    pub(crate) fn events(&self) -> &ZoneEvents {
        &self.events
    }

    /// Waits for the lock.
    #[inline]
    pub(crate) fn hold<'a, P: Platform>(&'a self, platform: &'a P) -> ShardGuard<'a, P> {
        let irq_state = platform.irq_save();
        let buddy = self.buddy.lock(|spins| platform.relax(spins));
        let ShardId { node, zone, shard } = self.place;
        platform.trace(Event::ZoneLocked { node, zone, shard });
        ShardGuard { shard: self, buddy: Some(buddy), platform, irq_state }
    }
}

impl<P: Platform> ShardGuard<'_, P> {
    #[inline]
    pub(crate) fn buddy(&mut self) -> &mut Buddy {
        self.buddy.as_mut().expect("taken out only by drop")
    }

    /// Returns the counters, for writing.
    pub(crate) fn events(&self) -> &ZoneEvents {
        &self.shard.events
    }
}

impl<P: Platform> Drop for ShardGuard<'_, P> {
    #[inline]
    fn drop(&mut self) {
        if let Some(buddy) = self.buddy.take() {
            self.shard.nr_free.set(buddy.nr_free());
            let ShardId { node, zone, shard } = self.shard.place;
            self.platform.trace(Event::ZoneUnlocked { node, zone, shard });
        }
        self.platform.irq_restore(self.irq_state);
    }
}
