//! The block table of a key-value cache in the memory of a GPU, as services for language models keep it.
//!
//! Sequences get blocks for their tokens, share the blocks of a common prefix, and lose them when memory
//! is short. The allocator hands out numbers; a block's address in the GPU is its number times
//! `BLOCK_BYTES`. Prints what happens.

extern crate alloc;

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::error::Error;
use std::sync::{Mutex, PoisonError};

use pagemill_host::IndexAllocator;
use pagemill_host::index::{Extent, SharedExtent};

/// Bytes of a block: the keys and values of 16 tokens.
const BLOCK_BYTES: u64 = 2 << 20;
/// Blocks in 80 GiB.
const NR_BLOCKS: u64 = 40 << 9;

/// The blocks of one sequence: those of its prefix, which others may share, and its own.
struct Sequence {
    prefix: SharedExtent,
    own: Vec<Extent>,
}

/// Sequences that have ended, the oldest first: their blocks are kept until memory is short.
type Ended = Mutex<VecDeque<Sequence>>;

fn main() -> Result<(), Box<dyn Error>> {
    let ended: Arc<Ended> = Arc::default();
    // Weak: extents keep their allocator alive, which keeps the callback.
    let cache = Arc::downgrade(&ended);
    let blocks = IndexAllocator::with_reclaim(NR_BLOCKS, move |lack| {
        let Some(cache) = cache.upgrade() else { return 0 };
        let mut freed = 0;
        while freed < lack.nr {
            let oldest = cache.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(oldest) = oldest else { break };
            freed += oldest.own.iter().map(Extent::nr_blocks).sum::<u64>();
        }
        freed
    })?;
    // The system prompt, which all sequences share.
    let prompt = blocks.alloc_run(40)?.share();
    let (mut nr_runs, mut nr_taken) = (0, 0);
    for number in 0..2_000_u64 {
        let own = blocks.alloc(20 + number * 37 % 81)?;
        nr_runs += own.len();
        nr_taken += own.iter().map(Extent::nr_blocks).sum::<u64>();
        let sequence = Sequence { prefix: prompt.clone(), own };
        if number == 0 {
            let runs = sequence.own.iter().map(Extent::blocks);
            let addresses: Vec<_> =
                runs.map(|run| run.start * BLOCK_BYTES..run.end * BLOCK_BYTES).collect();
            print(&format!("prefix {:?}, then bytes {addresses:x?}", sequence.prefix.blocks()));
        }
        ended.lock().unwrap_or_else(PoisonError::into_inner).push_back(sequence);
    }
    print(&format!("2,000 sequences got {nr_taken} blocks in {nr_runs} runs"));
    print(&format!(
        "{} owners of the prefix, {} of {NR_BLOCKS} blocks free",
        prompt.nr_owners(),
        blocks.nr_free()
    ));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "an example says what it does")]
fn print(line: &str) {
    println!("{line}");
}
