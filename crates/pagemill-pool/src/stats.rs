//! Pool counters, under the names of Linux's page pool.

use core::ops::AddAssign;

/// Counts of allocations by source.
///
/// # Source
/// `linux-6.12` `include/net/page_pool/types.h` `struct page_pool_alloc_stats`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AllocStats {
    /// Pages from the cache.
    pub fast: u64,
    /// Number of times that single pages came from the page allocator, one or many at once.
    pub slow: u64,
    /// Blocks of higher order from the page allocator.
    pub slow_high_order: u64,
    /// Number of times that the ring was empty at a refill.
    pub empty: u64,
    /// Number of times that the cache was refilled from the ring.
    pub refill: u64,
    /// Pages released because they are on another node than the owner wants: from the ring, or when
    /// they returned directly. Differs: Linux counts those from the ring, and keeps the others.
    pub waive: u64,
}

/// Counts of returned pages by destination.
///
/// # Source
/// `linux-6.12` `include/net/page_pool/types.h` `struct page_pool_recycle_stats`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecycleStats {
    /// Pages put into the cache.
    pub cached: u64,
    /// Pages for which the cache had no room.
    pub cache_full: u64,
    /// Pages put into the ring.
    pub ring: u64,
    /// Number of times that the ring had no room, for a page or for the last pages of a batch.
    pub ring_full: u64,
    /// Pages that were released because they have other owners or came from the reserve.
    pub released_refcnt: u64,
}

/// All counters of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Counts of allocations by source.
    pub alloc: AllocStats,
    /// Counts of returned pages by destination.
    pub recycle: RecycleStats,
}

impl PoolStats {
    /// Yields each counter with its name in `ethtool --statistics`.
    ///
    /// # Source
    /// `linux-6.12` `net/core/page_pool.c` `pp_stats`
    pub fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        [
            ("rx_pp_alloc_fast", self.alloc.fast),
            ("rx_pp_alloc_slow", self.alloc.slow),
            ("rx_pp_alloc_slow_ho", self.alloc.slow_high_order),
            ("rx_pp_alloc_empty", self.alloc.empty),
            ("rx_pp_alloc_refill", self.alloc.refill),
            ("rx_pp_alloc_waive", self.alloc.waive),
            ("rx_pp_recycle_cached", self.recycle.cached),
            ("rx_pp_recycle_cache_full", self.recycle.cache_full),
            ("rx_pp_recycle_ring", self.recycle.ring),
            ("rx_pp_recycle_ring_full", self.recycle.ring_full),
            ("rx_pp_recycle_released_ref", self.recycle.released_refcnt),
        ]
        .into_iter()
    }
}

impl AddAssign for AllocStats {
    fn add_assign(&mut self, other: Self) {
        self.fast += other.fast;
        self.slow += other.slow;
        self.slow_high_order += other.slow_high_order;
        self.empty += other.empty;
        self.refill += other.refill;
        self.waive += other.waive;
    }
}

impl AddAssign for RecycleStats {
    fn add_assign(&mut self, other: Self) {
        self.cached += other.cached;
        self.cache_full += other.cache_full;
        self.ring += other.ring;
        self.ring_full += other.ring_full;
        self.released_refcnt += other.released_refcnt;
    }
}

/// Adds a pool's counters to others, as a driver sums over its queues.
impl AddAssign for PoolStats {
    fn add_assign(&mut self, other: Self) {
        self.alloc += other.alloc;
        self.recycle += other.recycle;
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn sums_leave_nothing_out() {
        let mut stats = PoolStats::default();
        let one = PoolStats {
            alloc: AllocStats {
                fast: 1,
                slow: 2,
                slow_high_order: 3,
                empty: 4,
                refill: 5,
                waive: 6,
            },
            recycle: RecycleStats {
                cached: 7,
                cache_full: 8,
                ring: 9,
                ring_full: 10,
                released_refcnt: 11,
            },
        };
        stats += one;
        stats += one;
        let values: Vec<_> = stats.counters().map(|(_, value)| value).collect();
        assert_eq!(values, (1..=11).map(|value| 2 * value).collect::<Vec<_>>());
    }
}
