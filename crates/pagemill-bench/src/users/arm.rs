//! The three ways to take pages that are compared.

/// How a user takes its pages from the allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arm {
    /// One call for each page, as before the bulk call existed.
    Single,
    /// One bulk call for all that are needed.
    Bulk,
    /// One block of a higher order, split into pages or used whole: what a careful user would try
    /// without a bulk call. It needs memory that is not fragmented.
    Block,
}

impl Arm {
    /// Every arm, in the order of reports.
    pub const ALL: [Self; 3] = [Self::Single, Self::Bulk, Self::Block];

    /// Returns the name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Bulk => "bulk",
            Self::Block => "block",
        }
    }

    /// Returns the place of the arm in [`ALL`](Self::ALL).
    pub const fn index(self) -> usize {
        match self {
            Self::Single => 0,
            Self::Bulk => 1,
            Self::Block => 2,
        }
    }
}
