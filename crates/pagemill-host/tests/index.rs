//! Block numbers: compared with a naive bit vector; exactly N, sharing, reclaim, errors, threads.

#![expect(clippy::disallowed_types, reason = "threads of a test, which loom does not run")]

extern crate alloc;

use alloc::collections::BTreeSet;
use alloc::sync::{Arc, Weak};
use core::mem;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::Instant;

use pagemill_host::IndexAllocator;
use pagemill_host::index::{Extent, IndexError, SharedExtent};

/// A small generator of random numbers.
struct Rng(u64);

impl Rng {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
}

/// Returns the lengths of the runs of free blocks, longest first.
fn runs(free: &BTreeSet<u64>) -> Vec<u64> {
    let mut runs = Vec::new();
    let mut last = None;
    for &block in free {
        match (runs.last_mut(), last) {
            (Some(run), Some(last)) if last + 1 == block => *run += 1,
            _ => runs.push(1),
        }
        last = Some(block);
    }
    runs.sort_unstable_by(|one, other| other.cmp(one));
    runs
}

/// Returns the lengths of the fewest parts of runs that have `nr` blocks.
fn fewest(runs: &[u64], nr: u64) -> Vec<u64> {
    let mut left = nr;
    let take = |&run: &u64| {
        let nr = run.min(left);
        left -= nr;
        nr
    };
    runs.iter().map(take).take_while(|&nr| nr > 0).collect()
}

#[test]
fn requests_get_exactly_what_a_bit_vector_has_in_the_longest_runs() {
    // Not a multiple of any group of blocks.
    const NR: u64 = 1_500;
    for seed in 1..=if cfg!(miri) { 1 } else { 20 } {
        let blocks = IndexAllocator::new(NR).unwrap();
        let mut rng = Rng(0x9e37_79b9_7f4a_7c15 ^ seed << 32);
        let mut free: BTreeSet<u64> = (0..NR).collect();
        let mut held: Vec<Extent> = Vec::new();
        let (mut nr_split, mut nr_many, mut nr_refused) = (0, 0, 0);
        for step in 0..if cfg!(miri) { 20 } else { 3_000 } {
            let nr = rng.below(if step % 50 == 0 { 900 } else { 60 });
            let longest = runs(&free);
            match blocks.alloc(nr) {
                Ok(extents) => {
                    assert_eq!(extents.iter().map(Extent::nr_blocks).sum::<u64>(), nr);
                    let expected = fewest(&longest, nr);
                    let lengths: Vec<_> = extents.iter().map(Extent::nr_blocks).collect();
                    if expected.len() <= 16 {
                        assert_eq!(lengths, expected, "{longest:?}");
                    } else {
                        assert!(lengths.is_sorted_by(|one, next| one >= next), "{lengths:?}");
                        nr_many += 1;
                    }
                    nr_split += usize::from(extents.len() > 1);
                    for block in extents.iter().flat_map(Extent::blocks) {
                        assert!(free.remove(&block), "block {block} was handed out twice");
                    }
                    held.extend(extents);
                }
                Err(error) => {
                    let free = free.len() as u64;
                    assert!(free < nr, "{error}");
                    assert_eq!(error, IndexError::Exhausted { wanted: nr, free, nr_blocks: NR });
                    nr_refused += 1;
                }
            }
            while !held.is_empty() && (held.len() > 200 || rng.below(2) == 0) {
                let extent =
                    held.swap_remove(usize::try_from(rng.below(held.len() as u64)).unwrap());
                let at = rng.below(extent.nr_blocks() + 1);
                let (front, back) = extent.split_at(at);
                free.extend(front.blocks());
                drop(front);
                held.extend((back.nr_blocks() > 0).then_some(back));
            }
            assert_eq!(blocks.nr_free(), free.len() as u64);
        }
        assert_eq!(blocks.validate(), Ok(()));
        let is_covered = nr_split > 10 && nr_many > 10 && nr_refused > 10;
        assert!(cfg!(miri) || is_covered, "{nr_split}, {nr_many}, {nr_refused}");
    }
}

#[test]
fn every_block_can_be_handed_out_and_a_run_may_be_all_of_them() {
    for nr in [1, 7, 511, 512, 513, 5_000] {
        let blocks = IndexAllocator::new(nr).unwrap();
        let all = blocks.alloc_run(nr).unwrap();
        assert_eq!((all.blocks(), blocks.nr_free()), (0..nr, 0));
        drop(all);
        let singles: Vec<_> = (0..nr).map(|_| blocks.alloc_run(1).unwrap()).collect();
        let numbers: BTreeSet<_> = singles.iter().map(Extent::start).collect();
        assert_eq!(numbers.len() as u64, nr);
        assert!(blocks.alloc(0).unwrap().is_empty());
        drop(singles);
        assert_eq!(blocks.alloc(nr).unwrap().len(), 1);
    }
}

#[test]
fn values_that_cannot_be_served_are_named_in_errors() {
    let error = |nr| IndexAllocator::new(nr).unwrap_err().to_string();
    assert_eq!(error(0), "an allocator of 0 blocks is not possible: allowed are 1 to 4294967295");
    let expected = "an allocator of 4294967296 blocks is not possible: allowed are 1 to 4294967295";
    assert_eq!(error(1 << 32), expected);
    assert!(error(u64::MAX).contains("allowed are 1 to 4294967295"));
    let blocks = IndexAllocator::new(4).unwrap();
    assert_eq!(blocks.alloc_run(0).unwrap_err(), IndexError::EmptyRun);
    for wanted in [5, u64::MAX] {
        let exhausted = IndexError::Exhausted { wanted, free: 4, nr_blocks: 4 };
        assert_eq!(blocks.alloc(wanted).unwrap_err(), exhausted);
        assert_eq!(blocks.alloc_run(wanted).unwrap_err(), exhausted);
    }
    let mut held: Vec<_> = (0..4).map(|_| blocks.alloc_run(1).unwrap()).collect();
    held.retain(|extent| extent.start() % 2 == 0);
    let error = blocks.alloc_run(2).unwrap_err();
    assert_eq!(error, IndexError::NoRun { wanted: 2, free: 2 });
    assert_eq!(blocks.alloc(2).unwrap().len(), 2);
}

#[test]
fn numbers_are_taken_back_once_and_only_if_they_were_given_up() {
    let blocks = IndexAllocator::new(64).unwrap();
    let other = IndexAllocator::new(64).unwrap();
    let not_given_up = |block| Err(IndexError::NotGivenUp { block });
    let take = |numbers| blocks.take_back(numbers).map(|extents| extents.len());
    let held = blocks.alloc_run(10).unwrap();
    assert_eq!(take(held.blocks()), not_given_up(held.start()));
    let numbers = blocks.alloc_run(10).unwrap().into_numbers();
    assert_eq!(numbers.start, 10);
    assert_eq!(blocks.nr_free(), 44);
    // Foreign blocks, ones that nobody has, and ones that no allocator has.
    assert_eq!(other.take_back(numbers.clone()).map(|extents| extents.len()), not_given_up(10));
    assert_eq!(
        (take(9..12), take(19..21), take(60..70)),
        (not_given_up(9), not_given_up(20), not_given_up(60))
    );
    assert_eq!(take(u64::MAX - 1..u64::MAX), not_given_up(u64::MAX - 1));
    // In pieces, in any order; what was taken back is gone.
    let middle = blocks.take_back(13..15).unwrap();
    assert_eq!(middle[0].blocks(), 13..15);
    assert_eq!(take(10..20), not_given_up(13));
    assert_eq!((take(15..20), take(15..16)), (Ok(1), not_given_up(15)));
    assert_eq!(blocks.nr_free(), 49);
    drop(middle);
    assert_eq!((take(10..13), blocks.nr_free()), (Ok(1), 54));
    assert_eq!(take(5..5), Ok(0));
    // Across several extents that were given up.
    let parts: Vec<_> = (0..5).map(|_| blocks.alloc_run(2).unwrap().into_numbers()).collect();
    let (start, end) = (parts[0].start, parts[4].end);
    assert_eq!(end - start, 10);
    let extents = blocks.take_back(start + 1..end - 1).unwrap();
    assert_eq!(extents.iter().map(Extent::nr_blocks).collect::<Vec<_>>(), [1, 2, 2, 2, 1]);
    drop((extents, blocks.take_back(start..start + 1), blocks.take_back(end - 1..end)));
    assert_eq!(blocks.nr_free(), 54);
}

#[test]
#[should_panic(expected = "split at block 4: the extent has 3")]
fn a_split_behind_the_end_panics() {
    let blocks = IndexAllocator::new(8).unwrap();
    let _parts = blocks.alloc_run(3).unwrap().split_at(4);
}

#[test]
fn the_last_owner_of_a_shared_extent_frees_it() {
    let blocks = IndexAllocator::new(8).unwrap();
    let shared = blocks.alloc_run(3).unwrap().share();
    let other: SharedExtent = shared.clone();
    assert_eq!((shared.nr_owners(), other.blocks()), (2, 0..3));
    let shared = shared.try_unshare().unwrap_err();
    drop(shared);
    assert_eq!((other.nr_owners(), blocks.nr_free()), (1, 5));
    let extent = other.try_unshare().unwrap();
    assert_eq!(blocks.nr_free(), 5);
    drop(extent);
    assert_eq!(blocks.nr_free(), 8);
}

#[test]
fn a_slice_is_an_owner_of_the_whole_extent() {
    let blocks = IndexAllocator::new(16).unwrap();
    let _first = blocks.alloc_run(2).unwrap();
    let shared = blocks.alloc_run(10).unwrap().share();
    let slice = shared.slice(3..8);
    let inner = slice.slice(1..5);
    assert_eq!((slice.blocks(), slice.start(), slice.nr_blocks()), (5..10, 5, 5));
    assert_eq!((inner.blocks(), inner.nr_owners()), (6..10, 3));
    assert_eq!((slice.slice(5..5).nr_blocks(), shared.slice(0..10).blocks()), (0, 2..12));
    assert_eq!(format!("{inner:?}"), "SharedExtent(6..10)");
    drop((shared, slice));
    assert_eq!(blocks.nr_free(), 4);
    assert_eq!(inner.try_unshare().unwrap().blocks(), 2..12);
    assert_eq!(blocks.nr_free(), 14);
}

#[test]
#[should_panic(expected = "slice of blocks 1 to 4: allowed are parts of 0 to 3")]
fn a_slice_behind_the_end_panics() {
    let blocks = IndexAllocator::new(8).unwrap();
    let shared = blocks.alloc_run(5).unwrap().share();
    let _slice = shared.slice(1..4).slice(1..4);
}

#[test]
fn extents_keep_their_allocator_and_numbers_do_not() {
    let blocks = IndexAllocator::new(8).unwrap();
    let _numbers = blocks.alloc_run(2).unwrap().into_numbers();
    let extent = blocks.alloc_run(3).unwrap();
    drop(blocks);
    let (front, back) = extent.split_at(1);
    assert_eq!((front.blocks(), back.blocks()), (2..3, 3..5));
}

#[test]
fn a_callback_frees_blocks_for_requests_that_lack_them() {
    let cache: Arc<Mutex<Vec<Extent>>> = Arc::default();
    let asked: Arc<Mutex<Vec<(u64, u64)>>> = Arc::default();
    // Weak: extents keep their allocator, and that keeps the callback.
    let entries: Weak<Mutex<Vec<Extent>>> = Arc::downgrade(&cache);
    let log = asked.clone();
    let blocks = IndexAllocator::with_reclaim(100, move |lack| {
        log.lock().unwrap().push((lack.nr, lack.run));
        let Some(cache) = entries.upgrade() else { return 0 };
        let entry = cache.lock().unwrap().pop();
        entry.map_or(0, |extent| extent.nr_blocks())
    })
    .unwrap();
    for _ in 0..10 {
        cache.lock().unwrap().push(blocks.alloc_run(10).unwrap());
    }
    assert_eq!(asked.lock().unwrap().len(), 0);
    let extents = blocks.alloc(25).unwrap();
    assert_eq!(extents.iter().map(Extent::nr_blocks).sum::<u64>(), 25);
    assert_eq!(*asked.lock().unwrap(), [(25, 1), (15, 1), (5, 1)]);
    // A run that the free blocks do not have.
    assert_eq!(blocks.alloc_run(30).unwrap().nr_blocks(), 30);
    assert_eq!(asked.lock().unwrap().last(), Some(&(5, 30)));
    // All entries, and then there is no more to free.
    let error = blocks.alloc(90).unwrap_err();
    assert_eq!(error, IndexError::Exhausted { wanted: 90, free: 75, nr_blocks: 100 });
    assert_eq!(asked.lock().unwrap().last(), Some(&(15, 1)));
    // More than there are: nothing is asked for in vain.
    let nr_asked = asked.lock().unwrap().len();
    assert!(blocks.alloc(101).is_err());
    assert_eq!(asked.lock().unwrap().len(), nr_asked);
}

#[test]
fn a_callback_that_allocates_is_not_called_again_and_one_that_lies_ends() {
    let handle: Arc<Mutex<Option<IndexAllocator>>> = Arc::default();
    let calls: Arc<Mutex<u32>> = Arc::default();
    let (blocks, count) = (handle.clone(), calls.clone());
    let own = IndexAllocator::with_reclaim(8, move |_| {
        *count.lock().unwrap() += 1;
        let blocks = blocks.lock().unwrap();
        assert!(blocks.as_ref().unwrap().alloc(9).is_err());
        assert!(blocks.as_ref().unwrap().alloc_run(8).is_err());
        1
    })
    .unwrap();
    *handle.lock().unwrap() = Some(own.clone());
    let held = own.alloc_run(4).unwrap();
    assert!(own.alloc(5).is_err());
    assert!((2..1_000).contains(&*calls.lock().unwrap()));
    drop(held);
    *handle.lock().unwrap() = None;
}

#[test]
fn threads_never_share_a_block() {
    const NR: u64 = 4_096;
    const NR_THREADS: u64 = 4;
    let blocks = IndexAllocator::new(NR).unwrap();
    let owners: Vec<_> = (0..NR).map(|_| Mutex::new(())).collect();
    thread::scope(|scope| {
        for number in 1..=NR_THREADS {
            let (blocks, owners) = (blocks.clone(), &owners);
            scope.spawn(move || {
                let mut rng = Rng(number);
                let mut held = Vec::new();
                for _ in 0..if cfg!(miri) { 10 } else { 5_000 } {
                    let extents = blocks.alloc(rng.below(200)).unwrap_or_default();
                    for extent in extents {
                        let locks = extent.blocks().map(|block| {
                            let owner = &owners[usize::try_from(block).unwrap()];
                            owner.try_lock().expect("no other thread has the block")
                        });
                        let locks: Vec<_> = locks.collect();
                        held.push((locks, extent));
                    }
                    while held.len() > 30 || !held.is_empty() && rng.below(2) == 0 {
                        let which = rng.below(held.len() as u64);
                        held.swap_remove(usize::try_from(which).unwrap());
                    }
                }
            });
        }
    });
    assert_eq!((blocks.nr_free(), blocks.validate()), (NR, Ok(())));
}

/// Returns extents of every second block, with the others free.
fn every_second(blocks: &IndexAllocator) -> Vec<Extent> {
    let all = blocks.alloc_run(blocks.nr_blocks()).expect("all blocks are free");
    all.into_blocks().filter(|block| block.start() % 2 == 0).collect()
}

#[test]
fn a_request_that_must_fail_takes_no_blocks_from_others() {
    const NR: u64 = 4_096;
    let blocks = IndexAllocator::new(NR).unwrap();
    let _held = blocks.alloc(NR / 2).unwrap();
    let nr_rounds = if cfg!(miri) { 3 } else { 3_000 };
    for too_many in [NR + 1, NR / 2 + 1] {
        let barrier = Barrier::new(2);
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                barrier.wait();
                for _ in 0..nr_rounds {
                    assert!(blocks.alloc(too_many).is_err());
                    assert!(blocks.alloc_run(too_many).is_err());
                }
            });
            barrier.wait();
            while !thread.is_finished() {
                blocks.alloc(1).unwrap();
                blocks.alloc_run(1).unwrap();
            }
        });
    }
}

/// Waits until `nr` threads have called it, in this round and all before.
fn meet(arrived: &AtomicU64, nr: u64) {
    arrived.fetch_add(1, Ordering::SeqCst);
    while arrived.load(Ordering::SeqCst) < nr {
        thread::yield_now();
    }
}

#[test]
fn one_of_two_requests_for_scattered_blocks_succeeds() {
    let blocks = IndexAllocator::new(200).unwrap();
    // 20 free runs of 5 blocks: a request for 60 takes 12 of them, one after the other.
    let mut held: Vec<_> = blocks.alloc_run(200).unwrap().into_blocks().collect();
    held.retain(|block| block.start() % 10 < 5);
    let nr_rounds = if cfg!(miri) { 3_u64 } else { 20_000 };
    let arrived = AtomicU64::new(0);
    let ask = || -> Vec<bool> {
        let ask = |round| {
            meet(&arrived, 4 * round + 2);
            let extents = blocks.alloc(60);
            meet(&arrived, 4 * round + 4);
            extents.is_ok()
        };
        (0..nr_rounds).map(ask).collect()
    };
    thread::scope(|scope| {
        let (one, other) = (scope.spawn(ask), scope.spawn(ask));
        // There are always blocks for this request, too.
        while !one.is_finished() {
            blocks.alloc_run(1).unwrap();
        }
        let (one, other) = (one.join().unwrap(), other.join().unwrap());
        let nr_served =
            one.iter().zip(&other).map(|(one, other)| u8::from(*one) + u8::from(*other));
        assert_eq!(nr_served.filter(|&nr| nr != 1).count(), 0);
    });
}

#[test]
fn a_callback_serves_several_threads_at_once() {
    let inside = Arc::new(AtomicU64::new(0));
    let arrived = inside.clone();
    let blocks = IndexAllocator::with_reclaim(4, move |_| {
        arrived.fetch_add(1, Ordering::SeqCst);
        let start = Instant::now();
        while arrived.load(Ordering::SeqCst) < 2 && start.elapsed() < Duration::from_mins(2) {
            thread::yield_now();
        }
        0
    })
    .unwrap();
    let _held = blocks.alloc(4).unwrap();
    thread::scope(|scope| {
        let threads = [0; 2].map(|_| scope.spawn(|| blocks.alloc(1).is_err()));
        assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
    });
    assert_eq!(inside.load(Ordering::SeqCst), 2);
}

#[test]
fn the_callback_of_one_allocator_makes_another_call_its_own() {
    let cache: Arc<Mutex<Vec<Extent>>> = Arc::default();
    let entries = Arc::downgrade(&cache);
    let second = IndexAllocator::with_reclaim(10, move |_| {
        let entries = entries.upgrade().map(|cache| mem::take(&mut *cache.lock().unwrap()));
        entries.unwrap_or_default().iter().map(Extent::nr_blocks).sum()
    })
    .unwrap();
    *cache.lock().unwrap() = second.alloc(10).unwrap();
    let spill = second.clone();
    let first = IndexAllocator::with_reclaim(4, move |_| {
        assert_eq!(spill.alloc(10).map(|extents| extents.len()), Ok(1));
        0
    })
    .unwrap();
    let _held = first.alloc(4).unwrap();
    assert!(first.alloc(1).is_err());
    assert_eq!(second.nr_free(), 10);
}

#[test]
fn a_callback_that_frees_one_block_at_a_time_is_called_as_often_as_needed() {
    let cache: Arc<Mutex<Vec<Extent>>> = Arc::default();
    let entries = Arc::downgrade(&cache);
    let blocks = IndexAllocator::with_reclaim(1_000, move |_| {
        let entry = entries.upgrade().and_then(|cache| cache.lock().unwrap().pop());
        entry.map_or(0, |extent| extent.nr_blocks())
    })
    .unwrap();
    let refill = || {
        for _ in 0..blocks.nr_free() {
            cache.lock().unwrap().push(blocks.alloc_run(1).unwrap());
        }
    };
    refill();
    assert_eq!(blocks.alloc(500).unwrap().len(), 1);
    refill();
    assert_eq!(blocks.alloc_run(700).unwrap().nr_blocks(), 700);
    refill();
    assert!(blocks.alloc(1_001).is_err());
    assert_eq!(cache.lock().unwrap().len(), 1_000);
}

/// With a search of all groups for each run, this takes minutes.
#[test]
fn requests_for_many_scattered_blocks_do_not_search_for_each() {
    const NR: u64 = if cfg!(miri) { 128 } else { 1 << 20 };
    let blocks = IndexAllocator::new(NR).unwrap();
    let held = every_second(&blocks);
    let extents = blocks.alloc(NR / 4).unwrap();
    assert_eq!((extents.len() as u64, blocks.nr_free()), (NR / 4, NR / 4));
    let mut table: Vec<_> = (0..NR / 4).map(|_| None).collect();
    blocks.fill(&mut table).unwrap();
    let numbers = extents.iter().chain(table.iter().flatten()).map(Extent::start);
    let numbers: BTreeSet<_> = numbers.collect();
    assert_eq!((numbers.len() as u64, blocks.nr_free()), (NR / 2, 0));
    assert!(numbers.iter().all(|number| number % 2 == 1));
    drop((held, extents, table));
    assert_eq!(blocks.validate(), Ok(()));
    assert_eq!(blocks.alloc_run(NR).unwrap().nr_blocks(), NR);
}

#[test]
fn pieces_that_are_adjacent_are_joined() {
    let blocks = IndexAllocator::new(2_048).unwrap();
    let mut rest = blocks.alloc_run(2_048).unwrap();
    let mut held = Vec::new();
    // 64 runs of 31 blocks, which are pieces of 1 to 16.
    for _ in 0..64 {
        let (front, back) = rest.split_at(32);
        held.push(front.split_at(1).0);
        rest = back;
    }
    let extents = blocks.alloc(64 * 31).unwrap();
    assert!(extents.iter().all(|extent| extent.nr_blocks() == 31), "{extents:?}");
    assert_eq!((extents.len(), blocks.nr_free()), (64, 0));
}

#[test]
fn slots_are_filled_all_or_none() {
    let blocks = IndexAllocator::new(100).unwrap();
    let mut table: Vec<Option<Extent>> = (0..60).map(|_| None).collect();
    table[7] = Some(blocks.alloc_run(30).unwrap());
    blocks.fill(&mut table).unwrap();
    assert_eq!(blocks.nr_free(), 11);
    let lengths = table.iter().flatten().map(Extent::nr_blocks);
    assert_eq!(lengths.filter(|&nr| nr == 1).count(), 59);
    assert_eq!(table[7].as_ref().map(Extent::nr_blocks), Some(30));
    let mut more: Vec<Option<Extent>> = (0..12).map(|_| None).collect();
    let exhausted = IndexError::Exhausted { wanted: 12, free: 11, nr_blocks: 100 };
    assert_eq!(blocks.fill(&mut more), Err(exhausted));
    assert!(more.iter().all(Option::is_none) && blocks.nr_free() == 11);
    assert_eq!(blocks.fill(&mut []), Ok(()));
    blocks.fill(&mut more[1..]).unwrap();
    assert_eq!(blocks.nr_free(), 0);
    drop((table, more));
    assert_eq!((blocks.validate(), blocks.nr_free()), (Ok(()), 100));
}

#[test]
fn extents_are_joined_if_they_are_adjacent_and_of_one_allocator() {
    let (blocks, other) = (IndexAllocator::new(16).unwrap(), IndexAllocator::new(16).unwrap());
    let (mut front, back) = blocks.alloc_run(10).unwrap().split_at(4);
    let (middle, back) = back.split_at(3);
    let foreign = other.alloc_run(7).unwrap().split_at(4).1;
    assert_eq!(front.append(foreign).unwrap_err().blocks(), 4..7);
    let back = front.append(back).unwrap_err();
    assert_eq!((front.blocks(), back.blocks()), (0..4, 7..10));
    front.append(middle).unwrap();
    front.append(back).unwrap();
    assert_eq!((front.blocks(), blocks.nr_free()), (0..10, 6));
    let (mut empty, mut all) = front.split_at(0);
    all.append(blocks.alloc_run(2).unwrap().split_at(0).0).unwrap();
    empty.append(all).unwrap();
    assert_eq!((empty.blocks(), blocks.nr_free()), (0..10, 6));
    let singles: Vec<_> = empty.into_blocks().collect();
    let numbers: Vec<_> = singles.iter().flat_map(Extent::blocks).collect();
    assert_eq!(numbers, (0..10).collect::<Vec<_>>());
    drop(singles);
    assert_eq!(blocks.nr_free(), 16);
}
