//! Waiters for memory are woken: none of these waits ends because the waiter looked again by itself.
//!
//! The machine waits for a minute where no wake-up comes, and counts that.

use core::sync::atomic::Ordering;
use std::thread;

use pagemill::accounts::{Account, AccountLimits};
use pagemill::handles::free_pages_bulk;
use pagemill::reclaim::{ShrinkControl, Shrinker};
use pagemill::request::Effort;
use pagemill::reserves::{LocalPages, Mempool};
use pagemill::{AllocPages, BulkRequest, Config, Folio, Gfp, Page, PageList, PageVec};
use pagemill_testkit::{
    Frames, Machine, NORMAL, Slots, World, holes, interrupted_by, order, pages, region,
};

#[expect(clippy::disallowed_types, reason = "a test's own: loom has no business here")]
type Count = core::sync::atomic::AtomicUsize;

/// One zone that keeps nothing back, on a machine where only wake-ups end a wait.
fn patient(nr_frames: u64) -> World {
    let memory = [region(NORMAL, nr_frames, 0)];
    World::on(
        Machine::patient(2),
        &Config {
            min_free_bytes: Some(pages(0)),
            watermark_scale_factor: 0,
            nr_accounts: 1,
            ..Config::new(&memory, 2)
        },
    )
}

fn take_all(frames: Frames<'_>) -> Vec<Page<Frames<'_>>> {
    let taken: Vec<_> = core::iter::from_fn(|| frames.alloc_page(Gfp::KERNEL)).collect();
    assert_eq!(frames.nr_free_pages(), 0);
    taken
}

/// Waits until `nr` threads wait for memory.
fn until_asleep(frames: Frames<'_>, nr: usize) {
    while frames.platform().nr_asleep() != nr {
        thread::yield_now();
    }
}

fn check_woken(frames: Frames<'_>) {
    assert_eq!(frames.platform().nr_late(), 0, "a wait that no wake-up ended");
    assert_eq!(frames.nr_polled_waits(), 0);
}

/// Takes one page out of `pages` and puts it into a slot.
fn slot<'w>(pages: &mut Vec<Page<Frames<'w>>>) -> Slots<'w> {
    vec![pages.pop()]
}

#[test]
fn every_way_to_free_a_page_wakes_a_waiter() {
    type Way = for<'w> fn(Frames<'w>, &mut Vec<Page<Frames<'w>>>);
    let ways: [(&str, Way); 7] = [
        ("drop", |_, pages| drop(pages.pop())),
        ("a slice", |frames, pages| _ = frames.release_pages(&mut slot(pages))),
        ("a long slice", |frames, pages| {
            let mut slots: Slots<'_> = pages.drain(..40).map(Some).collect();
            frames.release_pages(&mut slots);
        }),
        ("a list", |frames, pages| {
            let mut list = PageList::new(frames);
            list.extend(pages.pop());
            free_pages_bulk(&mut list);
        }),
        ("a vector", |frames, pages| {
            let mut vec = PageVec::<_, 8>::new(frames);
            pages.drain(..3).for_each(|page| assert!(vec.push(page).is_ok()));
            vec.clear();
        }),
        ("a reserve", |frames, pages| {
            let mut local = LocalPages::<_, 4>::new(frames);
            pages.drain(..5).for_each(|page| local.free(page));
        }),
        ("the last share", |_, pages| drop(pages.pop().map(Page::share))),
    ];
    for (name, way) in ways {
        let world = patient(64);
        let frames = world.frames();
        let mut taken = take_all(frames);
        thread::scope(|scope| {
            let waiter = scope.spawn(move || drop(frames.alloc_page(Gfp::KERNEL | Gfp::NOFAIL)));
            until_asleep(frames, 1);
            way(frames, &mut taken);
            waiter.join().unwrap_or_else(|_| panic!("{name}"));
        });
        assert_eq!(frames.platform().nr_late(), 0, "{name} wakes no thread");
        check_woken(frames);
    }
}

#[test]
fn a_freed_block_or_charged_page_wakes_a_waiter() {
    for is_charged in [false, true] {
        let world = patient(64);
        let frames = world.frames();
        let account = Account::open(frames, AccountLimits::NONE).expect("there is room");
        let payer = is_charged.then(|| account.id());
        let request = BulkRequest {
            account: payer,
            order: order(u8::from(!is_charged)),
            ..BulkRequest::new(Gfp::KERNEL)
        };
        let mut blocks: Vec<Option<Folio<_>>> = vec![None];
        assert_eq!(frames.bulk_fill(&request, &mut blocks).new, 1);
        let taken = take_all(frames);
        thread::scope(|scope| {
            let waiter = scope.spawn(move || drop(frames.alloc_page(Gfp::KERNEL | Gfp::NOFAIL)));
            until_asleep(frames, 1);
            blocks.clear();
            waiter.join().expect("it waits");
        });
        check_woken(frames);
        drop(taken);
    }
}

/// The waiter begins to wait after the call has looked for waiters and before the frames are free.
#[test]
fn a_range_freed_by_number_wakes_a_waiter_that_came_meanwhile() {
    // Miri takes minutes for more, and checks no less with these.
    let nr_frames = if cfg!(miri) { 64 } else { 1024 };
    let world = patient(nr_frames as u64);
    let frames = world.frames();
    let range = frames.alloc_contig(Gfp::KERNEL, nr_frames - 1, 1, None);
    let (start, nr) = range.expect("all is free").into_pfn();
    let rest = take_all(frames);
    thread::scope(|scope| {
        let mut waiter = None;
        let mut come = || {
            let wait = move || drop(frames.alloc_page(Gfp::KERNEL | Gfp::NOFAIL));
            waiter.get_or_insert_with(|| {
                let waiter = scope.spawn(wait);
                until_asleep(frames, 1);
                waiter
            });
        };
        // SAFETY: 1. owned: `into_pfn` returned them.
        let freed = interrupted_by(&mut come, || unsafe { frames.free_pfn_range(start, nr) });
        freed.expect("frames of the map");
        waiter.expect("the call can be interrupted").join().expect("it waits");
    });
    check_woken(frames);
    drop(rest);
}

/// The first waiter wants a block that cannot be had, and leaves without freeing anything. There is
/// enough for the second, which continues only because the first has left.
#[test]
fn a_waiter_that_leaves_the_queue_wakes_the_next_one() {
    let world = patient(64);
    let frames = world.frames();
    let (apart, kept): (Vec<_>, Vec<_>) =
        take_all(frames).into_iter().partition(|page| page.pfn().value().is_multiple_of(2));
    // Nothing is freed yet: 0; pages are being freed: 1; all of them are: 2.
    let freed = Count::new(0);
    let (second_asked, asked_before) = (Count::new(0), Count::new(0));
    thread::scope(|scope| {
        let first = scope.spawn(|| {
            // It is stopped when it looks again after pages were freed, once the second has seen that
            // it is not its turn, and sleeps again.
            let stop = || {
                let is_ready = || {
                    freed.load(Ordering::Relaxed) == 2
                        && second_asked.load(Ordering::Relaxed)
                            > asked_before.load(Ordering::Relaxed)
                        && frames.platform().nr_asleep() == 1
                };
                let has_begun = freed.load(Ordering::Relaxed) > 0;
                while has_begun && !is_ready() {
                    thread::yield_now();
                }
                has_begun
            };
            let request = BulkRequest {
                order: order(5),
                effort: Effort::AllOrNothing,
                stop: Some(&stop),
                ..BulkRequest::new(Gfp::KERNEL | Gfp::NORETRY)
            };
            let mut block: Vec<Option<Folio<_>>> = vec![None];
            frames.bulk_fill(&request, &mut block).new
        });
        until_asleep(frames, 1);
        let second = scope.spawn(|| {
            let stop = || {
                second_asked.fetch_add(1, Ordering::Relaxed);
                false
            };
            let stop: Option<&dyn Fn() -> bool> = Some(&stop);
            let request = BulkRequest { stop, ..BulkRequest::new(Gfp::KERNEL) };
            let mut slots = holes(30);
            frames.bulk_fill(&request, &mut slots).new
        });
        until_asleep(frames, 2);
        asked_before.store(second_asked.load(Ordering::Relaxed), Ordering::Relaxed);
        freed.store(1, Ordering::Relaxed);
        drop(apart);
        freed.store(2, Ordering::Relaxed);
        assert_eq!(first.join().expect("it is stopped"), 0);
        assert_eq!(second.join().expect("it is served"), 30);
    });
    check_woken(frames);
    drop(kept);
}

#[test]
fn pages_that_return_to_a_mempool_wake_its_waiters() {
    let world = patient(64);
    let frames = world.frames();
    let pool = Mempool::new(frames, 8, Gfp::KERNEL).expect("there is memory");
    let taken = take_all(frames);
    let mut all = holes(8);
    pool.alloc_bulk(Gfp::KERNEL, &mut all, None).expect("the reserve has them");
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let mut slots = holes(5);
            let outcome = pool.alloc_bulk(Gfp::KERNEL, &mut slots, None);
            pool.free_bulk(&mut slots);
            outcome
        });
        until_asleep(frames, 1);
        pool.free_bulk(&mut all);
        assert_eq!(waiter.join().expect("no thread panics"), Ok(()));
    });
    check_woken(frames);
    assert_eq!(pool.nr_polled_waits(), 0);
    drop(taken);
}

/// Frees nothing, and returns from a scan only when its flag is set.
struct Slow {
    nr_asked: Count,
    may_end: Count,
}

impl Shrinker for Slow {
    fn count(&self, _control: ShrinkControl) -> usize {
        1
    }

    fn scan(&self, _nr: usize, _control: ShrinkControl) -> usize {
        // Release: who sees the scan sees that its turn has begun.
        self.nr_asked.fetch_add(1, Ordering::Release);
        // Acquire: what made a thread wait is seen by the thread that then has to wake it.
        while self.may_end.load(Ordering::Acquire) == 0 {
            thread::yield_now();
        }
        0
    }
}

#[test]
fn the_end_of_a_shrinkers_turn_wakes_a_waiter() {
    let frames: Frames<'static> = Box::leak(Box::new(patient(64))).frames();
    let slow: &'static Slow =
        Box::leak(Box::new(Slow { nr_asked: Count::new(0), may_end: Count::new(0) }));
    let taken = take_all(frames);
    let guard = frames.register_shrinker(slow).expect("there is room");
    let gfp = Gfp::KERNEL | Gfp::NORETRY;
    thread::scope(|scope| {
        scope.spawn(move || assert!(frames.alloc_page(gfp).is_none()));
        while slow.nr_asked.load(Ordering::Acquire) == 0 {
            thread::yield_now();
        }
        scope.spawn(move || assert!(frames.alloc_page(gfp).is_none()));
        until_asleep(frames, 1);
        slow.may_end.store(1, Ordering::Release);
    });
    check_woken(frames);
    drop((guard, taken));
}
