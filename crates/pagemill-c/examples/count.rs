//! The calls that `ci/c.sh` counts, from Rust: `count OP NR ROUNDS`.
//!
//! A round is `count_alloc_OP` and then `count_free_OP`, for NR pages. `tests/c/count.c` has the same calls
//! from C.

use core::hint::black_box;
use std::env;
use std::process::ExitCode;

use pagemill::policy::Policy;
use pagemill::request::Effort;
use pagemill::units::NodeId;
use pagemill::{AllocPages, BulkRequest, Gfp, Page};
use pagemill_host::{AllocatorConfig, ArenaConfig, Host, allocator};
use pagemill_pool::dma::NoDma;
use pagemill_pool::{PagePool, PoolOwner, PoolPage, PoolParams};

pagemill::static_allocator! {
    static ALLOCATOR: Host;
    type Frames;
}
const FRAMES: Frames = Frames::new();

type Slot = Option<Page<Frames>>;
type Pool = &'static PagePool<Page<Frames>>;

// Functions by themselves, so that the count of their instructions begins and ends.

#[inline(never)]
fn count_alloc_array(slots: &mut [Slot]) {
    assert_eq!(FRAMES.alloc_pages_bulk(Gfp::KERNEL, slots), slots.len());
}

#[inline(never)]
fn count_free_array(slots: &mut [Slot]) {
    assert_eq!(FRAMES.release_pages(slots), slots.len());
}

#[inline(never)]
fn count_alloc_movable(slots: &mut [Slot]) {
    assert_eq!(FRAMES.alloc_pages_bulk(Gfp::HIGHUSER_MOVABLE, slots), slots.len());
}

#[inline(never)]
fn count_alloc_fill(slots: &mut [Slot]) {
    assert!(FRAMES.fill(Gfp::KERNEL, slots).is_ok());
}

#[inline(never)]
fn count_alloc_exactly(slots: &mut [Slot]) {
    let effort = Effort::AllOrNothing;
    let request = BulkRequest { effort, ..BulkRequest::new(Gfp::KERNEL) };
    assert!(FRAMES.bulk_fill(&request, slots).short.is_none());
}

#[inline(never)]
fn count_alloc_node1(slots: &mut [Slot]) {
    let policy = Policy::Preferred(NodeId::new(0));
    let request = BulkRequest { policy, ..BulkRequest::new(Gfp::KERNEL) };
    assert!(FRAMES.bulk_fill(&request, slots).short.is_none());
}

#[inline(never)]
fn count_alloc_node2(slots: &mut [Slot]) {
    let policy = Policy::Preferred(NodeId::new(1));
    let request = BulkRequest { policy, ..BulkRequest::new(Gfp::KERNEL) };
    assert!(FRAMES.bulk_fill(&request, slots).short.is_none());
}

#[inline(never)]
fn count_alloc_single(slots: &mut [Slot]) {
    slots[0] = FRAMES.alloc_page(Gfp::KERNEL);
    assert!(slots[0].is_some());
}

#[inline(never)]
fn count_free_single(slots: &mut [Slot]) {
    slots[0] = None;
}

#[inline(never)]
fn count_alloc_pool(owner: &mut PoolOwner<Pool>, slot: &mut Option<PoolPage<Pool>>) {
    *slot = owner.alloc();
    assert!(slot.is_some());
}

#[inline(never)]
fn count_free_pool(owner: &mut PoolOwner<Pool>, slot: &mut Option<PoolPage<Pool>>) {
    if let Some(page) = slot.take() {
        owner.put(page);
    }
}

fn play_pool(rounds: usize) {
    let pool = PagePool::new(&PoolParams::new(), FRAMES, NoDma).expect("valid parameters");
    let pool: Pool = Box::leak(Box::new(pool));
    let mut owner = PoolOwner::claim(pool).expect("a new pool has no owner");
    let mut slot = None;
    for _ in 0..rounds {
        count_alloc_pool(&mut owner, &mut slot);
        count_free_pool(&mut owner, &mut slot);
    }
}

/// The functions of an operation, and the memory that they need.
struct Op {
    alloc: fn(&mut [Slot]),
    free: fn(&mut [Slot]),
    movable_bytes: u64,
    nr_nodes: u8,
}

fn op(name: &str) -> Option<Op> {
    let plain =
        Op { alloc: count_alloc_array, free: count_free_array, movable_bytes: 0, nr_nodes: 1 };
    Some(match name {
        "array" | "pool" => plain,
        "movable" => Op { alloc: count_alloc_movable, movable_bytes: 256 << 20, ..plain },
        "node1" => Op { alloc: count_alloc_node1, nr_nodes: 2, ..plain },
        "node2" => Op { alloc: count_alloc_node2, nr_nodes: 2, ..plain },
        "fill" => Op { alloc: count_alloc_fill, ..plain },
        "exactly" => Op { alloc: count_alloc_exactly, ..plain },
        "single" => Op { alloc: count_alloc_single, free: count_free_single, ..plain },
        _ => return None,
    })
}

fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    let name = args.next().unwrap_or_default();
    let mut number = || args.next()?.parse::<usize>().ok();
    let (Some(op), Some(nr), Some(rounds)) = (op(&name), number(), number()) else {
        return ExitCode::from(2);
    };
    let config = AllocatorConfig {
        movable_bytes: op.movable_bytes,
        nr_nodes: op.nr_nodes,
        ..AllocatorConfig::new(ArenaConfig::new(1 << 30))
    };
    let stored = allocator(&config).is_ok_and(|allocator| ALLOCATOR.set(allocator).is_ok());
    assert!(stored, "there is one allocator");
    if name == "pool" {
        play_pool(rounds);
        return ExitCode::SUCCESS;
    }
    let mut slots: Vec<Slot> = (0..nr).map(|_| None).collect();
    let slots = black_box(slots.as_mut_slice());
    for _ in 0..rounds {
        (op.alloc)(slots);
        (op.free)(slots);
    }
    ExitCode::SUCCESS
}
