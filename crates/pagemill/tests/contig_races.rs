//! Contiguous ranges while others take and free frames: watermarks, wake-ups, charges, migrate types.

use core::cell::{Cell, RefCell};
use std::thread;

use pagemill::accounts::{Account, AccountLimits};
use pagemill::contig::{ContigError, ContigRequest};
use pagemill::debug::Event;
use pagemill::units::Pfn;
use pagemill::{AllocPages, BulkRequest, Config, Folio, Gfp, PageList, Shortage};
use pagemill_testkit::{
    Call, Frames, Machine, NORMAL, Traces, World, hooked, interrupted_by, order, pages, region,
    traced,
};

/// A configuration of one shard without reserves, in which a list holds one page.
fn bare<'a>(memory: &'a [pagemill::setup::MemoryRegion]) -> Config<'a> {
    Config {
        pcp_high: Some(1),
        min_free_bytes: Some(0),
        watermark_scale_factor: 0,
        nr_zone_shards: Some(1),
        nr_accounts: 4,
        ..Config::new(memory, 1)
    }
}

/// Two requests at the same time, each of which alone leaves the reserve.
#[test]
fn requests_at_the_same_time_leave_the_reserve() {
    type Request = fn(Frames<'_>, u64) -> bool;
    let requests: [(&str, Request); 2] = [
        ("alloc_contig", |frames, _| {
            frames.alloc_contig(Gfp::NOWAIT, 2_000, 1, None).map(core::mem::forget).is_ok()
        }),
        ("alloc_contig_range", |frames, start| {
            let range = frames.alloc_contig_range(Gfp::NOWAIT, Pfn::new(start), 2_000);
            range.map(core::mem::forget).is_ok()
        }),
    ];
    for (outer, alloc) in requests {
        for (inner, alloc_inside) in requests {
            let memory = [region(NORMAL, 4_096, 0)];
            let min_free_bytes = Some(pages(1_000));
            // Leaked, because the ranges are.
            let world =
                Box::leak(Box::new(World::new(&Config { min_free_bytes, ..bare(&memory) })));
            let frames = world.frames();
            let is_first = Cell::new(true);
            let mut handler = || {
                if is_first.replace(false) {
                    alloc_inside(frames, NORMAL + 2_000);
                }
            };
            interrupted_by(&mut handler, || alloc(frames, NORMAL));
            assert!(!is_first.get(), "{inner} ran inside {outer}");
            assert_eq!(frames.nr_free_pages(), 2_096, "{inner} inside {outer}");
            assert_eq!(world.validate(), Ok(()));
        }
    }
}

/// A thread begins to wait for frames that a request takes and gives back.
#[test]
fn a_range_that_is_given_back_wakes_a_waiter() {
    const NR_BLOCKS: u64 = 64;
    const NR: u64 = NR_BLOCKS << 9;
    let memory = [region(NORMAL, NR, 0)];
    let world = World::on(Machine::patient(2), &Config { nr_cpus: 2, ..bare(&memory) });
    let frames = world.frames();
    let taken = RefCell::new(None);
    thread::scope(|scope| {
        // Runs between holds of the zone's lock. Another thread takes the last frame and begins to wait.
        let mut handler = || {
            if frames.vmstat().nr_free_pages < NR / 2 && taken.borrow().is_none() {
                let last = Pfn::new(NORMAL + NR - 1);
                let last = frames.alloc_contig_range(Gfp::NOWAIT, last, 1).expect("it is free");
                scope.spawn(move || {
                    let mut list = PageList::<Folio<_>>::new(frames);
                    let request = BulkRequest {
                        order: order(9),
                        effort: pagemill::request::Effort::AllOrNothing,
                        ..BulkRequest::new(Gfp::KERNEL | Gfp::NOFAIL)
                    };
                    let outcome = frames.bulk_list(&request, 60, &mut list);
                    assert_eq!((outcome.new, list.len()), (60, 60));
                });
                while frames.platform().nr_asleep() == 0 {
                    thread::yield_now();
                }
                taken.replace(Some(last));
            }
        };
        let start = Pfn::new(NORMAL);
        let nr = usize::try_from(NR).unwrap();
        let refused = interrupted_by(&mut handler, || {
            frames.alloc_contig_range(Gfp::KERNEL, start, nr).expect_err("one is taken")
        });
        assert!(matches!(refused, ContigError::InUse { .. } | ContigError::Short { .. }));
    });
    assert!(taken.take().is_some());
    assert_eq!(frames.platform().nr_late(), 0, "a wait that no wake-up ended");
}

/// Free memory of two nodes together is not what a range needs.
#[test]
fn a_request_that_no_zone_can_ever_serve_fails_even_if_it_may_not() {
    let memory = [region(NORMAL, 256, 0), region(NORMAL + 1_024, 256, 1)];
    let world = World::new(&Config { min_free_bytes: Some(pages(200)), ..bare(&memory) });
    let frames = world.frames();
    let alloc = || frames.alloc_contig(Gfp::KERNEL | Gfp::NOFAIL, 250, 1, None).map(drop);
    let outcome = hooked(|call| matches!(call, Call::Wait), alloc);
    let error = outcome.expect("a wait without end").unwrap_err();
    assert_eq!(error, ContigError::Short { nr: 250, short: Shortage::Memory });
}

#[test]
fn no_more_is_charged_than_a_zone_can_spare() {
    let world = World::bare(64);
    let frames = world.frames();
    let parent =
        Account::open(frames, AccountLimits { max: 1_000, ..AccountLimits::NONE }).unwrap();
    let account = parent.open_child(AccountLimits::NONE).unwrap();
    let used = frames.alloc_contig(Gfp::KERNEL, 40, 1, None).unwrap();
    let most = Cell::new(0);
    let mut handler = || most.set(most.get().max(parent.usage().current));
    for nr in [5_000, usize::MAX] {
        let account = Some(account.id());
        let request = ContigRequest { account, min: 1, ..ContigRequest::new(Gfp::KERNEL, nr) };
        let range = interrupted_by(&mut handler, || frames.alloc_contig_with(&request).unwrap());
        assert_eq!(range.nr_pages(), 24);
        assert_eq!(parent.usage().current, 24);
    }
    drop(used);
    assert_eq!((most.get(), parent.usage().peak), (24, 24));
    // A request that finds nothing keeps only what it needs while it looks again.
    let used = frames.alloc_contig(Gfp::KERNEL, 64, 1, None).unwrap();
    let account = Some(account.id());
    let request = ContigRequest { account, min: 1, ..ContigRequest::new(Gfp::KERNEL, 50) };
    assert!(frames.alloc_contig_with(&request).is_err());
    drop(used);
    assert_eq!((parent.usage().current, parent.usage().peak), (0, 24));
}

#[test]
fn a_limit_of_the_account_shortens_a_range() {
    let world = World::bare(64);
    let frames = world.frames();
    let account = Account::open(frames, AccountLimits { max: 10, ..AccountLimits::NONE }).unwrap();
    let id = Some(account.id());
    let request = ContigRequest { account: id, min: 3, ..ContigRequest::new(Gfp::KERNEL, 30) };
    let first = frames.alloc_contig_with(&request).unwrap();
    assert_eq!((first.nr_pages(), account.usage().current), (10, 10));
    let error = frames.alloc_contig_with(&request).unwrap_err();
    assert_eq!(error, ContigError::Short { nr: 3, short: Shortage::Account });
    drop(first);
    assert_eq!(account.usage().current, 0);
}

#[test]
fn a_refused_range_changes_no_migrate_type() {
    let memory = [region(NORMAL, 4_096, 0)];
    let world = World::new(&bare(&memory));
    let frames = world.frames();
    let movable = Gfp::KERNEL | Gfp::MOVABLE;
    let take = |pfn| frames.alloc_contig_range(movable, Pfn::new(pfn), 1).unwrap();
    let held: Vec<_> = (0..8).map(|block| take(NORMAL + block * 512 + block % 2 * 5)).collect();
    let types = || frames.zone_info().map(|zone| zone.pageblocks).collect::<Vec<_>>();
    let before = types();
    let events = traced(Traces::Events, || {
        for block in [0, 2, 4, 6] {
            let start = Pfn::new(NORMAL + block * 512 + 1);
            let refused = frames.alloc_contig_range(Gfp::KERNEL, start, 600).unwrap_err();
            let pfn = Pfn::new(NORMAL + block * 512 + 517);
            assert_eq!(refused, ContigError::InUse { pfn, owner: None });
        }
    });
    assert_eq!(types(), before);
    let is_stolen = |event: &Event| matches!(event, Event::PageAllocExtfrag { .. });
    assert!(!events.iter().any(is_stolen), "{events:?}");
    drop(held);
}

/// The tracer panics while charged frames are freed: frames may be lost, but nothing stays charged.
#[test]
fn a_tracer_that_panics_leaves_nothing_charged() {
    type Use = for<'w> fn(Frames<'w>, &Account<Frames<'w>>, &dyn Fn(&mut dyn FnMut()));
    let uses: [(&str, Use); 3] = [
        ("range", |frames, account, panicking| {
            let account = Some(account.id());
            let request = ContigRequest { account, ..ContigRequest::new(Gfp::KERNEL, 7) };
            let mut range = Some(frames.alloc_contig_with(&request).unwrap());
            panicking(&mut || drop(range.take()));
        }),
        ("folio", |frames, account, panicking| {
            let account = Some(account.id());
            let request = BulkRequest { account, order: order(2), ..BulkRequest::new(Gfp::KERNEL) };
            let mut folio = [None::<Folio<_>>];
            assert_eq!(frames.bulk_fill(&request, &mut folio).new, 1);
            panicking(&mut || drop(folio[0].take()));
        }),
        ("list of folios", |frames, account, panicking| {
            let account = Some(account.id());
            let request = BulkRequest { account, order: order(2), ..BulkRequest::new(Gfp::KERNEL) };
            let mut list = PageList::<Folio<_>>::new(frames);
            assert_eq!(frames.bulk_list(&request, 8, &mut list).new, 8);
            let mut list = Some(list);
            panicking(&mut || drop(list.take()));
        }),
    ];
    for (name, run) in uses {
        let memory = [region(NORMAL, 64, 0)];
        // Leaked, because frames are lost.
        let frames = Box::leak(Box::new(World::new(&bare(&memory)))).frames();
        let account = Account::open(frames, AccountLimits::NONE).unwrap();
        run(frames, &account, &|free| {
            assert!(account.usage().current > 0, "{name}");
            let free = RefCell::new(free);
            traced(Traces::Pages, || {
                frames.look_for_tracers();
                let is_freed = |call: Call| matches!(call, Call::Trace(Event::PageFree { .. }));
                let freed = hooked(is_freed, || free.borrow_mut()());
                assert!(freed.is_err(), "{name}");
            });
            frames.look_for_tracers();
        });
        assert_eq!(account.usage().current, 0, "{name}");
    }
}
