//! One path of a page through a pool, a number of times, and nothing else: for counting
//! instructions.
//!
//! `pool_path PATH ROUNDS`: takes a page and returns it, ROUNDS times 64 times. PATH is
//!
//! - `fast`: from the cache, and directly back to it;
//! - `ring`: from the cache, which is refilled from the ring, and back through the ring, each page
//!   by itself;
//! - `ring-bulk`: like `ring`, but back by one claim for a batch, as a poll loop returns them;
//! - `slow`: from the page allocator by refills of 64, and back to it, each page by itself;
//! - `slow-bulk`: like `slow`, but back in batches;
//! - `frag`: two pieces of a page from the cache, the last of which takes it back there; 1,500 bytes
//!   each, and each counted as a page;
//! - `frag-ring`: like `frag`, but the pieces are dropped, so that the page returns through the ring;
//! - `none`, `none-bulk`: no pool; a page goes the same way through the loop.
//!
//! The program's total for twice the rounds, less its total for the rounds, is what the path itself
//! costs; `ci/instructions.sh` does that with callgrind.
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::vec::Drain;
use core::hint::black_box;
use std::env;
use std::process::ExitCode;

use pagemill::Page;
use pagemill_host::{AllocatorConfig, ArenaConfig, Host, allocator};
use pagemill_pool::dma::NoDma;
use pagemill_pool::{PagePool, PoolFrag, PoolFrags, PoolOwner, PoolPage, PoolParams, Returner};

pagemill::static_allocator! {
    static ALLOCATOR: Host;
    type Frames;
}

pagemill_pool::static_pool! {
    static POOL: Page<Frames>;
    type Rx;
}

type Owner = PoolOwner<Rx>;
type Packet = PoolPage<Rx>;

/// Pages that are out together where they return in batches: a poll's budget.
const BUDGET: usize = 64;

fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    let path = args.next().unwrap_or_default();
    let Some(rounds) = args.next().and_then(|arg| arg.parse::<usize>().ok()) else {
        return ExitCode::from(2);
    };
    let arena = AllocatorConfig::new(ArenaConfig::new(64 << 20));
    let stored = allocator(&arena).is_ok_and(|allocator| ALLOCATOR.set(allocator).is_ok());
    let made = PagePool::new(&PoolParams::new(), Frames::new(), NoDma);
    if !stored || made.is_err() || made.is_ok_and(|pool| POOL.set(pool).is_err()) {
        return ExitCode::FAILURE;
    }
    let Some(mut owner) = PoolOwner::claim(Rx::new()) else { return ExitCode::FAILURE };
    let returner = Returner::new(Rx::new());
    match path.as_str() {
        "none" => none(rounds, take(&mut owner)),
        "none-bulk" => none_bulk(rounds, &mut owner),
        "fast" => one_by_one(rounds, &mut owner, |owner, page| owner.put(page)),
        "ring" => one_by_one(rounds, &mut owner, |_, page| drop(page)),
        "slow" => one_by_one(rounds, &mut owner, |_, page| drop(page.detach())),
        "frag" => in_pieces(rounds, &mut owner, |owner, piece| owner.put_frag(piece)),
        "frag-ring" => in_pieces(rounds, &mut owner, |_, piece| drop(piece)),
        "ring-bulk" => in_batches(rounds, &mut owner, |pages| returner.put_bulk(pages)),
        "slow-bulk" => in_batches(rounds, &mut owner, |pages| returner.release_bulk(pages)),
        _ => return ExitCode::from(2),
    }
    ExitCode::SUCCESS
}

/// Takes a page; `black_box`, because a page that goes nowhere could be optimised away.
#[inline]
fn take(owner: &mut Owner) -> Packet {
    black_box(owner.alloc().expect("the arena is far larger than what is out"))
}

fn none(rounds: usize, page: Packet) {
    let mut page = Some(page);
    for _ in 0..rounds * BUDGET {
        page = black_box(page);
    }
}

fn none_bulk(rounds: usize, owner: &mut Owner) {
    let mut pages: Vec<_> = (0..BUDGET).map(|_| Some(take(owner))).collect();
    let mut others = Vec::with_capacity(BUDGET);
    for _ in 0..rounds / 2 {
        others.extend(pages.drain(..).map(black_box));
        pages.extend(others.drain(..).map(black_box));
    }
}

#[inline]
fn one_by_one(rounds: usize, owner: &mut Owner, mut put: impl FnMut(&mut Owner, Packet)) {
    for _ in 0..rounds * BUDGET {
        let page = take(owner);
        put(owner, page);
    }
}

#[inline]
fn in_batches(rounds: usize, owner: &mut Owner, mut put: impl FnMut(Drain<'_, Packet>)) {
    let mut pages = Vec::with_capacity(BUDGET);
    for _ in 0..rounds {
        pages.extend((0..BUDGET).map(|_| take(owner)));
        put(pages.drain(..));
    }
}

#[inline]
fn in_pieces(rounds: usize, owner: &mut Owner, mut put: impl FnMut(&mut Owner, PoolFrag<Rx>)) {
    let mut frags = PoolFrags::new();
    for _ in 0..rounds * BUDGET / 2 {
        let [one, two] =
            [(); 2].map(|()| black_box(frags.alloc(owner, 1500).expect("the arena is large")));
        put(owner, one);
        put(owner, two);
    }
}
