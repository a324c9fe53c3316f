//! Migrate types: the kinds of pages that zones keep in separate pageblocks to limit fragmentation.

/// Whether a page can be moved or reclaimed while it is in use.
///
/// Each pageblock has one migrate type, and a request is served from pageblocks of its own type as long
/// as there are any. Linux's `HIGHATOMIC`, `CMA` and `ISOLATE` are absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the number of kinds sizes the per-CPU lists")]
pub enum MigrateType {
    /// Stays in place until it is freed.
    Unmovable,
    /// Can be copied to another frame.
    Movable,
    /// Can be freed on request.
    Reclaimable,
}

/// Number of migrate types.
pub const NR_MIGRATE_TYPES: usize = 3;

impl MigrateType {
    /// All migrate types, in the order in which `/proc/pagetypeinfo` lists them.
    pub const ALL: [Self; NR_MIGRATE_TYPES] = [Self::Unmovable, Self::Movable, Self::Reclaimable];

    /// Returns the index in [`ALL`](Self::ALL).
    #[inline]
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Returns the name as `/proc/pagetypeinfo` prints it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unmovable => "Unmovable",
            Self::Movable => "Movable",
            Self::Reclaimable => "Reclaimable",
        }
    }

    /// Returns the types to take from, best first, when pageblocks of this type have run out.
    ///
    /// # Source
    /// `linux-6.12` `mm/page_alloc.c` `fallbacks`
    pub(crate) const fn fallbacks(self) -> [Self; NR_MIGRATE_TYPES - 1] {
        match self {
            Self::Unmovable => [Self::Reclaimable, Self::Movable],
            Self::Movable => [Self::Reclaimable, Self::Unmovable],
            Self::Reclaimable => [Self::Unmovable, Self::Movable],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_falls_back_to_both_others() {
        for kind in MigrateType::ALL {
            let fallbacks = kind.fallbacks();
            assert!(!fallbacks.contains(&kind));
            assert_ne!(fallbacks[0], fallbacks[1]);
        }
    }
}
