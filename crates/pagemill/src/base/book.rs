//! Books: the values of an allocator that must agree, and the error for two that do not.

use core::fmt;

use crate::base::units::{CpuId, Pfn};

/// A value that [`PageAllocator::validate`](crate::PageAllocator::validate) compares with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Book {
    /// The number of free frames that a pageblock records; expected are the bits of its bitmap.
    BlockFree,
    /// A frame that is free in a pageblock's bitmap and not in the zone; none is expected.
    FrameOutside,
    /// A frame that is free and reserved at once; none is expected.
    FrameReserved,
    /// A frame that is free and charged to an account at once; none is expected.
    FrameCharged,
    /// The index of the migrate type that calls by frame number see for a pageblock; expected is that of
    /// the pageblock's own.
    StateType,
    /// The number of reserved frames of a pageblock, or of charged ones that are known by their numbers
    /// alone; expected are the bits of the map of these frames.
    StateCount,
    /// The list that a pageblock is on: 9 times its migrate type plus the order of its largest free
    /// block, 27 for whole pageblocks, 28 for whole pairs, 29 for none. Expected is the list that its
    /// bitmap says.
    BlockList,
    /// The neighbour of a pageblock's neighbour on its list; expected is the pageblock itself.
    BlockLink,
    /// The number of pageblocks on a list; expected are those that record it.
    ListLength,
    /// The orders of the lists that are not empty, as bits; expected are those of the lists.
    OrderMask,
    /// The number of free frames of a shard, under its lock; expected is the sum of its pageblocks.
    ShardFree,
    /// The number of free frames of a shard, for readers without the lock.
    ShardCounter,
    /// The number of managed frames of a zone; expected are those present and not reserved.
    ZoneManaged,
    /// A watermark or a reserve of a zone; expected is what its managed frames give.
    Watermark,
    /// A CPU's copy of a watermark; expected is the sum of the zone's low watermark and reserve.
    HotZoneLimit,
    /// Whether a CPU's lists are in use, by a thread that has stopped inside them; none is expected.
    ListsInUse,
    /// The number of pages in a per-CPU list; expected is at most its capacity.
    ListCount,
    /// The class of a page in a per-CPU list (zone, migrate type, order, account); expected is the
    /// list's.
    ListedClass,
    /// The frame of a page in a per-CPU list that is not in the list's zone.
    ListedOutside,
    /// Whether a page in a per-CPU list is free in its zone too; not expected.
    ListedFree,
    /// Whether a page is in per-CPU lists twice; not expected.
    ListedTwice,
    /// The number of users of an account's entry; expected are its children, one if it has pages, and
    /// one if it is open.
    AccountUsers,
    /// The pages of an account; expected are at least those of its children.
    AccountPages,
    /// The peak of an account; expected are at least its pages.
    AccountPeak,
    /// The number at which the ancestors of an account end; expected is zero, which stands for none.
    AccountParent,
    /// The number of pages charged to accounts; expected are at most the frames in use.
    Charged,
    /// Whether a call site is recorded for a free frame; not expected.
    OwnerOfFree,
    /// The number of frames with a call site; expected are the frames in use.
    NrOwners,
}

impl fmt::Display for Book {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BlockFree => "the pageblock's number of free frames",
            Self::FrameOutside => "a free frame outside of the zone",
            Self::FrameReserved => "a frame that is free and reserved",
            Self::FrameCharged => "a frame that is free and charged to an account",
            Self::StateType => "the pageblock's migrate type as calls by frame number see it",
            Self::StateCount => "the pageblock's number of reserved or charged frames",
            Self::BlockList => "the number of the pageblock's list",
            Self::BlockLink => "the neighbour of the pageblock's neighbour on its list",
            Self::ListLength => "the number of pageblocks on a list",
            Self::OrderMask => "the mask of orders whose lists are not empty",
            Self::ShardFree => "the shard's number of free frames",
            Self::ShardCounter => "the shard's counter of free frames",
            Self::ZoneManaged => "the zone's number of managed frames",
            Self::Watermark => "a watermark or reserve",
            Self::HotZoneLimit => "the CPU's copy of a low watermark and reserve",
            Self::ListsInUse => "whether the CPU's lists are in use",
            Self::ListCount => "pages in the list, at most its capacity",
            Self::ListedClass => "the class of a page in a per-CPU list",
            Self::ListedOutside => "a page in a per-CPU list of another zone",
            Self::ListedFree => "whether a page in a per-CPU list is free in its zone too",
            Self::ListedTwice => "whether a page is in per-CPU lists twice",
            Self::AccountUsers => "the number of users of the account's entry",
            Self::AccountPages => "the account's pages, at least those of its children",
            Self::AccountPeak => "the account's peak, at least its pages",
            Self::AccountParent => "the number at which the account's ancestors end",
            Self::Charged => "pages charged to accounts, at most the frames in use",
            Self::OwnerOfFree => "whether a free frame has a recorded call site",
            Self::NrOwners => "the number of frames with a recorded call site",
        })
    }
}

/// What a wrong value belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// The allocator as a whole.
    Allocator,
    /// A zone, by its position in [`zone_info`](crate::PageAllocator::zone_info).
    Zone(usize),
    /// A shard of a zone.
    Shard {
        /// The zone's position.
        zone: usize,
        /// The shard's index in the zone.
        shard: usize,
    },
    /// The pageblock that begins at this frame.
    Pageblock(Pfn),
    /// A frame.
    Frame(Pfn),
    /// A CPU.
    Cpu(CpuId),
    /// An account, by its number.
    Account(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allocator => f.write_str("allocator"),
            Self::Zone(zone) => write!(f, "zone {zone}"),
            Self::Shard { zone, shard } => write!(f, "shard {shard} of zone {zone}"),
            Self::Pageblock(pfn) => write!(f, "pageblock at frame {pfn}"),
            Self::Frame(pfn) => write!(f, "frame {pfn}"),
            Self::Cpu(cpu) => write!(f, "CPU {cpu}"),
            Self::Account(number) => write!(f, "account {number}"),
        }
    }
}

impl Place {
    /// Checks that a value here is as expected.
    pub(crate) fn expect(self, book: Book, found: u64, expected: u64) -> Result<(), BookError> {
        self.check(found == expected, book, found, expected)
    }

    /// Checks that a value here is at most `expected`.
    pub(crate) fn at_most(self, book: Book, found: u64, expected: u64) -> Result<(), BookError> {
        self.check(found <= expected, book, found, expected)
    }

    /// Checks that a value here is at least `expected`.
    pub(crate) fn at_least(self, book: Book, found: u64, expected: u64) -> Result<(), BookError> {
        self.check(found >= expected, book, found, expected)
    }

    /// Not inlined: there are dozens of checks, and none is on a path that is in a hurry.
    #[inline(never)]
    fn check(self, is_ok: bool, book: Book, found: u64, expected: u64) -> Result<(), BookError> {
        if is_ok { Ok(()) } else { Err(BookError { book, place: self, found, expected }) }
    }
}

/// Two books of an allocator do not agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BookError {
    /// The value that is wrong.
    pub book: Book,
    /// What it belongs to.
    pub place: Place,
    /// The value.
    pub found: u64,
    /// What it should be.
    pub expected: u64,
}

impl fmt::Display for BookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { book, place, found, expected } = self;
        write!(f, "{place}: {book}: found {found}, expected {expected}")
    }
}

impl core::error::Error for BookError {}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn an_error_names_book_place_value_and_what_is_expected() {
        let place = Place::Pageblock(Pfn::new(0x10_0200));
        let error = place.expect(Book::BlockFree, 3, 4).unwrap_err();
        assert_eq!(
            error.to_string(),
            "pageblock at frame 0x100200: the pageblock's number of free frames: \
             found 3, expected 4"
        );
        assert_eq!(place.at_most(Book::ListCount, 4, 4), place.at_least(Book::AccountPeak, 5, 4));
        assert!(place.at_most(Book::ListCount, 5, 4).is_err());
        assert!(place.at_least(Book::AccountPeak, 3, 4).is_err());
    }
}
