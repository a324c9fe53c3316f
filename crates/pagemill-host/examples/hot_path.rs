//! One hot path, a number of times, and nothing else: for counting instructions.
//!
//! `hot_path OP N ROUNDS` allocates N pages and frees them, ROUNDS times. OP is one of these:
//! - `array`, `list`, `vec` or `single`: the pages stay within the CPU's list; N is at most 64 for `vec`.
//! - `request`, `request-write` or `request-list`: a `BulkRequest` into slots, uninitialised memory or a
//!   list. Pages in uninitialised memory are dropped one by one.
//! - `local` or `local-single`: the pages stay in a reserve with one owner; N is at most 64.
//! - `burst`: ROUNDS times N pages are all allocated in batches before the first is freed, so they go
//!   through the zone.
//! - `spread`: the same as `burst`, but no two pages of a batch are near each other when they are freed.
//!   Putting them into that order counts, too.
//!
//! The program's total for twice the rounds, less its total for the rounds, is what the path itself
//! costs; `ci/instructions.sh` does that with callgrind.

use core::mem::MaybeUninit;
use std::env;
use std::process::ExitCode;

use pagemill::handles::free_pages_bulk;
use pagemill::reserves::LocalPages;
use pagemill::{AllocPages, BulkRequest, Gfp, Order, Page, PageList, PageVec};
use pagemill_host::{AllocatorConfig, ArenaConfig, Host, allocator};

pagemill::static_allocator! {
    static ALLOCATOR: Host;
    type Frames;
}

/// Slots that a burst has room for, used or not: making them must cost the same for all rounds.
const BURST: usize = 1 << 17;

/// From one page of a batch to the next where they are spread: more than a word of the zone's bitmap, and
/// prime, so that each page comes once.
const STRIDE: usize = 257;

type Slot = Option<Page<Frames>>;

fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    let op = args.next().unwrap_or_default();
    let mut number = || args.next().and_then(|arg| arg.parse::<usize>().ok());
    let (Some(n), Some(rounds)) = (number(), number()) else { return ExitCode::from(2) };
    let arena = AllocatorConfig::new(ArenaConfig::new(1 << 30));
    let stored = allocator(&arena).is_ok_and(|allocator| ALLOCATOR.set(allocator).is_ok());
    if !stored {
        return ExitCode::FAILURE;
    }
    match op.as_str() {
        "array" => array(&mut slots(n), rounds),
        "list" => list(n, rounds),
        "vec" if n <= 64 => vec(n, rounds),
        "local" if n <= 64 => local(n, rounds),
        "local-single" if n <= 64 => local_single(&mut slots(n), rounds),
        "request" => request(&mut slots(n), rounds),
        "request-list" => request_list(n, rounds),
        "request-write" => request_write(&mut uninit(n), rounds),
        "single" => single(&mut slots(n), rounds),
        "burst" if n * rounds <= BURST => burst(&mut slots(BURST)[..n * rounds], n, 1),
        "spread" if n * rounds <= BURST => burst(&mut slots(BURST)[..n * rounds], n, STRIDE),
        _ => {
            match op.strip_prefix("order").and_then(|order| Order::new(order.parse().ok()?).ok()) {
                Some(order) => blocks(order, n, rounds),
                None => return ExitCode::from(2),
            }
        }
    }
    ExitCode::SUCCESS
}

fn slots(n: usize) -> Vec<Slot> {
    (0..n).map(|_| None).collect()
}

fn uninit(n: usize) -> Vec<MaybeUninit<Page<Frames>>> {
    (0..n).map(|_| MaybeUninit::uninit()).collect()
}

fn array(slots: &mut [Slot], rounds: usize) {
    for _ in 0..rounds {
        assert_eq!(Frames::new().alloc_pages_bulk(Gfp::KERNEL, slots), slots.len());
        Frames::new().release_pages(slots);
    }
}

fn blocks(order: Order, n: usize, rounds: usize) {
    // So that no pageblock is whole and none is the same again and again: a word and a page are in use.
    let _hole = Order::new(6).map(|word| Frames::new().alloc_pages(Gfp::KERNEL, word));
    let _page = Frames::new().alloc_page(Gfp::KERNEL);
    let mut slots: Vec<_> = (0..n).map(|_| None).collect();
    for _ in 0..rounds {
        for slot in &mut slots {
            *slot = Frames::new().alloc_pages(Gfp::KERNEL, order);
        }
        for slot in &mut slots {
            *slot = None;
        }
    }
}

fn list(n: usize, rounds: usize) {
    let mut list = PageList::new(Frames::new());
    for _ in 0..rounds {
        let taken = Frames::new().alloc_pages_bulk_list(Gfp::KERNEL, n, &mut list);
        assert_eq!(taken, n);
        free_pages_bulk(&mut list);
    }
}

fn request(slots: &mut [Slot], rounds: usize) {
    for _ in 0..rounds {
        let outcome = Frames::new().bulk_fill(&BulkRequest::new(Gfp::KERNEL), slots);
        assert_eq!(outcome.populated, slots.len());
        Frames::new().release_pages(slots);
    }
}

fn request_list(n: usize, rounds: usize) {
    let mut list = PageList::<Page<Frames>>::new(Frames::new());
    for _ in 0..rounds {
        let outcome = Frames::new().bulk_list(&BulkRequest::new(Gfp::KERNEL), n, &mut list);
        assert_eq!(outcome.new, n);
        free_pages_bulk(&mut list);
    }
}

/// Drops the pages in place, one by one: compare it with `single`.
fn request_write(room: &mut [MaybeUninit<Page<Frames>>], rounds: usize) {
    for _ in 0..rounds {
        let outcome = Frames::new().bulk_write(&BulkRequest::new(Gfp::KERNEL), room);
        assert_eq!(outcome.new, room.len());
        // SAFETY: 1. initialised: the request wrote all of them. 2. dropped once: the next round writes
        // others.
        room.iter_mut().for_each(|page| unsafe { page.assume_init_drop() });
    }
}

fn vec(n: usize, rounds: usize) {
    let mut pages = PageVec::<Frames, 64>::new(Frames::new());
    for _ in 0..rounds {
        let taken = Frames::new().alloc_pages_bulk_vec(Gfp::KERNEL, n, &mut pages);
        assert_eq!(taken, n);
        pages.clear();
    }
}

fn local(n: usize, rounds: usize) {
    let mut local = LocalPages::<Frames, 256>::new(Frames::new());
    let mut pages = PageVec::<Frames, 64>::new(Frames::new());
    for _ in 0..rounds {
        assert_eq!(local.alloc_bulk(Gfp::KERNEL, n, &mut pages), n);
        local.free_bulk(&mut pages);
    }
}

fn local_single(slots: &mut [Slot], rounds: usize) {
    let mut local = LocalPages::<Frames, 256>::new(Frames::new());
    for _ in 0..rounds {
        for slot in &mut *slots {
            *slot = local.alloc(Gfp::KERNEL);
        }
        slots.iter_mut().filter_map(Option::take).for_each(|page| local.free(page));
    }
}

fn single(slots: &mut [Slot], rounds: usize) {
    for _ in 0..rounds {
        for slot in &mut *slots {
            *slot = Frames::new().alloc_page(Gfp::KERNEL);
        }
        for slot in &mut *slots {
            *slot = None;
        }
    }
}

fn burst(slots: &mut [Slot], n: usize, stride: usize) {
    for batch in slots.chunks_mut(n) {
        assert_eq!(Frames::new().alloc_pages_bulk(Gfp::KERNEL, batch), n);
    }
    if stride > 1 {
        let mut others: Vec<Slot> = slots.iter_mut().map(Option::take).collect();
        let len = slots.len();
        let mut next = 0;
        for slot in slots.iter_mut() {
            *slot = others[next].take();
            next += stride;
            if next >= len {
                next -= len;
            }
        }
    }
    for batch in slots.chunks_mut(n) {
        Frames::new().release_pages(batch);
    }
}
