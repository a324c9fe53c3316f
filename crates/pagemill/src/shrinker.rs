//! Those who hold pages that they could give back: caches register here.

use crate::gfp::Gfp;
use crate::platform::Platform;
use crate::sync::Lock;

/// A cache of pages that can be made smaller on demand.
///
/// # Concurrency
/// One shrinker is asked at a time, by whoever needs memory: background reclaim, or a thread in the
/// middle of an allocation. The calls must not wait for a lock that is held across allocations with
/// [`Gfp::DIRECT_RECLAIM`]; they may allocate themselves, which then asks no shrinker. `gfp` says what else the requester cannot have: without [`Gfp::IO`] or
/// [`Gfp::FS`] the shrinker keeps away from devices or file systems.
///
/// # Source
/// `linux-6.12` `include/linux/shrinker.h`
pub trait Shrinker: Sync {
    /// Returns how many pages could be given back, roughly; zero to be passed over.
    fn count(&self, gfp: Gfp) -> usize;

    /// Frees up to `nr` pages and returns how many it freed.
    fn scan(&self, nr: usize, gfp: Gfp) -> usize;
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
}

impl Shrinkers {
    pub(crate) fn new() -> Self {
        Self { slots: core::array::from_fn(|_| Lock::new(None)), turn: Lock::new(()) }
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
        self.turn.try_lock().is_none() || self.slots.iter().any(is_registered)
    }

    /// Asks each shrinker in turn for its share of `nr` pages, at least [`BATCH`], and returns how
    /// many were freed; none if somebody is asking them already.
    pub(crate) fn shrink(&self, nr: usize, gfp: Gfp) -> usize {
        let Some(_turn) = self.turn.try_lock() else { return 0 };
        let mut freed = 0;
        for slot in &self.slots {
            let Some(slot) = slot.try_lock() else { continue };
            let Some(shrinker) = *slot else { continue };
            let count = shrinker.count(gfp);
            if count > 0 {
                let wanted = nr.saturating_sub(freed).max(BATCH);
                freed += shrinker.scan(wanted.min(count), gfp);
            }
        }
        freed
    }
}

/// Pages that a shrinker is asked for at least.
///
/// # Source
/// `linux-6.12` `include/linux/swap.h` `SWAP_CLUSTER_MAX`
const BATCH: usize = 32;

impl core::fmt::Debug for Shrinkers {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Shrinkers").finish_non_exhaustive()
    }
}
