//! The kinds of pages that a zone keeps apart, so that what cannot move does not spread.

/// What can be done with a page once it is in use.
///
/// Pageblocks belong to one kind, and a request is served from blocks of its own kind for as long
/// as there are any. Linux's `HIGHATOMIC`, `CMA` and `ISOLATE` are absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the number of kinds sizes the per-CPU lists")]
pub enum MigrateType {
    /// Stays where it is until it is freed.
    Unmovable,
    /// Can be copied elsewhere.
    Movable,
    /// Can be given back on request.
    Reclaimable,
}

/// Number of kinds of pages.
pub const NR_MIGRATE_TYPES: usize = 3;

impl MigrateType {
    /// All kinds, in the order in which `/proc/pagetypeinfo` lists them.
    pub const ALL: [Self; NR_MIGRATE_TYPES] = [Self::Unmovable, Self::Movable, Self::Reclaimable];

    /// Returns the position in [`ALL`](Self::ALL).
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

    /// Returns the kinds to take from, best first, when blocks of this kind have run out.
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
