//! The configuration of a cache, and its errors.

use core::fmt;

use pagemill::accounts::AccountId;
use pagemill::contig::ContigError;
use pagemill::{Gfp, Order};

use crate::geometry::BadGeometry;

/// The configuration of a cache; start from [`CacheConfig::new`].
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data; start from CacheConfig::new")]
pub struct CacheConfig {
    /// The cache's name, in statistics and messages.
    pub name: &'static str,
    /// Bytes of an object: 1 to 32 KiB.
    pub size: usize,
    /// Alignment of an object: a power of two up to 4096.
    pub align: usize,
    /// The order of a slab, 0 to 3; `None` for the smallest that wastes at most an eighth. If there is no
    /// block of that order, slabs are the smallest blocks that hold an object: single pages, for objects up
    /// to 4096 bytes.
    pub order: Option<Order>,
    /// How pages are taken from the allocator.
    pub refill: Refill,
    /// Flags for the pages of slabs, in addition to those of a call: [`Gfp::RECLAIMABLE`] for objects that a
    /// shrinker frees, [`Gfp::DMA32`] for devices, [`Gfp::ACCOUNT`] to charge pages to the account of the
    /// thread that needs them.
    pub gfp: Gfp,
    /// The account that pays for the pages of slabs.
    pub account: Option<AccountId>,
    /// Objects in one array of a CPU, of which it has two; `None` for 64 objects of up to 256 bytes, 32 of up
    /// to 1 KiB, and 16 larger ones. Zero for none: each call then takes the cache's lock.
    pub array: Option<u16>,
    /// What is checked on each free beside what is always checked.
    pub checks: Checks,
}

/// How a cache takes pages from the allocator for more than one slab.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refill {
    /// Each slab by a call of its own.
    Single,
    /// All slabs of a refill by one bulk call.
    #[default]
    Bulk,
    /// One block for all slabs of a refill, which is split; by single calls if there is no such block.
    Split,
}

/// Optional checks of a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Checks {
    /// What is checked when objects leave the array of a CPU, or when its pages are taken and freed: a wrong
    /// free is found after up to as many others as two arrays hold, and may be handed out before.
    Off,
    /// As `Off`, and each free checks at once that the object is in a slab of this cache.
    #[default]
    Owner,
    /// Each object has a red zone behind it, which finds overruns, objects that are freed twice, and objects
    /// that are freed while free. Objects go through no array.
    RedZone,
    /// As `RedZone`, and free objects are filled with a poison, which finds writes after a free.
    Poison,
}

impl Checks {
    /// Returns whether objects have red zones.
    #[inline]
    pub(crate) fn has_red_zones(self) -> bool {
        matches!(self, Self::RedZone | Self::Poison)
    }
}

/// Why a cache was not made.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum CacheError {
    /// No cache can have this size, alignment or order.
    Geometry {
        /// The cache's name.
        name: &'static str,
        /// What is wrong.
        error: BadGeometry,
    },
    /// An array is longer than allowed.
    Array {
        /// The cache's name.
        name: &'static str,
        /// The number of objects.
        array: u16,
    },
    /// There is no memory for the arrays.
    NoMemory {
        /// The cache's name.
        name: &'static str,
        /// What the allocator said.
        error: ContigError,
    },
    /// 4 million caches were made from one [`Slabs`](crate::Slabs).
    TooManyCaches {
        /// The cache's name.
        name: &'static str,
    },
}

/// Most objects in an array of a CPU.
pub(crate) const MAX_ARRAY: u16 = 256;

impl CacheConfig {
    /// Configures a cache of objects of `size` bytes, aligned to `align`, refilled in bulk.
    #[must_use]
    pub const fn new(name: &'static str, size: usize, align: usize) -> Self {
        Self {
            name,
            size,
            align,
            order: None,
            refill: Refill::Bulk,
            gfp: Gfp::empty(),
            account: None,
            array: None,
            checks: Checks::Owner,
        }
    }

    /// Configures a cache for values of type `T`.
    #[must_use]
    pub const fn of<T>(name: &'static str) -> Self {
        let size = if size_of::<T>() == 0 { 1 } else { size_of::<T>() };
        Self::new(name, size, align_of::<T>())
    }

    /// Returns the number of objects in an array of a CPU.
    pub(crate) fn array_len(&self) -> u16 {
        if self.checks.has_red_zones() {
            return 0;
        }
        self.array.unwrap_or(match self.size {
            0..=256 => 64,
            257..=1024 => 32,
            _ => 16,
        })
    }
}

impl fmt::Display for CacheError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Geometry { name, error } => write!(f, "cache {name}: {error}"),
            Self::Array { name, array } => {
                write!(f, "cache {name}: arrays of {array} objects: allowed are 0 to {MAX_ARRAY}")
            }
            Self::NoMemory { name, error } => {
                write!(f, "cache {name}: no memory for its arrays: {error}")
            }
            Self::TooManyCaches { name } => write!(
                f,
                "cache {name}: 4 million caches were made already, and their numbers are not used again"
            ),
        }
    }
}

impl core::error::Error for CacheError {}
