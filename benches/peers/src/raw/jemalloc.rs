//! jemalloc's experimental call that allocates many blocks.

use core::ffi::{c_int, c_void};
use core::ptr::{from_mut, null_mut};

use anyhow::ensure;
use tikv_jemalloc_sys::{MALLOCX_ALIGN, mallctlbymib, mallctlnametomib, sdallocx};

use super::malloc::{Block, PAGE};
use crate::peer::{NoBlock, Peer, Slots};

const FLAGS: c_int = MALLOCX_ALIGN(PAGE.align());

/// The argument of the call.
///
/// # Source
/// `jemalloc` 5.3 `src/ctl.c` `struct batch_alloc_packet_s`
#[repr(C)]
struct Packet {
    blocks: *mut Block,
    nr: usize,
    size: usize,
    flags: c_int,
}

/// The call, by the number that jemalloc assigns to its name.
#[derive(Debug)]
pub(crate) struct BatchAlloc {
    call: [usize; 2],
}

impl BatchAlloc {
    /// Finds the call.
    ///
    /// # Errors
    /// If this jemalloc does not have it.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let (mut call, mut len) = ([0; 2], 2);
        let name = c"experimental.batch_alloc";
        // SAFETY: 1. The name is a C string. 2. `call` has room for `len` numbers.
        let errno = unsafe { mallctlnametomib(name.as_ptr(), call.as_mut_ptr(), &raw mut len) };
        ensure!(errno == 0 && len == 2, "jemalloc has no experimental.batch_alloc (error {errno})");
        Ok(Self { call })
    }
}

impl Peer for BatchAlloc {
    type Block = NoBlock;
    type Batch<const M: usize> = Slots<Block, M>;
    type Worker = ();
    const NAME: &'static str = "jemalloc-batch";
    const NOTE: &'static str =
        "experimental.batch_alloc of 4096 aligned to 4096, a loop of sdallocx";

    fn worker(&'static self) {}

    #[inline]
    fn alloc<const M: usize>(&self, (): &mut (), batch: &mut Slots<Block, M>, nr: usize) -> usize {
        batch.write(nr, |slots| {
            let (blocks, nr) = (slots.as_mut_ptr(), slots.len());
            let mut packet = Packet { blocks, nr, size: PAGE.size(), flags: FLAGS };
            let (mut filled, mut filled_bytes) = (0_usize, size_of::<usize>());
            // SAFETY:
            // 1. The call exists: it reads a packet and writes a number, both of which are local.
            // 2. It writes at most `nr` pointers, for which `slots` has room.
            let errno = unsafe {
                mallctlbymib(
                    self.call.as_ptr(),
                    self.call.len(),
                    from_mut(&mut filled).cast::<c_void>(),
                    &raw mut filled_bytes,
                    from_mut(&mut packet).cast::<c_void>(),
                    size_of::<Packet>(),
                )
            };
            if errno == 0 { filled } else { 0 }
        })
    }

    #[inline]
    fn free<const M: usize>(&self, (): &mut (), batch: &mut Slots<Block, M>) {
        for block in batch.take() {
            let block = block.0.map_or(null_mut(), |block| block.as_ptr().cast());
            // SAFETY: 1. allocated here, of this size and alignment, and not freed yet: `block-owned`.
            unsafe { sdallocx(block, PAGE.size(), FLAGS) };
        }
    }
}
