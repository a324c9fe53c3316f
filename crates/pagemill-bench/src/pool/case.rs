//! What is measured of a pool, in which ways, and the pool itself.

use anyhow::Context as _;
use pagemill::Page;
use pagemill_pool::dma::NoDma;
use pagemill_pool::{PagePool, PoolOwner, PoolParams};

use crate::frames::Frames;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// It is dropped, or sent out where it came in: its page returns directly.
    Drop,
    /// It is sent out elsewhere: its page returns through the ring, a poll's at once.
    Redirect,
    /// A stack keeps it: its page leaves the pool, and the stack's thread frees it.
    Hold,
}

impl Case {
    /// Returns the name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Redirect => "redirect",
            Self::Hold => "hold",
        }
    }
}

/// Where the driver's pages come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A pool that asks the page allocator for one page at a time, as Linux's did before the series.
    Single,
    /// A pool that asks for 64.
    Bulk,
    /// A static stack of buffers.
    Limit,
}

impl Way {
    /// Every way, in the order of reports.
    pub const ALL: [Self; 3] = [Self::Single, Self::Bulk, Self::Limit];

    /// Returns the name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Bulk => "bulk",
            Self::Limit => "limit",
        }
    }

    pub(super) const fn index(self) -> usize {
        match self {
            Self::Single => 0,
            Self::Bulk => 1,
            Self::Limit => 2,
        }
    }
}

pagemill_pool::static_pool! {
    static POOL: Page<Frames>;
    /// How pages reach the static.
    pub type Rx;
}

/// The owner of the pool that is measured.
pub type Owner = PoolOwner<Rx>;

/// Makes the pool over `source`, and becomes its owner.
///
/// # Errors
/// None that is known of: a process measures once, with parameters that are valid.
pub fn install(source: Frames) -> anyhow::Result<Owner> {
    let pool = PagePool::new(&PoolParams::new(), source, NoDma)?;
    anyhow::ensure!(POOL.set(pool).is_ok(), "a process measures once");
    PoolOwner::claim(Rx::new()).context("a process measures once")
}
