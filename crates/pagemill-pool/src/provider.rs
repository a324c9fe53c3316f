//! Memory provider: a source of pages other than the page allocator, such as device memory.

use crate::block::Block;

/// A source of blocks that replaces the page allocator under a pool.
///
/// # Source
/// `linux-7.0` `include/net/page_pool/memory_provider.h` `struct memory_provider_ops`. Differs: one
/// call hands out a batch.
pub trait MemoryProvider<B: Block> {
    /// Passes up to `nr` blocks to `take`; none if the provider has none.
    ///
    /// If it panics, the pool returns the blocks that it has passed to [`release`](Self::release), and
    /// the call for which the pool needed them panics.
    fn alloc(&self, nr: usize, take: &mut dyn FnMut(B));

    /// Takes back a block that leaves the pool; a block that it returns is freed to the page allocator.
    fn release(&self, block: B) -> Option<B>;
}
