//! Calls of the platform that panic: locks are released, interrupts restored, and nothing is counted
//! that is not there.

extern crate alloc;

use alloc::rc::Rc;
use core::cell::Cell;
use core::panic::AssertUnwindSafe;
use core::sync::atomic::Ordering;
use std::panic::catch_unwind;
use std::thread;

use pagemill::accounts::{Account, AccountLimits};
use pagemill::debug::Event;
use pagemill::handles::free_pages_bulk;
use pagemill::reclaim::{ShrinkControl, Shrinker};
use pagemill::reserves::LocalPages;
use pagemill::source::PageSource;
use pagemill::{AllocPages, Config, Gfp, Page, PageAllocator, PageList, PageVec};
use pagemill_testkit::{
    Call, Frames, Machine, NORMAL, Slots, World, holes, hooked, interrupts_are_off, order, pages,
    region, set_account,
};

#[expect(clippy::disallowed_types, reason = "a test's own: loom has no business here")]
type Flag = core::sync::atomic::AtomicBool;

/// One zone that keeps nothing back, and an account. Not checked for lost pages: a panic may leak some.
fn leaked(nr_frames: u64) -> Frames<'static> {
    let memory = [region(NORMAL, nr_frames, 0)];
    let config = Config {
        min_free_bytes: Some(pages(0)),
        watermark_scale_factor: 0,
        nr_accounts: 1,
        ..Config::new(&memory, 1)
    };
    Box::leak(Box::new(World::new(&config))).frames()
}

#[test]
fn interrupts_are_restored_where_a_tracer_panics() {
    let is_lock: [fn(Event) -> bool; 2] = [
        |event| matches!(event, Event::ZoneLocked { .. }),
        |event| matches!(event, Event::ZoneUnlocked { .. }),
    ];
    for is_fatal in is_lock {
        let frames = leaked(256);
        let fails = move |call| matches!(call, Call::Trace(event) if is_fatal(event));
        let result = hooked(fails, || frames.alloc_page(Gfp::KERNEL).is_some());
        assert!(result.is_err());
        assert!(!interrupts_are_off());
        assert!(frames.alloc_page(Gfp::KERNEL).is_some(), "the lock was released");
    }
}

#[test]
fn pages_that_no_caller_got_are_not_charged() {
    let frames = leaked(256);
    // Every other frame stays in use: no two of the new pages are zeroed by one call.
    let all: Vec<_> = core::iter::from_fn(|| frames.alloc_page(Gfp::KERNEL)).collect();
    let (_held, free): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|page| page.pfn().value().is_multiple_of(2));
    drop(free);
    let account = Account::open(frames, AccountLimits::NONE).unwrap();
    set_account(Some(account.id()));
    let mut slots = holes(8);
    let left = Cell::new(2_u32);
    let third =
        move |call| matches!(call, Call::Zero) && left.replace(left.get().saturating_sub(1)) == 0;
    let gfp = Gfp::KERNEL_ACCOUNT | Gfp::ZERO;
    let result = hooked(third, || frames.alloc_pages_bulk(gfp, &mut slots));
    assert!(result.is_err() && slots.iter().all(Option::is_none));
    assert_eq!(account.usage().current, 0);
}

/// Wherever a tracer panics while charged pages are freed, none of them stays charged.
#[test]
fn pages_whose_free_panics_are_not_charged() {
    let free: [fn(Frames<'static>, &mut Slots<'static>); 3] = [
        |frames, slots| {
            frames.release_pages(slots);
        },
        |frames, slots| {
            let mut list = PageList::new(frames);
            slots.iter_mut().filter_map(Option::take).for_each(|page| list.push(page));
            free_pages_bulk(&mut list);
        },
        |_, slots| slots.iter_mut().for_each(|slot| drop(slot.take())),
    ];
    let last = if cfg!(miri) { 3 } else { 20_u32 };
    for (free, at) in free.into_iter().flat_map(|free| (0..last).map(move |at| (free, at))) {
        let frames = leaked(256);
        let account = Account::open(frames, AccountLimits::NONE).unwrap();
        set_account(Some(account.id()));
        let mut slots = holes(130);
        frames.fill(Gfp::KERNEL_ACCOUNT, &mut slots).unwrap();
        assert_eq!(account.usage().current, 130);
        let left = Cell::new(at);
        let fatal = move |call| {
            matches!(call, Call::Trace(_)) && left.replace(left.get().wrapping_sub(1)) == 0
        };
        let result = hooked(fatal, || free(frames, &mut slots));
        drop(slots);
        assert_eq!(account.usage().current, 0, "call {at}: {result:?}");
    }
}

#[test]
fn a_waiter_that_panics_is_not_woken_later() {
    static ENTERED: Flag = Flag::new(false);
    static OPEN: Flag = Flag::new(false);

    /// A cache without pages, whose first scan takes until [`OPEN`] is set.
    struct Gate;

    impl Shrinker for Gate {
        fn count(&self, _control: ShrinkControl) -> usize {
            1
        }

        fn scan(&self, _nr: usize, _control: ShrinkControl) -> usize {
            // Relaxed, all: flags that carry no data.
            ENTERED.store(true, Ordering::Relaxed);
            while !OPEN.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            0
        }
    }

    let frames = leaked(64);
    let all: Vec<Page<_>> = core::iter::from_fn(|| frames.alloc_page(Gfp::KERNEL)).collect();
    let guard = frames.register_shrinker(&Gate).expect("there is room");
    let alloc = || frames.alloc_page(Gfp::KERNEL).is_some();
    thread::scope(|scope| {
        let other = scope.spawn(alloc);
        while !ENTERED.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        let result = hooked(|call| matches!(call, Call::Wait), alloc);
        OPEN.store(true, Ordering::Relaxed);
        assert!(result.is_err());
        assert!(!other.join().unwrap());
    });
    let nr_wakes = Rc::new(Cell::new(0));
    let count = Rc::clone(&nr_wakes);
    let counts = move |call| {
        count.set(count.get() + u32::from(matches!(call, Call::Wake)));
        false
    };
    assert!(!hooked(counts, alloc).unwrap());
    assert_eq!(nr_wakes.get(), 0);
    drop((guard, all));
}

thread_local! {
    /// How many clones of a [`Fragile`] succeed.
    static NR_CLONES: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// A source of which a clone may panic.
struct Fragile<'w>(Frames<'w>);

impl Clone for Fragile<'_> {
    fn clone(&self) -> Self {
        let left = NR_CLONES.get().checked_sub(1).expect("a clone that panics");
        NR_CLONES.set(left);
        Self(self.0)
    }
}

// SAFETY: 1. same allocator in each call: clones copy the reference.
unsafe impl PageSource for Fragile<'_> {
    type Platform = Machine;

    fn allocator(&self) -> &PageAllocator<Machine> {
        self.0
    }
}

/// Each use is repeated with one more clone that succeeds, until none panics.
#[test]
fn a_clone_of_the_source_that_panics_loses_no_page() {
    type Use = fn(Fragile<'_>);
    let uses: [(&str, Use); 5] = [
        ("FrameRange::into_folio", |source| {
            let range = source.alloc_contig(Gfp::KERNEL, 8, 8, None).unwrap();
            drop(range.into_folio());
        }),
        ("RangePages::next", |source| {
            let range = source.alloc_contig(Gfp::KERNEL, 5, 1, None).unwrap();
            drop(range.into_pages().collect::<Vec<_>>());
        }),
        ("FolioPages::next", |source| {
            let folio = source.alloc_pages(Gfp::KERNEL, order(2)).unwrap();
            drop(folio.split().collect::<Vec<_>>());
        }),
        ("PageVec::pop", |source| {
            let mut pages = PageVec::<_, 4>::new(source.clone());
            source.alloc_pages_bulk_vec(Gfp::KERNEL, 4, &mut pages);
            while let Some(page) = pages.pop() {
                drop(page);
            }
        }),
        ("PageList::pop", |source| {
            let mut pages = PageList::<Page<_>>::new(source.clone());
            source.alloc_pages_bulk_list(Gfp::KERNEL, 4, &mut pages);
            while let Some(page) = pages.pop() {
                drop(page);
            }
        }),
    ];
    for (name, run) in uses {
        let world = World::bare(64);
        for nr_clones in 0.. {
            NR_CLONES.set(nr_clones);
            let result = catch_unwind(AssertUnwindSafe(|| run(Fragile(world.frames()))));
            NR_CLONES.set(usize::MAX);
            world.drain_all_pages();
            assert_eq!(world.nr_out(), 0, "{name}: clone {nr_clones} panics");
            assert_eq!(world.validate(), Ok(()), "{name}: clone {nr_clones} panics");
            if result.is_ok() {
                break;
            }
        }
    }
}

#[test]
fn a_reserve_refuses_every_page_of_another_allocator() {
    /// Returns whether `put` panics, with an empty reserve.
    fn refuses<'w>(own: &'w World, put: impl FnOnce(&mut LocalPages<Frames<'w>, 8>)) -> bool {
        let mut local = LocalPages::<_, 8>::new(own.frames());
        let is_refused = catch_unwind(AssertUnwindSafe(|| put(&mut local))).is_err();
        is_refused && local.is_empty()
    }
    let (own, other) = (World::bare(64), World::bare(64));
    for gfp in [Gfp::KERNEL, Gfp::KERNEL | Gfp::MOVABLE, Gfp::KERNEL | Gfp::RECLAIMABLE] {
        let page = || other.frames().alloc_page(gfp);
        assert!(refuses(&own, |local| local.free(page().unwrap())), "free {gfp:?}");
        let free_from =
            |local: &mut LocalPages<_, 8>| assert_eq!(local.free_from(&mut [page()]), 1);
        assert!(refuses(&own, free_from), "free_from {gfp:?}");
        let mut pages = PageVec::<_, 8>::new(other.frames());
        other.frames().alloc_pages_bulk_vec(gfp, 4, &mut pages);
        let free_bulk = |local: &mut LocalPages<_, 8>| assert_eq!(local.free_bulk(&mut pages), 4);
        assert!(refuses(&own, free_bulk), "free_bulk {gfp:?}");
        assert_eq!(pages.len(), 4);
    }
}
