//! Watermarks: how many free pages a request must leave in a zone; arithmetic without locks.

use crate::base::gfp::{Gfp, NR_ZONE_KINDS, ZoneKind};
use crate::base::sync::Counter;
use crate::base::units::Order;

/// The limits of one zone, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Watermarks {
    /// Only requests with access to the reserve may go below it.
    pub min: u64,
    /// An ordinary request stays above it; below it, background reclaim is due.
    pub low: u64,
    /// Background reclaim stops here.
    pub high: u64,
    /// Extra pages that a request leaves if it could have used a higher zone of this kind.
    pub lowmem_reserve: [u64; NR_ZONE_KINDS],
}

impl Watermarks {
    /// Derives the limits of a zone of `managed` pages from its share `min` of the reserve.
    ///
    /// # Source
    /// `linux-6.12` `mm/page_alloc.c` `__setup_per_zone_wmarks`
    pub(crate) fn new(min: u64, managed: u64, scale_factor: u32) -> Self {
        let step = (min / 4).max(managed * u64::from(scale_factor) / 10_000);
        Self { min, low: min + step, high: min + 2 * step, lowmem_reserve: [0; NR_ZONE_KINDS] }
    }
}

/// The watermarks of a zone in use. They change when reserved memory is handed in.
///
/// A concurrent request may see some values from before a change and some from after it.
#[derive(Debug)]
pub(crate) struct Marks {
    min: Counter,
    low: Counter,
    high: Counter,
    lowmem_reserve: [Counter; NR_ZONE_KINDS],
}

impl Marks {
    pub(crate) fn new() -> Self {
        let [min, low, high] = core::array::from_fn(|_| Counter::new());
        Self { min, low, high, lowmem_reserve: core::array::from_fn(|_| Counter::new()) }
    }

    /// Sets all values and returns whether one changed; the caller must be the only writer.
    pub(crate) fn set(&self, marks: &Watermarks) -> bool {
        let is_new = self.get() != *marks;
        self.min.set(marks.min);
        self.low.set(marks.low);
        self.high.set(marks.high);
        for (reserve, &nr_pages) in self.lowmem_reserve.iter().zip(&marks.lowmem_reserve) {
            reserve.set(nr_pages);
        }
        is_new
    }

    /// Returns all values.
    pub(crate) fn get(&self) -> Watermarks {
        let [min, low, high] = [&self.min, &self.low, &self.high].map(Counter::get);
        let lowmem_reserve = core::array::from_fn(|kind| self.lowmem_reserve[kind].get());
        Watermarks { min, low, high, lowmem_reserve }
    }

    /// Returns the pages that the zone keeps from requests that could have used a zone of kind
    /// `highest`.
    #[inline]
    pub(crate) fn reserve(&self, highest: ZoneKind) -> u64 {
        self.lowmem_reserve[highest.index()].get()
    }

    /// Returns whether `nr_pages` single pages can be taken from `free` without going down to low.
    ///
    /// The test of the bulk calls: strictly more than low plus the whole request.
    ///
    /// # Source
    /// `linux-6.12` `mm/page_alloc.c` `alloc_pages_bulk_noprof`
    #[inline]
    pub(crate) fn bulk_ok(&self, free: u64, nr_pages: u64, highest: ZoneKind) -> bool {
        // A subtraction, since the sum with a request of any length could overflow.
        free.saturating_sub(self.bulk_limit(highest)) > nr_pages
    }

    /// Returns how many pages [`bulk_ok`](Self::bulk_ok) leaves.
    #[inline]
    pub(crate) fn bulk_limit(&self, highest: ZoneKind) -> u64 {
        self.low.get() + self.reserve(highest)
    }

    /// Returns whether a block of `order` can be taken from `free` without going down to `mark`.
    ///
    /// # Source
    /// `linux-6.12` `mm/page_alloc.c` `__zone_watermark_ok`
    #[inline]
    pub(crate) fn ok(&self, free: u64, order: Order, mark: Mark, highest: ZoneKind) -> bool {
        let others = order.nr_pages() as u64 - 1;
        self.limit(mark, highest).is_none_or(|limit| free > limit + others)
    }

    /// Returns how many of `free` pages a request that is tested against `mark` may take, and so may
    /// move to a per-CPU list. Pages in a list are no longer part of the reserve.
    pub(crate) fn spare(&self, free: u64, mark: Mark, highest: ZoneKind) -> u64 {
        free.saturating_sub(self.limit(mark, highest).unwrap_or(0))
    }

    /// Returns whether `free` pages are as many as a request that is tested against `mark` must leave.
    pub(crate) fn is_kept(&self, free: u64, mark: Mark, highest: ZoneKind) -> bool {
        self.limit(mark, highest).is_none_or(|limit| free >= limit)
    }

    /// Returns how many pages must be left; `None` for no limit.
    #[inline]
    fn limit(&self, mark: Mark, highest: ZoneKind) -> Option<u64> {
        let limit = match mark {
            Mark::Low => self.low.get(),
            Mark::Min => self.min.get(),
            Mark::MinHigh => {
                let min = self.min.get();
                min - min / 2
            }
            Mark::None => return None,
        };
        Some(limit + self.reserve(highest))
    }
}

/// The watermark that a request is tested against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// For the first attempt of every request.
    Low,
    /// For the last attempt of an ordinary request.
    Min,
    /// For the last attempt of a high-priority request: half of min.
    MinHigh,
    /// No limit: the whole zone may be used.
    None,
}

impl Mark {
    /// Returns this watermark, or min if this one is lower.
    #[inline]
    pub(crate) fn at_least_min(self) -> Self {
        match self {
            Self::Low => Self::Low,
            Self::Min | Self::MinHigh | Self::None => Self::Min,
        }
    }

    /// Returns the watermark for the last attempt of a request.
    ///
    /// # Source
    /// `linux-6.12` `mm/page_alloc.c` `gfp_to_alloc_flags`. Differs: no further quarter for
    /// requests that cannot wait, and none for tasks that are being killed.
    #[inline]
    pub(crate) fn last(gfp: Gfp) -> Self {
        if gfp.may_use_all_reserves() {
            Self::None
        } else if gfp.contains(Gfp::HIGH) {
            Self::MinHigh
        } else {
            Self::Min
        }
    }
}

/// Inputs from which the watermarks of all zones are computed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MarkPolicy {
    /// Sum of the min watermarks, in pages; `None` for Linux's rule.
    pub(crate) min_free: Option<u64>,
    pub(crate) scale_factor: u32,
    pub(crate) lowmem_reserve_ratio: [u32; NR_ZONE_KINDS],
}

/// Returns the sum of the min watermarks of all zones, in pages, by Linux's rule.
///
/// # Source
/// `linux-6.12` `mm/page_alloc.c` `calculate_min_free_kbytes`: sqrt(16 x KiB of memory) KiB, from 128
/// KiB to 256 MiB. Differs: never more than 1/8 of the memory, so that a small arena is not mostly
/// reserve.
pub(crate) fn default_min_free_pages(managed: u64) -> u64 {
    const KIB_PER_PAGE: u64 = 4;
    let kib = (managed * KIB_PER_PAGE * 16).isqrt().clamp(128, 256 << 10);
    (kib / KIB_PER_PAGE).min(managed / 8)
}

/// Returns the pages that each zone of a node keeps from requests that could have used a higher zone.
///
/// `managed` is the number of pages in each zone of the node. The reserve for kind j in zone i is the
/// memory of the zones above i up to j, divided by the zone's ratio.
///
/// # Source
/// `linux-6.12` `mm/page_alloc.c` `setup_per_zone_lowmem_reserve`
pub(crate) fn lowmem_reserve(
    zone: ZoneKind,
    managed: &[u64; NR_ZONE_KINDS],
    ratio: &[u32; NR_ZONE_KINDS],
) -> [u64; NR_ZONE_KINDS] {
    let mut reserve = [0; NR_ZONE_KINDS];
    let ratio = u64::from(ratio[zone.index()]);
    let mut above = 0;
    for kind in zone.index() + 1..NR_ZONE_KINDS {
        above += managed[kind];
        reserve[kind] = above.checked_div(ratio).unwrap_or(0);
    }
    reserve
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(marks: &Watermarks) -> Marks {
        let cells = Marks::new();
        assert!(cells.set(marks) || *marks == Watermarks::default());
        assert!(!cells.set(marks) && cells.get() == *marks);
        cells
    }

    #[test]
    fn bulk_needs_strictly_more_than_low_and_the_whole_request_and_the_reserve() {
        let mut limits = Watermarks::new(100, 10_000, 10);
        limits.lowmem_reserve[ZoneKind::Normal.index()] = 7;
        assert_eq!((limits.min, limits.low, limits.high), (100, 125, 150));
        let marks = marks(&limits);
        assert!(!marks.bulk_ok(125 + 64 + 7, 64, ZoneKind::Normal));
        assert!(marks.bulk_ok(125 + 64 + 7 + 1, 64, ZoneKind::Normal));
        assert!(marks.bulk_ok(125 + 64 + 1, 64, ZoneKind::Dma32));
    }

    #[test]
    fn an_order_counts_with_all_its_pages_but_one() {
        let marks = marks(&Watermarks::new(0, 0, 10));
        let order = Order::new(3).unwrap();
        assert!(!marks.ok(7, order, Mark::Low, ZoneKind::Normal));
        assert!(marks.ok(8, order, Mark::Low, ZoneKind::Normal));
    }

    #[test]
    fn who_may_use_the_reserve() {
        let marks = marks(&Watermarks::new(100, 0, 10));
        let order = Order::ZERO;
        let lowest = |gfp| {
            let mark = Mark::last(gfp);
            (0..200).find(|&free| marks.ok(free, order, mark, ZoneKind::Normal)).unwrap()
        };
        assert_eq!(lowest(Gfp::KERNEL), 101);
        assert_eq!(lowest(Gfp::ATOMIC), 51);
        assert_eq!(lowest(Gfp::KERNEL | Gfp::MEMALLOC), 0);
        assert_eq!(lowest(Gfp::KERNEL | Gfp::MEMALLOC | Gfp::NOMEMALLOC), 101);
    }

    #[test]
    fn min_free_follows_the_square_root_within_its_limits() {
        let gib = 1 << 18;
        assert_eq!(default_min_free_pages(gib), 1024);
        assert_eq!(default_min_free_pages(64 * gib), 8192);
        assert_eq!(default_min_free_pages(1 << 40), 65536);
        assert_eq!(default_min_free_pages(16), 2);
        assert_eq!(default_min_free_pages(1000), 63);
    }

    #[test]
    fn reserves_grow_with_the_memory_above() {
        let managed = [4000, 500_000, 1_000_000, 0];
        let ratio = [256, 256, 32, 0];
        assert_eq!(
            lowmem_reserve(ZoneKind::Dma, &managed, &ratio),
            [0, 500_000 / 256, 1_500_000 / 256, 1_500_000 / 256]
        );
        assert_eq!(lowmem_reserve(ZoneKind::Normal, &managed, &ratio), [0; 4]);
        assert_eq!(lowmem_reserve(ZoneKind::Movable, &managed, &ratio), [0; 4]);
    }
}
