//! Blocks: what a pool recycles, single pages or folios of a higher order.

use pagemill::machine::DirectMap;
use pagemill::source::PageSource;
use pagemill::units::{NodeId, PAGE_SIZE, Pfn};
use pagemill::{AllocPages, Folio, Gfp, Order, Page};

use crate::dma::DmaBlock;

/// A [`Page`] or a [`Folio`] that a pool can recycle.
pub trait Block: Sized + sealed::Sealed {
    /// How its allocator is reached.
    type Source: PageSource;

    /// Whether the block is a single page, of order zero.
    #[doc(hidden)]
    const IS_SINGLE: bool;

    /// Fills the empty slots from the first on, and returns how many it filled.
    #[doc(hidden)]
    fn alloc_bulk(request: &Request<'_, Self>, slots: &mut [Option<Self>]) -> usize;

    /// Empties the slots and frees their blocks.
    #[doc(hidden)]
    fn free_bulk(source: &Self::Source, slots: &mut [Option<Self>]);

    /// Returns the number of the first frame.
    #[doc(hidden)]
    fn first(&self) -> Pfn;

    /// Returns the node of the frames.
    #[doc(hidden)]
    fn its_node(&self) -> NodeId;

    /// Returns the frames of the block, for a mapper.
    #[doc(hidden)]
    fn dma_block(&self) -> DmaBlock;
}

/// A pool's request to the page allocator.
#[derive(Debug)]
#[expect(unnameable_types, reason = "only this crate asks")]
pub struct Request<'a, B: Block> {
    pub source: &'a B::Source,
    pub node: Option<NodeId>,
    pub gfp: Gfp,
    pub order: Order,
}

/// A block whose bytes are accessible.
pub trait BlockBytes: Block {
    /// All of its bytes.
    type Bytes: ?Sized;

    /// Returns the bytes.
    #[doc(hidden)]
    fn bytes(&self) -> &Self::Bytes;

    /// Returns the bytes, for writing.
    #[doc(hidden)]
    fn bytes_mut(&mut self) -> &mut Self::Bytes;
}

mod sealed {
    use super::{Folio, Page, PageSource};

    /// Sealed: a pool relies on what blocks return about themselves.
    #[expect(unnameable_types, reason = "sealed")]
    pub trait Sealed {}

    impl<S: PageSource> Sealed for Page<S> {}
    impl<S: PageSource> Sealed for Folio<S> {}
}

impl<S: PageSource> Block for Page<S> {
    type Source = S;
    const IS_SINGLE: bool = true;

    fn alloc_bulk(request: &Request<'_, Self>, slots: &mut [Option<Self>]) -> usize {
        let source = request.source.clone();
        match request.node {
            None => source.alloc_pages_bulk(request.gfp, slots),
            Some(node) => source.alloc_pages_bulk_node(node, request.gfp, slots),
        }
    }

    fn free_bulk(source: &S, slots: &mut [Option<Self>]) {
        source.clone().release_pages(slots);
    }

    #[inline]
    fn first(&self) -> Pfn {
        self.pfn()
    }

    #[inline]
    fn its_node(&self) -> NodeId {
        self.node()
    }

    #[inline]
    fn dma_block(&self) -> DmaBlock {
        DmaBlock { pfn: self.pfn(), len_bytes: PAGE_SIZE }
    }
}

impl<S: PageSource> Block for Folio<S> {
    type Source = S;
    const IS_SINGLE: bool = false;

    fn alloc_bulk(request: &Request<'_, Self>, slots: &mut [Option<Self>]) -> usize {
        let &Request { source, node, gfp, order } = request;
        let folio = || match node {
            None => source.clone().alloc_pages(gfp, order),
            Some(node) => source.clone().alloc_pages_node(node, gfp, order),
        };
        let mut filled = 0;
        for slot in slots {
            *slot = folio();
            if slot.is_none() {
                break;
            }
            filled += 1;
        }
        filled
    }

    fn free_bulk(_source: &S, slots: &mut [Option<Self>]) {
        slots.fill_with(|| None);
    }

    #[inline]
    fn first(&self) -> Pfn {
        self.pfn()
    }

    #[inline]
    fn its_node(&self) -> NodeId {
        self.node()
    }

    #[inline]
    fn dma_block(&self) -> DmaBlock {
        DmaBlock { pfn: self.pfn(), len_bytes: PAGE_SIZE << self.order().value() }
    }
}

impl<S: PageSource<Platform: DirectMap>> BlockBytes for Page<S> {
    type Bytes = [u8; PAGE_SIZE];

    #[inline]
    fn bytes(&self) -> &[u8; PAGE_SIZE] {
        self.as_bytes()
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8; PAGE_SIZE] {
        self.as_bytes_mut()
    }
}

impl<S: PageSource<Platform: DirectMap>> BlockBytes for Folio<S> {
    type Bytes = [u8];

    #[inline]
    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        self.as_bytes_mut()
    }
}
