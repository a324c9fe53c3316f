//! Trace events that a platform receives: each at its place, in order, with its figures.

use pagemill::accounts::{Account, AccountLimits};
use pagemill::debug::{Event, FaultConfig};
use pagemill::gfp::MigrateType;
use pagemill::reclaim::{ShrinkControl, Shrinker};
use pagemill::request::Effort;
use pagemill::reserves::Mempool;
use pagemill::units::{MAX_ORDER, NodeId, Pfn};
use pagemill::{AllocPages, BulkRequest, Config, Gfp, Order, Page, Shortage};
use pagemill_testkit::{Frames, NORMAL, Traces, World, holes, pages, region, traced};

const NODE: NodeId = NodeId::new(0);

/// One zone, lists of up to 8 pages that are filled by 4, and a reserve of `min_free` pages.
fn world(nr_frames: u64, min_free: u64) -> World {
    let memory = [region(NORMAL, nr_frames, 0)];
    World::new(&Config {
        pcp_high: Some(8),
        pcp_batch: Some(4),
        min_free_bytes: Some(pages(min_free)),
        watermark_scale_factor: 0,
        nr_accounts: 1,
        ..Config::new(&memory, 1)
    })
}

fn events(body: impl FnOnce()) -> Vec<Event> {
    traced(Traces::Events, body)
}

/// Leaves out the locks.
fn told(body: impl FnOnce()) -> Vec<Event> {
    let mut events = events(body);
    events.retain(|event| !is_lock(event));
    events
}

fn is_lock(event: &Event) -> bool {
    use Event::{ListsLocked, ListsUnlocked, ZoneLocked, ZoneUnlocked};
    matches!(event, ListsLocked | ListsUnlocked | ZoneLocked { .. } | ZoneUnlocked { .. })
}

/// What a zone tells that gave `nr_pages` to the list of unmovable pages.
fn refill(nr_pages: usize) -> Event {
    Event::PageAllocZoneLocked {
        node: NODE,
        zone: 0,
        migratetype: MigrateType::Unmovable,
        order: Order::ZERO,
        nr_pages,
        percpu_refill: true,
    }
}

const LOCKED: Event = Event::ZoneLocked { node: NODE, zone: 0, shard: 0 };
const UNLOCKED: Event = Event::ZoneUnlocked { node: NODE, zone: 0, shard: 0 };

/// Takes `nr` pages one by one.
fn take(frames: Frames<'_>, nr: usize) -> Vec<Option<Page<Frames<'_>>>> {
    let taken: Vec<_> = (0..nr).map(|_| frames.alloc_page(Gfp::KERNEL)).collect();
    assert!(taken.iter().all(Option::is_some));
    taken
}

#[test]
fn a_page_from_the_list_tells_of_the_list_alone() {
    let world = world(512, 0);
    let mut page = None;
    let first = events(|| page = world.frames().alloc_page(Gfp::KERNEL));
    // The first page of a list finds it empty twice: at once, and after all has been considered.
    let lists = [Event::ListsLocked, Event::ListsUnlocked];
    let filled = [Event::ListsLocked, LOCKED, UNLOCKED, refill(4), Event::ListsUnlocked];
    assert_eq!(first, [&lists[..], &filled[..]].concat());
    assert_eq!(events(|| drop(page.take())), lists);
    assert_eq!(events(|| page = world.frames().alloc_page(Gfp::KERNEL)), lists);
}

#[test]
fn a_block_without_a_list_takes_the_zone_alone() {
    let world = world(1024, 0);
    let mut folio = None;
    let order = Order::new(4).unwrap();
    let gave = Event::PageAllocZoneLocked {
        node: NODE,
        zone: 0,
        migratetype: MigrateType::Movable,
        order,
        nr_pages: 16,
        percpu_refill: false,
    };
    let taken = events(|| folio = world.frames().alloc_pages(Gfp::HIGHUSER_MOVABLE, order));
    assert_eq!(taken, [LOCKED, UNLOCKED, gave]);
    assert_eq!(events(|| drop(folio)), [LOCKED, UNLOCKED]);
}

#[test]
fn lists_of_blocks_tell_what_they_get_and_give_back() {
    let world = world(1024, 0);
    let order = Order::new(1).unwrap();
    let gave = Event::PageAllocZoneLocked {
        node: NODE,
        zone: 0,
        migratetype: MigrateType::Unmovable,
        order,
        nr_pages: 2,
        percpu_refill: true,
    };
    let gave_back = Event::PagePcpuDrain {
        node: NODE,
        zone: 0,
        migratetype: MigrateType::Unmovable,
        nr_pages: 4,
    };
    let mut taken = Vec::new();
    // A list of up to 4 blocks, filled one by one.
    for _ in 0..5 {
        let refill = told(|| taken.extend(world.frames().alloc_pages(Gfp::KERNEL, order)));
        assert_eq!(refill, [gave]);
    }
    let last = taken.pop();
    assert_eq!(told(|| drop(taken)), []);
    assert_eq!(told(|| drop(last)), [gave_back]);
}

#[test]
fn a_full_list_tells_what_it_gives_back() {
    let world = world(512, 0);
    let mut slots = holes(10);
    assert_eq!(world.frames().alloc_pages_bulk(Gfp::KERNEL, &mut slots), 10);
    let drained = told(|| drop(slots));
    let drain = |nr_pages| Event::PagePcpuDrain {
        node: NODE,
        zone: 0,
        migratetype: MigrateType::Unmovable,
        nr_pages,
    };
    // The list held 2 of the 12 that it had got, and 8 is what it may hold.
    assert_eq!(drained, [drain(4)]);
    assert_eq!(told(|| assert_eq!(world.frames().drain_all_pages(), 8)), [drain(8)]);
}

#[test]
fn every_hold_ends_and_none_is_within_another_of_its_kind() {
    let world = world(2048, 8);
    let seen = events(|| {
        let mut slots = holes(600);
        world.frames().alloc_pages_bulk(Gfp::KERNEL, &mut slots);
        world.frames().release_pages(&mut slots);
        world.frames().drain_all_pages();
        drop(world.frames().alloc_pages(Gfp::KERNEL, MAX_ORDER));
    });
    let (mut lists, mut zones, mut holds) = (0, 0, 0);
    for event in &seen {
        match event {
            Event::ListsLocked => lists += 1,
            Event::ListsUnlocked => lists -= 1,
            Event::ZoneLocked { .. } => zones += 1,
            Event::ZoneUnlocked { .. } => zones -= 1,
            _ => assert_eq!(zones, 0, "reported under the zone lock: {event:?}"),
        }
        assert!((0..=1).contains(&lists) && (0..=1).contains(&zones), "{event:?}");
        holds += lists + zones;
    }
    assert_eq!((lists, zones), (0, 0));
    assert!(holds > 100, "{holds}");
}

#[test]
fn pages_are_told_only_while_that_is_asked_for() {
    let world = world(512, 0);
    let frames = world.frames();
    let order = Order::new(1).unwrap();
    let pairs = |slots: &mut Vec<_>| {
        frames.alloc_pages_bulk(Gfp::KERNEL, slots);
        drop(frames.alloc_pages(Gfp::USER, order));
        frames.release_pages(slots);
    };
    let mut slots = holes(3);
    pairs(&mut slots);
    let pages = traced(Traces::Pages, || {
        frames.look_for_tracers();
        pairs(&mut slots);
    });
    let mut pfns = [const { Vec::new() }; 2];
    for event in pages.iter().filter(|event| !is_lock(event)) {
        match *event {
            Event::PageAlloc { pfn, order, gfp, migratetype } => {
                assert_eq!(migratetype, MigrateType::Unmovable);
                assert_eq!(gfp == Gfp::USER, order != Order::ZERO);
                pfns[0].push((pfn, order));
            }
            Event::PageFree { pfn, order } => pfns[1].push((pfn, order)),
            Event::PageFreeBatched { nr_pages } => assert_eq!(nr_pages, 3),
            Event::BulkAlloc { wanted: 3, got: 3, short: None, gfp: Gfp::KERNEL, .. } => {}
            Event::PageAllocZoneLocked { .. } => {}
            _ => panic!("{event:?}"),
        }
    }
    let count = |wanted: fn(&&Event) -> bool| pages.iter().filter(wanted).count();
    assert_eq!(count(|event| matches!(event, Event::PageFreeBatched { .. })), 1);
    assert_eq!(count(|event| matches!(event, Event::BulkAlloc { .. })), 1);
    pfns.iter_mut().for_each(|pfns| pfns.sort_unstable());
    assert_eq!(pfns[0].len(), 4);
    assert_eq!(pfns[0], pfns[1]);

    frames.look_for_tracers();
    let after = told(|| pairs(&mut slots));
    assert!(!after.iter().any(|event| matches!(event, Event::PageAlloc { .. })), "{after:?}");
}

#[test]
fn a_platform_that_wants_pages_is_found_when_a_list_is_filled() {
    let world = world(512, 0);
    let mut slots = holes(6);
    let seen = traced(Traces::Pages, || {
        slots.iter_mut().for_each(|slot| *slot = world.frames().alloc_page(Gfp::KERNEL));
    });
    let told = seen.iter().filter(|event| matches!(event, Event::PageAlloc { .. })).count();
    assert!((5..=6).contains(&told), "the first filled the list: {told}");
    world.frames().look_for_tracers();
}

#[test]
fn a_short_bulk_call_says_by_how_much_and_why() {
    let world = world(64, 0);
    let frames = world.frames();
    let short = |wanted, got, why| Event::BulkAlloc {
        gfp: Gfp::NOWAIT,
        order: Order::ZERO,
        wanted,
        got,
        short: Some(why),
    };
    let last = |events: Vec<Event>| *events.last().expect("there is one");
    let mut slots = holes(80);
    let request = BulkRequest { effort: Effort::AllOrNothing, ..BulkRequest::new(Gfp::NOWAIT) };
    let told = events(|| assert_eq!(frames.bulk_fill(&request, &mut slots).new, 0));
    assert_eq!(last(told), short(80, 0, Shortage::Memory));

    let limits = AccountLimits { max: 10, high: 10 };
    let account = Account::open(frames, limits).unwrap();
    let request = BulkRequest { account: Some(account.id()), ..BulkRequest::new(Gfp::NOWAIT) };
    let told = events(|| assert_eq!(frames.bulk_fill(&request, &mut slots).new, 10));
    let refused = Event::AccountRefused { account: account.id(), wanted: 64, charged: 10 };
    assert!(told.contains(&refused), "{told:?}");
    assert_eq!(last(told), short(80, 10, Shortage::Account));
    frames.release_pages(&mut slots);

    frames.inject_faults(&FaultConfig::EVERY);
    let told = events(|| assert_eq!(frames.bulk_fill(&request, &mut slots).new, 0));
    let fault = Event::FaultInjected { gfp: Gfp::NOWAIT, order: Order::ZERO };
    assert_eq!(told, [fault, short(80, 0, Shortage::Fault)]);
    frames.inject_faults(&FaultConfig::NEVER);

    let told = events(|| {
        assert!(frames.bulk_fill(&BulkRequest::new(Gfp::NOWAIT), &mut slots[..4]).short.is_none());
    });
    assert!(!told.iter().any(|event| matches!(event, Event::BulkAlloc { .. })), "{told:?}");
    frames.release_pages(&mut slots);
}

#[test]
fn a_call_with_the_contract_of_linux_says_that_it_fell_short() {
    let world = world(64, 32);
    let mut slots = holes(64);
    let mut filled = 0;
    let told = told(|| filled = world.frames().alloc_pages_bulk(Gfp::NOWAIT, &mut slots));
    let short = told.iter().find_map(|event| match *event {
        Event::BulkAlloc { wanted: 64, got, short: Some(Shortage::Memory), .. } => Some(got),
        _ => None,
    });
    // With nothing in bulk it tries for one page by other means.
    assert_eq!(short, Some(if filled > 1 { filled } else { 0 }), "{told:?}");
}

#[test]
fn pageblocks_of_another_kind_are_told() {
    let world = world(1024, 0);
    let frames = world.frames();
    // Both pageblocks become those of unmovable pages, with half of their frames free.
    let order = Order::new(8).unwrap();
    let blocks: Vec<_> = (0..4).filter_map(|_| frames.alloc_pages(Gfp::KERNEL, order)).collect();
    assert_eq!(blocks.len(), 4);
    let mut blocks = blocks.into_iter();
    let (_kept, freed, _more) = (blocks.next(), blocks.next(), blocks.next());
    drop((freed, blocks));
    let stolen = |order, migratetype, change_ownership, seen: &[Event]| {
        seen.iter().any(|event| {
            matches!(*event, Event::PageAllocExtfrag {
                pfn, order: o, migratetype: m, fallback_migratetype: MigrateType::Unmovable,
                change_ownership: c, nr_pageblocks: 1,
            } if pfn.is_aligned(Order::new(9).unwrap())
                && (o, m, c) == (order, migratetype, change_ownership)
                && (Pfn::new(NORMAL)..Pfn::new(NORMAL + 1024)).contains(&pfn))
        })
    };
    let mut page = None;
    let seen = told(|| page = frames.alloc_page(Gfp::HIGHUSER_MOVABLE));
    assert!(stolen(Order::ZERO, MigrateType::Movable, false, &seen), "{seen:?}");
    let mut folio = None;
    let reclaimable = Gfp::KERNEL | Gfp::RECLAIMABLE;
    let two = Order::new(1).unwrap();
    let seen = told(|| folio = frames.alloc_pages(reclaimable, two));
    assert!(stolen(two, MigrateType::Reclaimable, true, &seen), "{seen:?}");
    assert!(page.is_some() && folio.is_some());
}

/// Says that it has 40 pages and frees 7, and frees none.
struct Cache;

impl Shrinker for Cache {
    fn count(&self, _control: ShrinkControl) -> usize {
        40
    }

    fn scan(&self, nr: usize, _control: ShrinkControl) -> usize {
        nr.min(7)
    }
}

#[test]
fn reclaim_is_told_from_the_call_to_the_last_shrinker() {
    let world = world(64, 0);
    let frames = world.frames();
    let mut slots = take(frames, 64);
    let _guard = frames.register_shrinker(&Cache).unwrap();
    let gfp = Gfp::KERNEL | Gfp::NORETRY;
    let order = Order::new(1).unwrap();
    let seen = told(|| assert!(frames.alloc_pages(gfp, order).is_none()));
    let expected = [
        Event::VmscanWakeupKswapd { gfp, order },
        Event::VmscanDirectReclaimBegin { gfp, order },
        Event::ShrinkSlabStart { place: 0, gfp, nr_to_scan: 32, count: 40 },
        Event::ShrinkSlabEnd { place: 0, nr_freed: 7 },
        Event::VmscanDirectReclaimEnd { nr_reclaimed: 0 },
    ];
    assert_eq!(seen, expected);
    frames.release_pages(&mut slots);
    frames.drain_all_pages();
    assert_eq!(told(|| assert_eq!(frames.balance(), 0)), [], "nothing is short");
}

/// Has nothing.
struct Empty;

impl Shrinker for Empty {
    fn count(&self, _control: ShrinkControl) -> usize {
        0
    }

    fn scan(&self, _nr: usize, _control: ShrinkControl) -> usize {
        unreachable!("it has nothing")
    }
}

#[test]
fn background_reclaim_is_told_with_what_was_missing() {
    let world = world(64, 0);
    let frames = world.frames();
    let _guard = frames.register_shrinker(&Empty).unwrap();
    let _slots = take(frames, 64);
    let high = frames.zone_info().next().unwrap().watermarks.high;
    let seen = told(|| assert_eq!(frames.balance(), 0));
    let expected = [
        Event::VmscanKswapdWake { nr_missing: high + 1 },
        Event::VmscanKswapdSleep { nr_reclaimed: 0 },
    ];
    assert_eq!(seen, expected);
}

#[test]
fn who_waits_is_told_and_how_it_ended() {
    let world = world(64, 0);
    let frames = world.frames();
    let mut slots = take(frames, 64);
    let waits = |seen: Vec<Event>| -> Vec<Event> {
        let is_wait = |event: &Event| matches!(event, Event::WaitBegin | Event::WaitEnd { .. });
        seen.into_iter().filter(is_wait).collect()
    };
    let never = [Event::WaitBegin, Event::WaitEnd { is_served: false }];
    let request = BulkRequest { stop: Some(&|| true), ..BulkRequest::new(Gfp::KERNEL) };
    // Stopped at once, this one never comes to wait.
    assert_eq!(waits(told(|| assert_eq!(frames.bulk_fill(&request, &mut holes(2)).new, 0))), []);
    let asked = core::cell::Cell::new(0);
    let later = || asked.replace(asked.get() + 1) > 4;
    let request = BulkRequest { stop: Some(&later), ..BulkRequest::new(Gfp::KERNEL) };
    let seen = told(|| assert_eq!(frames.bulk_fill(&request, &mut holes(2)).new, 0));
    assert_eq!(waits(seen), never);
    frames.release_pages(&mut slots);

    let pool = Mempool::new(frames, 2, Gfp::KERNEL).unwrap();
    let _rest = take(frames, 62);
    let mut held = holes(2);
    pool.alloc_bulk(Gfp::KERNEL, &mut held, None).unwrap();
    let stopped = || pool.alloc_bulk(Gfp::KERNEL, &mut holes(1), Some(&|| true)).unwrap_err();
    let seen = told(|| assert_eq!(stopped(), Shortage::Stopped));
    assert_eq!(waits(seen), never);
    pool.free_bulk(&mut held);
}
