//! Getting memory back: from the per-CPU lists, from shrinkers, from others who free some.

use core::fmt;

use crate::allocator::PageAllocator;
use crate::gfp::Gfp;
use crate::platform::Platform;
use crate::shortage::Shortage;
use crate::shrinker::{MAX_NR_SHRINKERS, Shrinker};
use crate::special::WAITERS;

/// No more shrinkers can be registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyShrinkers;

impl fmt::Display for TooManyShrinkers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "all {MAX_NR_SHRINKERS} places for shrinkers are taken: remove one first")
    }
}

impl core::error::Error for TooManyShrinkers {}

/// A registered shrinker; dropping this removes it, once nobody is asking it any more.
#[must_use = "dropping this removes the shrinker at once"]
pub struct ShrinkerGuard<'a, P: Platform> {
    allocator: &'a PageAllocator<P>,
    place: usize,
}

impl<P: Platform> fmt::Debug for ShrinkerGuard<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShrinkerGuard").field("place", &self.place).finish_non_exhaustive()
    }
}

impl<P: Platform> Drop for ShrinkerGuard<'_, P> {
    fn drop(&mut self) {
        self.allocator.shrinkers.remove(self.place, self.allocator.platform());
    }
}

impl<P: Platform> PageAllocator<P> {
    /// Registers a cache that can give pages back when memory is short.
    ///
    /// # Errors
    /// [`TooManyShrinkers`] if [`MAX_NR_SHRINKERS`] are registered.
    pub fn register_shrinker(
        &self,
        shrinker: &'static dyn Shrinker,
    ) -> Result<ShrinkerGuard<'_, P>, TooManyShrinkers> {
        let place = self.shrinkers.add(shrinker).ok_or(TooManyShrinkers)?;
        Ok(ShrinkerGuard { allocator: self, place })
    }

    /// Reclaims until every zone is above its high watermark or nothing more can be had, and
    /// returns the number of pages that shrinkers freed: the work of background reclaim.
    ///
    /// [`Platform::wake_reclaim`] says when it is due.
    ///
    /// # Source
    /// `linux-6.12` `mm/vmscan.c` `balance_pgdat`
    pub fn balance(&self) -> usize {
        let mut freed = 0;
        loop {
            let missing: u64 = self
                .zones()
                .iter()
                .map(|zone| (zone.facts.watermarks.high + 1).saturating_sub(zone.nr_free()))
                .sum();
            if missing == 0 {
                return freed;
            }
            let wanted = usize::try_from(missing).unwrap_or(usize::MAX);
            match self.reclaim(wanted, Gfp::KERNEL) {
                0 => return freed,
                now => freed += now,
            }
        }
    }

    /// Asks the shrinkers for `nr` pages and empties the per-CPU lists into the zones; returns the
    /// number of pages that this made available.
    pub(crate) fn reclaim(&self, nr: usize, gfp: Gfp) -> usize {
        // Who frees memory soon does not come back to the shrinkers from within one.
        let recursive = gfp.contains(Gfp::MEMALLOC);
        let freed = if recursive { 0 } else { self.shrinkers.shrink(nr, gfp) };
        // What the shrinkers freed is among what is drained.
        self.drain_all_pages().max(freed)
    }

    /// Makes `attempt` whenever there may be more memory and all who waited before have been
    /// served, until it succeeds or `stop` says so.
    ///
    /// Only an attempt on its turn may keep what it takes from one call to the next.
    pub(crate) fn in_turn<T>(
        &self,
        stop: Option<&dyn Fn() -> bool>,
        mut attempt: impl FnMut() -> Option<T>,
    ) -> Result<T, Shortage> {
        let result = self.queue.in_turn(self.platform(), stop, || {
            // Set again each time: who left the queue last may have cleared it meanwhile.
            self.special.set(WAITERS, true);
            attempt()
        });
        if !self.queue.has_waiters() {
            self.special.set(WAITERS, false);
        }
        result.ok_or(Shortage::Stopped)
    }
}
