//! Page word: one `u64` that names an owned block, with its frame number, its order, the list that it
//! returns to and the account that it is charged to.

use core::fmt;
use core::num::NonZeroU64;

use crate::base::migratetype::{MigrateType, NR_MIGRATE_TYPES};
use crate::base::units::{MAX_ORDER, Order, PFN_BITS, Pfn};

/// The per-CPU lists of a zone and a migrate type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListId(u16);

impl ListId {
    #[expect(clippy::cast_possible_truncation, reason = "there are three kinds")]
    const KINDS: u16 = NR_MIGRATE_TYPES as u16;

    #[inline]
    pub(crate) const fn new(zone: u16, migratetype: MigrateType) -> Self {
        Self(zone * Self::KINDS + migratetype as u16)
    }

    /// Returns the number of lists that a CPU has for `nr_zones` zones.
    pub(crate) const fn nr_lists(nr_zones: usize) -> usize {
        nr_zones * NR_MIGRATE_TYPES
    }

    /// Yields the lists of `nr_zones` zones, in the order of their indexes.
    pub(crate) fn all(nr_zones: usize) -> impl Iterator<Item = Self> {
        (0..).map(Self).take(Self::nr_lists(nr_zones))
    }

    /// Returns the list's index among the lists of a CPU.
    #[inline]
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }

    /// Returns the migrate type of the list's pages.
    pub(crate) const fn migratetype(self) -> MigrateType {
        MigrateType::ALL[self.0 as usize % NR_MIGRATE_TYPES]
    }

    /// Returns the zone's index among the zones of its allocator.
    #[inline]
    pub(crate) const fn zone(self) -> usize {
        self.0 as usize / NR_MIGRATE_TYPES
    }
}

/// An owned block of frames as one word, without the source that reaches its allocator.
///
/// A kernel stores this where it cannot keep a [`Page`](crate::Page): in a device's ring, in a C
/// structure. Dropping it does nothing: free it through [`Page::from_raw`](crate::Page::from_raw) or
/// [`Folio::from_raw`](crate::Folio::from_raw).
///
/// [`to_bits`](Self::to_bits) and [`from_bits`](Self::from_bits) convert it to and from an integer. The
/// layout of that integer is part of the interface and does not change:
///
/// ```text
///   63    62......53   52..49   48........40   39..................0
///  live   account      order    per-CPU list   frame number
/// ```
///
/// - *live* is one, so that the integer is never zero and `Option<RawPage>` is one word too.
/// - *account* is the number of the account that pays for the block; zero for none.
/// - *order* is 0 to 10.
/// - *per-CPU list* is three times the zone's position in
///   [`zone_info`](crate::PageAllocator::zone_info), plus the index of the migrate type.
/// - *frame number* is that of the first frame, a multiple of 2^order.
///
/// A place that has no room for this word keeps the frame number alone; see
/// [`Page::into_pfn`](crate::Page::into_pfn).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct RawPage(NonZeroU64);

/// An integer that is not the word of a block, with the reason that [`RawPage::from_bits`] or
/// [`PageAllocator::check_raw`](crate::PageAllocator::check_raw) found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidRawPage {
    /// Bit 63 is zero.
    NotLive {
        /// The integer.
        bits: u64,
    },
    /// Bits 49 to 52 are above [`MAX_ORDER`].
    OrderTooLarge {
        /// The integer.
        bits: u64,
        /// These four bits.
        order: u8,
    },
    /// The frame number is not a multiple of 2^order.
    Misaligned {
        /// The integer.
        bits: u64,
        /// The frame number.
        pfn: Pfn,
        /// The order.
        order: Order,
    },
    /// The frames are not in the zone whose list the word names.
    NotInZone {
        /// The integer.
        bits: u64,
        /// The frame number.
        pfn: Pfn,
    },
    /// The allocator does not have the account.
    NoAccount {
        /// The integer.
        bits: u64,
    },
}

impl fmt::Display for InvalidRawPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotLive { bits } => write!(
                f,
                "{bits:#x} is not a raw page: bit 63 is zero; pass an integer that \
                 RawPage::to_bits returned"
            ),
            Self::OrderTooLarge { bits, order } => write!(
                f,
                "{bits:#x} is not a raw page: its order is {order}, allowed are 0 to {MAX_ORDER}"
            ),
            Self::Misaligned { bits, pfn, order } => write!(
                f,
                "{bits:#x} is not a raw page: frame {pfn} is not a multiple of {} frames, as a \
                 block of order {order} is",
                order.nr_pages()
            ),
            Self::NotInZone { bits, pfn } => write!(
                f,
                "{bits:#x} is not a raw page of this allocator: frame {pfn} is not in the zone that \
                 bits 40 to 48 name"
            ),
            Self::NoAccount { bits } => write!(
                f,
                "{bits:#x} is not a raw page of this allocator: there is no account {}",
                bits >> ACCOUNT_SHIFT & (MAX_NR_ACCOUNTS as u64 - 1)
            ),
        }
    }
}

impl core::error::Error for InvalidRawPage {}

// Every bit has a meaning, so a new kind of word needs a bit that another field gives up. The first
// candidates are the two upper bits of the list: a list number of 7 bits still names 42 zones. Frames
// that are known by their number alone need no word of another kind: their pageblock tells their migrate
// type (`zone/block_state.rs`), and the charged ones among them keep their word in the table of links.
//
// All bits above the frame number are the *class*. Pages of one class go to the same list, and a slice
// of pages is freed by one copy if their classes are equal.

const LIST_SHIFT: u32 = PFN_BITS;
const LIST_BITS: u32 = 9;
const ORDER_SHIFT: u32 = LIST_SHIFT + LIST_BITS;
const ORDER_BITS: u32 = 4;
const ORDER_MASK: u64 = ((1 << ORDER_BITS) - 1) << ORDER_SHIFT;
const ACCOUNT_SHIFT: u32 = ORDER_SHIFT + ORDER_BITS;
const ACCOUNT_BITS: u32 = 10;
const ACCOUNT_MASK: u64 = ((1 << ACCOUNT_BITS) - 1) << ACCOUNT_SHIFT;
const LIVE: u64 = 1 << 63;
const _: () = assert!(ACCOUNT_SHIFT + ACCOUNT_BITS == 63);

/// Number of account numbers in a handle, including the one for no account.
pub(crate) const MAX_NR_ACCOUNTS: usize = 1 << ACCOUNT_BITS;

/// The number of an account; zero for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AccountNumber(u16);

impl AccountNumber {
    pub(crate) const NONE: Self = Self(0);

    /// Makes the number of entry `index` of the account table.
    pub(crate) fn new(index: usize) -> Self {
        assert!(index < MAX_NR_ACCOUNTS, "account {index} does not fit a handle");
        #[expect(clippy::cast_possible_truncation, reason = "ten bits, just checked")]
        Self(index as u16)
    }

    #[inline]
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }

    #[inline]
    pub(crate) const fn is_none(self) -> bool {
        self.0 == 0
    }
}

/// Number of zones that a list number can hold.
pub(crate) const MAX_NR_ZONES: usize = (1 << LIST_BITS) / NR_MIGRATE_TYPES;

/// All fields of a block's word except the frame number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Class(u64);

impl Class {
    /// A class that no page has.
    pub(crate) const NONE: Self = Self(0);

    /// Returns how another class differs from this one.
    #[inline]
    pub(crate) const fn difference_to(self, other: Self) -> Difference {
        Difference(self.0 ^ other.0)
    }

    #[inline]
    pub(crate) const fn new(list: ListId, order: Order) -> Self {
        Self(LIVE | (list.0 as u64) << LIST_SHIFT | (order.value() as u64) << ORDER_SHIFT)
    }

    /// Returns this class for blocks of `order`.
    #[inline]
    pub(crate) const fn with_order(self, order: Order) -> Self {
        Self(self.0 & !ORDER_MASK | (order.value() as u64) << ORDER_SHIFT)
    }

    /// Returns this class, of single pages, for blocks of `order`.
    #[inline]
    pub(crate) const fn of_order(self, order: Order) -> Self {
        debug_assert!(self.0 & ORDER_MASK == 0);
        Self(self.0 | (order.value() as u64) << ORDER_SHIFT)
    }

    /// Returns the class of the list `nr_lists` behind this class's list.
    #[inline]
    pub(crate) const fn with_list_behind(self, nr_lists: u32) -> Self {
        Self(self.0.wrapping_add((nr_lists as u64) << LIST_SHIFT))
    }

    /// Returns the words of the pages of this class at the frames `start` to `end - 1`.
    #[inline]
    pub(crate) const fn words(self, start: u64, end: u64) -> Words {
        Words { first: self.0 | start, nr: end.wrapping_sub(start) }
    }

    /// Returns this class with `account` as the account that is charged.
    #[inline]
    pub(crate) const fn charged_to(self, account: AccountNumber) -> Self {
        Self(self.0 & !ACCOUNT_MASK | (account.0 as u64) << ACCOUNT_SHIFT)
    }

    /// Returns the account to which pages of this class are charged.
    #[inline]
    pub(crate) const fn account(self) -> AccountNumber {
        AccountNumber(((self.0 & ACCOUNT_MASK) >> ACCOUNT_SHIFT) as u16)
    }

    /// Returns whether pages of this class are unmovable and charged to no account, so that any request
    /// may get them.
    #[inline]
    pub(crate) const fn is_plain(self) -> bool {
        self.0 & ACCOUNT_MASK == 0 && self.list().0 % ListId::KINDS == MigrateType::Unmovable as u16
    }

    /// Makes the word of the block of this class that begins at `pfn`.
    #[inline]
    pub(crate) const fn at(self, pfn: Pfn) -> RawPage {
        match NonZeroU64::new(self.0 | pfn.value()) {
            Some(word) => RawPage(word),
            None => unreachable!(),
        }
    }

    /// Returns a function that does what [`at`](Self::at) does, without a check for each page.
    #[inline]
    pub(crate) fn maker(self) -> impl Fn(Pfn) -> RawPage + Copy {
        let RawPage(word) = self.at(Pfn::new(0));
        move |pfn| RawPage(word | pfn.value())
    }

    /// Returns the list that pages of this class return to.
    #[inline]
    pub(crate) const fn list(self) -> ListId {
        #[expect(clippy::cast_possible_truncation, reason = "nine bits")]
        ListId((self.0 >> LIST_SHIFT) as u16 & ((1 << LIST_BITS) - 1))
    }

    /// Returns the order of blocks of this class.
    #[inline]
    pub(crate) const fn order(self) -> Order {
        #[expect(clippy::cast_possible_truncation, reason = "four bits")]
        match Order::new((self.0 >> ORDER_SHIFT) as u8 & 0xf) {
            Ok(order) => order,
            Err(_) => unreachable!(),
        }
    }

    /// Returns how a slot differs from a page of this class.
    ///
    /// Differences can be combined with `|`, so that one [`Difference::is_none`] checks many slots.
    #[inline]
    pub(crate) const fn difference(self, slot: Option<RawPage>) -> Difference {
        let word = match slot {
            Some(page) => page.0.get(),
            None => 0,
        };
        Difference(self.0 ^ word)
    }
}

/// The words of pages of one class at adjacent frames: they are adjacent integers, and none is zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words {
    first: u64,
    nr: u64,
}

impl Words {
    /// Returns whether the word of `slot` is among these; that of an empty slot never is.
    #[inline]
    pub(crate) fn has(self, slot: Option<RawPage>) -> bool {
        self.distance(slot) < self.nr
    }

    /// Returns whether the words of all slots are among these.
    ///
    /// # Cost
    /// A subtraction and a combination per slot. If the number of words is not a power of two and the last
    /// of them are in the slots, a comparison per slot, too.
    #[inline]
    pub(crate) fn have_all(self, slots: &[Option<RawPage>]) -> bool {
        let all = slots.iter().fold(0, |all, &slot| all | self.distance(slot));
        all < self.nr || slots.iter().all(|&slot| self.has(slot))
    }

    /// Returns how far behind the first word a slot's word is. That of an empty slot is in front of all, so
    /// its distance wraps to a number that no word has.
    #[inline]
    fn distance(self, slot: Option<RawPage>) -> u64 {
        slot.map_or(0, RawPage::word).wrapping_sub(self.first)
    }
}

/// How slots differ from pages of one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Difference(u64);

impl Difference {
    pub(crate) const NONE: Self = Self(0);

    #[inline]
    pub(crate) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns whether all slots held pages of the class.
    #[inline]
    pub(crate) const fn is_none(self) -> bool {
        self.0 >> PFN_BITS == 0
    }

    /// Returns whether all slots held blocks of the class, but for their order.
    #[inline]
    pub(crate) const fn is_only_order(self) -> bool {
        self.0 & !(ORDER_MASK | Pfn::MAX.value()) == 0
    }
}

impl RawPage {
    /// Returns the word as an integer, whose layout [`RawPage`] documents.
    #[inline]
    #[must_use]
    pub const fn to_bits(self) -> NonZeroU64 {
        self.0
    }

    /// Makes the word of an integer that [`to_bits`](Self::to_bits) returned.
    ///
    /// A raw page is only a name, so this is safe; [`Page::from_raw`](crate::Page::from_raw), which makes
    /// an owner of it, is not.
    ///
    /// # Errors
    /// What is wrong with an integer that no call of `to_bits` returns. Whether the block, the zone and
    /// the account exist is not checked.
    #[inline]
    pub const fn from_bits(bits: u64) -> Result<Self, InvalidRawPage> {
        let word = match NonZeroU64::new(bits) {
            Some(word) if bits & LIVE != 0 => word,
            _ => return Err(InvalidRawPage::NotLive { bits }),
        };
        #[expect(clippy::cast_possible_truncation, reason = "four bits")]
        let exponent = (bits >> ORDER_SHIFT) as u8 & 0xf;
        let Ok(order) = Order::new(exponent) else {
            return Err(InvalidRawPage::OrderTooLarge { bits, order: exponent });
        };
        let pfn = Pfn::new(bits & Pfn::MAX.value());
        if !pfn.is_aligned(order) {
            return Err(InvalidRawPage::Misaligned { bits, pfn, order });
        }
        Ok(Self(word))
    }

    /// Returns the first frame.
    #[inline]
    #[must_use]
    pub const fn pfn(self) -> Pfn {
        Pfn::new(self.0.get() & Pfn::MAX.value())
    }

    /// Returns the number of frames as a power of two.
    #[inline]
    #[must_use]
    pub const fn order(self) -> Order {
        self.class().order()
    }

    #[inline]
    pub(crate) const fn list(self) -> ListId {
        self.class().list()
    }

    /// Makes the word of the single page `position` frames after this one, which is the first of an
    /// aligned group of 64.
    #[inline]
    pub(crate) const fn with_low_bits(self, position: u64) -> Self {
        debug_assert!(self.0.get() & 63 == 0 && position < 64);
        match NonZeroU64::new(self.0.get() | position) {
            Some(word) => Self(word),
            None => unreachable!(),
        }
    }

    #[inline]
    pub(crate) const fn class(self) -> Class {
        Class(self.0.get() & !Pfn::MAX.value())
    }

    #[inline]
    pub(crate) const fn is_charged(self) -> bool {
        self.0.get() & ACCOUNT_MASK != 0
    }

    /// Returns the same block, charged to `account`.
    #[inline]
    pub(crate) const fn charged_to(self, account: AccountNumber) -> Self {
        self.class().charged_to(account).at(self.pfn())
    }

    /// Returns the word itself.
    #[inline]
    pub(crate) const fn word(self) -> u64 {
        self.0.get()
    }

    /// Makes the page of a word that [`word`](Self::word) returned.
    #[inline]
    pub(crate) const fn from_word(word: u64) -> Option<Self> {
        match NonZeroU64::new(word) {
            Some(word) => Some(Self(word)),
            None => None,
        }
    }
}

impl fmt::Debug for RawPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawPage(pfn {}, order {})", self.pfn(), self.order())
    }
}

const _: () = assert!(size_of::<Option<RawPage>>() == 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_gives_back_what_was_put_in() {
        let last_zone = u16::try_from(MAX_NR_ZONES - 1).unwrap();
        for migratetype in MigrateType::ALL {
            for pfn in [0, 1, Pfn::MAX.value()] {
                let list = ListId::new(last_zone, migratetype);
                let page = Class::new(list, MAX_ORDER).at(Pfn::new(pfn));
                assert_eq!(page.pfn(), Pfn::new(pfn));
                assert_eq!(page.order(), MAX_ORDER);
                assert_eq!(page.list(), list);
                assert_eq!(page.list().zone(), MAX_NR_ZONES - 1);
                assert_eq!(list.migratetype(), migratetype);
                assert_eq!(ListId::all(MAX_NR_ZONES).nth(list.index()), Some(list));
                assert!(page.class().difference(Some(page)).is_none());
                assert_eq!(RawPage::from_word(page.word()), Some(page));
            }
        }
    }

    #[test]
    fn bits_have_the_documented_layout_and_make_the_same_page() {
        let list = ListId::new(5, MigrateType::Reclaimable);
        let order = Order::new(3).unwrap();
        let page = Class::new(list, order).charged_to(AccountNumber::new(77)).at(Pfn::new(0xabc8));
        let bits = page.to_bits().get();
        assert_eq!(bits, 1 << 63 | 77 << 53 | 3 << 49 | 17 << 40 | 0xabc8);
        assert_eq!(RawPage::from_bits(bits), Ok(page));
        let last = Class::new(ListId::new(0, MigrateType::Unmovable), Order::ZERO).at(Pfn::MAX);
        assert_eq!(RawPage::from_bits(last.to_bits().get()), Ok(last));
    }

    #[test]
    fn bits_that_no_page_has_are_refused_with_the_reason() {
        let order = |order: u64| 1 << 63 | order << 49;
        let message = |bits| alloc::format!("{}", RawPage::from_bits(bits).unwrap_err());
        assert_eq!(RawPage::from_bits(0), Err(InvalidRawPage::NotLive { bits: 0 }));
        assert_eq!(
            message(order(3) ^ 1 << 63),
            "0x6000000000000 is not a raw page: bit 63 is zero; pass an integer that \
             RawPage::to_bits returned"
        );
        for exponent in 11..16 {
            let bits = order(exponent);
            let exponent = u8::try_from(exponent).unwrap();
            let expected = InvalidRawPage::OrderTooLarge { bits, order: exponent };
            assert_eq!(RawPage::from_bits(bits), Err(expected));
        }
        assert_eq!(
            message(order(11)),
            "0x8016000000000000 is not a raw page: its order is 11, allowed are 0 to 10"
        );
        assert_eq!(
            message(order(3) | 0x104),
            "0x8006000000000104 is not a raw page: frame 0x104 is not a multiple of 8 frames, as a \
             block of order 3 is"
        );
        for exponent in 1..=10 {
            assert!(RawPage::from_bits(order(exponent) | 1 << exponent).is_ok());
            assert!(RawPage::from_bits(order(exponent) | 1 << (exponent - 1)).is_err());
        }
    }

    #[test]
    fn a_difference_ignores_the_frame_and_nothing_else() {
        let list = ListId::new(1, MigrateType::Movable);
        let other = ListId::new(1, MigrateType::Unmovable);
        let class = Class::new(list, Order::ZERO);
        let same = class.difference(Some(class.at(Pfn::MAX)));
        assert!(same.is_none());
        let page = |list, order| Some(Class::new(list, order).at(Pfn::new(0)));
        for slot in [None, page(other, Order::ZERO), page(list, MAX_ORDER)] {
            assert!(!same.or(class.difference(slot)).is_none());
        }
        assert!(class.difference(page(list, MAX_ORDER)).is_only_order());
        let charged = page(list, MAX_ORDER).map(|page| page.charged_to(AccountNumber::new(1)));
        for slot in [None, page(other, MAX_ORDER), charged] {
            assert!(!class.difference(slot).is_only_order());
        }
    }
}
