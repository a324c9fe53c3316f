//! The paths of frames that are known by their numbers, and nothing else: for counting instructions.
//!
//! `pfn_path OP N ROUNDS` allocates N frames and frees them, ROUNDS times. OP is one of these:
//! - `array-pfn`: one bulk call each way; the frames stay within the CPU's list.
//! - `single-pfn`: one frame at a time.
//! - `spread-pfn`: ROUNDS times N frames are all allocated before the first is freed, and no two frames of a
//!   batch are near each other when they are freed. Putting them into that order counts, too.
//! - `block-pfn`: one block of N frames, a power of two, freed as a range.
//! - `range-pfn`: a contiguous range of N frames.
//! - `block`, `range`: the same, freed by their handles.
//!
//! `hot_path` has the other three with handles. `ci/instructions.sh` counts as it does there.

use std::env;
use std::process::ExitCode;

use pagemill::contig::FrameRange;
use pagemill::units::Pfn;
use pagemill::{AllocPages, Folio, Gfp, Order, Page};
use pagemill_host::{AllocatorConfig, ArenaConfig, Host, allocator};

pagemill::static_allocator! {
    static ALLOCATOR: Host;
    type Frames;
}

/// Numbers that `spread-pfn` has room for, used or not: making them must cost the same for all rounds.
const SPREAD: usize = 1 << 17;

/// As in `hot_path`.
const STRIDE: usize = 257;

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
        "array-pfn" => array(&mut pfns(n), rounds),
        "single-pfn" => single(&mut pfns(n), rounds),
        "spread-pfn" if n * rounds <= SPREAD => spread(&mut pfns(SPREAD)[..n * rounds], n),
        "block" => block(n, rounds, drop),
        "block-pfn" => block(n, rounds, |block| {
            // SAFETY: 1. owned: `into_pfn` returns it.
            unsafe { Frames::new().free_pfn_range(block.into_pfn(), n) }
                .expect("frames of the map");
        }),
        "range" => range(n, rounds, drop),
        "range-pfn" => range(n, rounds, |range| {
            let (start, nr_pages) = range.into_pfn();
            // SAFETY: 1. owned: `into_pfn` has just returned it.
            unsafe { Frames::new().free_pfn_range(start, nr_pages) }.expect("frames of the map");
        }),
        _ => return ExitCode::from(2),
    }
    ExitCode::SUCCESS
}

fn pfns(n: usize) -> Vec<Pfn> {
    vec![Pfn::new(0); n]
}

fn array(pfns: &mut [Pfn], rounds: usize) {
    for _ in 0..rounds {
        assert_eq!(Frames::new().alloc_pfns_bulk(Gfp::KERNEL, pfns), pfns.len());
        // SAFETY: 1. owned: allocated above.
        unsafe { Frames::new().free_pfns(pfns) }.expect("frames of the map");
    }
}

fn single(pfns: &mut [Pfn], rounds: usize) {
    for _ in 0..rounds {
        for pfn in &mut *pfns {
            *pfn = Frames::new().alloc_page(Gfp::KERNEL).expect("there is memory").into_pfn();
        }
        for &mut pfn in &mut *pfns {
            // SAFETY: 1. owned: `into_pfn` returned it above.
            drop(unsafe { Page::from_pfn(Frames::new(), pfn) }.expect("a frame of the map"));
        }
    }
}

fn spread(pfns: &mut [Pfn], n: usize) {
    for batch in pfns.chunks_mut(n) {
        assert_eq!(Frames::new().alloc_pfns_bulk(Gfp::KERNEL, batch), n);
    }
    let others = pfns.to_vec();
    let len = pfns.len();
    let mut next = 0;
    for pfn in pfns.iter_mut() {
        *pfn = others[next];
        next += STRIDE;
        if next >= len {
            next -= len;
        }
    }
    for batch in pfns.chunks(n) {
        // SAFETY: 1. owned: allocated above.
        unsafe { Frames::new().free_pfns(batch) }.expect("frames of the map");
    }
}

fn block(n: usize, rounds: usize, free: impl Fn(Folio<Frames>)) {
    let order = u8::try_from(n.trailing_zeros()).expect("small");
    let order = Order::new(order).expect("at most 1024 frames");
    for _ in 0..rounds {
        free(Frames::new().alloc_pages(Gfp::KERNEL, order).expect("there is memory"));
    }
}

fn range(n: usize, rounds: usize, free: impl Fn(FrameRange<Frames>)) {
    for _ in 0..rounds {
        free(Frames::new().alloc_contig(Gfp::KERNEL, n, 1, None).expect("there is memory"));
    }
}
