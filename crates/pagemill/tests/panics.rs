//! Calls of the platform that panic: locks are released, interrupts restored, and nothing is counted
//! that is not there.

extern crate alloc;

use alloc::rc::Rc;
use core::cell::Cell;
use core::sync::atomic::Ordering;
use std::thread;

use pagemill::accounts::{Account, AccountLimits};
use pagemill::debug::Event;
use pagemill::handles::free_pages_bulk;
use pagemill::reclaim::{ShrinkControl, Shrinker};
use pagemill::{AllocPages, Config, Gfp, Page, PageList};
use pagemill_testkit::{
    Call, Frames, NORMAL, Slots, World, holes, hooked, interrupts_are_off, pages, region,
    set_account,
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
