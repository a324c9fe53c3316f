//! The bugs of the allocator itself.

use std::sync::Mutex;

use pagemill::accounts::{Account, AccountLimits};
use pagemill::debug::FaultConfig;
use pagemill::handles::RawPage;
use pagemill::reclaim::{ShrinkControl, Shrinker};
use pagemill::{AllocPages, BulkRequest, Config, Gfp, Page, PageList, Shortage};
use pagemill_testkit::{Frames, Machine, NORMAL, World, holes, irq_sections, region, set_account};

use crate::{LOW, exact, picture, roomy, slots, take_until};

/// The flags that choose the watermark were never set in the series; merged, they start at low.
#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn bug_01_bulk_needs_strictly_more_than_low_and_the_whole_request() {
    let world = exact();
    for (nr_free, expected) in [(LOW + 64, 1), (LOW + 65, 64)] {
        let taken = take_until(&world, nr_free);
        let mut slots = holes(64);
        assert_eq!(world.frames().alloc_pages_bulk(Gfp::KERNEL, &mut slots), expected);
        drop((taken, slots));
        world.frames().drain_all_pages();
    }
}

/// Versions 3 and 4 of the series prepared the pages again that were on the caller's list.
#[test]
fn bug_02_pages_on_the_list_keep_their_bytes() {
    let memory = [region(NORMAL, 256, 0)];
    let world = World::on(Machine::with_memory(1, NORMAL, 256), &Config::new(&memory, 1));
    let mut list = PageList::new(world.frames());
    let mut old = world.frames().alloc_page(Gfp::KERNEL).expect("a page");
    old.as_bytes_mut().fill(7);
    list.push(old);
    let gfp = Gfp::KERNEL | Gfp::ZERO;
    assert_eq!(world.frames().alloc_pages_bulk_list(gfp, 20, &mut list), 20);
    let zeroing = BulkRequest::new(gfp);
    assert_eq!(world.frames().bulk_list(&zeroing, 20, &mut list).new, 20);
    let old = list.pop().expect("the first one");
    assert!(old.as_bytes().iter().all(|&byte| byte == 7));
    assert!(list.all(|page| page.as_bytes().iter().all(|&byte| byte == 0)));
}

/// Version 5 of the series gave up at the first page behind a hole.
#[test]
fn bug_03_holes_in_front_of_pages_are_filled_in_one_trip() {
    let world = roomy();
    let mut slots = slots(world.frames(), ".....PPPP");
    let sections = irq_sections();
    assert_eq!(world.frames().alloc_pages_bulk(Gfp::KERNEL, &mut slots), 9);
    assert!(irq_sections() <= sections + 1);
    assert_eq!(picture(&slots), "PPPPPPPPP");
}

/// The slot behind a full array was read (May 2021, `b3b64ebd3822`).
#[test]
fn bug_04_nothing_behind_the_slice_is_touched() {
    let world = roomy();
    let mut all = slots(world.frames(), "PPP....");
    assert_eq!(world.frames().alloc_pages_bulk(Gfp::KERNEL, &mut all[..3]), 3);
    assert_eq!(world.frames().bulk_fill(&BulkRequest::new(Gfp::KERNEL), &mut all[..3]).new, 0);
    assert_eq!(world.frames().alloc_pages_bulk(Gfp::KERNEL, &mut all[2..5]), 3);
    assert_eq!(picture(&all), "PPPPP..");
}

/// A full array returned 0, and nfsd in 5.13 waited for ever (`ff4b2b4014cb`).
#[test]
fn bug_05_a_full_slice_returns_its_length() {
    let world = roomy();
    let mut full = slots(world.frames(), "PPPP");
    assert_eq!(world.frames().alloc_pages_bulk(Gfp::KERNEL, &mut full), 4);
    let outcome = world.frames().bulk_fill(&BulkRequest::new(Gfp::KERNEL), &mut full);
    assert_eq!((outcome.new, outcome.populated, outcome.short), (0, 4, None));
}

/// A request that failed early returned 0, whatever the slots held (`e5c15cea3391`,
/// `061478438d04`).
#[test]
fn bug_06_a_request_that_fails_early_counts_the_leading_pages() {
    let world = roomy();
    let mut slots = slots(world.frames(), "PP.P.");
    world.frames().inject_faults(&FaultConfig::EVERY);
    assert_eq!(world.frames().alloc_pages_bulk(Gfp::KERNEL, &mut slots), 2);
    let outcome = world.frames().bulk_fill(&BulkRequest::new(Gfp::KERNEL), &mut slots);
    assert_eq!((outcome.new, outcome.populated), (0, 3));
    assert_eq!(outcome.short, Some(Shortage::Fault));
    assert_eq!(picture(&slots), "PP.P.");
    assert_eq!(world.frames().alloc_pages_bulk(Gfp::KERNEL, &mut []), 0);
}

/// Noting owners allocated memory under the lock of the lists (`187ad460b841`), and since then
/// bulk gives one page a call where owners are noted. Differs: here nothing is allocated to note
/// them, so the batch stays whole.
#[test]
fn bug_07_noting_owners_neither_allocates_nor_shortens_a_batch() {
    let memory = [region(NORMAL, 1024, 0)];
    let world = World::new(&Config { page_owner: true, ..Config::new(&memory, 1) });
    let before = world.frames().nr_free_pages();
    let mut slots = holes(64);
    let line = line!() + 1;
    assert_eq!(world.frames().alloc_pages_bulk(Gfp::KERNEL, &mut slots), 64);
    assert_eq!(world.frames().nr_free_pages(), before - 64, "and no page for the metadata");
    let mut noted = 0;
    world.frames().for_each_owner(|_, site| noted += usize::from(site.line() == line));
    assert_eq!(noted, 64);
}

/// A batch was counted as one event (`3e23060b2d0b`).
#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn bug_08_each_page_of_a_batch_is_counted_once() {
    let world = exact();
    let (mut many, mut few) = (holes(100), holes(2));
    assert_eq!(world.frames().alloc_pages_bulk(Gfp::KERNEL, &mut many), 100);
    let stat = world.frames().vmstat();
    assert_eq!((stat.pgalloc.iter().sum::<u64>(), stat.numa_hit), (100, 100));
    let taken = take_until(&world, LOW + 2);
    let before = world.frames().vmstat();
    assert_eq!(world.frames().alloc_pages_bulk(Gfp::KERNEL, &mut few), 1, "falls back");
    let stat = world.frames().vmstat();
    let allocated = stat.pgalloc.iter().sum::<u64>() - before.pgalloc.iter().sum::<u64>();
    assert_eq!((allocated, stat.numa_hit - before.numa_hit), (1, 1));
    drop(taken);
}

/// A cache that holds its pages until it is asked for them.
struct Cache(Mutex<Vec<RawPage>>, Frames<'static>);

impl Shrinker for Cache {
    fn count(&self, _control: ShrinkControl) -> usize {
        self.0.lock().expect("no test panicked").len()
    }

    fn scan(&self, nr: usize, _control: ShrinkControl) -> usize {
        self.give(nr)
    }
}

impl Cache {
    fn give(&self, nr: usize) -> usize {
        let mut pages = self.0.lock().expect("no test panicked");
        let left = pages.len().saturating_sub(nr);
        // SAFETY: 1. returned by `into_raw`, and used once: `drain` takes it out.
        pages.drain(left..).map(|raw| drop(unsafe { Page::from_raw(self.1, raw) })).count()
    }
}

/// The effort for the first new page was made only if no slot held a page before (mended after
/// September 2021).
#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn bug_09_pages_that_were_there_do_not_lessen_the_effort() {
    let world: &'static World = Box::leak(Box::new(exact()));
    let frames = world.frames();
    for nofail in [Gfp::empty(), Gfp::NOFAIL] {
        let mut some = slots(frames, "PPP...");
        let taken = take_until(world, 0).into_iter().flatten().map(Page::into_raw);
        let cache: &'static Cache = Box::leak(Box::new(Cache(Mutex::new(taken.collect()), frames)));
        let guard = frames.register_shrinker(cache).expect("there is room");
        assert!(frames.alloc_pages_bulk(Gfp::KERNEL | nofail, &mut some) > 3, "by reclaim");
        drop(guard);
        cache.give(usize::MAX);
        frames.release_pages(&mut some);
        frames.drain_all_pages();
    }
}

/// Bulk went past the account (`8dcb3060d81d`), and since then gives one page a call where there
/// is one. Differs: here the batch is charged as a whole.
#[test]
fn bug_10_what_is_charged_is_what_was_allocated() {
    let memory = [region(NORMAL, 1024, 0)];
    let world = World::new(&Config { nr_accounts: 1, ..Config::new(&memory, 1) });
    let frames = world.frames();
    let limits = AccountLimits { max: 100, high: u64::MAX };
    let account = Account::open(frames, limits).expect("there is room");
    set_account(Some(account.id()));
    let mut slots = holes(64);
    for (expected, current) in [(64, 64), (36, 100), (0, 100)] {
        let mut more = holes(64);
        assert_eq!(frames.alloc_pages_bulk(Gfp::KERNEL_ACCOUNT, &mut more), expected);
        assert_eq!(account.usage().current, current);
        slots.extend(more);
    }
    set_account(None);
    frames.release_pages(&mut slots);
    assert_eq!(account.usage().current, 0);
}
