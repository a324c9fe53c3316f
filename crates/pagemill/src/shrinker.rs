//! Those who hold pages that they could give back: caches register here.

use crate::gfp::Gfp;
use crate::platform::Platform;
use crate::sync::Lock;

/// A cache of pages that can be made smaller on demand.
///
/// # Concurrency
/// The two calls are made one at a time for each shrinker, by whoever needs memory: background
/// reclaim, or a thread in the middle of an allocation. They must not wait for a lock that is held
/// across allocations with [`Gfp::DIRECT_RECLAIM`]; they may allocate themselves, which then does
/// not come back to them. `gfp` says what else the requester cannot have: without [`Gfp::IO`] or
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
}

impl Shrinkers {
    pub(crate) fn new() -> Self {
        Self { slots: core::array::from_fn(|_| Lock::new(None)) }
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

    /// Tells whether one is registered that is not being asked already.
    pub(crate) fn any(&self) -> bool {
        self.slots.iter().any(|slot| slot.try_lock().is_some_and(|slot| slot.is_some()))
    }

    /// Asks each shrinker in turn for its share of `nr` pages, at least [`BATCH`], and returns how
    /// many were freed. Those being asked already are passed over.
    pub(crate) fn shrink(&self, nr: usize, gfp: Gfp) -> usize {
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
