//! Bulk requests where they meet something else: closed accounts, code of the caller that panics,
//! others who wait, nodes that are full.

use core::cell::Cell;
use core::panic::AssertUnwindSafe;
use core::sync::atomic::Ordering;
use std::panic::catch_unwind;
use std::thread;

use pagemill::accounts::{Account, AccountLimits};
use pagemill::policy::{InterleaveCursor, NodeMask, Policy};
use pagemill::request::{BulkOutcome, Effort};
use pagemill::units::NodeId;
use pagemill::{AllocPages, BulkRequest, Config, Gfp, Page, PageList, Shortage};
use pagemill_testkit::{Frames, NORMAL, Slots, World, holes, pages, region, set_account};

#[expect(clippy::disallowed_types, reason = "a test's own: loom has no business here")]
type Count = core::sync::atomic::AtomicUsize;

fn limited(max: u64) -> AccountLimits {
    AccountLimits { max, high: max }
}

fn nothing(short: Shortage, outcome: BulkOutcome) {
    assert_eq!((outcome.new, outcome.short), (0, Some(short)));
}

/// A page was charged to the next account in that place, and its last free gave the place away that the
/// account above still had.
#[test]
fn a_closed_account_pays_for_nothing() {
    let world = World::bare(64);
    let frames = world.frames();
    let parent = Account::open(frames, limited(50)).expect("room");
    let child = parent.open_child(AccountLimits::NONE).expect("room");
    let closed = child.id();
    drop(child);
    let others: Vec<_> =
        (0..3).map(|_| Account::open(frames, AccountLimits::NONE).expect("room")).collect();
    assert!(others.iter().all(|other| other.id() != closed), "a name is given once");
    let named = BulkRequest { account: Some(closed), ..BulkRequest::new(Gfp::KERNEL) };
    let mut slots = holes(4);
    nothing(Shortage::Account, frames.bulk_fill(&named, &mut slots));
    set_account(Some(closed));
    assert!(frames.alloc_page(Gfp::KERNEL_ACCOUNT).is_none());
    assert_eq!(frames.alloc_pages_bulk(Gfp::KERNEL_ACCOUNT, &mut slots), 0);
    let unpaid = frames.alloc_page(Gfp::KERNEL_ACCOUNT | Gfp::NOFAIL);
    set_account(None);
    assert!(unpaid.is_some(), "a request that may not fail is served, and charged to no account");
    assert!(others.iter().chain([&parent]).all(|account| account.usage().peak == 0));
    let full = Account::open(frames, AccountLimits::NONE);
    assert!(full.is_err(), "all four have their places");
}

#[test]
fn an_account_of_another_allocator_pays_for_nothing() {
    let (one, other) = (World::bare(64), World::bare(64));
    let account = Account::open(one.frames(), AccountLimits::NONE).expect("room");
    let _same_place = Account::open(other.frames(), AccountLimits::NONE).expect("room");
    let request = BulkRequest { account: Some(account.id()), ..BulkRequest::new(Gfp::KERNEL) };
    nothing(Shortage::Account, other.frames().bulk_fill(&request, &mut holes(2)));
}

/// Takes all that there is.
fn take_all(frames: Frames<'_>) -> Slots<'_> {
    let taken: Slots<'_> =
        core::iter::from_fn(|| Some(frames.alloc_page(Gfp::KERNEL | Gfp::NORETRY)))
            .take_while(Option::is_some)
            .collect();
    assert_eq!(frames.nr_free_pages(), 0);
    taken
}

/// A stop callback that is asked several times, and frees `taken` at the third.
///
/// Stops the request after a million calls, so that one which is never served fails the test.
fn frees_late(taken: Slots<'_>) -> impl Fn() -> bool {
    let (taken, asked) = (Cell::new(taken), Cell::new(0));
    move || {
        asked.set(asked.get() + 1);
        if asked.get() == 3 {
            drop(taken.take());
        }
        asked.get() > 1_000_000
    }
}

/// Waits for `nr` pages until it is stopped.
fn patient(
    frames: Frames<'_>,
    policy: Policy<'_>,
    nr: usize,
    stop: &dyn Fn() -> bool,
) -> Option<Shortage> {
    let request = BulkRequest { policy, stop: Some(stop), ..BulkRequest::new(Gfp::KERNEL) };
    frames.bulk_fill(&request, &mut holes(nr)).short
}

/// The place in the queue was never given up, and everybody after it waited for ever.
#[test]
fn a_stop_callback_that_panics_gives_its_place_up() {
    let world = World::bare(64);
    let frames = world.frames();
    let taken = take_all(frames);
    let asked = Cell::new(0);
    let stop = || {
        asked.set(asked.get() + 1);
        assert!(asked.get() < 5, "for the test");
        false
    };
    let call = AssertUnwindSafe(|| patient(frames, Policy::Local, 4, &stop));
    assert!(catch_unwind(call).is_err());
    assert_eq!(patient(frames, Policy::Local, 4, &frees_late(taken)), None);
}

/// Requests for pages of one node waited behind requests for pages of another.
#[test]
fn who_waits_for_another_node_is_not_waited_for() {
    let memory = [region(NORMAL, 512, 0), region(NORMAL + 512, 512, 1)];
    let world = World::new(&Config {
        pcp_high: Some(1),
        min_free_bytes: Some(pages(0)),
        watermark_scale_factor: 0,
        ..Config::new(&memory, 2)
    });
    let frames = world.frames();
    let (near, far): (Slots<'_>, Slots<'_>) = take_all(frames)
        .into_iter()
        .partition(|page| page.as_ref().is_some_and(|page| page.pfn().value() < NORMAL + 512));
    let on = |node| Policy::Bind(NodeMask::of(&[NodeId::new(node)]));
    let (asked, over) = (Count::new(0), Count::new(0));
    thread::scope(|scope| {
        let first = scope.spawn(|| {
            let stop = || {
                asked.fetch_add(1, Ordering::Release);
                over.load(Ordering::Relaxed) > 0
            };
            patient(frames, on(0), 8, &stop)
        });
        while asked.load(Ordering::Acquire) < 3 {
            thread::yield_now();
        }
        let second = patient(frames, on(1), 8, &frees_late(far));
        over.store(1, Ordering::Relaxed);
        assert_eq!(second, None);
        assert_eq!(first.join().expect("no thread panics"), Some(Shortage::Stopped));
    });
    drop(near);
}

/// The rest of the pages was lost, and stayed charged; with owners noted, the process ended.
#[test]
fn code_of_the_caller_that_panics_loses_nothing() {
    let memory = [region(NORMAL, 1024, 0)];
    let config = Config { nr_accounts: 1, page_owner: true, ..Config::new(&memory, 1) };
    let world = World::new(&config);
    let frames = world.frames();
    let account = Account::open(frames, AccountLimits::NONE).expect("room");
    for (effort, charged) in
        [(Effort::TryHard, true), (Effort::AllOrNothing, true), (Effort::TryHard, false)]
    {
        let account = charged.then(|| account.id());
        let request = BulkRequest { account, effort, ..BulkRequest::new(Gfp::KERNEL) };
        let call = AssertUnwindSafe(|| {
            let mut seen = 0;
            frames.bulk_each(&request, 200, |page: Page<_>| {
                seen += 1;
                assert!(seen < 70, "for the test");
                drop(page);
            })
        });
        assert!(catch_unwind(call).is_err());
        frames.drain_all_pages();
        assert_eq!(frames.nr_free_pages(), 1024, "{effort:?}");
    }
    assert_eq!(account.usage().current, 0);
}

/// It was found out in the middle of the request.
#[test]
fn a_node_that_there_is_not_is_refused_before_anything_is_taken() {
    let memory = [region(NORMAL, 1024, 0)];
    let world = World::new(&Config { page_owner: true, ..Config::new(&memory, 1) });
    let cursor = InterleaveCursor::default();
    let policy = Policy::Interleave(NodeMask::of(&[0, 9].map(NodeId::new)), &cursor);
    let request =
        BulkRequest { policy, effort: Effort::AllOrNothing, ..BulkRequest::new(Gfp::KERNEL) };
    let call = AssertUnwindSafe(|| world.frames().bulk_fill(&request, &mut holes(100)));
    assert!(catch_unwind(call).is_err());
    assert_eq!(world.frames().vmstat().pgalloc.iter().sum::<u64>(), 0);
}

/// It waited until it was stopped, and everybody behind it.
#[test]
fn what_can_never_be_had_is_not_waited_for() {
    let world = World::bare(64);
    for (gfp, nr) in
        [(Gfp::KERNEL, 65), (Gfp::KERNEL | Gfp::DMA, 2), (Gfp::KERNEL | Gfp::NOFAIL, 65)]
    {
        let asked = Cell::new(0);
        let stop = || asked.replace(asked.get() + 1) > 1_000;
        let request = BulkRequest { stop: Some(&stop), ..BulkRequest::new(gfp) };
        let outcome = world.frames().bulk_fill(&request, &mut holes(nr));
        assert_eq!(outcome.short, Some(Shortage::Memory));
    }
}

/// Depending on when the request was stopped, it frees the pages that it had, and returns none.
#[test]
fn who_is_stopped_gets_what_is_there() {
    let world = World::bare(64);
    let frames = world.frames();
    let _held: Vec<_> = (0..4).map(|_| frames.alloc_page(Gfp::KERNEL)).collect();
    for patience in 0..8 {
        let asked = Cell::new(0);
        let stop = || asked.replace(asked.get() + 1) >= patience;
        let request = BulkRequest { stop: Some(&stop), ..BulkRequest::new(Gfp::KERNEL) };
        let outcome = frames.bulk_fill(&request, &mut holes(64));
        assert_eq!((outcome.new, outcome.short), (60, Some(Shortage::Stopped)), "{patience}");
    }
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes: many attempts at reclaim")]
fn nobody_pays_for_what_there_is_not_or_while_waiting() {
    let world = World::bare(64);
    let frames = world.frames();
    let account = Account::open(frames, AccountLimits::NONE).expect("room");
    let request = BulkRequest { account: Some(account.id()), ..BulkRequest::new(Gfp::KERNEL) };
    let mut list = PageList::<Page<_>>::new(frames);
    let _outcome = frames.bulk_list(&request, 100_000, &mut list);
    assert_eq!((list.len(), account.usage().peak), (64, 64));
    drop(list);
    let _taken = take_all(frames);
    // Asked in the attempts and between them; only the latter matters.
    let (asked, free_of_charge) = (Cell::new(0), Cell::new(false));
    let stop = || {
        free_of_charge.set(free_of_charge.get() || account.usage().current == 0);
        asked.replace(asked.get() + 1) > 20
    };
    let _outcome = frames.bulk_fill(&BulkRequest { stop: Some(&stop), ..request }, &mut holes(64));
    assert!(free_of_charge.get(), "charged all the time");
}

/// A batch of odd size left part of a word in the CPU's list, and all batches that followed were made of
/// parts of two words: they came back as such, and cost twice as much.
#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn an_odd_batch_does_not_cut_those_that_follow() {
    const WORD: usize = 64;
    let world = World::new(&Config::new(&[region(NORMAL, 1 << 14, 0)], 1));
    let frames = world.frames();
    let mut odd = holes(37);
    assert_eq!(frames.alloc_pages_bulk(Gfp::KERNEL, &mut odd), 37);
    let mut batches = holes(20 * WORD);
    for batch in batches.chunks_mut(WORD) {
        assert_eq!(frames.alloc_pages_bulk(Gfp::KERNEL, batch), WORD);
        let word = |page: &Page<Frames<'_>>| page.pfn().value() / WORD as u64;
        let words: Vec<_> = batch.iter().flatten().map(word).collect();
        assert!(words.iter().all(|&word| word == words[0]), "{words:?}");
    }
    // It is not lost: once the zone has no more, it is handed out.
    let spare = usize::try_from(frames.vmstat().nr_free_pages).expect("few");
    let mut rest = holes(1 << 14);
    let request = BulkRequest::new(Gfp::ATOMIC | Gfp::MEMALLOC);
    assert!(frames.bulk_fill(&request, &mut rest).new > spare);
    assert!(frames.pcp_info().all(|list| list.count == 0), "left in a list");
}
