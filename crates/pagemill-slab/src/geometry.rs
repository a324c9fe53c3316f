//! Geometry: where the objects of a slab are, and how an address leads to an object's index.

use core::fmt;

use pagemill::Order;
use pagemill::units::PAGE_SIZE;

/// The largest slab: 2^3 pages.
pub(crate) const MAX_SLAB_ORDER: u8 = 3;
/// Most objects in a slab: three such numbers fit into a frame's word.
pub(crate) const MAX_NR_OBJECTS: usize = 4095;
/// A free object holds a link of this size.
pub(crate) const LINK_BYTES: usize = size_of::<u64>();
/// Bytes behind each object of a cache with red zones: the zone, and the link, which must not be in an
/// object that is poisoned.
pub(crate) const RED_BYTES: usize = 2 * LINK_BYTES;

/// The layout of a cache's slabs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    /// Bytes that a user may use.
    pub(crate) size: usize,
    /// From an object to the next.
    pub(crate) stride: usize,
    /// The order of most slabs.
    pub(crate) order: Order,
    /// The order of slabs when there are no blocks of `order`.
    pub(crate) fallback: Order,
    /// Position in a free object of the link to the next free one.
    pub(crate) link_at: usize,
    /// 2^32 / stride, rounded up.
    reciprocal: u64,
    /// Number of objects in a slab of each order.
    nr_objects: [usize; MAX_SLAB_ORDER as usize + 1],
}

/// A size, an alignment or an order that no cache can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadGeometry {
    /// The size is zero, or one object and its red zone do not fit into the largest slab.
    Size {
        /// Bytes of an object.
        size: usize,
        /// The most that is allowed.
        max: usize,
    },
    /// The alignment is not a power of two up to the page size.
    Align {
        /// The alignment.
        align: usize,
    },
    /// The order is above 3.
    Order {
        /// The order.
        order: Order,
    },
}

impl fmt::Display for BadGeometry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Size { size, max } => write!(
                f,
                "objects of {size} bytes: a cache has objects of 1 to {max} bytes; allocate larger ones as \
                 folios"
            ),
            Self::Align { align } => write!(
                f,
                "alignment {align}: objects of a cache are aligned to a power of two up to {PAGE_SIZE}; \
                 allocate others as folios"
            ),
            Self::Order { order } => {
                write!(f, "slabs of order {order}: allowed are 0 to {MAX_SLAB_ORDER}")
            }
        }
    }
}

impl core::error::Error for BadGeometry {}

impl Geometry {
    /// Lays out objects of `size` bytes in slabs of `order`, or of the smallest order that wastes little.
    pub(crate) fn new(
        size: usize,
        align: usize,
        order: Option<Order>,
        has_red_zones: bool,
    ) -> Result<Self, BadGeometry> {
        if !align.is_power_of_two() || align > PAGE_SIZE {
            return Err(BadGeometry::Align { align });
        }
        if let Some(order) = order.filter(|order| order.value() > MAX_SLAB_ORDER) {
            return Err(BadGeometry::Order { order });
        }
        let largest = PAGE_SIZE << MAX_SLAB_ORDER;
        let red_bytes = if has_red_zones { RED_BYTES } else { 0 };
        let max = largest - red_bytes;
        if size == 0 || size > max {
            return Err(BadGeometry::Size { size, max });
        }
        let link_at =
            if has_red_zones { size.next_multiple_of(LINK_BYTES) + LINK_BYTES } else { 0 };
        let stride = (link_at + LINK_BYTES).max(size).next_multiple_of(align.max(LINK_BYTES));
        if stride > largest {
            return Err(BadGeometry::Size { size, max: largest - red_bytes - align });
        }
        let orders = || (0..=MAX_SLAB_ORDER).filter_map(|order| Order::new(order).ok());
        let mut fits = orders().filter(|order| PAGE_SIZE << order.value() >= stride);
        let fallback = fits.next().unwrap_or_default();
        let order = order.unwrap_or_else(|| Self::frugal(stride, fallback)).max(fallback);
        let reciprocal = (1_u64 << 32).div_ceil(stride as u64);
        let nr_objects =
            [0, 1, 2, 3].map(|order| ((PAGE_SIZE << order) / stride).min(MAX_NR_OBJECTS));
        Ok(Self { size, stride, order, fallback, link_at, reciprocal, nr_objects })
    }

    /// Returns the smallest order whose slabs waste at most an eighth, or the one that wastes least.
    fn frugal(stride: usize, fallback: Order) -> Order {
        let waste = |order: Order| {
            let bytes = PAGE_SIZE << order.value();
            // In units of the largest slab, to compare orders.
            (bytes % stride) << (MAX_SLAB_ORDER - order.value())
        };
        let orders =
            || (fallback.value()..=MAX_SLAB_ORDER).filter_map(|order| Order::new(order).ok());
        let little = (PAGE_SIZE << MAX_SLAB_ORDER) / 8;
        orders()
            .find(|&order| waste(order) <= little)
            .or_else(|| orders().min_by_key(|&order| waste(order)))
            .unwrap_or(fallback)
    }

    /// Returns the number of objects in a slab of `order`.
    #[inline]
    pub(crate) fn nr_objects(&self, order: Order) -> usize {
        self.nr_objects[usize::from(order.value())]
    }

    /// Returns the index of the object that begins `offset` bytes behind the start of its slab, which is at
    /// most 32 KiB.
    #[inline]
    pub(crate) fn index_of(&self, offset: usize) -> Option<usize> {
        // Exact: the offset is below 2^15, and the reciprocal less than one too large.
        let index = ((offset as u64 * self.reciprocal) >> 32) as usize;
        (index * self.stride == offset).then_some(index)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    fn geometry(size: usize, align: usize) -> Geometry {
        Geometry::new(size, align, None, false).expect("a valid size")
    }

    #[test]
    fn each_offset_leads_to_its_object_or_to_none() {
        let small = if cfg!(miri) { 24..=24 } else { 1..=64 };
        let large = [96, 100, 192, 600, 1000, 2047, 2048, 3000, 4096, 20_000];
        for size in small.chain(large.into_iter().filter(|_| !cfg!(miri))) {
            let geometry = geometry(size, 8);
            for order in [geometry.fallback, geometry.order] {
                assert!(geometry.nr_objects(order) > 0);
                for offset in 0..PAGE_SIZE << order.value() {
                    let is_object = offset % geometry.stride == 0;
                    let expected = is_object.then_some(offset / geometry.stride);
                    assert_eq!(geometry.index_of(offset), expected);
                }
            }
        }
    }

    #[test]
    fn powers_of_two_waste_nothing_in_single_pages_and_others_little() {
        for size in [8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096] {
            let geometry = geometry(size, 8);
            assert_eq!((geometry.order, geometry.stride), (Order::ZERO, size));
            assert_eq!(geometry.nr_objects(Order::ZERO), 4096 / size);
        }
        assert_eq!(geometry(1500, 8).order.value(), 1, "5 of 1504 in 8 KiB");
        assert_eq!(geometry(8, 8).nr_objects(Order::new(3).expect("3")), MAX_NR_OBJECTS);
    }

    #[test]
    fn objects_larger_than_a_page_have_no_slabs_of_order_zero() {
        let geometry = geometry(5000, 8);
        assert_eq!((geometry.fallback.value(), geometry.order.value()), (1, 2));
    }

    #[test]
    fn alignment_widens_the_stride() {
        assert_eq!(geometry(20, 64).stride, 64);
        assert_eq!(geometry(100, 1).stride, 104);
    }

    #[test]
    fn checks_add_a_red_zone_and_a_link_behind_the_object() {
        let geometry = Geometry::new(20, 8, None, true).expect("a valid size");
        assert_eq!((geometry.link_at, geometry.stride), (32, 40));
    }

    #[test]
    fn impossible_sizes_alignments_and_orders_are_refused_in_words() {
        let refused = |size, align, order, debug| {
            Geometry::new(size, align, order, debug).expect_err("refused").to_string()
        };
        let order = |order| Order::new(order).ok();
        assert_eq!(
            refused(0, 8, None, false),
            "objects of 0 bytes: a cache has objects of 1 to 32768 bytes; allocate larger ones as folios"
        );
        assert!(refused(32_769, 8, None, false).starts_with("objects of 32769 bytes"));
        assert!(refused(32_768, 8, None, true).contains("1 to 32752 bytes"));
        assert!(Geometry::new(32_752, 8, None, true).is_ok());
        assert!(refused(8, 3, None, false).starts_with("alignment 3: "));
        assert!(refused(8, 8192, None, false).contains("up to 4096"));
        assert_eq!(refused(8, 8, order(4), false), "slabs of order 4: allowed are 0 to 3");
    }
}
