//! A part of a zone's free frames, behind a lock of its own.

use crate::base::stats::ZoneEvents;
use crate::base::sync::{Counter, Lock, LockGuard};
use crate::base::units::NodeId;
use crate::platform::platform::Platform;
use crate::platform::trace::Event;
use crate::zone::buddy::Buddy;

/// Adjacent pageblocks of a zone.
///
/// On cache lines of its own: a CPU that finds what it needs here shares none with CPUs that have
/// other shards.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Shard {
    /// Guards the free frames and, for writing, `nr_free` and `events`.
    buddy: Lock<Buddy>,
    /// The number of free frames, for those who do not hold the lock.
    nr_free: Counter,
    /// What was taken and given back past the per-CPU lists.
    events: ZoneEvents,
    place: ShardId,
}

/// Where a shard belongs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShardId {
    pub(crate) node: NodeId,
    pub(crate) zone: u16,
    /// Its position in the zone.
    pub(crate) shard: u16,
}

/// The lock of a shard, held with interrupts off.
pub(crate) struct ShardGuard<'a, P: Platform> {
    shard: &'a Shard,
    /// Taken out only by `drop`, which must unlock before it lets interrupts in.
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

    /// Returns the number of free frames, without the lock and so a moment old.
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
