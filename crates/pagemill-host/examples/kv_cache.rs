//! The block table of a key-value cache in the memory of a GPU, as services for language models keep it.
//!
//! A prompt's blocks are copied in one piece, so they are runs. Each further token may need one more block,
//! from any place. Sequences share the blocks of a common prefix, and lose their own when memory is short.
//! The allocator hands out numbers; a block's address in the GPU is its number times `BLOCK_BYTES`. Prints
//! what happens.

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

/// The blocks of one sequence.
struct Sequence {
    /// The part of the system prompt that the sequence begins with.
    prefix: SharedExtent,
    /// The blocks of its own prompt.
    prompt: Vec<Extent>,
    /// The blocks of the tokens that were generated.
    generated: Vec<Option<Extent>>,
}

impl Sequence {
    /// Returns the number of blocks that are free once the sequence is dropped.
    fn nr_own(&self) -> u64 {
        let extents = self.prompt.iter().chain(self.generated.iter().flatten());
        extents.map(Extent::nr_blocks).sum()
    }
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
            // The lock is held for this line only. No thread that calls the allocator may hold it.
            let oldest = cache.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(oldest) = oldest else { break };
            freed += oldest.nr_own();
        }
        freed
    })?;
    let system_prompt = blocks.alloc_run(40)?.share();
    let (mut nr_runs, mut nr_taken) = (0, 0);
    for number in 0..2_000_u64 {
        let prompt = blocks.alloc(20 + number * 37 % 81)?;
        let mut generated: Vec<_> = (0..number % 20).map(|_| None).collect();
        blocks.fill(&mut generated)?;
        let prefix = system_prompt.slice(0..10 + number % 31);
        let sequence = Sequence { prefix, prompt, generated };
        nr_runs += sequence.prompt.len() + sequence.generated.len();
        nr_taken += sequence.nr_own();
        if number == 1 {
            let runs = sequence.prompt.iter().map(Extent::blocks);
            let addresses: Vec<_> =
                runs.map(|run| run.start * BLOCK_BYTES..run.end * BLOCK_BYTES).collect();
            print(&format!("prefix {:?}, then bytes {addresses:x?}", sequence.prefix.blocks()));
        }
        ended.lock().unwrap_or_else(PoisonError::into_inner).push_back(sequence);
    }
    print(&format!("2,000 sequences got {nr_taken} blocks in {nr_runs} runs"));
    print(&format!(
        "{} owners of the system prompt, {} of {NR_BLOCKS} blocks free",
        system_prompt.nr_owners(),
        blocks.nr_free()
    ));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "an example says what it does")]
fn print(line: &str) {
    println!("{line}");
}
