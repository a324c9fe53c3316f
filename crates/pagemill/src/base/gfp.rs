//! GFP flags: which zones a request may use, how hard it tries, and the migrate type of its pages.
//!
//! The flags have Linux's names without the leading underscores; the usual sets (`KERNEL`, `ATOMIC`,
//! `USER`, ...) are the unions that Linux defines.

use bitflags::bitflags;

use crate::base::migratetype::MigrateType;

/// The kinds of zones, lowest addresses first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a fifth kind would change every zonelist")]
pub enum ZoneKind {
    /// Frames below 16 MiB, for devices with 24 address bits. Absent unless configured.
    Dma,
    /// Frames below 4 GiB, for devices with 32 address bits.
    Dma32,
    /// All other frames.
    Normal,
    /// Frames that only movable requests may use.
    Movable,
}

impl ZoneKind {
    /// All kinds, lowest first.
    pub const ALL: [Self; NR_ZONE_KINDS] = [Self::Dma, Self::Dma32, Self::Normal, Self::Movable];

    /// Returns the index in [`ALL`](Self::ALL).
    #[inline]
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Returns the name as `/proc/zoneinfo` prints it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dma => "DMA",
            Self::Dma32 => "DMA32",
            Self::Normal => "Normal",
            Self::Movable => "Movable",
        }
    }
}

/// Number of kinds of zones.
pub const NR_ZONE_KINDS: usize = 4;

bitflags! {
    /// The flags of a request, under Linux's names.
    ///
    /// `WRITE`, `NOWARN`, `COMP` and `HARDWALL` are accepted and have no effect: there is no dirty
    /// balancing, no warning, no block that is not compound, and no cpuset.
    ///
    /// # Source
    /// `linux-6.12` `include/linux/gfp_types.h`
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Gfp: u32 {
        /// From zone DMA only.
        const DMA = 1 << 0;
        /// High memory is allowed; with [`MOVABLE`](Self::MOVABLE), zone Movable is too.
        const HIGHMEM = 1 << 1;
        /// From zone DMA32 or below.
        const DMA32 = 1 << 2;
        /// The page can be migrated; it is grouped with other movable pages.
        const MOVABLE = 1 << 3;
        /// The page can be reclaimed; it is grouped with other reclaimable pages.
        const RECLAIMABLE = 1 << 4;
        /// High priority: the request may use half of the min watermark.
        const HIGH = 1 << 5;
        /// Reclaim may start physical I/O.
        const IO = 1 << 6;
        /// Reclaim may call down into the file system.
        const FS = 1 << 7;
        /// The page is filled with zeroes.
        const ZERO = 1 << 8;
        /// The caller may reclaim, and so may wait.
        const DIRECT_RECLAIM = 1 << 9;
        /// Background reclaim is woken when the zone falls below its low watermark.
        const KSWAPD_RECLAIM = 1 << 10;
        /// The caller intends to write to the page.
        const WRITE = 1 << 11;
        /// No warning when the request fails.
        const NOWARN = 1 << 12;
        /// Retries hard, but may fail.
        const RETRY_MAYFAIL = 1 << 13;
        /// Never fails for lack of memory: waits until other threads free enough. Requests for several
        /// blocks of the same nodes are served in the order in which they began. So a thread that holds
        /// pages and waits without a stop callback can block the requests behind it. A request for a
        /// single block first tries the part of the reserve that [`HIGH`](Self::HIGH) may use.
        ///
        /// Without [`DIRECT_RECLAIM`](Self::DIRECT_RECLAIM) it cannot wait, and fails like any other.
        /// It also fails if no zone could serve it even with all memory free.
        ///
        /// An account is charged past its limit for it.
        /// [`Effort::Fast`](crate::request::Effort::Fast) overrides it.
        ///
        /// Differs: Linux charges [`HIGH`](Self::HIGH) past the limit, too.
        const NOFAIL = 1 << 14;
        /// Gives up after one round of reclaim.
        const NORETRY = 1 << 15;
        /// The request may use all reserves, because it will soon free more memory.
        const MEMALLOC = 1 << 16;
        /// A block of order above zero is one compound page. Every [`Folio`](crate::Folio) is.
        const COMP = 1 << 17;
        /// The request may not use reserves; overrides [`MEMALLOC`](Self::MEMALLOC).
        const NOMEMALLOC = 1 << 18;
        /// The cpuset policy is enforced.
        const HARDWALL = 1 << 19;
        /// No node but the requested one.
        const THISNODE = 1 << 20;
        /// The page is charged to the platform's
        /// [current account](crate::Platform::current_account).
        const ACCOUNT = 1 << 21;

        /// Either kind of reclaim.
        const RECLAIM = Self::DIRECT_RECLAIM.bits() | Self::KSWAPD_RECLAIM.bits();
        /// Cannot wait; may use part of the reserve.
        const ATOMIC = Self::HIGH.bits() | Self::KSWAPD_RECLAIM.bits();
        /// The usual request of a kernel.
        const KERNEL = Self::RECLAIM.bits() | Self::IO.bits() | Self::FS.bits();
        /// The usual request of a kernel, charged to the current account.
        const KERNEL_ACCOUNT = Self::KERNEL.bits() | Self::ACCOUNT.bits();
        /// Cannot wait.
        const NOWAIT = Self::KSWAPD_RECLAIM.bits() | Self::NOWARN.bits();
        /// May wait, but not for I/O.
        const NOIO = Self::RECLAIM.bits();
        /// May wait, but not for the file system.
        const NOFS = Self::RECLAIM.bits() | Self::IO.bits();
        /// For user space, subject to the cpuset.
        const USER = Self::KERNEL.bits() | Self::HARDWALL.bits();
        /// For user space, from any zone but Movable.
        const HIGHUSER = Self::USER.bits() | Self::HIGHMEM.bits();
        /// For user space, from any zone; the page can be migrated.
        const HIGHUSER_MOVABLE = Self::HIGHUSER.bits() | Self::MOVABLE.bits();
    }
}

impl Gfp {
    /// The flags that decide the zone and the migrate type: the lowest five bits.
    pub(crate) const HOT_ZONE: Self = Self::DMA
        .union(Self::HIGHMEM)
        .union(Self::DMA32)
        .union(Self::MOVABLE)
        .union(Self::RECLAIMABLE);

    /// The flags that a copy of pages from the caller's list cannot serve.
    pub(crate) const UNUSUAL: Self = Self::ZERO.union(Self::THISNODE).union(Self::ACCOUNT);

    /// Returns the highest kind of zone that the request may use.
    ///
    /// Differs: if zone DMA or DMA32 was not set up, Linux serves `DMA` and `DMA32` from the next
    /// higher zone, whose addresses the device may not reach; here such a request fails. With both
    /// flags, the lower zone wins.
    #[inline]
    #[must_use]
    pub const fn highest_zone(self) -> ZoneKind {
        if self.contains(Self::DMA) {
            ZoneKind::Dma
        } else if self.contains(Self::DMA32) {
            ZoneKind::Dma32
        } else if self.contains(Self::MOVABLE.union(Self::HIGHMEM)) {
            ZoneKind::Movable
        } else {
            ZoneKind::Normal
        }
    }

    /// Returns the migrate type of the request; movable wins over reclaimable.
    #[inline]
    #[must_use]
    pub const fn migratetype(self) -> MigrateType {
        if self.contains(Self::MOVABLE) {
            MigrateType::Movable
        } else if self.contains(Self::RECLAIMABLE) {
            MigrateType::Reclaimable
        } else {
            MigrateType::Unmovable
        }
    }

    /// Returns whether the request may ignore the watermarks.
    #[inline]
    #[must_use]
    pub const fn may_use_all_reserves(self) -> bool {
        self.contains(Self::MEMALLOC) && !self.contains(Self::NOMEMALLOC)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn movable_zone_needs_both_flags() {
        assert_eq!(Gfp::MOVABLE.highest_zone(), ZoneKind::Normal);
        assert_eq!(Gfp::HIGHMEM.highest_zone(), ZoneKind::Normal);
        assert_eq!(Gfp::HIGHUSER_MOVABLE.highest_zone(), ZoneKind::Movable);
    }

    #[test]
    fn the_lower_of_two_dma_zones_wins() {
        assert_eq!((Gfp::DMA | Gfp::DMA32).highest_zone(), ZoneKind::Dma);
        assert_eq!((Gfp::KERNEL | Gfp::DMA32).highest_zone(), ZoneKind::Dma32);
    }

    #[test]
    fn nomemalloc_overrules_memalloc() {
        assert!(Gfp::MEMALLOC.may_use_all_reserves());
        assert!(!(Gfp::MEMALLOC | Gfp::NOMEMALLOC).may_use_all_reserves());
    }
}
