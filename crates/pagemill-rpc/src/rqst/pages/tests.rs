//! An array of slots against a list of what is where, also when pages cannot be had.

#![expect(clippy::cast_possible_truncation, reason = "the numbers are small")]

use pagemill::debug::FaultConfig;
use pagemill_host::{AllocatorConfig, ArenaConfig, SharedAllocator, allocator};

use super::*;

fn frames() -> SharedAllocator {
    SharedAllocator::new(allocator(&AllocatorConfig::new(ArenaConfig::new(16 << 20))).unwrap())
}

fn never() -> bool {
    false
}

#[test]
fn random_use_keeps_the_accounts() {
    let frames = frames();
    let free = frames.allocator().nr_free_pages();
    for seed in 1..40_u64 {
        let mut state = seed;
        let mut next = move |limit: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ((state >> 33) % limit) as usize
        };
        let stats = RefillStats::default();
        let mut array = PageArray::new(40);
        let mut model = [false; 40];
        let mut taken = Vec::new();
        for step in 0..300 {
            match next(5) {
                0 | 1 => {
                    let index = next(40);
                    let page = array.take(index);
                    assert_eq!(page.is_some(), model[index]);
                    taken.extend(page);
                    model[index] = false;
                }
                2 => {
                    if let Some(page) = taken.pop() {
                        let index = next(40);
                        // A slot behind the front part is full, so nothing becomes unknown.
                        assert_eq!(array.replace(index, page).unwrap().is_some(), model[index]);
                        model[index] = true;
                    }
                }
                3 => {
                    let nr = next(41);
                    let wanted = model[..nr].iter().filter(|&&full| full).count();
                    assert_eq!(array.release(&frames, nr), wanted);
                    model[..nr].fill(false);
                }
                _ => {
                    let missing = model.iter().filter(|&&full| !full).count() as u64;
                    let before = stats.pages.value();
                    let calls = if next(2) == 0 { RefillCalls::Bulk } else { RefillCalls::Single };
                    let scan = if next(2) == 0 { RefillScan::All } else { RefillScan::Emptied };
                    assert!(array.fill(&frames, Refill { calls, scan }, &never, &stats));
                    assert_eq!(stats.pages.value() - before, missing);
                    assert_eq!(array.nr_emptied(), 0);
                    model.fill(true);
                }
            }
            let nr_pages = model.iter().filter(|&&full| full).count();
            assert_eq!(array.nr_pages(), nr_pages, "seed {seed}, step {step}");
            let first_empty = model.iter().rposition(|&full| !full).map_or(0, |index| index + 1);
            assert!(array.nr_emptied() >= first_empty, "an empty slot behind the front part");
            let held = (nr_pages + taken.len()) as u64;
            assert_eq!(frames.allocator().nr_free_pages() + held, free);
        }
    }
    assert_eq!(frames.allocator().nr_free_pages(), free);
}

#[test]
fn a_refill_goes_on_while_there_is_progress() {
    // A bulk call that fails falls back to one page; that is progress, and no reason to wait.
    let frames = frames();
    let stats = RefillStats::default();
    let mut array = PageArray::new(30);
    let every_second = FaultConfig { interval: 2, ..FaultConfig::EVERY };
    frames.allocator().inject_faults(&every_second);
    assert!(array.fill(&frames, Refill::default(), &never, &stats));
    frames.allocator().inject_faults(&FaultConfig::NEVER);
    assert_eq!(array.nr_pages(), 30);
    assert_eq!(stats.pages.value(), 30);
}

#[test]
fn a_wait_for_pages_can_be_stopped() {
    let frames = frames();
    let stats = RefillStats::default();
    frames.allocator().inject_faults(&FaultConfig::EVERY);
    let asked = core::cell::Cell::new(0);
    let stop = || {
        asked.set(asked.get() + 1);
        asked.get() > 5
    };
    for calls in [RefillCalls::Bulk, RefillCalls::Single] {
        asked.set(0);
        let mut array = PageArray::new(30);
        let refill = Refill { calls, ..Refill::default() };
        assert!(!array.fill(&frames, refill, &stop, &stats));
        assert_eq!(array.nr_pages(), 0);
    }
    frames.allocator().inject_faults(&FaultConfig::NEVER);
    assert!(stats.waits.value() >= 2);
}

#[test]
fn a_wait_ends_when_somebody_frees() {
    let frames = frames();
    let stats = RefillStats::default();
    let mut all = PageArray::new(6000);
    // More than there is: it takes what it gets and waits, until it is told to stop.
    assert!(!all.fill(&frames, Refill::default(), &|| true, &stats));
    let mut array = PageArray::new(30);
    let waits = stats.waits.value();
    thread::scope(|scope| {
        scope.spawn(|| {
            while stats.waits.value() == waits {
                thread::yield_now();
            }
            let nr = all.nr_slots();
            all.release(&frames, nr);
        });
        assert!(array.fill(&frames, Refill::default(), &never, &stats));
    });
    assert_eq!(array.nr_pages(), 30);
}

#[test]
fn bytes_are_cut_at_pages() {
    let frames = frames();
    let stats = RefillStats::default();
    let mut array = PageArray::new(3);
    array.fill(&frames, Refill::default(), &never, &stats);
    for (byte, at) in array.slices_mut(0, 3 * PAGE_SIZE).flatten().zip(0_usize..) {
        *byte = (at / 7) as u8;
    }
    for (start, end) in [(0, 0), (0, 1), (4095, 4097), (4096, 8192), (5, 12_288), (8192, 8192)] {
        let got: Vec<u8> = array.slices(start, end).flatten().copied().collect();
        let wanted: Vec<u8> = (start..end).map(|at| (at / 7) as u8).collect();
        assert_eq!(got, wanted, "{start}..{end}");
    }
    // What is not there is not made up.
    assert_eq!(array.slices(12_000, 20_000).flatten().count(), 288);
    assert_eq!(array.slices(20_000, 30_000).count(), 0);
}

#[test]
fn an_array_shrinks_by_what_is_asked_and_is_filled_again() {
    let frames = frames();
    let stats = RefillStats::default();
    let mut array = PageArray::new(30);
    array.fill(&frames, Refill::default(), &never, &stats);
    let free = frames.allocator().nr_free_pages();
    assert_eq!((array.shrink(&frames, 10), array.shrink(&frames, 15)), (10, 15));
    assert_eq!((array.nr_pages(), array.is_filled()), (5, false));
    assert_eq!(frames.allocator().nr_free_pages(), free + 25);
    assert_eq!((array.shrink(&frames, usize::MAX), array.shrink(&frames, 1)), (5, 0));
    array.fill(&frames, Refill::default(), &never, &stats);
    assert!(array.is_filled());
    assert_eq!((array.nr_pages(), frames.allocator().nr_free_pages()), (30, free));
}
