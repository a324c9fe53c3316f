//! When memory is short or misused: reserves, waiters, shrinkers, patterns in free pages.

use core::cell::Cell;
use core::sync::atomic::Ordering;
use std::thread;

use pagemill::accounts::{Account, AccountLimits};
use pagemill::machine::DirectMap;
use pagemill::reclaim::{MAX_NR_SHRINKERS, ShrinkControl, Shrinker, TooManyShrinkers};
use pagemill::request::Effort;
use pagemill::reserves::Mempool;
use pagemill::{AllocPages, BulkRequest, Config, Gfp, Order, Page, Shortage};
use pagemill_testkit::{Frames, Machine, NORMAL, Slots, World, holes, region};

#[expect(clippy::disallowed_types, reason = "a test's own: loom has no business here")]
type Count = core::sync::atomic::AtomicUsize;

const ROUNDS: usize = if cfg!(miri) { 5 } else { 500 };

fn take_all(frames: Frames<'_>) -> Slots<'_> {
    let taken: Slots<'_> = core::iter::from_fn(|| Some(frames.alloc_page(Gfp::KERNEL)))
        .take_while(Option::is_some)
        .collect();
    assert_eq!(frames.nr_free_pages(), 0);
    taken
}

#[test]
fn who_may_not_fail_is_charged_past_the_limit() {
    let memory = [region(NORMAL, 1024, 0)];
    let world = World::new(&Config { nr_accounts: 2, ..Config::new(&memory, 1) });
    let frames = world.frames();
    let above = Account::open(frames, AccountLimits { max: 3, high: 3 }).expect("room");
    let account = above.open_child(AccountLimits::NONE).expect("room");
    let mut slots = holes(8);
    let request = |gfp| BulkRequest { account: Some(account.id()), ..BulkRequest::new(gfp) };
    let within = frames.bulk_fill(&request(Gfp::KERNEL), &mut slots);
    assert_eq!((within.new, within.short), (3, Some(Shortage::Account)));
    let past = frames.bulk_fill(&request(Gfp::KERNEL | Gfp::NOFAIL), &mut slots);
    assert_eq!((past.new, past.short), (5, None));
    assert_eq!((account.usage().current, above.usage().current), (8, 8));
    frames.release_pages(&mut slots);
    assert_eq!((account.usage().current, above.usage().current), (0, 0));
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn fast_requests_use_the_cpus_own_list_below_the_low_watermark() {
    let memory = [region(NORMAL, 4096, 0)];
    let world = World::new(&Config::new(&memory, 1));
    let frames = world.frames();
    let mempool = Mempool::new(frames, 8, Gfp::KERNEL).expect("there is memory");
    let mut taken: Vec<_> = core::iter::from_fn(|| frames.alloc_page(Gfp::KERNEL)).collect();
    taken.truncate(taken.len() - 40);
    let in_list = || frames.pcp_info().map(|list| list.count).sum::<usize>();
    assert_eq!(in_list(), 40);
    let fast = BulkRequest { effort: Effort::Fast, ..BulkRequest::new(Gfp::NOWAIT) };
    let mut slots = holes(41);
    let outcome = frames.bulk_fill(&fast, &mut slots);
    assert_eq!((outcome.new, outcome.short), (40, Some(Shortage::Memory)));
    frames.release_pages(&mut slots);
    mempool.alloc_bulk(Gfp::NOWAIT, &mut slots[..8], None).expect("32 more are in the list");
    assert_eq!(in_list(), 32, "the list's pages come before the reserve");
    frames.release_pages(&mut slots);
}

#[test]
fn a_mempool_that_cannot_be_filled_keeps_nothing() {
    let world = World::bare(64);
    let error = Mempool::new(world.frames(), 65, Gfp::KERNEL).err();
    assert_eq!(error, Some(Shortage::Memory));
    assert_eq!(world.frames().nr_free_pages(), 64);
}

#[test]
fn a_mempool_serves_from_its_reserve_and_refills_that_first() {
    let world = World::bare(64);
    let pool = Mempool::new(world.frames(), 8, Gfp::KERNEL).expect("there is memory");
    let taken = take_all(world.frames());
    for _ in 0..3 {
        let mut slots = holes(8);
        assert_eq!(pool.alloc_bulk(Gfp::NOWAIT, &mut slots, None), Ok(()));
        let mut more = holes(1);
        assert_eq!(pool.alloc_bulk(Gfp::NOWAIT, &mut more, None), Err(Shortage::Memory));
        let tries = Cell::new(0);
        let stop = || tries.replace(tries.get() + 1) > 3;
        let stopped = pool.alloc_bulk(Gfp::KERNEL, &mut more, Some(&stop));
        assert_eq!((stopped, more[0].is_none()), (Err(Shortage::Stopped), true));
        pool.free_bulk(&mut slots);
        assert_eq!(world.frames().nr_free_pages(), 0, "all of it is in the reserve");
    }
    drop(taken);
    let mut slots = holes(8);
    assert_eq!(pool.alloc_bulk(Gfp::KERNEL, &mut slots, None), Ok(()));
    assert_eq!(world.frames().nr_free_pages(), 48, "the allocator has some: the reserve stays");
    pool.free_bulk(&mut slots);
}

#[test]
#[should_panic(expected = "a mempool of 4 pages cannot promise 5")]
fn a_mempool_promises_no_more_than_it_has() {
    let world = World::bare(64);
    let pool = Mempool::new(world.frames(), 4, Gfp::KERNEL).expect("there is memory");
    let _outcome = pool.alloc_bulk(Gfp::KERNEL, &mut holes(5), None);
}

#[test]
fn callers_of_a_mempool_that_need_more_than_half_of_it_take_turns() {
    let world = World::bare(64);
    let pool = Mempool::new(world.frames(), 8, Gfp::KERNEL).expect("there is memory");
    let taken = take_all(world.frames());
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    let mut slots = holes(5);
                    pool.alloc_bulk(Gfp::KERNEL, &mut slots, None).expect("it waits");
                    assert!(slots.iter().all(Option::is_some));
                    pool.free_bulk(&mut slots);
                }
            });
        }
    });
    drop(taken);
}

/// A later request took pages from the reserve that an earlier one was waiting for, and pages that were
/// freed past the reserve did not end a wait.
#[test]
fn a_mempool_serves_in_the_order_of_arrival_and_from_wherever_pages_come() {
    let world = World::bare(64);
    let pool = Mempool::new(world.frames(), 8, Gfp::KERNEL).expect("there is memory");
    let mut taken = take_all(world.frames());
    let mut some = holes(5);
    pool.alloc_bulk(Gfp::NOWAIT, &mut some, None).expect("the reserve has them");
    let asked = Count::new(0);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let asking = || {
                // Release and Acquire: who sees this sees the waiter too.
                asked.fetch_add(1, Ordering::Release);
                false
            };
            let mut slots = holes(8);
            let outcome = pool.alloc_bulk(Gfp::KERNEL, &mut slots, Some(&asking));
            pool.free_bulk(&mut slots);
            outcome
        });
        while asked.load(Ordering::Acquire) == 0 {
            thread::yield_now();
        }
        let late = pool.alloc_bulk(Gfp::NOWAIT, &mut holes(2), None);
        // Past the reserve: the waiter must find them all the same.
        taken.truncate(taken.len() - 6);
        world.frames().release_pages(&mut some);
        assert_eq!(waiter.join().expect("no thread panics"), Ok(()));
        assert_eq!(late, Err(Shortage::Memory), "the three that were left were spoken for");
    });
    drop(taken);
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn two_callers_that_need_all_that_is_left_finish_in_turn() {
    let world = World::bare(256);
    let frames = world.frames();
    let mut taken = take_all(frames);
    taken.truncate(256 - 64);
    frames.drain_all_pages();
    assert_eq!(frames.nr_free_pages(), 64);
    thread::scope(|scope| {
        for effort in [Effort::AllOrNothing, Effort::TryHard, Effort::AllOrNothing] {
            scope.spawn(move || {
                let never = || false;
                let stop: Option<&dyn Fn() -> bool> = Some(&never);
                let request = BulkRequest { effort, stop, ..BulkRequest::new(Gfp::KERNEL) };
                for _ in 0..ROUNDS {
                    let mut slots = holes(64);
                    let outcome = frames.bulk_fill(&request, &mut slots);
                    assert_eq!((outcome.new, outcome.short), (64, None));
                    frames.release_pages(&mut slots);
                }
            });
        }
    });
    drop(taken);
}

/// Counts how often it is asked, allocates itself while it is, and has nothing to give.
struct Asked {
    times: Count,
    frames: Frames<'static>,
    /// What it allocates with.
    gfp: Gfp,
}

impl Shrinker for Asked {
    fn count(&self, _control: ShrinkControl) -> usize {
        1
    }

    fn scan(&self, _nr: usize, _control: ShrinkControl) -> usize {
        self.times.fetch_add(1, Ordering::Relaxed);
        assert!(self.frames.alloc_page(self.gfp).is_none());
        0
    }
}

fn asked(frames: Frames<'static>, gfp: Gfp) -> &'static Asked {
    Box::leak(Box::new(Asked { times: Count::new(0), frames, gfp }))
}

#[test]
fn shrinkers_are_asked_from_registration_to_removal() {
    let frames = Box::leak(Box::new(World::bare(64))).frames();
    let asked = asked(frames, Gfp::NOWAIT);
    let guards: Vec<_> = (0..MAX_NR_SHRINKERS)
        .map(|_| frames.register_shrinker(asked).expect("there is room"))
        .collect();
    assert_eq!(frames.register_shrinker(asked).err(), Some(TooManyShrinkers));
    let taken = take_all(frames);
    let before = asked.times.swap(0, Ordering::Relaxed);
    assert!(before >= MAX_NR_SHRINKERS, "each was asked: {before}");
    drop(guards);
    assert!(frames.alloc_page(Gfp::KERNEL).is_none());
    assert_eq!(asked.times.load(Ordering::Relaxed), 0, "none is asked any more");
    drop(taken);
}

#[test]
fn a_shrinker_that_allocates_is_not_asked_for_that() {
    let frames = Box::leak(Box::new(World::bare(64))).frames();
    let asked = asked(frames, Gfp::KERNEL);
    let guard = frames.register_shrinker(asked).expect("there is room");
    let taken = take_all(frames);
    assert!(asked.times.swap(0, Ordering::Relaxed) > 0);
    for gfp in [Gfp::NOWAIT, Gfp::ATOMIC, Gfp::KERNEL | Gfp::MEMALLOC] {
        assert!(frames.alloc_page(gfp).is_none());
    }
    let fast = BulkRequest { effort: Effort::Fast, ..BulkRequest::new(Gfp::KERNEL) };
    let none = frames.bulk_fill(&fast, &mut holes(4)).new;
    assert_eq!((none, asked.times.load(Ordering::Relaxed)), (0, 0), "only who may reclaim asks");
    drop((guard, taken));
}

fn poisoned(page_owner: bool) -> World {
    let memory = [region(NORMAL, 64, 0)];
    let config = Config { poison: true, page_owner, ..Config::new(&memory, 1) };
    World::on(Machine::with_memory(1, NORMAL, 64), &config)
}

#[test]
fn free_pages_carry_a_pattern_and_new_ones_may_be_zero() {
    // Miri takes minutes for all bytes.
    let step = if cfg!(miri) { 97 } else { 1 };
    let world = poisoned(true);
    let frames = world.frames();
    for gfp in [Gfp::KERNEL, Gfp::KERNEL | Gfp::ZERO] {
        for round in 0..if cfg!(miri) { 1 } else { 3 } {
            let mut slots = holes(20);
            assert_eq!(frames.bulk_fill(&BulkRequest::new(gfp), &mut slots).new, 20);
            for page in slots.iter_mut().flatten() {
                let expected = if gfp.contains(Gfp::ZERO) { 0 } else { 0xaa };
                assert!(
                    page.as_bytes().iter().step_by(step).all(|&byte| byte == expected),
                    "round {round}"
                );
                page.as_bytes_mut().fill(round);
            }
            let mut block =
                frames.alloc_pages(gfp, Order::new(3).expect("small")).expect("a block");
            block.as_bytes_mut().fill(1);
        }
    }
}

#[test]
#[should_panic(expected = "use after free: byte 77 of the block of order 0 at frame 0x1000")]
fn a_byte_written_after_the_free_is_found() {
    let world = poisoned(false);
    let frames = world.frames();
    let pfn = frames.alloc_page(Gfp::KERNEL).expect("a page").pfn();
    // SAFETY: 1. in bounds: a frame has more bytes.
    let byte = unsafe { frames.platform().frame_ptr(pfn).add(77) };
    // SAFETY: violated on purpose: the page was freed. The bytes are memory that only this test
    // uses.
    unsafe { byte.write(0) };
    let _found = frames.bulk_fill(&BulkRequest::new(Gfp::KERNEL | Gfp::MEMALLOC), &mut holes(64));
}

#[test]
#[should_panic(expected = "double free of the block of order 0 at frame 0x1000")]
fn with_owners_a_second_free_is_found_at_once() {
    let memory = [region(NORMAL, 64, 0)];
    let world = World::new(&Config { page_owner: true, ..Config::new(&memory, 1) });
    let raw = world.frames().alloc_page(Gfp::KERNEL).expect("a page").into_raw();
    for _ in 0..2 {
        // SAFETY: violated the second time, on purpose: the allocator only changes its own
        // metadata.
        drop(unsafe { Page::from_raw(world.frames(), raw) });
    }
}

/// Linux marks a task that reclaims, so that its own allocations do not reclaim again.
#[test]
fn shrinkers_that_allocate_with_all_effort_do_not_ask_each_other() {
    let frames = Box::leak(Box::new(World::bare(64))).frames();
    let asked = asked(frames, Gfp::KERNEL);
    let guards: Vec<_> = (0..MAX_NR_SHRINKERS)
        .map(|_| frames.register_shrinker(asked).expect("there is room"))
        .collect();
    let taken = take_all(frames);
    let times = asked.times.load(Ordering::Relaxed);
    assert!(times <= MAX_NR_SHRINKERS * 64, "asked {times} times, not once for each of the others");
    drop(guards);
    drop(taken);
}

#[test]
fn who_may_not_fail_does_not_wait_for_what_no_zone_could_ever_give() {
    let memory = [region(NORMAL, 1024, 0)];
    let world = World::new(&Config::new(&memory, 1));
    assert!(
        world.frames().alloc_page(Gfp::KERNEL | Gfp::NOFAIL | Gfp::DMA).is_none(),
        "no zone DMA"
    );
}
