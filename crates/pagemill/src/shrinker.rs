//! Those who hold pages that they could give back: caches register here.

use crate::gfp::Gfp;
use crate::platform::Platform;
use crate::policy::NodeMask;
use crate::sync::{AtomicU32, Counter, Lock, LockGuard, Ordering};
use crate::trace::Event;

/// What a shrinker is asked for.
///
/// # Source
/// `linux-6.12` `include/linux/shrinker.h` `struct shrink_control`. Differs: several nodes may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShrinkControl {
    /// What the requester cannot have done for it: without [`Gfp::IO`] or [`Gfp::FS`] the shrinker
    /// keeps away from devices or file systems. Only pages of zones up to its
    /// [`highest_zone`](Gfp::highest_zone) help.
    pub gfp: Gfp,
    /// Only pages on these nodes help.
    pub nodes: NodeMask,
}

/// A cache of pages that can be made smaller on demand.
///
/// # Concurrency
/// One shrinker is asked at a time, by whoever needs memory: background reclaim, or a thread in the
/// middle of an allocation, which then takes as long as the shrinker does. The others wait for the
/// end of that for a while. So the calls must not wait for a lock that is held across allocations
/// with [`Gfp::DIRECT_RECLAIM`], nor for a thread that makes any.
///
/// They may allocate themselves, which asks no shrinker. Where the platform has
/// [`enter_reclaim`](Platform::enter_reclaim), such an allocation may use all reserves; elsewhere
/// it tries for a while and fails. With [`Gfp::NOFAIL`] it would wait for ever once the reserves
/// are used up: the pages that it waits for are those that it is to free.
///
/// # Source
/// `linux-6.12` `include/linux/shrinker.h`
pub trait Shrinker: Sync {
    /// Returns how many pages could be given back, roughly; zero to be passed over.
    fn count(&self, control: ShrinkControl) -> usize;

    /// Frees up to `nr` pages and returns how many it freed.
    fn scan(&self, nr: usize, control: ShrinkControl) -> usize;
}

/// Number of shrinkers that can be registered at a time.
pub const MAX_NR_SHRINKERS: usize = 16;

/// The registered shrinkers.
pub(crate) struct Shrinkers {
    /// Each guards its shrinker while that is being asked, so removal waits for it to end.
    slots: [Lock<Option<&'static dyn Shrinker>>; MAX_NR_SHRINKERS],
    /// Held by the one who is asking them. So a shrinker that allocates does not come back to any
    /// of them, however deep it is in, and no two callers ask for the same pages.
    turn: Lock<()>,
    /// How many wait for the end of a turn.
    nr_waiting: AtomicU32,
    /// Pages freed so far; written by the one whose turn it is.
    nr_freed: Counter,
}

/// The right to ask; its end wakes those who wait for it, also where a shrinker panics.
struct Turn<'a, P: Platform> {
    shrinkers: &'a Shrinkers,
    platform: &'a P,
    /// Taken out only by `drop`.
    guard: Option<LockGuard<'a, ()>>,
}

impl<P: Platform> Drop for Turn<'_, P> {
    fn drop(&mut self) {
        self.platform.leave_reclaim();
        drop(self.guard.take());
        // Relaxed: who begins to wait just now looks again after a while.
        if self.shrinkers.nr_waiting.load(Ordering::Relaxed) != 0 {
            self.platform.wake();
        }
    }
}

impl Shrinkers {
    pub(crate) fn new() -> Self {
        Self {
            slots: core::array::from_fn(|_| Lock::new(None)),
            turn: Lock::new(()),
            nr_waiting: AtomicU32::new(0),
            nr_freed: Counter::new(),
        }
    }

    /// Registers a shrinker and returns its place; `None` if all are taken.
    pub(crate) fn add(&self, shrinker: &'static dyn Shrinker) -> Option<usize> {
        self.slots.iter().position(|slot| match slot.try_lock() {
            Some(mut slot) if slot.is_none() => {
                *slot = Some(shrinker);
                true
            }
            _ => false,
        })
    }

    /// Removes the shrinker at `place`, waiting until nobody is asking it.
    pub(crate) fn remove(&self, place: usize, platform: &impl Platform) {
        *self.slots[place].lock(|spins| platform.relax(spins)) = None;
    }

    /// Tells whether asking may bring something: one is registered, or they are being asked now.
    pub(crate) fn any(&self) -> bool {
        let is_registered = |slot: &Lock<Option<_>>| slot.try_lock().is_none_or(|s| s.is_some());
        self.turn.is_taken() || self.slots.iter().any(is_registered)
    }

    /// Asks each shrinker in turn for its share of `nr` pages, at least [`BATCH`], and returns how
    /// many were freed. If somebody is asking them already, waits a while for the end of that and
    /// returns how many were freed meanwhile.
    pub(crate) fn shrink(
        &self,
        nr: usize,
        control: ShrinkControl,
        platform: &impl Platform,
    ) -> u64 {
        let before = self.nr_freed.get();
        if let Some(guard) = self.turn.try_lock() {
            platform.enter_reclaim();
            let turn = Turn { shrinkers: self, platform, guard: Some(guard) };
            self.ask(nr as u64, control, platform);
            drop(turn);
        } else {
            // Relaxed: a hint for whose turn it is; nobody waits for it longer than a while.
            self.nr_waiting.fetch_add(1, Ordering::Relaxed);
            platform.wait(&|| self.turn.is_taken());
            self.nr_waiting.fetch_sub(1, Ordering::Relaxed);
        }
        self.nr_freed.get().wrapping_sub(before)
    }

    /// Asks each shrinker; the caller has the turn.
    fn ask(&self, nr: u64, control: ShrinkControl, platform: &impl Platform) {
        let gfp = control.gfp;
        let mut freed = 0;
        for (place, slot) in self.slots.iter().enumerate() {
            let Some(slot) = slot.try_lock() else { continue };
            let Some(shrinker) = *slot else { continue };
            let count = shrinker.count(control);
            if count > 0 {
                let wanted = nr.saturating_sub(freed).max(BATCH);
                let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
                let nr_to_scan = wanted.min(count);
                platform.trace(Event::ShrinkSlabStart { place, gfp, nr_to_scan, count });
                let nr_freed = shrinker.scan(nr_to_scan, control);
                platform.trace(Event::ShrinkSlabEnd { place, nr_freed });
                self.nr_freed.add(nr_freed as u64);
                freed = freed.saturating_add(nr_freed as u64);
            }
        }
    }
}

/// Pages that a shrinker is asked for at least.
///
/// # Source
/// `linux-6.12` `include/linux/swap.h` `SWAP_CLUSTER_MAX`
const BATCH: u64 = 32;

impl core::fmt::Debug for Shrinkers {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Shrinkers").finish_non_exhaustive()
    }
}
