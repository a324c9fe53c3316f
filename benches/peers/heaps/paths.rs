//! Paths through a heap, for counting instructions.

use core::alloc::Layout;
use core::hint::black_box;
use core::ptr::NonNull;
use std::alloc::System;

use anyhow::Context as _;
use clap::ValueEnum;
use pagemill_slab::{Checks, HeapConfig, Refill};

use crate::heap::{Global, NoHeap, TestHeap};
use crate::others::{Limit, LinkedList, RlsfHeap, TalcHeap};
use crate::ours::{Claims, Pagemill};
use crate::random::{NR_SLOTS, Random, layout};

/// A heap whose instructions are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum HeapName {
    /// The loop alone.
    Loop,
    /// Intrusive lists without checks.
    Limit,
    /// The loop, with a claim on the CPU for each call.
    Claims,
    /// pagemill, whose caches take pages in bulk.
    Pagemill,
    /// pagemill, without the check of an object's owner on each free.
    PagemillUnchecked,
    /// pagemill, whose caches take pages one by one.
    PagemillSingle,
    /// pagemill, whose caches take blocks and split them.
    PagemillSplit,
    /// mimalloc.
    Mimalloc,
    /// jemalloc.
    Jemalloc,
    /// The C library's.
    Glibc,
    /// talc.
    Talc,
    /// rlsf.
    Rlsf,
    /// `linked_list_allocator`.
    LinkedList,
}

/// A path through a heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Path {
    /// Frees the object in one of 1,024 slots and allocates another there, of 8 to 512 bytes.
    Larson,
    /// Allocates an object of 64 bytes and frees it.
    Fixed,
    /// Allocates 65,536 objects of 64 bytes and frees them.
    Grow64,
    /// The same with objects of 8 to 512 bytes.
    GrowMixed,
    /// The same with objects of 512 bytes.
    Grow512,
}

/// Objects of the paths that grow.
pub(crate) const NR_GROWN: usize = 1 << 16;
/// Memory of each heap: several times what those objects need.
const MEMORY: u64 = 256 << 20;

impl Path {
    /// Returns whether pages come from an allocator and return in each round.
    pub(crate) fn grows(self) -> bool {
        !matches!(self, Self::Larson | Self::Fixed)
    }
}

/// Walks a path a number of rounds.
///
/// # Errors
/// If the heap cannot be made.
pub(crate) fn walk(heap: HeapName, path: Path, rounds: usize) -> anyhow::Result<()> {
    let plain = HeapConfig::new();
    let ours = |config| anyhow::Ok(Global(Pagemill::start(MEMORY, &config)?));
    match heap {
        HeapName::Loop => path.walk(&mut NoHeap, rounds),
        HeapName::Limit => path.walk(&mut Limit::new(MEMORY)?, rounds),
        HeapName::Claims => path.walk(&mut Claims::start(MEMORY)?, rounds),
        HeapName::Pagemill => path.walk(&mut ours(plain)?, rounds),
        HeapName::PagemillUnchecked => {
            path.walk(&mut ours(HeapConfig { checks: Checks::Off, ..plain })?, rounds)
        }
        HeapName::PagemillSingle => {
            path.walk(&mut ours(HeapConfig { refill: Refill::Single, ..plain })?, rounds)
        }
        HeapName::PagemillSplit => {
            path.walk(&mut ours(HeapConfig { refill: Refill::Split, ..plain })?, rounds)
        }
        HeapName::Mimalloc => path.walk(&mut Global(mimalloc::MiMalloc), rounds),
        HeapName::Jemalloc => path.walk(&mut Global(tikv_jemallocator::Jemalloc), rounds),
        HeapName::Glibc => path.walk(&mut Global(System), rounds),
        HeapName::Talc => path.walk(&mut TalcHeap::new(MEMORY)?, rounds),
        HeapName::Rlsf => path.walk(&mut RlsfHeap::new(MEMORY)?, rounds),
        HeapName::LinkedList => path.walk(&mut LinkedList::new(MEMORY)?, rounds),
    }
}

impl Path {
    fn walk(self, heap: &mut impl TestHeap, rounds: usize) -> anyhow::Result<()> {
        match self {
            Self::Larson => larson(heap, rounds),
            Self::Fixed => fixed(heap, rounds),
            Self::Grow64 => grow(heap, rounds, |_| layout(64)),
            Self::GrowMixed => grow(heap, rounds, |random| random.slot().1),
            Self::Grow512 => grow(heap, rounds, |_| layout(512)),
        }
        .context("the heap has no memory")
    }
}

#[inline(never)]
fn larson(heap: &mut impl TestHeap, rounds: usize) -> Option<()> {
    let mut random = Random::new(1);
    let mut slots: Vec<Option<(NonNull<u8>, Layout)>> = vec![None; NR_SLOTS];
    for _ in 0..rounds {
        let (slot, layout) = random.slot();
        if let Some((object, layout)) = slots[slot].take() {
            // SAFETY: 1. from this heap with this layout. 2. not used again: the slot is empty.
            unsafe { heap.free(object, layout) };
        }
        // SAFETY: 1. at least 8 bytes.
        let object = unsafe { heap.alloc(layout) }?;
        slots[slot] = Some((object, layout));
    }
    for (object, layout) in slots.into_iter().flatten() {
        // SAFETY: 1. from this heap with this layout. 2. not used again.
        unsafe { heap.free(object, layout) };
    }
    Some(())
}

#[inline(never)]
fn fixed(heap: &mut impl TestHeap, rounds: usize) -> Option<()> {
    for _ in 0..rounds {
        // SAFETY: 1. 64 bytes.
        let object = unsafe { heap.alloc(layout(64)) }?;
        // SAFETY: 1. from this heap with this layout. 2. not used again.
        unsafe { heap.free(black_box(object), layout(64)) };
    }
    Some(())
}

#[inline(never)]
fn grow(
    heap: &mut impl TestHeap,
    rounds: usize,
    mut next: impl FnMut(&mut Random) -> Layout,
) -> Option<()> {
    let mut random = Random::new(1);
    let mut objects = Vec::with_capacity(NR_GROWN);
    for _ in 0..rounds {
        for _ in 0..NR_GROWN {
            let layout = next(&mut random);
            // SAFETY: 1. at least 8 bytes.
            objects.push((unsafe { heap.alloc(layout) }?, layout));
        }
        for (object, layout) in objects.drain(..) {
            // SAFETY: 1. from this heap with this layout. 2. not used again.
            unsafe { heap.free(object, layout) };
        }
    }
    Some(())
}
