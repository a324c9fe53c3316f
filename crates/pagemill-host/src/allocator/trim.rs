//! Trimming: free memory of an allocator is returned to the system.

use pagemill::source::PageSource;
use pagemill::units::{PAGE_SIZE, PAGEBLOCK_NR_PAGES};
use pagemill::{AllocPages, Folio, Gfp, Order};

use crate::allocator::platform::Host;
use crate::error::HostError;

/// Returns up to `len_bytes` of free memory to the system, in blocks of 2 MiB, and returns how many bytes.
///
/// The frames stay free: when they are allocated again, the system supplies zeroed memory on the first
/// access. Blocks that are only partly free stay as they are, and so does what the watermarks keep. An
/// allocator that poisons free pages takes all the memory back at once.
///
/// # Errors
/// [`HostError::Pinned`] while the arena is [pinned](crate::arena::Arena::pin), for instance because it is
/// registered with io_uring or an AF_XDP socket; [`HostError::Discard`]. Blocks before the error are
/// returned.
///
/// # Concurrency
/// During the call, the blocks are allocated: other threads find that much less memory free.
///
/// # Cost
/// One system call for each block, and page faults when it is used again.
///
/// # Examples
/// ```
/// use pagemill_host::HostAllocator;
/// use pagemill_host::arena::return_free_memory;
///
/// # fn main() -> Result<(), Box<dyn core::error::Error>> {
/// let frames = HostAllocator::new(64 << 20)?;
/// assert_eq!(return_free_memory(&frames, 16 << 20)?, 16 << 20);
/// assert_eq!(frames.nr_free_pages(), 16_384);
/// # Ok(())
/// # }
/// ```
pub fn return_free_memory<S>(source: S, len_bytes: u64) -> Result<u64, HostError>
where
    S: PageSource<Platform = Host>,
{
    const GFP: Gfp = Gfp::NOWAIT.union(Gfp::NOWARN);

    let nr_blocks = len_bytes / BLOCK_BYTES;
    let mut blocks: Vec<Folio<S>> = Vec::new();
    // All blocks first: one that is freed would be allocated again.
    while (blocks.len() as u64) < nr_blocks
        && let Some(block) = source.clone().alloc_pages(GFP, BLOCK)
    {
        blocks.push(block);
    }
    let host = source.allocator().platform();
    for block in &mut blocks {
        // SAFETY:
        // 1. The folio owns the frames, and is borrowed uniquely.
        // 2. A block of this order is a pageblock: 2 MiB, at a multiple of 2 MiB. An arena's pages are at
        //    most as long.
        unsafe { host.discard(block.pfn(), BLOCK.nr_pages()) }?;
    }
    Ok(blocks.len() as u64 * BLOCK_BYTES)
}

/// The order of a pageblock.
const BLOCK: Order = match Order::new(9) {
    Ok(order) => order,
    Err(_) => panic!("9 is an order"),
};
const _: () = assert!(BLOCK.nr_pages() == PAGEBLOCK_NR_PAGES);
const BLOCK_BYTES: u64 = (PAGEBLOCK_NR_PAGES * PAGE_SIZE) as u64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::{Backing, HugePages};
    use crate::{AllocatorConfig, ArenaConfig, HostAllocator};

    const MIB: u64 = 1 << 20;

    fn frames(backing: Backing) -> HostAllocator {
        // No huge page keeps memory that a small one would return.
        let arena = ArenaConfig { backing, huge: HugePages::Never, ..ArenaConfig::new(16 * MIB) };
        HostAllocator::with_config(&AllocatorConfig::new(arena)).unwrap()
    }

    /// Writes to all memory that can be allocated, and returns how many pages that is.
    fn touch(frames: &HostAllocator) -> usize {
        let mut pages: Vec<_> =
            core::iter::from_fn(|| frames.alloc_page(Gfp::NOWAIT | Gfp::NOWARN)).collect();
        pages.iter_mut().for_each(|page| page.as_bytes_mut().fill(7));
        pages.len()
    }

    #[test]
    fn returned_memory_is_zero_and_can_be_used_again() {
        for backing in [Backing::Anonymous, Backing::Memfd] {
            let frames = frames(backing);
            let nr_free = frames.nr_free_pages();
            let nr_touched = touch(&frames);
            let returned = return_free_memory(&frames, u64::MAX).unwrap();
            assert!((8 * MIB..=16 * MIB).contains(&returned), "{backing:?}: {returned}");
            assert_eq!(frames.nr_free_pages(), nr_free);
            let pages: Vec<_> = core::iter::from_fn(|| frames.alloc_page(Gfp::NOWAIT)).collect();
            let nr_zero = pages.iter().filter(|page| page.as_bytes().iter().all(|&byte| byte == 0));
            // What the returned blocks had is zero, except pages that were never touched.
            assert!(nr_zero.count() as u64 * PAGE_SIZE as u64 >= returned - 4 * MIB);
            assert!(pages.len() <= nr_touched + 1);
        }
    }

    #[test]
    fn memory_of_a_pinned_arena_is_not_returned() {
        for backing in [Backing::Anonymous, Backing::Memfd] {
            let frames = frames(backing);
            let nr_free = frames.nr_free_pages();
            let pin = frames.platform().memory().pin();
            let other = pin.clone();
            let refused = return_free_memory(&frames, u64::MAX);
            assert_eq!(refused, Err(HostError::Pinned { nr_pins: 2 }));
            assert_eq!(frames.nr_free_pages(), nr_free);
            drop(pin);
            let message = return_free_memory(&frames, u64::MAX).unwrap_err().to_string();
            assert!(message.contains("registered 1 times"), "{message}");
            drop(other);
            assert_eq!(return_free_memory(&frames, 2 * MIB), Ok(2 * MIB));
        }
    }

    #[test]
    fn less_than_a_block_returns_nothing() {
        let frames = frames(Backing::Anonymous);
        assert_eq!(return_free_memory(&frames, 2 * MIB - 1), Ok(0));
    }
}
