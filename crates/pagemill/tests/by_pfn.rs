//! Frames that are known by their numbers alone: where they return to, who pays for them, what is handed
//! in, and which mistakes are found when.

extern crate alloc;

use core::cell::RefCell;
use core::mem::ManuallyDrop;
use core::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Once;

use pagemill::accounts::{Account, AccountLimits};
use pagemill::gfp::MigrateType;
use pagemill::handles::PfnError;
use pagemill::policy::{NodeMask, Policy};
use pagemill::request::Effort;
use pagemill::units::{CpuId, NodeId, Pfn};
use pagemill::{AllocPages, BulkRequest, Config, Folio, Gfp, Page, Shortage};
use pagemill_testkit::{
    Frames, Machine, NORMAL, World, order, pages, region, reserved, set_account,
};

/// Returns the message of the panic of `wrong`.
fn panic_of(wrong: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(wrong)).expect_err("it panics");
    payload.downcast_ref::<String>().expect("a formatted message").clone()
}

/// Returns the file of the code that is blamed for the panic of `wrong`.
fn blamed_file(wrong: impl FnOnce()) -> String {
    thread_local! {
        static FILE: RefCell<String> = const { RefCell::new(String::new()) };
    }
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let earlier = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            FILE.set(info.location().map(|at| at.file().to_owned()).unwrap_or_default());
            earlier(info);
        }));
    });
    let _message = panic_of(wrong);
    FILE.take()
}

/// Frees a range that the caller owns, or violates that on purpose: the allocator only changes its own
/// metadata, and nothing reads the frames.
fn free_range(frames: Frames<'_>, start: u64, nr_pages: usize) -> Result<(), PfnError> {
    // SAFETY: 1. owned, or see above.
    unsafe { frames.free_pfn_range(Pfn::new(start), nr_pages) }
}

fn free_all(frames: Frames<'_>, pfns: &[Pfn]) -> Result<(), PfnError> {
    // SAFETY: 1. owned, or as for `free_range`.
    unsafe { frames.free_pfns(pfns) }
}

/// Hands in reserved frames that nothing uses.
fn hand_in(frames: Frames<'_>, start: u64, nr_pages: usize) -> Result<(), PfnError> {
    // SAFETY: 1. unused: see above.
    unsafe { frames.hand_in(Pfn::new(start), nr_pages) }
}

fn listed(frames: Frames<'_>, migratetype: MigrateType) -> usize {
    frames.pcp_info().filter(|list| list.migratetype == migratetype).map(|list| list.count).sum()
}

#[test]
fn a_frame_returns_to_the_list_of_its_pageblock() {
    let memory = [region(NORMAL, 4096, 0)];
    let world = World::new(&Config::new(&memory, 1));
    let frames = world.frames();
    for (gfp, migratetype) in [
        (Gfp::KERNEL, MigrateType::Unmovable),
        (Gfp::HIGHUSER_MOVABLE, MigrateType::Movable),
        (Gfp::KERNEL | Gfp::RECLAIMABLE, MigrateType::Reclaimable),
    ] {
        let mut pfns = [Pfn::new(0); 40];
        assert_eq!(frames.alloc_pfns_bulk(gfp, &mut pfns), 40);
        let before = MigrateType::ALL.map(|kind| listed(frames, kind));
        // SAFETY: 1. owned: allocated above, and used once.
        drop(unsafe { Page::from_pfn(frames, pfns[0]) });
        free_range(frames, pfns[1].value(), 1).expect("a frame of the map");
        free_all(frames, &pfns[2..20]).expect("frames of the map");
        let runs = pfns[20..].chunk_by(|one, next| one.offset(1) == *next);
        // Longer ranges would return to the zone.
        for run in runs.flat_map(|run| run.chunks(7)) {
            free_range(frames, run[0].value(), run.len()).expect("frames of the map");
        }
        let mut expected = before;
        expected[migratetype.index()] += 40;
        let after = MigrateType::ALL.map(|kind| listed(frames, kind));
        assert_eq!(after, expected, "{migratetype:?}");
        frames.drain_all_pages();
    }
}

#[test]
fn frames_of_several_kinds_and_zones_in_one_call_return_to_their_lists() {
    let memory = [region(NORMAL - 2048, 2048, 0), region(NORMAL, 4096, 0)];
    let world = World::new(&Config::new(&memory, 1));
    let frames = world.frames();
    let single = || frames.pcp_info().filter(|list| list.order.value() == 0);
    let counts = || -> Vec<_> { single().map(|list| list.count).collect() };
    let kinds = [Gfp::KERNEL, Gfp::HIGHUSER_MOVABLE, Gfp::KERNEL | Gfp::RECLAIMABLE];
    for zones in [&[Gfp::empty()][..], &[Gfp::empty(), Gfp::DMA32]] {
        let mut pfns = Vec::new();
        for gfp in kinds.iter().flat_map(|&gfp| zones.iter().map(move |&zone| gfp | zone)) {
            let mut of_kind = [Pfn::new(0); 30];
            assert_eq!(frames.alloc_pfns_bulk(gfp, &mut of_kind), 30);
            pfns.extend(of_kind);
        }
        let before: usize = counts().iter().sum();
        // Each chunk of 64 has some of every kind and zone.
        let mixed = (0..30).flat_map(|at| pfns.iter().skip(at).step_by(30).copied());
        let mixed: Vec<_> = mixed.collect();
        free_all(frames, &mixed).expect("frames of the map");
        assert_eq!(counts().iter().sum::<usize>(), before + mixed.len());
        // 64 of each kind that was asked for came to a list, and 30 of these were handed out.
        let of_zones = counts().iter().filter(|&&count| count == 64).count();
        assert_eq!((of_zones, frames.validate()), (3 * zones.len(), Ok(())));
    }
}

/// Makes a world with accounts and one account.
fn with_account(page_owner: bool) -> World {
    let memory = [region(NORMAL, 4096, 0)];
    World::new(&Config { nr_accounts: 3, page_owner, ..Config::new(&memory, 2) })
}

fn account(frames: Frames<'_>) -> Account<Frames<'_>> {
    Account::open(frames, AccountLimits::NONE).expect("there is room")
}

/// Returns what `allocate` returns, charged to `account`.
fn charged<T>(account: &Account<Frames<'_>>, allocate: impl FnOnce() -> T) -> T {
    set_account(Some(account.id()));
    let allocated = allocate();
    set_account(None);
    allocated
}

#[test]
fn a_charge_ends_when_its_frame_is_freed_by_number() {
    for page_owner in [false, true] {
        let world = with_account(page_owner);
        let frames = world.frames();
        let account = account(frames);
        let current = || account.usage().current;
        let page = || frames.alloc_page(Gfp::KERNEL_ACCOUNT).expect("a page").into_pfn();
        let (one, other) = charged(&account, || (page(), page()));
        let uncharged = frames.alloc_page(Gfp::KERNEL).expect("a page").into_pfn();
        assert_eq!((current(), frames.validate()), (2, Ok(())));
        free_range(frames, uncharged.value(), 1).expect("a frame of the map");
        assert_eq!(current(), 2, "another frame of the same pageblock");
        // SAFETY: 1. owned: `into_pfn` returned it.
        let again = unsafe { Page::from_pfn(frames, one) }.expect("a frame of the map");
        assert_eq!(current(), 2, "the page has it again");
        drop(again);
        assert_eq!(current(), 1);
        free_range(frames, other.value(), 1).expect("a frame of the map");
        assert_eq!(current(), 0);
        // The frame is handed out anew, to someone who does not pay.
        let mut pfns = [Pfn::new(0); 64];
        assert_eq!(frames.alloc_pfns_bulk(Gfp::KERNEL, &mut pfns), 64);
        free_all(frames, &pfns).expect("frames of the map");
        assert_eq!((current(), frames.validate()), (0, Ok(())));
        let nr = charged(&account, || frames.alloc_pfns_bulk(Gfp::KERNEL_ACCOUNT, &mut pfns));
        assert_eq!((nr, current()), (64, 64));
        free_all(frames, &pfns[..10]).expect("frames of the map");
        free_all(frames, &pfns[10..11]).expect("a frame of the map");
        assert_eq!(current(), 53);
        free_all(frames, &pfns[11..]).expect("frames of the map");
        assert_eq!((current(), frames.validate()), (0, Ok(())));
    }
}

#[test]
fn a_page_is_allocated_by_number() {
    let world = with_account(false);
    let frames = world.frames();
    let account = account(frames);
    let pfn = charged(&account, || frames.alloc_pfn(Gfp::KERNEL_ACCOUNT)).expect("a page");
    assert_eq!((account.usage().current, frames.validate()), (1, Ok(())));
    free_range(frames, pfn.value(), 1).expect("a frame of the map");
    assert_eq!(account.usage().current, 0);
    world.fail_all(true);
    assert_eq!(frames.alloc_pfn(Gfp::KERNEL), None);
}

#[test]
fn a_bulk_request_writes_numbers() {
    let memory = [region(NORMAL, 2048, 0), region(NORMAL + 2048, 2048, 1)];
    let world = World::new(&Config { nr_accounts: 3, ..Config::new(&memory, 1) });
    let frames = world.frames();
    let account = account(frames);
    let far = NodeMask::of(&[NodeId::new(1)]);
    for exponent in [0, 2, 9] {
        let nr_pages = order(exponent).nr_pages();
        for (nr, payer) in [(1, None), (2, Some(account.id())), (3, None), (3, Some(account.id()))]
        {
            let request = BulkRequest {
                order: order(exponent),
                effort: Effort::AllOrNothing,
                policy: Policy::Bind(far),
                account: payer,
                ..BulkRequest::new(Gfp::KERNEL)
            };
            let mut pfns = vec![Pfn::MAX; nr];
            let outcome = frames.bulk_pfns(&request, &mut pfns);
            assert_eq!((outcome.new, outcome.short), (nr, None));
            let is_block =
                |pfn: &Pfn| pfn.is_aligned(order(exponent)) && pfn.value() >= NORMAL + 2048;
            assert!(pfns.iter().all(is_block), "{pfns:?}");
            let nr_charged = if payer.is_some() { nr * nr_pages } else { 0 };
            assert_eq!(account.usage().current, nr_charged as u64);
            assert_eq!((world.nr_out(), frames.validate()), ((nr * nr_pages) as u64, Ok(())));
            for pfn in pfns {
                free_range(frames, pfn.value(), nr_pages).expect("frames of the map");
            }
            assert_eq!((account.usage().current, world.nr_out()), (0, 0));
        }
        // More than the node has: nothing is allocated, charged or written.
        let request = BulkRequest {
            order: order(exponent),
            effort: Effort::AllOrNothing,
            policy: Policy::Bind(far),
            account: Some(account.id()),
            ..BulkRequest::new(Gfp::KERNEL)
        };
        let mut pfns = vec![Pfn::MAX; 2048 / nr_pages + 1];
        let outcome = frames.bulk_pfns(&request, &mut pfns);
        assert_eq!((outcome.new, outcome.short), (0, Some(Shortage::Memory)));
        assert!(pfns.iter().all(|&pfn| pfn == Pfn::MAX));
        assert_eq!((account.usage().current, world.nr_out()), (0, 0));
    }
}

#[test]
fn a_charged_block_may_be_freed_in_any_pieces() {
    let world = with_account(false);
    let frames = world.frames();
    let account = account(frames);
    for exponent in [1, 3, 6, 9, 10] {
        let nr = order(exponent).nr_pages();
        for piece in [1, 3, 64, 100, 512, 1024] {
            let block = || frames.alloc_pages(Gfp::KERNEL_ACCOUNT, order(exponent));
            let start = charged(&account, block).expect("a block").into_pfn().value();
            assert_eq!((account.usage().current, frames.validate()), (nr as u64, Ok(())));
            for at in (0..nr).step_by(piece) {
                let piece = piece.min(nr - at);
                free_range(frames, start + at as u64, piece).expect("frames of the map");
                assert_eq!(account.usage().current, (nr - at - piece) as u64);
            }
            assert_eq!(frames.validate(), Ok(()));
        }
    }
}

#[test]
fn a_contiguous_range_may_be_freed_in_any_pieces() {
    for (is_charged, page_owner) in [(false, false), (true, false), (true, true)] {
        let world = with_account(page_owner);
        let frames = world.frames();
        let account = account(frames);
        let gfp = if is_charged { Gfp::KERNEL_ACCOUNT } else { Gfp::KERNEL };
        for nr in [1, 33, 500, 1100] {
            for piece in [1, 32, 33, 64, 513, 2000] {
                let range = charged(&account, || frames.alloc_contig(gfp, nr, 1, None))
                    .expect("there is room");
                let (start, nr_pages) = range.into_pfn();
                assert_eq!(nr_pages, nr);
                let mut left = nr;
                for at in (0..nr).step_by(piece) {
                    let piece = piece.min(nr - at);
                    free_range(frames, start.value() + at as u64, piece).expect("of the map");
                    left -= piece;
                    assert_eq!(account.usage().current, if is_charged { left as u64 } else { 0 });
                }
                assert_eq!(frames.validate(), Ok(()));
            }
        }
    }
}

#[test]
fn a_block_made_of_frames_of_several_accounts_is_charged_to_none() {
    // Lists of one page: the page freed last is the next one.
    let memory = [region(NORMAL, 4096, 0)];
    let (pcp_high, nr_accounts) = (Some(1), 3);
    let world = World::new(&Config { pcp_high, nr_accounts, ..Config::new(&memory, 1) });
    let frames = world.frames();
    let (one, other) = (account(frames), account(frames));
    let block = |account: &Account<_>| {
        let block = || frames.alloc_pages(Gfp::KERNEL_ACCOUNT, order(4));
        charged(account, block).expect("a block")
    };
    // SAFETY: 1. owned: `into_pfn` returned it.
    let made = |pfn| unsafe { Folio::from_pfn(frames, pfn, order(4)) }.expect("frames of the map");
    let usage = || (one.usage().current, other.usage().current);
    let same = made(block(&one).into_pfn());
    assert_eq!(usage(), (16, 0));
    let start = same.pfn();
    let mut single = same.split().map(Page::into_pfn).collect::<Vec<_>>();
    // The last frame changes hands: it is freed, and the next page allocated is it again.
    free_range(frames, single.pop().expect("16 of them").value(), 1).expect("a frame of the map");
    let page = charged(&other, || frames.alloc_page(Gfp::KERNEL_ACCOUNT)).expect("a page");
    assert_eq!((page.pfn(), usage()), (start.offset(15), (15, 1)));
    let _given_up = page.into_pfn();
    let mixed = made(start);
    assert_eq!((usage(), frames.validate()), ((0, 0), Ok(())));
    drop(mixed);
    drop(made(block(&other).into_pfn()));
    assert_eq!((usage(), frames.validate()), ((0, 0), Ok(())));
}

#[test]
fn reserved_ranges_are_handed_in_whole() {
    let memory = [region(NORMAL, 4096, 0)];
    // Two pageblocks and parts of those around them.
    let ranges = [reserved(NORMAL + 500, 1100), reserved(NORMAL + 3000, 3)];
    for page_owner in [false, true] {
        let world =
            World::new(&Config { reserved: &ranges, page_owner, ..Config::new(&memory, 1) });
        let frames = world.frames();
        let managed = || frames.zone_info().map(|zone| zone.managed).sum::<u64>();
        assert_eq!(managed(), 4096 - 1103);
        hand_in(frames, NORMAL + 500, 1100).expect("reserved frames");
        assert_eq!((managed(), frames.nr_free_pages()), (4096 - 3, 4096 - 3));
        assert_eq!(frames.validate(), Ok(()));
        for at in [3000, 3002, 3001] {
            hand_in(frames, NORMAL + at, 1).expect("a reserved frame");
        }
        assert_eq!((managed(), frames.nr_free_pages()), (4096, 4096));
        (0..1103).for_each(|_| world.hand_in());
    }
}

/// A wrong free gave the frames of the kernel's image away.
#[test]
fn reserved_frames_are_not_freed_by_their_numbers() {
    let memory = [region(NORMAL, 2048, 0)];
    let ranges = [reserved(NORMAL + 512, 512), reserved(NORMAL + 1100, 1)];
    for page_owner in [false, true] {
        let world =
            World::new(&Config { reserved: &ranges, page_owner, ..Config::new(&memory, 1) });
        let frames = world.frames();
        let block = frames.alloc_contig_range(Gfp::KERNEL, Pfn::new(NORMAL), 512);
        let block = block.expect("free frames");
        let other = frames.alloc_contig_range(Gfp::KERNEL, Pfn::new(NORMAL + 1024), 50);
        let other = other.expect("free frames");
        let nr_free = frames.nr_free_pages();
        let refused = |at| Err(PfnError::Reserved { pfn: Pfn::new(NORMAL + at) });
        for (start, nr_pages, first) in
            [(512, 1, 512), (511, 2, 512), (0, 1024, 512), (1000, 20, 1000), (1024, 1024, 1100)]
        {
            assert_eq!(free_range(frames, NORMAL + start, nr_pages), refused(first));
        }
        for pfns in [&[1024, 1100][..], &[1, 2, 700, 3], &[600], &[1100; 65]] {
            let pfns: Vec<_> = pfns.iter().map(|pfn| Pfn::new(NORMAL + pfn)).collect();
            let wrong = *pfns
                .iter()
                .find(|pfn| pfn.value() != NORMAL + 1024 && pfn.value() >= NORMAL + 512)
                .expect("one");
            assert_eq!(free_all(frames, &pfns), Err(PfnError::Reserved { pfn: wrong }));
        }
        // SAFETY: 1. no owner is made: the frame is reserved.
        let page = unsafe { Page::from_pfn(frames, Pfn::new(NORMAL + 1100)) };
        assert_eq!(page.map(Page::into_pfn).map(drop), refused(1100));
        for (start, exponent, first) in [(512, 9, 512), (0, 10, 512), (1100, 1, 1100)] {
            // SAFETY: 1. no owner is made: a frame of the block is reserved.
            let block =
                unsafe { Folio::from_pfn(frames, Pfn::new(NORMAL + start), order(exponent)) };
            assert_eq!(block.map(Folio::into_pfn).map(drop), refused(first));
        }
        assert_eq!((frames.nr_free_pages(), frames.validate()), (nr_free, Ok(())));
        drop((block, other));
    }
    assert_eq!(
        PfnError::Reserved { pfn: Pfn::new(NORMAL) }.to_string(),
        "frame 0x100000 is reserved: only hand_in makes it the allocator's"
    );
}

#[test]
fn only_reserved_frames_are_handed_in_and_each_once() {
    let memory = [region(NORMAL, 1024, 0), region(NORMAL + 1024, 1024, 0)];
    let ranges = [reserved(NORMAL + 1000, 100)];
    for page_owner in [false, true] {
        let world =
            World::new(&Config { reserved: &ranges, page_owner, ..Config::new(&memory, 1) });
        let frames = world.frames();
        let nr_free = frames.nr_free_pages();
        let refused = |at| Err(PfnError::NotReserved { pfn: Pfn::new(NORMAL + at) });
        for (start, nr_pages, first) in
            [(0, 1, 0), (999, 3, 999), (1000, 101, 1100), (1050, 70, 1100), (1000, 1048, 1100)]
        {
            assert_eq!(hand_in(frames, NORMAL + start, nr_pages), refused(first));
        }
        let outside = Err(PfnError::NotInMap {
            pfn: NORMAL + 2048,
            start: Pfn::new(NORMAL + 1000),
            nr_pages: 2000,
        });
        assert_eq!(hand_in(frames, NORMAL + 1000, 2000), outside);
        assert_eq!(hand_in(frames, NORMAL, 0), Ok(()));
        assert_eq!((frames.nr_free_pages(), frames.validate()), (nr_free, Ok(())));
        // Both regions.
        assert_eq!(hand_in(frames, NORMAL + 1000, 100), Ok(()));
        (0..100).for_each(|_| world.hand_in());
        assert_eq!(hand_in(frames, NORMAL + 1000, 100), refused(1000));
        assert_eq!((frames.nr_free_pages(), frames.validate()), (nr_free + 100, Ok(())));
    }
    assert_eq!(
        PfnError::NotReserved { pfn: Pfn::new(NORMAL) }.to_string(),
        "frame 0x100000 is not reserved: allowed are frames of Config::reserved, each handed in once"
    );
}

#[test]
fn with_page_owner_a_frame_that_was_handed_in_says_so_when_it_is_freed() {
    let memory = [region(NORMAL, 1024, 0)];
    let ranges = [reserved(NORMAL + 8, 4)];
    let config = Config { reserved: &ranges, page_owner: true, ..Config::new(&memory, 1) };
    let world = World::new(&config);
    let frames = world.frames();
    hand_in(frames, NORMAL + 8, 4).expect("reserved frames");
    (0..4).for_each(|_| world.hand_in());
    for nr_pages in [1, 3, 4] {
        let message = panic_of(|| free_range(frames, NORMAL + 8, nr_pages).expect("it panics"));
        let expected = "frame 0x100008 is free; it was handed in by the call at ";
        assert!(message.contains(expected) && message.contains("by_pfn.rs:"), "{message}");
    }
    let page = frames.alloc_contig_range(Gfp::KERNEL, Pfn::new(NORMAL + 8), 1).expect("it is free");
    drop(page);
    frames.drain_all_pages();
    let message = panic_of(|| free_range(frames, NORMAL + 8, 1).expect("it panics"));
    assert!(message.contains("its last owner got it from the call at "), "{message}");
}

/// The lock of the watermarks may have been held at the fork, by a thread that the child does not have.
#[test]
fn the_child_of_a_fork_hands_in_nothing() {
    let memory = [region(NORMAL, 1024, 0)];
    let ranges = [reserved(NORMAL + 8, 40)];
    let world = World::new(&Config { reserved: &ranges, ..Config::new(&memory, 1) });
    // Never dropped: a child returns nothing.
    let world = ManuallyDrop::new(world);
    let frames = world.frames();
    let (nr_free, managed) = (frames.nr_free_pages(), 1024 - 40);
    frames.platform().abandon();
    for nr_pages in [1, 40] {
        assert_eq!(hand_in(frames, NORMAL + 8, nr_pages), Ok(()));
    }
    // SAFETY: 1. no owner is made: the frame is reserved.
    let page = unsafe { Page::from_pfn(frames, Pfn::new(NORMAL + 8)) };
    assert!(page.is_err());
    assert_eq!(frames.nr_free_pages(), nr_free);
    assert_eq!(frames.zone_info().map(|zone| zone.managed).sum::<u64>(), managed);
}

#[test]
fn frames_that_are_not_in_the_map_are_refused_before_anything_is_freed() {
    let memory = [region(NORMAL, 700, 0), region(NORMAL + 800, 1248, 0)];
    let world = World::new(&Config::new(&memory, 1));
    let frames = world.frames();
    let all: Vec<_> =
        core::iter::from_fn(|| frames.alloc_page(Gfp::KERNEL | Gfp::MEMALLOC)).collect();
    let nr_free = frames.nr_free_pages();
    let start = Pfn::new(NORMAL + 600);
    let refused = |pfn, start, nr_pages| Err(PfnError::NotInMap { pfn, start, nr_pages });
    let hole = NORMAL + 700;
    assert_eq!(free_range(frames, start.value(), 300), refused(hole, start, 300));
    assert_eq!(free_range(frames, start.value(), usize::MAX), refused(hole, start, usize::MAX));
    assert_eq!(free_range(frames, hole, 1), refused(hole, Pfn::new(hole), 1));
    assert_eq!(free_range(frames, hole, 0), Ok(()), "no frame is outside of the map");
    assert_eq!(free_range(frames, 7, 64), refused(7, Pfn::new(7), 64));
    let last = NORMAL + 2047;
    assert_eq!(free_range(frames, last, 2), refused(last + 1, Pfn::new(last), 2));
    for nr in [2, 64, 65, 200] {
        let mut pfns = vec![start; nr];
        pfns[nr - 1] = Pfn::new(hole);
        assert_eq!(free_all(frames, &pfns), refused(hole, Pfn::new(hole), 1));
    }
    // SAFETY: 1. no owner is made: the frames are not all in the map.
    let block = unsafe { Folio::from_pfn(frames, Pfn::new(NORMAL + 512), order(9)) };
    let error = block.expect_err("there is a hole in it");
    assert_eq!(
        error,
        PfnError::NotInMap { pfn: hole, start: Pfn::new(NORMAL + 512), nr_pages: 512 }
    );
    assert_eq!(
        error.to_string(),
        "frame 0x1002bc, of the 512 frames from 0x100200, is not in the allocator's memory map"
    );
    let outside = PfnError::NotInMap { pfn: 7, start: Pfn::new(7), nr_pages: 1 };
    assert_eq!(outside.to_string(), "frame 0x7 is not in the allocator's memory map");
    assert_eq!(frames.nr_free_pages(), nr_free, "nothing was freed");
    drop(all);
}

#[test]
fn blocks_that_cannot_be_are_refused() {
    // Zone Movable is the upper half, and begins inside of a block of order 10.
    let memory = [region(NORMAL, 1024, 0)];
    let world = World::new(&Config { movable_bytes: pages(512), ..Config::new(&memory, 1) });
    let frames = world.frames();
    // SAFETY: 1. no owner is made: there is no such block.
    let refused =
        |pfn, order| unsafe { Folio::from_pfn(frames, Pfn::new(pfn), order) }.unwrap_err();
    let error = refused(NORMAL + 12, order(3));
    assert_eq!(error, PfnError::Misaligned { pfn: Pfn::new(NORMAL + 12), order: order(3) });
    assert_eq!(
        error.to_string(),
        "frame 0x10000c begins no block of order 3: it is not a multiple of 8 frames"
    );
    let error = refused(NORMAL, order(10));
    assert_eq!(error, PfnError::CrossesZones { pfn: Pfn::new(NORMAL), order: order(10) });
    assert_eq!(
        error.to_string(),
        "the 1024 frames from 0x100000 are in several zones: allowed is a block of order 10 within one"
    );
}

#[test]
fn a_range_may_cross_zones_and_regions() {
    let memory = [region(NORMAL - 512, 1024, 0), region(NORMAL + 512, 600, 0)];
    let world = World::new(&Config { movable_bytes: pages(300), ..Config::new(&memory, 1) });
    let frames = world.frames();
    assert!(frames.zone_info().count() > 2);
    let reserves = Gfp::MEMALLOC | Gfp::HIGHUSER_MOVABLE;
    let all: Vec<_> = core::iter::from_fn(|| frames.alloc_page(reserves)).collect();
    assert_eq!((all.len(), frames.nr_free_pages()), (1624, 0));
    assert_eq!(all.into_iter().map(Page::into_pfn).count(), 1624);
    free_range(frames, NORMAL - 512, 1624).expect("frames of the map");
    assert_eq!((frames.nr_free_pages(), frames.validate()), (1624, Ok(())));
}

/// Makes a world in which all frames are in use, and each call site is recorded if `page_owner` says so.
fn full(page_owner: bool) -> World {
    let memory = [region(NORMAL, 1024, 0)];
    let world = World::new(&Config {
        page_owner,
        pcp_high: Some(8),
        min_free_bytes: Some(0),
        watermark_scale_factor: 0,
        ..Config::new(&memory, 1)
    });
    let one = || world.frames().alloc_page(Gfp::KERNEL).map(Page::into_pfn);
    assert_eq!(core::iter::from_fn(one).count(), 1024);
    assert_eq!(world.frames().nr_free_pages(), 0);
    world
}

#[test]
fn with_page_owner_a_frame_freed_twice_by_number_names_who_had_it() {
    let world = full(true);
    let frames = world.frames();
    let site = |message: &str| {
        message.contains("its last owner got it from the call at ")
            && message.contains("by_pfn.rs:")
    };
    let pfn = |at| Pfn::new(NORMAL + at);
    free_range(frames, NORMAL + 9, 1).expect("a frame of the map");
    let again = panic_of(|| free_range(frames, NORMAL + 9, 1).expect("it panics"));
    assert!(again.starts_with("double free by frame number: frame 0x100009 is free"), "{again}");
    assert!(site(&again), "{again}");
    // SAFETY: violated on purpose: the frame is free. The call panics.
    let again = panic_of(|| drop(unsafe { Page::from_pfn(frames, pfn(9)) }));
    assert!(again.contains("frame 0x100009 is free") && site(&again), "{again}");
    // SAFETY: violated on purpose: the first frame is free. The call panics.
    let again = panic_of(|| drop(unsafe { Folio::from_pfn(frames, pfn(8), order(1)) }));
    assert!(again.contains("of the 2 frames from 0x100008: frame 0x100009 is free"), "{again}");
    for nr_pages in [2, 8, 30, 64, 512, 1024 - 8] {
        let again = panic_of(|| free_range(frames, NORMAL + 8, nr_pages).expect("it panics"));
        let range = format!("of the {nr_pages} frames from 0x100008: frame 0x100009 is free");
        // Those that are aligned are freed as blocks.
        let block = "at frame 0x100008: frame 0x100009 is free";
        let expected = if nr_pages <= 8 { block } else { &range };
        assert!(again.contains(expected) && site(&again), "{again}");
    }
    for nr in [2, 64, 65] {
        let mut pfns: Vec<_> = (100..100 + nr).map(pfn).collect();
        *pfns.last_mut().expect("not empty") = pfn(9);
        let again = panic_of(|| free_all(frames, &pfns).expect("it panics"));
        assert!(again.contains("frame 0x100009 is free") && site(&again), "{again}");
    }
    frames.drain_all_pages();
    assert_eq!((frames.nr_free_pages(), frames.validate()), (1, Ok(())), "nothing else was freed");
    free_range(frames, NORMAL, 9).expect("frames of the map");
    free_range(frames, NORMAL + 10, 1024 - 10).expect("frames of the map");
}

#[test]
fn with_page_owner_a_handle_and_a_number_of_one_frame_are_a_double_free() {
    let world = ManuallyDrop::new(full(true));
    let frames = world.frames();
    // SAFETY: violated on purpose: two owners are made of one frame. Nothing reads it.
    let page = || unsafe { Page::from_pfn(frames, Pfn::new(NORMAL + 3)) }.expect("of the map");
    let (one, other) = (page(), page());
    drop(one);
    let again = panic_of(|| drop(other));
    assert!(again.starts_with("double free of the block of order 0 at frame 0x100003"), "{again}");
    assert!(again.contains("its last owner got it from the call at "), "{again}");
    let twice = [Pfn::new(NORMAL + 5), Pfn::new(NORMAL + 5)];
    let again = panic_of(|| free_all(frames, &twice).expect("it panics"));
    assert!(again.contains("frame 0x100005 is free already"), "{again}");
    frames.drain_all_pages();
}

#[test]
fn a_frame_that_was_never_allocated_is_not_in_use() {
    let memory = [region(NORMAL, 1024, 0)];
    let world = World::new(&Config { page_owner: true, ..Config::new(&memory, 1) });
    let never = panic_of(|| free_range(world.frames(), NORMAL + 1000, 3).expect("it panics"));
    assert_eq!(
        never,
        "double free by frame number, of the 3 frames from 0x1003e8: frame 0x1003e8 is free; no call \
         has allocated it yet"
    );
}

#[test]
fn a_range_that_is_partly_free_in_its_zone_is_refused_whole() {
    for nr_pages in [17, 64, 65, 500, 512, 1023, 1024] {
        for free in [0, 1, nr_pages / 2, nr_pages - 1] {
            // Never dropped: 1,023 frames are still in use.
            let world = ManuallyDrop::new(full(false));
            let frames = world.frames();
            let wrong = NORMAL + free as u64;
            free_range(frames, wrong, 1).expect("a frame of the map");
            frames.drain_all_pages();
            let message = panic_of(|| free_range(frames, NORMAL, nr_pages).expect("it panics"));
            let named =
                if let Some(exponent) = [64, 512, 1024].iter().position(|&nr| nr == nr_pages) {
                    let order = [6, 9, 10][exponent];
                    format!("the block of order {order} at frame 0x100000: frame {wrong:#x} is")
                } else {
                    format!("frame {wrong:#x}, of the {nr_pages} frames from 0x100000: it is")
                };
            assert_eq!(message, format!("double free of {named} free in its zone already"));
            assert_eq!((frames.nr_free_pages(), frames.validate()), (1, Ok(())), "{nr_pages}");
        }
    }
}

/// Without owners, what is freed to a list is compared with the zone when the list is drained.
#[test]
fn a_frame_freed_twice_is_found_when_its_list_is_drained() {
    let world = ManuallyDrop::new(full(false));
    let frames = world.frames();
    free_range(frames, NORMAL + 7, 1).expect("a frame of the map");
    frames.drain_all_pages();
    free_range(frames, NORMAL + 7, 1).expect("a frame of the map");
    let message = panic_of(|| assert_eq!(frames.drain_all_pages(), 0));
    assert!(message.starts_with("double free of frame 0x100007"), "{message}");
}

#[test]
fn a_double_free_by_number_blames_the_caller() {
    type Wrong = fn(Frames<'_>);
    let wrongs: [Wrong; 8] = [
        // Compared with the zone when its list is drained.
        |frames| free_range(frames, NORMAL, 1).expect("of the map"),
        |frames| free_range(frames, NORMAL, 2).expect("of the map"),
        |frames| free_range(frames, NORMAL, 17).expect("it panics"),
        |frames| free_range(frames, NORMAL, 64).expect("it panics"),
        |frames| free_range(frames, NORMAL, 512).expect("it panics"),
        |frames| free_range(frames, NORMAL, 1000).expect("it panics"),
        |frames| free_range(frames, NORMAL, 1024).expect("it panics"),
        |frames| free_all(frames, &[7, 9, 0].map(|at| Pfn::new(NORMAL + at))).expect("of the map"),
    ];
    for (page_owner, wrong) in
        [false, true].into_iter().flat_map(|on| wrongs.map(|wrong| (on, wrong)))
    {
        // Never dropped: frames are in use.
        let world = ManuallyDrop::new(full(page_owner));
        let frames = world.frames();
        free_range(frames, NORMAL, 1).expect("a frame of the map");
        frames.drain_all_pages();
        let blamed = blamed_file(|| {
            wrong(frames);
            frames.drain_pages(CpuId::new(0));
        });
        assert!(blamed.ends_with("tests/by_pfn.rs"), "{blamed}");
    }
    // Twice in one call: the second free of the frame is found.
    let world = ManuallyDrop::new(full(true));
    let twice = [Pfn::new(NORMAL + 5), Pfn::new(NORMAL + 5)];
    let blamed = blamed_file(|| free_all(world.frames(), &twice).expect("it panics"));
    assert!(blamed.ends_with("tests/by_pfn.rs"), "{blamed}");
}

#[test]
fn hooks_run_for_each_frame_of_a_range() {
    let memory = [region(NORMAL, 1024, 0)];
    let config = Config { page_owner: true, poison: true, ..Config::new(&memory, 1) };
    let world = World::on(Machine::with_memory(1, NORMAL, 1024), &config);
    let frames = world.frames();
    let owned = || {
        let mut nr = 0;
        frames.for_each_owner(|_, _| nr += 1);
        nr
    };
    let mut block = frames.alloc_pages(Gfp::KERNEL, order(8)).expect("a block");
    block.as_bytes_mut().fill(9);
    let start = block.into_pfn().value();
    free_range(frames, start + 100, 156).expect("frames of the map");
    assert_eq!(owned(), 100);
    free_range(frames, start, 100).expect("frames of the map");
    assert_eq!(owned(), 0);
    // All of it carries the pattern again, or this would be a use after free.
    let one = || frames.alloc_page(Gfp::KERNEL | Gfp::MEMALLOC);
    assert_eq!(core::iter::from_fn(one).collect::<Vec<_>>().len(), 1024);
}
