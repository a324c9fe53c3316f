//! Unit types: frame numbers, addresses, orders, nodes and CPUs, with the page size and other limits.
//!
//! A frame number, an order, a node and a CPU are all small integers; separate types prevent mixing
//! them up. Conversions that could lose a value are checked here, once.

use core::fmt;

/// Base-2 logarithm of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;
/// Bytes in one page frame.
pub const PAGE_SIZE: usize = 1 << PAGE_SHIFT;
/// Frames in one pageblock: 512, which are 2 MiB, the unit of a zone's metadata.
pub const PAGEBLOCK_NR_PAGES: usize = 1 << PAGEBLOCK_ORDER.0;
/// Order of a pageblock: 2^9 frames, 2 MiB.
pub const PAGEBLOCK_ORDER: Order = Order(9);
/// The largest order that can be allocated: 2^10 frames, 4 MiB.
pub const MAX_ORDER: Order = Order(10);
/// Bits of a frame number that a page handle can carry: physical addresses below 2^52.
pub const PFN_BITS: u32 = 40;
/// Number of NUMA nodes that one allocator can manage.
///
/// A node mask is one `u64`.
pub const MAX_NR_NODES: usize = 64;

/// A page frame number: a physical address divided by [`PAGE_SIZE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pfn(u64);

impl Pfn {
    /// The largest frame number that a handle can carry.
    pub const MAX: Self = Self((1 << PFN_BITS) - 1);

    /// Makes a frame number.
    ///
    /// # Panics
    /// If `pfn` needs more than [`PFN_BITS`] bits.
    #[inline]
    #[must_use]
    #[track_caller]
    pub const fn new(pfn: u64) -> Self {
        assert!(pfn <= Self::MAX.0, "pfn does not fit in 40 bits");
        Self(pfn)
    }

    /// Returns the whole frames within the `len_bytes` bytes from `start` on: the first one, and their
    /// number. If the number is zero, the first one is the frame that holds `start`.
    ///
    /// # Panics
    /// If `start` is at 2^52 or above, or the bytes end above 2^52.
    ///
    /// # Examples
    /// ```
    /// # use pagemill::units::{Pfn, PhysAddr};
    /// assert_eq!(Pfn::within(PhysAddr::new(0x1800), 0x2800), (Pfn::new(2), 2));
    /// assert_eq!(Pfn::within(PhysAddr::new(0x1800), 0x1000), (Pfn::new(1), 0));
    /// ```
    #[must_use]
    #[track_caller]
    pub const fn within(start: PhysAddr, len_bytes: u64) -> (Self, usize) {
        let page_size = PAGE_SIZE as u64;
        let first = start.pfn();
        let Some(end) = start.0.checked_add(len_bytes) else {
            panic!("the bytes end above the address 2^52")
        };
        assert!(end >> PAGE_SHIFT <= Self::MAX.0 + 1, "the bytes end above the address 2^52");
        let (first_whole, end) = (start.0.div_ceil(page_size), end / page_size);
        if first_whole < end {
            #[expect(clippy::cast_possible_truncation, reason = "pointers have 64 bits")]
            let nr = (end - first_whole) as usize;
            (Self(first_whole), nr)
        } else {
            (first, 0)
        }
    }

    /// Returns the number itself.
    #[inline]
    #[must_use]
    pub const fn value(self) -> u64 {
        self.0
    }

    /// Returns the address of the frame's first byte.
    #[inline]
    #[must_use]
    pub const fn start(self) -> PhysAddr {
        PhysAddr(self.0 << PAGE_SHIFT)
    }

    /// Returns the frame number `count` frames higher.
    ///
    /// # Panics
    /// If the sum needs more than [`PFN_BITS`] bits.
    #[inline]
    #[must_use]
    #[track_caller]
    pub const fn offset(self, count: u64) -> Self {
        Self::new(self.0 + count)
    }

    /// Returns whether the frame can be the first of a block of `order`.
    #[inline]
    #[must_use]
    pub const fn is_aligned(self, order: Order) -> bool {
        self.0 & (order.nr_pages() as u64 - 1) == 0
    }
}

impl fmt::Display for Pfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A physical address, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct PhysAddr(u64);

impl PhysAddr {
    /// Makes an address.
    #[inline]
    #[must_use]
    pub const fn new(address: u64) -> Self {
        Self(address)
    }

    /// Returns the number itself.
    #[inline]
    #[must_use]
    pub const fn value(self) -> u64 {
        self.0
    }

    /// Returns the frame that holds this byte: rounds down.
    ///
    /// For an address that must be the first of a frame, such as one to free, use
    /// [`frame`](Self::frame).
    ///
    /// # Panics
    /// If the address is 2^52 or above.
    #[inline]
    #[must_use]
    #[track_caller]
    pub const fn pfn(self) -> Pfn {
        let pfn = self.0 >> PAGE_SHIFT;
        assert!(pfn <= Pfn::MAX.0, "the address is 2^52 or above");
        Pfn(pfn)
    }

    /// Returns the frame that begins at this address.
    ///
    /// # Errors
    /// `None` if the address is not a multiple of [`PAGE_SIZE`], or is 2^52 or above.
    ///
    /// # Examples
    /// ```
    /// # use pagemill::units::{Pfn, PhysAddr};
    /// assert_eq!(PhysAddr::new(0x3000).frame(), Some(Pfn::new(3)));
    /// assert_eq!(PhysAddr::new(0x3001).frame(), None);
    /// ```
    #[inline]
    #[must_use]
    pub const fn frame(self) -> Option<Pfn> {
        let pfn = Pfn(self.0 >> PAGE_SHIFT);
        if self.0 == pfn.0 << PAGE_SHIFT && pfn.0 <= Pfn::MAX.0 { Some(pfn) } else { None }
    }
}

impl fmt::Display for PhysAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// The size of a block as a power of two: 2^order frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Order(u8);

impl Order {
    /// One frame.
    pub const ZERO: Self = Self(0);

    /// Makes an order.
    ///
    /// # Errors
    /// [`OrderTooLarge`] above [`MAX_ORDER`].
    #[inline]
    pub const fn new(order: u8) -> Result<Self, OrderTooLarge> {
        if order <= MAX_ORDER.0 { Ok(Self(order)) } else { Err(OrderTooLarge { order }) }
    }

    /// Returns the exponent.
    #[inline]
    #[must_use]
    pub const fn value(self) -> u8 {
        self.0
    }

    /// Returns the number of frames in a block of this order.
    #[inline]
    #[must_use]
    pub const fn nr_pages(self) -> usize {
        1 << self.0
    }

    /// Returns every order from zero to [`MAX_ORDER`], smallest first.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> {
        (0..=MAX_ORDER.0).map(Self)
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An order above [`MAX_ORDER`] was requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderTooLarge {
    /// The requested order.
    pub order: u8,
}

impl fmt::Display for OrderTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "order {} is too large: allowed are 0 to {MAX_ORDER}", self.order)
    }
}

impl core::error::Error for OrderTooLarge {}

/// A NUMA node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct NodeId(u8);

impl NodeId {
    /// Makes a node number; whether an allocator has the node is checked on use.
    #[inline]
    #[must_use]
    pub const fn new(node: u8) -> Self {
        Self(node)
    }

    /// Returns the number itself.
    #[inline]
    #[must_use]
    pub const fn value(self) -> u8 {
        self.0
    }

    /// Returns the number as an index into a table of nodes.
    #[inline]
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A CPU, counted from zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuId(u32);

impl CpuId {
    /// Makes a CPU number.
    #[inline]
    #[must_use]
    pub const fn new(cpu: u32) -> Self {
        Self(cpu)
    }

    /// Returns the number itself.
    #[inline]
    #[must_use]
    pub const fn value(self) -> u32 {
        self.0
    }
}

impl fmt::Display for CpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// A frame number times the page size must be a valid address.
const _: () = assert!(PFN_BITS + PAGE_SHIFT <= u64::BITS);
// The largest block is a pair of pageblocks; buddy.rs relies on it.
const _: () = assert!(MAX_ORDER.0 == PAGEBLOCK_ORDER.0 + 1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_above_the_maximum_names_value_and_range() {
        let error = Order::new(11).unwrap_err();
        assert_eq!(error, OrderTooLarge { order: 11 });
        assert_eq!(alloc::format!("{error}"), "order 11 is too large: allowed are 0 to 10");
        assert_eq!(Order::new(10), Ok(MAX_ORDER));
    }

    #[test]
    fn alignment_follows_the_order() {
        assert!(Pfn::new(0).is_aligned(MAX_ORDER));
        assert!(Pfn::new(8).is_aligned(Order::new(3).unwrap()));
        assert!(!Pfn::new(8).is_aligned(Order::new(4).unwrap()));
    }

    #[test]
    #[should_panic(expected = "does not fit in 40 bits")]
    fn pfn_beyond_the_handle_is_refused() {
        let _pfn = Pfn::new(1 << PFN_BITS);
    }
    #[test]
    #[should_panic(expected = "the address is 2^52 or above")]
    fn frame_of_an_address_beyond_the_handle_is_refused() {
        let _pfn = PhysAddr::new(1 << 52).pfn();
    }

    #[test]
    fn only_the_first_byte_begins_a_frame() {
        for pfn in [0, 1, Pfn::MAX.value()] {
            let start = Pfn::new(pfn).start();
            assert_eq!(start.frame(), Some(Pfn::new(pfn)));
            for byte in [1, 8, 2048, 4095] {
                assert_eq!(PhysAddr::new(start.value() + byte).frame(), None);
            }
        }
        assert_eq!(PhysAddr::new(1 << 52).frame(), None);
        assert_eq!(PhysAddr::new(u64::MAX << 12).frame(), None);
    }

    #[test]
    fn whole_frames_are_those_that_a_walk_finds() {
        // At the lowest and at the highest addresses, in steps of a quarter of a page.
        for base in [0, (1 << 52) - 4 * 4096] {
            for start in (0..4 * 4096).step_by(1024) {
                for len in (0..=4 * 4096 - start).step_by(1024) {
                    let bytes = base + start..base + start + len;
                    let is_whole = |pfn: &u64| {
                        bytes.start <= pfn << PAGE_SHIFT && (pfn + 1) << PAGE_SHIFT <= bytes.end
                    };
                    let frames = base >> PAGE_SHIFT..(base >> PAGE_SHIFT) + 4;
                    let whole: alloc::vec::Vec<_> = frames.filter(is_whole).collect();
                    let first = whole.first().copied().unwrap_or(bytes.start >> PAGE_SHIFT);
                    let found = Pfn::within(PhysAddr::new(bytes.start), len);
                    assert_eq!(found, (Pfn::new(first), whole.len()), "{bytes:?}");
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "the bytes end above the address 2^52")]
    fn bytes_beyond_the_handle_are_refused() {
        let _frames = Pfn::within(PhysAddr::new((1 << 52) - 1), 4097);
    }

    #[test]
    #[should_panic(expected = "the bytes end above the address 2^52")]
    fn bytes_beyond_the_largest_address_are_refused() {
        let _frames = Pfn::within(PhysAddr::new(4096), u64::MAX);
    }
}
