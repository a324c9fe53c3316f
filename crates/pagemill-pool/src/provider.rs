//! Memory from elsewhere: of a device, or lent by a program.

use crate::block::Block;

/// Stands in for the page allocator under a pool.
///
/// # Source
/// `linux-7.0` `include/net/page_pool/memory_provider.h` `struct memory_provider_ops`. Differs: it
/// hands out a batch at once.
pub trait MemoryProvider<B: Block> {
    /// Hands up to `nr` blocks to `take`; none if it has none.
    fn alloc(&self, nr: usize, take: &mut dyn FnMut(B));

    /// Takes back a block that leaves the pool, or lets it go to the page allocator.
    fn release(&self, block: B) -> Option<B>;
}
