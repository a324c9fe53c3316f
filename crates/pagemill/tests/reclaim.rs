//! Caches that give pages back, well and badly, and those who ask them.

use core::cell::Cell;
use core::panic::AssertUnwindSafe;
use core::sync::atomic::Ordering;
use core::time::Duration;
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::thread;

use pagemill::accounts::{Account, AccountLimits};
use pagemill::debug::Event;
use pagemill::gfp::ZoneKind;
use pagemill::reclaim::{ShrinkControl, Shrinker};
use pagemill::request::Effort;
use pagemill::reserves::Mempool;
use pagemill::source::PageSource;
use pagemill::units::NodeId;
use pagemill::{AllocPages, BulkRequest, Config, Folio, Gfp, Page, PageAllocator, Shortage};
use pagemill_testkit::{
    Frames, Machine, NORMAL, Traces, World, holes, interrupts_are_off, nr_wakes, order, pages,
    region, set_account, set_cpu, traced,
};

#[expect(clippy::disallowed_types, reason = "a test's own: loom has no business here")]
type Count = core::sync::atomic::AtomicUsize;
#[expect(clippy::disallowed_types, reason = "a test's own: loom has no business here")]
type Flag = core::sync::atomic::AtomicBool;

/// One zone in which a list holds one page and nothing is kept back.
fn bare(nr_frames: u64) -> &'static World {
    Box::leak(Box::new(World::bare(nr_frames)))
}

fn take_all(frames: Frames<'_>) -> Vec<Page<Frames<'_>>> {
    core::iter::from_fn(|| frames.alloc_page(Gfp::KERNEL | Gfp::MEMALLOC)).collect()
}

/// A cache that runs a given closure before each scan.
struct Cache {
    pages: Mutex<Vec<Page<Frames<'static>>>>,
    asked: Count,
    first: fn(Frames<'static>),
    frames: Frames<'static>,
}

impl Cache {
    fn leak(
        frames: Frames<'static>,
        pages: Vec<Page<Frames<'static>>>,
        first: fn(Frames<'static>),
    ) -> &'static Self {
        let asked = Count::new(0);
        Box::leak(Box::new(Self { pages: Mutex::new(pages), asked, first, frames }))
    }

    fn len(&self) -> usize {
        self.pages.lock().expect("not poisoned").len()
    }
}

impl Shrinker for Cache {
    fn count(&self, _control: ShrinkControl) -> usize {
        self.len().max(1)
    }

    fn scan(&self, nr: usize, _control: ShrinkControl) -> usize {
        self.asked.fetch_add(1, Ordering::Relaxed);
        (self.first)(self.frames);
        let mut pages = self.pages.lock().expect("not poisoned");
        let left = pages.len().saturating_sub(nr);
        let freed = pages.split_off(left);
        drop(pages);
        freed.len()
    }
}

/// A cache of blocks, which it frees one at a time.
struct Blocks(Mutex<Vec<Folio<Frames<'static>>>>);

impl Shrinker for Blocks {
    fn count(&self, _control: ShrinkControl) -> usize {
        self.0.lock().expect("not poisoned").len()
    }

    fn scan(&self, _nr: usize, _control: ShrinkControl) -> usize {
        let block = self.0.lock().expect("not poisoned").pop();
        block.map_or(0, |block| block.order().nr_pages())
    }
}

#[test]
fn blocks_that_a_shrinker_frees_to_a_list_count_with_all_their_pages() {
    let memory = [region(NORMAL, 4096, 0)];
    let world = World::new(&Config { pcp_high: Some(64), ..Config::new(&memory, 1) });
    let frames = Box::leak(Box::new(world)).frames();
    let block = frames.alloc_pages(Gfp::KERNEL, order(3)).expect("a block");
    frames.drain_all_pages();
    let cache: &'static Blocks = Box::leak(Box::new(Blocks(Mutex::new(vec![block]))));
    let guard = frames.register_shrinker(cache).expect("there is room");
    let taken: Vec<_> = core::iter::from_fn(|| frames.alloc_page(Gfp::NOWAIT)).collect();
    let events = traced(Traces::Events, || assert!(frames.alloc_page(Gfp::KERNEL).is_some()));
    let ends = events.iter().filter_map(|event| match event {
        Event::VmscanDirectReclaimEnd { nr_reclaimed } => Some(*nr_reclaimed),
        _ => None,
    });
    assert_eq!(ends.collect::<Vec<_>>(), [8]);
    drop((guard, taken));
}

/// A request that came while another thread asked the shrinkers found no memory, and failed.
#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn a_request_waits_while_a_cache_is_being_emptied() {
    let frames = bare(1024).frames();
    let slow = |_| thread::sleep(Duration::from_millis(2));
    let cache = Cache::leak(frames, take_all(frames), slow);
    let guard = frames.register_shrinker(cache).expect("there is room");
    let got: Vec<_> = thread::scope(|scope| {
        let ask = |cpu: u32| {
            scope.spawn(move || {
                set_cpu(cpu % 2);
                (0..20).map(|_| frames.alloc_page(Gfp::KERNEL)).collect::<Vec<_>>()
            })
        };
        let threads = [0, 1, 2, 3].map(ask);
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(cache.len() > 0 && got.iter().all(Option::is_some));
    drop(guard);
}

/// A request for more pages than there are emptied the caches of all others first, and then failed.
#[test]
fn what_no_reclaim_can_give_is_refused_at_once() {
    let frames = bare(64).frames();
    let cache = Cache::leak(frames, take_all(frames), |_| ());
    let guard = frames.register_shrinker(cache).expect("there is room");
    for nr in [65, 1 << 40, usize::MAX] {
        let error = frames.alloc_exactly(Gfp::KERNEL, nr).map(drop).expect_err("there are 64");
        assert_eq!(error.short, Shortage::Memory);
        let pool = Mempool::new(frames, nr, Gfp::KERNEL);
        assert!(pool.is_err());
    }
    assert_eq!((cache.asked.load(Ordering::Relaxed), cache.len()), (0, 64));
    drop(guard);
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn a_block_that_cannot_be_had_is_given_up_however_much_is_drained() {
    let memory = [region(NORMAL, 1024, 0)];
    let world: &'static World = Box::leak(Box::new(World::new(&Config::new(&memory, 4))));
    let frames = world.frames();
    let mut taken = take_all(frames);
    taken.retain(|page| page.pfn().value() % 2 == 0);
    let cache = Cache::leak(frames, Vec::new(), |_| ());
    let guard = frames.register_shrinker(cache).expect("there is room");
    let over = Flag::new(false);
    thread::scope(|scope| {
        for cpu in 1..4 {
            let over = &over;
            scope.spawn(move || {
                set_cpu(cpu);
                while !over.load(Ordering::Relaxed) {
                    let mut slots = holes(8);
                    frames.alloc_pages_bulk(Gfp::NOWAIT, &mut slots);
                    frames.release_pages(&mut slots);
                }
            });
        }
        assert!(frames.alloc_pages(Gfp::KERNEL, order(3)).is_none());
        assert!(cache.asked.load(Ordering::Relaxed) <= 16);
        frames.balance();
        over.store(true, Ordering::Relaxed);
    });
    drop(guard);
}

/// A zone Movable without room is no reason to empty caches while zone Normal has plenty; but the
/// other way round it is.
#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn balance_asks_for_what_some_request_lacks_and_no_more() {
    let memory = [region(NORMAL, 4096, 0)];
    let world: &'static World = Box::leak(Box::new(World::new(&Config {
        movable_bytes: pages(1024),
        min_free_bytes: Some(pages(64)),
        pcp_high: Some(1),
        ..Config::new(&memory, 1)
    })));
    let frames = world.frames();
    let mut held: Vec<_> = core::iter::from_fn(|| frames.alloc_page(Gfp::HIGHUSER_MOVABLE))
        .take_while(|page| page.pfn().value() >= NORMAL + 3072)
        .collect();
    let cached = (0..500).map_while(|_| frames.alloc_page(Gfp::KERNEL)).collect();
    let cache = Cache::leak(frames, cached, |_| ());
    let guard = frames.register_shrinker(cache).expect("there is room");
    assert!(!frames.needs_balance());
    assert_eq!((frames.balance(), cache.len()), (0, 500));
    let movable = held.len() - 200;
    held.drain(movable..);
    frames.drain_all_pages();
    held.extend(core::iter::from_fn(|| frames.alloc_page(Gfp::NOWAIT)));
    assert!(frames.needs_balance());
    let freed = frames.balance();
    let normal = world.zone(0, ZoneKind::Normal);
    assert!(normal.nr_free_pages > normal.watermarks.high && !frames.needs_balance());
    assert!(cache.len() > 0, "{freed} were enough");
    drop((guard, held));
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn one_page_of_the_reserve_opens_it_to_nobody_else() {
    let memory = [region(NORMAL, 16384, 0)];
    let config = Config { min_free_bytes: Some(pages(500)), ..Config::new(&memory, 1) };
    let world = World::new(&config);
    let frames = world.frames();
    let held: Vec<_> =
        core::iter::from_fn(|| frames.alloc_page(Gfp::KERNEL | Gfp::NORETRY)).collect();
    for gfp in [Gfp::KERNEL | Gfp::MEMALLOC, Gfp::ATOMIC] {
        let before = frames.vmstat().nr_free_pages;
        let reserved = frames.alloc_page(gfp).expect("it may use the reserve");
        assert_eq!(frames.vmstat().nr_free_pages, before - 1);
        assert!(frames.alloc_page(Gfp::NOWAIT).is_none());
        // Pages that were freed to a list are available to every request.
        drop(reserved);
        frames.drain_all_pages();
    }
    drop(held);
}

/// A handler took pages from the reserve and freed them. A request that can reclaim must not use them up:
/// the next handler would get none.
#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn reclaim_returns_pages_in_lists_to_a_reserve_that_lacks_them() {
    const NR: usize = 10;
    let memory = [region(NORMAL, 1024, 0)];
    let config = Config {
        pcp_high: Some(64),
        min_free_bytes: Some(pages(100)),
        watermark_scale_factor: 0,
        ..Config::new(&memory, 1)
    };
    let world = World::new(&config);
    let frames = world.frames();
    let mut held: Vec<_> = core::iter::from_fn(|| frames.alloc_page(Gfp::KERNEL)).collect();
    assert_eq!(world.zone(0, ZoneKind::Normal).nr_free_pages, 100);
    for _ in 0..20 {
        let taken: Vec<_> = (0..NR).filter_map(|_| frames.alloc_page(Gfp::ATOMIC)).collect();
        assert_eq!(taken.len(), NR, "a handler gets its pages");
        drop(taken);
        held.extend(frames.alloc_page(Gfp::KERNEL));
        assert_eq!(world.zone(0, ZoneKind::Normal).nr_free_pages, 100);
    }
}

#[test]
fn a_fast_request_that_falls_short_calls_for_background_reclaim() {
    let frames = bare(64).frames();
    let taken = take_all(frames);
    let fast = |gfp| BulkRequest { effort: Effort::Fast, ..BulkRequest::new(gfp) };
    for (gfp, expected) in [(Gfp::NOWAIT, true), (Gfp::empty(), false)] {
        let before = nr_wakes();
        assert_eq!(frames.bulk_fill(&fast(gfp), &mut holes(4)).short, Some(Shortage::Memory));
        assert_eq!(nr_wakes() > before, expected, "{gfp:?}");
    }
    drop(taken);
}

#[test]
fn a_shrinker_that_panics_leaves_nothing_locked() {
    let frames = bare(64).frames();
    let taken = take_all(frames);
    let guard = frames.register_shrinker(Cache::leak(frames, Vec::new(), |_| panic!("on purpose")));
    let asking = AssertUnwindSafe(|| frames.alloc_page(Gfp::KERNEL));
    assert!(catch_unwind(asking).is_err());
    drop(guard.expect("there is room"));
    let cache = Cache::leak(frames, taken, |_| ());
    let guard = frames.register_shrinker(cache).expect("there is room");
    assert!(frames.alloc_page(Gfp::KERNEL | Gfp::NORETRY).is_some(), "it is this one's turn");
    drop(guard);
}

/// If it panicked each time, the shrinkers behind it would never be asked.
#[test]
fn a_shrinker_that_panics_is_passed_over_then() {
    let frames = bare(64).frames();
    let taken = take_all(frames);
    let panics =
        frames.register_shrinker(Cache::leak(frames, Vec::new(), |_| panic!("on purpose")));
    let cache = Cache::leak(frames, taken, |_| ());
    let guard = frames.register_shrinker(cache).expect("there is room");
    let asking = AssertUnwindSafe(|| frames.alloc_page(Gfp::KERNEL));
    assert!(catch_unwind(asking).is_err());
    assert!(frames.alloc_page(Gfp::KERNEL).is_some());
    drop((panics, guard));
}

/// Reports a page with each scan and frees none, for a long time.
struct Useless(Count);

impl Shrinker for Useless {
    fn count(&self, _control: ShrinkControl) -> usize {
        1
    }

    fn scan(&self, _nr: usize, _control: ShrinkControl) -> usize {
        usize::from(self.0.fetch_add(1, Ordering::Relaxed) < 100_000)
    }
}

#[test]
fn pages_that_a_shrinker_reports_and_keeps_are_no_progress() {
    let frames = bare(64).frames();
    let taken = take_all(frames);
    let useless: &'static Useless = Box::leak(Box::new(Useless(Count::new(0))));
    let guard = frames.register_shrinker(useless).expect("there is room");
    for gfp in [Gfp::KERNEL, Gfp::KERNEL | Gfp::RETRY_MAYFAIL] {
        assert!(frames.alloc_page(gfp).is_none());
    }
    let nr_scans = useless.0.load(Ordering::Relaxed);
    assert!(nr_scans <= 16, "asked {nr_scans} times");
    // Pages that other threads allocate and free at the same time do not count either.
    let over = Flag::new(false);
    let mut taken = taken;
    taken.truncate(60);
    thread::scope(|scope| {
        scope.spawn(|| {
            set_cpu(1);
            while !over.load(Ordering::Relaxed) {
                let mut slots = holes(4);
                frames.alloc_pages_bulk(Gfp::KERNEL | Gfp::MEMALLOC, &mut slots);
                frames.release_pages(&mut slots);
            }
        });
        assert!(frames.alloc_pages(Gfp::KERNEL | Gfp::RETRY_MAYFAIL, order(4)).is_none());
        over.store(true, Ordering::Relaxed);
    });
    drop((guard, taken));
}

/// Frees no more than it has just allocated, and reports that, for a long time.
struct Churns(Frames<'static>, Count);

impl Shrinker for Churns {
    fn count(&self, _control: ShrinkControl) -> usize {
        1
    }

    fn scan(&self, _nr: usize, _control: ShrinkControl) -> usize {
        drop(self.0.alloc_page(Gfp::NOWAIT).expect("it may use the reserve"));
        usize::from(self.1.fetch_add(1, Ordering::Relaxed) < 100_000)
    }
}

/// The request went on as long as the shrinker did, which could be for ever.
#[test]
fn a_request_ends_although_a_shrinker_frees_what_it_allocates() {
    let memory = [region(NORMAL, 256, 0)];
    let config = Config { min_free_bytes: Some(pages(32)), ..Config::new(&memory, 1) };
    let world: &'static World = Box::leak(Box::new(World::new(&config)));
    let frames = world.frames();
    let taken: Vec<_> =
        core::iter::from_fn(|| frames.alloc_page(Gfp::KERNEL | Gfp::NORETRY)).collect();
    let churns: &'static Churns = Box::leak(Box::new(Churns(frames, Count::new(0))));
    let guard = frames.register_shrinker(churns).expect("there is room");
    assert!(frames.alloc_page(Gfp::KERNEL).is_none());
    let nr_scans = churns.1.load(Ordering::Relaxed);
    assert!(nr_scans <= 300, "asked {nr_scans} times");
    drop((guard, taken));
}

/// A cache whose pages are freed on another CPU.
struct Elsewhere(&'static Cache);

impl Shrinker for Elsewhere {
    fn count(&self, control: ShrinkControl) -> usize {
        self.0.count(control)
    }

    fn scan(&self, nr: usize, control: ShrinkControl) -> usize {
        set_cpu(1);
        let nr_freed = self.0.scan(nr, control);
        set_cpu(0);
        nr_freed
    }
}

/// Such shrinkers were measured as useless, and passed over while requests failed.
#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn pages_that_a_shrinker_frees_on_another_cpu_count() {
    let memory = [region(NORMAL, 2048, 0)];
    let config = Config { pcp_high: Some(512), ..Config::new(&memory, 2) };
    let world: &'static World = Box::leak(Box::new(World::new(&config)));
    let frames = world.frames();
    let cached = core::iter::from_fn(|| frames.alloc_page(Gfp::NOWAIT)).collect();
    let cache = Cache::leak(frames, cached, |_| ());
    let elsewhere: &'static Elsewhere = Box::leak(Box::new(Elsewhere(cache)));
    let guard = frames.register_shrinker(elsewhere).expect("there is room");
    let mut held = Vec::new();
    while cache.len() > 100 {
        let page = frames.alloc_page(Gfp::KERNEL | Gfp::NORETRY);
        held.push(page.expect("there are pages in the cache"));
    }
    drop((guard, held));
    cache.pages.lock().expect("not poisoned").clear();
}

/// Reports pages, and keeps them while its flag is set.
struct Late(&'static Cache, Flag);

impl Shrinker for Late {
    fn count(&self, control: ShrinkControl) -> usize {
        self.0.count(control)
    }

    fn scan(&self, nr: usize, control: ShrinkControl) -> usize {
        if self.1.load(Ordering::Relaxed) { nr } else { self.0.scan(nr, control) }
    }
}

#[test]
fn no_request_fails_because_a_shrinker_is_passed_over() {
    let frames = bare(64).frames();
    let cache = Cache::leak(frames, take_all(frames), |_| ());
    let late: &'static Late = Box::leak(Box::new(Late(cache, Flag::new(true))));
    let guard = frames.register_shrinker(late).expect("there is room");
    for gfp in [Gfp::KERNEL, Gfp::KERNEL | Gfp::NORETRY] {
        late.1.store(true, Ordering::Relaxed);
        let nr_tries = if cfg!(miri) { 3 } else { 20 };
        assert!((0..nr_tries).all(|_| frames.alloc_page(gfp).is_none()));
        late.1.store(false, Ordering::Relaxed);
        assert!(frames.alloc_page(gfp).is_some());
        cache.pages.lock().expect("not poisoned").extend(take_all(frames));
    }
    drop(guard);
    cache.pages.lock().expect("not poisoned").clear();
}

/// A cache that does not look at what nodes it is asked for.
#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn a_cache_of_another_node_is_not_emptied_in_vain() {
    let memory = [region(NORMAL, 4096, 0), region(NORMAL + 4096, 4096, 1)];
    let config = Config { pcp_high: Some(16), ..Config::new(&memory, 1) };
    let world: &'static World = Box::leak(Box::new(World::new(&config)));
    let frames = world.frames();
    let (here, there) = (NodeId::new(0), NodeId::new(1));
    let one = |node, gfp| frames.alloc_page_node(node, gfp | Gfp::THISNODE);
    let all = |node| core::iter::from_fn(move || one(node, Gfp::KERNEL | Gfp::NORETRY));
    let mut held: Vec<_> = all(here).collect();
    let cache = Cache::leak(frames, all(there).take(2000).collect(), |_| ());
    let guard = frames.register_shrinker(cache).expect("there is room");
    for gfp in [Gfp::KERNEL, Gfp::KERNEL | Gfp::RETRY_MAYFAIL] {
        assert!(one(here, gfp).is_none());
    }
    assert!(cache.len() >= 1800, "{} pages of 2000 are left", cache.len());
    for _ in 0..30 {
        assert!(one(here, Gfp::KERNEL).is_none());
        frames.balance();
    }
    assert!(cache.len() >= 1000, "{} pages of 2000 are left", cache.len());
    // Now some of the pages help.
    cache.pages.lock().expect("not poisoned").extend(held.drain(..100));
    assert!((0..10).any(|_| one(here, Gfp::KERNEL).is_some()), "it is asked again some time");
    drop((guard, held));
}

/// A cache whose first scan goes on once another thread waits for the end of it.
struct Awaited(&'static Cache, Flag);

impl Shrinker for Awaited {
    fn count(&self, control: ShrinkControl) -> usize {
        self.0.count(control)
    }

    fn scan(&self, nr: usize, control: ShrinkControl) -> usize {
        if !self.1.swap(true, Ordering::AcqRel) {
            while self.0.frames.platform().nr_asleep() == 0 {
                thread::yield_now();
            }
        }
        self.0.scan(nr, control)
    }
}

/// Two threads reclaim: the first for one node, the second, which waits for the first, for that node or
/// for another one.
#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn progress_of_another_thread_counts_only_if_it_helps() {
    let memory = [region(NORMAL, 1024, 0), region(NORMAL + 1024, 1024, 1)];
    let config = Config { pcp_high: Some(16), ..Config::new(&memory, 2) };
    let world: &'static World = Box::leak(Box::new(World::on(Machine::patient(2), &config)));
    let frames = world.frames();
    let (here, there) = (NodeId::new(0), NodeId::new(1));
    let one = |node| frames.alloc_page_node(node, Gfp::KERNEL | Gfp::THISNODE | Gfp::NORETRY);
    for (node, helps) in [(here, false), (there, true)] {
        let held: Vec<_> = core::iter::from_fn(|| one(here)).collect();
        let cached = core::iter::from_fn(|| one(there)).collect();
        let cache = Cache::leak(frames, cached, |_| ());
        let awaited: &'static Awaited = Box::leak(Box::new(Awaited(cache, Flag::new(false))));
        let guard = frames.register_shrinker(awaited).expect("there is room");
        thread::scope(|scope| {
            scope.spawn(|| assert!(one(there).is_some()));
            scope.spawn(|| {
                set_cpu(1);
                while !awaited.1.load(Ordering::Acquire) {
                    thread::yield_now();
                }
                let events = traced(Traces::Events, || assert_eq!(one(node).is_some(), helps));
                let reclaimed = events.iter().find_map(|event| match event {
                    Event::VmscanDirectReclaimEnd { nr_reclaimed } => Some(*nr_reclaimed),
                    _ => None,
                });
                assert_eq!(reclaimed.map(|nr| nr > 0), Some(helps), "{node:?}: {reclaimed:?}");
            });
        });
        drop((guard, held));
        cache.pages.lock().expect("not poisoned").clear();
    }
}

/// As Linux marks a task that reclaims: what a shrinker needs, it takes from the reserves.
#[test]
fn a_shrinker_that_allocates_may_use_the_reserves() {
    let memory = [region(NORMAL, 256, 0)];
    let config = Config { min_free_bytes: Some(pages(32)), ..Config::new(&memory, 1) };
    let world: &'static World = Box::leak(Box::new(World::new(&config)));
    let frames = world.frames();
    let taken = core::iter::from_fn(|| frames.alloc_page(Gfp::KERNEL | Gfp::NORETRY)).collect();
    let needs_one = |frames: Frames<'static>| {
        assert!(frames.alloc_page(Gfp::KERNEL | Gfp::NOFAIL).is_some());
    };
    let cache = Cache::leak(frames, taken, needs_one);
    let guard = frames.register_shrinker(cache).expect("there is room");
    assert!(frames.alloc_page(Gfp::KERNEL).is_some());
    assert_eq!(cache.asked.load(Ordering::Relaxed), 1);
    drop(guard);
}

/// Where no more than the reserve is left, waiting could last for ever.
#[test]
fn a_page_that_may_not_fail_comes_from_half_of_the_reserve() {
    let memory = [region(NORMAL, 256, 0)];
    let config = Config {
        min_free_bytes: Some(pages(32)),
        watermark_scale_factor: 0,
        ..Config::new(&memory, 1)
    };
    let world = World::new(&config);
    let frames = world.frames();
    let mut held: Vec<_> =
        core::iter::from_fn(|| frames.alloc_page(Gfp::KERNEL | Gfp::NORETRY)).collect();
    frames.drain_all_pages();
    assert_eq!(frames.nr_free_pages(), 32);
    for left in (16..32).rev() {
        held.extend(frames.alloc_page(Gfp::KERNEL | Gfp::NOFAIL));
        frames.drain_all_pages();
        assert_eq!(frames.nr_free_pages(), left, "one page and no more, at once");
    }
}

#[test]
fn a_page_from_a_mempool_is_zero_if_it_was_asked_for_so() {
    let memory = [region(NORMAL, 64, 0)];
    let machine = Machine::with_memory(1, NORMAL, 64);
    let world = World::on(machine, &Config { pcp_high: Some(1), ..Config::new(&memory, 1) });
    let pool = Mempool::new(world.frames(), 4, Gfp::KERNEL).expect("there is memory");
    let taken = take_all(world.frames());
    let mut slots = holes(4);
    for expected in [0x55, 0] {
        let gfp = if expected == 0 { Gfp::NOWAIT | Gfp::ZERO } else { Gfp::NOWAIT };
        pool.alloc_bulk(gfp, &mut slots, None).expect("the reserve has them");
        for page in slots.iter_mut().flatten() {
            assert!(expected != 0 || page.as_bytes().iter().all(|&byte| byte == 0));
            page.as_bytes_mut().fill(expected);
        }
        pool.free_bulk(&mut slots);
    }
    drop(taken);
}

#[test]
fn who_waits_for_a_mempool_reclaims() {
    let frames = bare(64).frames();
    let pool = Mempool::new(frames, 4, Gfp::KERNEL).expect("there is memory");
    let cache = Cache::leak(frames, take_all(frames), |_| ());
    let guard = frames.register_shrinker(cache).expect("there is room");
    let (mut first, mut second) = (holes(4), holes(4));
    pool.alloc_bulk(Gfp::NOWAIT, &mut first, None).expect("the reserve has them");
    let tries = Cell::new(0);
    let stop = || tries.replace(tries.get() + 1) > 3;
    assert_eq!(pool.alloc_bulk(Gfp::KERNEL, &mut second, Some(&stop)), Ok(()));
    pool.free_bulk(&mut first);
    pool.free_bulk(&mut second);
    drop(guard);
}

#[test]
fn a_mempool_whose_pages_were_dropped_is_filled_up_again() {
    let frames = bare(64).frames();
    let pool = Mempool::new(frames, 8, Gfp::KERNEL).expect("there is memory");
    let mut taken = take_all(frames);
    let mut slots = holes(8);
    pool.alloc_bulk(Gfp::NOWAIT, &mut slots, None).expect("the reserve has them");
    drop(slots);
    taken.truncate(20);
    let mut slots = holes(1);
    pool.alloc_bulk(Gfp::NOWAIT, &mut slots, None).expect("the allocator has one");
    let rest = take_all(frames);
    pool.alloc_bulk(Gfp::NOWAIT, &mut holes(8), None).expect("the reserve is full again");
    drop((taken, rest));
}

#[test]
fn what_is_in_a_mempool_is_charged_to_nobody() {
    let frames = bare(64).frames();
    let account = Account::open(frames, AccountLimits::NONE).expect("there is room");
    set_account(Some(account.id()));
    let pool = Mempool::new(frames, 4, Gfp::KERNEL_ACCOUNT).expect("there is memory");
    assert_eq!(account.usage().current, 0);
    let mut slots = holes(4);
    let taken = take_all(frames);
    pool.alloc_bulk(Gfp::NOWAIT | Gfp::ACCOUNT, &mut slots, None).expect("from the reserve");
    drop(taken);
    let mut charged = holes(4);
    pool.alloc_bulk(Gfp::KERNEL_ACCOUNT, &mut charged, None).expect("from the allocator");
    pool.free_bulk(&mut charged);
    pool.free_bulk(&mut slots);
    set_account(None);
    assert_eq!(account.usage().current, 0, "whatever came back to the reserve");
}

/// A way to the allocator on which the CPU can be interrupted.
#[derive(Clone)]
struct Interrupted(Frames<'static>);

thread_local! {
    static POOL: Cell<Option<&'static Mempool<Interrupted>>> = const { Cell::new(None) };
    static NR_INTERRUPTS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: 1. same allocator in each call: clones copy the reference.
unsafe impl PageSource for Interrupted {
    type Platform = Machine;

    fn allocator(&self) -> &PageAllocator<Machine> {
        if !interrupts_are_off()
            && let Some(pool) = POOL.take()
        {
            NR_INTERRUPTS.set(NR_INTERRUPTS.get() + 1);
            let _outcome = pool.alloc_bulk(Gfp::NOWAIT, &mut [None], None);
            POOL.set(Some(pool));
        }
        self.0
    }
}

#[test]
fn an_interrupt_handler_may_use_a_mempool_at_any_time() {
    let source = Interrupted(bare(64).frames());
    let pool: &'static Mempool<Interrupted> =
        Box::leak(Box::new(Mempool::new(source, 8, Gfp::KERNEL).expect("there is memory")));
    POOL.set(Some(pool));
    for nr in 0..8 {
        let mut slots: Vec<Option<Page<Interrupted>>> = (0..nr).map(|_| None).collect();
        pool.alloc_bulk(Gfp::NOWAIT, &mut slots, None).expect("there is memory");
        pool.free_bulk(&mut slots);
    }
    POOL.set(None);
    assert!(NR_INTERRUPTS.get() > 100);
}
