//! Pool parameters: order, ring size, node, refill and DMA settings, and their checks.

use core::fmt;

use pagemill::units::{NodeId, PAGE_SIZE};
use pagemill::{Gfp, Order};

use crate::block::Block;
use crate::dma::{DmaDirection, DmaMapper};

/// Places in the cache of a pool's owner: twice a poll's budget, so that the pages that one poll drops
/// fit beside a whole refill.
///
/// # Source
/// `linux-6.12` `include/net/page_pool/types.h` `PP_ALLOC_CACHE_SIZE`
pub const PP_ALLOC_CACHE_SIZE: usize = 128;

/// Maximum number of pages in one refill of an empty cache: one poll's budget.
///
/// # Source
/// `linux-6.12` `include/net/page_pool/types.h` `PP_ALLOC_CACHE_REFILL`
pub const PP_ALLOC_CACHE_REFILL: usize = 64;

/// Default and maximum number of places in the ring.
///
/// # Source
/// `linux-6.12` `net/core/page_pool.c` `page_pool_init`
const RING_DEFAULT: usize = 1024;
const RING_MAX: usize = 16384;

/// The parameters of a pool; start from [`PoolParams::new`].
///
/// # Source
/// `linux-6.12` `include/net/page_pool/types.h` `struct page_pool_params`. Differs: the type of the
/// mapper decides whether pages are mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data; start from PoolParams::new")]
pub struct PoolParams {
    /// Size of each block; pools of [`Page`](pagemill::Page)s have order zero.
    pub order: Order,
    /// Places in the ring; zero for 1024, at most 16384.
    pub pool_size: usize,
    /// The node that pages should be on; `None` for the node of the requesting CPU.
    pub node: Option<NodeId>,
    /// Flags for page allocations.
    pub gfp: Gfp,
    /// Number of pages per call to the page allocator, 1 to 64.
    pub refill: usize,
    /// DMA settings.
    pub dma: DmaParams,
}

/// DMA settings of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data; Default is one that does not sync")]
pub struct DmaParams {
    /// Direction of the data.
    pub direction: DmaDirection,
    /// Whether the pool syncs pages for the device when they are mapped and recycled.
    pub sync_for_device: bool,
    /// Offset in a page at which the device begins.
    pub offset: usize,
    /// Maximum number of bytes that the device uses from there on.
    pub max_len: usize,
}

impl PoolParams {
    /// Makes parameters for single pages, in an atomic context, on the local node, 64 per refill.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            order: Order::ZERO,
            pool_size: 0,
            node: None,
            gfp: Gfp::ATOMIC.union(Gfp::NOWARN),
            refill: PP_ALLOC_CACHE_REFILL,
            dma: DmaParams {
                direction: DmaDirection::FromDevice,
                sync_for_device: false,
                offset: 0,
                max_len: 0,
            },
        }
    }

    /// Returns the number of places in the ring.
    pub(crate) fn ring_size(&self) -> usize {
        if self.pool_size == 0 { RING_DEFAULT } else { self.pool_size.min(RING_MAX) }
    }

    /// Checks the parameters, for one kind of block and a mapper that maps or does not.
    pub(crate) fn check<B: Block, M: DmaMapper>(&self) -> Result<(), PoolError> {
        if B::IS_SINGLE && self.order != Order::ZERO {
            return Err(PoolError::Order { order: self.order });
        }
        if !(1..=PP_ALLOC_CACHE_REFILL).contains(&self.refill) {
            return Err(PoolError::Refill { refill: self.refill });
        }
        let DmaParams { direction, sync_for_device, offset, max_len } = self.dma;
        if M::MAPS && direction == DmaDirection::ToDevice {
            return Err(PoolError::Direction);
        }
        if !sync_for_device {
            return Ok(());
        }
        if !M::MAPS {
            return Err(PoolError::SyncWithoutMapping);
        }
        let available = PAGE_SIZE << self.order.value();
        if max_len == 0 || offset.checked_add(max_len).is_none_or(|end| end > available) {
            return Err(PoolError::SyncRange { offset, max_len, available });
        }
        Ok(())
    }
}

impl Default for PoolParams {
    fn default() -> Self {
        Self::new()
    }
}

/// An invalid parameter of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoolError {
    /// A pool of single pages has an order above zero.
    Order {
        /// The order.
        order: Order,
    },
    /// The refill is zero or more than 64 pages.
    Refill {
        /// The number of pages.
        refill: usize,
    },
    /// The device only reads, and so cannot fill pages.
    Direction,
    /// The pool is to sync for a device, but maps nothing.
    SyncWithoutMapping,
    /// The range to sync is empty or not within the page.
    SyncRange {
        /// Offset of the range.
        offset: usize,
        /// Length of the range in bytes.
        max_len: usize,
        /// Length of a page in bytes.
        available: usize,
    },
    /// Provider memory is for devices: the pool must map and sync its pages.
    ProviderWithoutDma,
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Order { order } => {
                write!(f, "order {order}: a pool of Pages has order 0; make one of Folios")
            }
            Self::Refill { refill } => write!(f, "refill {refill}: use 1 to 64 pages"),
            Self::Direction => {
                f.write_str("dma.direction ToDevice: use FromDevice or Bidirectional")
            }
            Self::SyncWithoutMapping => {
                f.write_str("dma.sync_for_device: give the pool a mapper, or switch it off")
            }
            Self::SyncRange { offset, max_len, available } => write!(
                f,
                "dma.max_len {max_len} from dma.offset {offset} on: \
                 use at least 1 byte and no more than the {available} of a page"
            ),
            Self::ProviderWithoutDma => {
                f.write_str("a memory provider needs a mapper and dma.sync_for_device")
            }
        }
    }
}

impl core::error::Error for PoolError {}

#[cfg(all(test, not(loom)))]
mod tests {
    use alloc::string::ToString;

    use pagemill::{Folio, Page, PageAllocator};
    use pagemill_host::Host;

    use super::*;
    use crate::dma::{ArenaOffsets, NoDma};

    type Frames = &'static PageAllocator<Host>;

    fn unmapped(params: PoolParams) -> Result<(), PoolError> {
        params.check::<Page<Frames>, NoDma>()
    }

    fn mapped(params: PoolParams) -> Result<(), PoolError> {
        params.check::<Page<Frames>, ArenaOffsets>()
    }

    #[test]
    fn the_ring_has_the_size_that_linux_gives_it() {
        let size = |pool_size| PoolParams { pool_size, ..PoolParams::new() }.ring_size();
        assert_eq!([0, 1, 100, 16384, 16385].map(size), [1024, 1, 100, 16384, 16384]);
    }

    #[test]
    fn a_refill_is_one_to_64() {
        for refill in [0, 65, usize::MAX] {
            let error = unmapped(PoolParams { refill, ..PoolParams::new() }).unwrap_err();
            assert_eq!(error, PoolError::Refill { refill });
            assert!(error.to_string().contains("use 1 to 64"), "{error}");
        }
        for refill in [1, 64] {
            assert_eq!(unmapped(PoolParams { refill, ..PoolParams::new() }), Ok(()));
        }
    }

    #[test]
    fn only_folios_have_an_order() {
        let params = PoolParams { order: Order::new(1).unwrap(), ..PoolParams::new() };
        assert!(matches!(unmapped(params), Err(PoolError::Order { .. })));
        assert_eq!(params.check::<Folio<Frames>, NoDma>(), Ok(()));
    }

    #[test]
    fn what_is_handed_to_a_device_is_mapped_and_in_the_page() {
        let sync = |offset, max_len| PoolParams {
            dma: DmaParams { sync_for_device: true, offset, max_len, ..DmaParams::default() },
            ..PoolParams::new()
        };
        assert_eq!(mapped(sync(0, 4096)), Ok(()));
        assert_eq!(mapped(sync(4095, 1)), Ok(()));
        assert_eq!(unmapped(sync(0, 4096)), Err(PoolError::SyncWithoutMapping));
        for (offset, max_len) in [(0, 0), (0, 4097), (4096, 1), (1, usize::MAX)] {
            let error = mapped(sync(offset, max_len)).unwrap_err();
            assert_eq!(error, PoolError::SyncRange { offset, max_len, available: 4096 });
        }
    }

    #[test]
    fn a_device_that_only_reads_is_refused_where_there_is_one() {
        let dma = DmaParams { direction: DmaDirection::ToDevice, ..DmaParams::default() };
        let params = PoolParams { dma, ..PoolParams::new() };
        assert_eq!(mapped(params), Err(PoolError::Direction));
        assert_eq!(unmapped(params), Ok(()));
    }
}
