//! Per-CPU lists of blocks of more than one page: what they hold, count and trace, and that their pages
//! are there for every request that needs them.

extern crate alloc;

use alloc::collections::BTreeSet;

use pagemill::debug::Event;
use pagemill::gfp::{MigrateType, ZoneKind};
use pagemill::request::Effort;
use pagemill::stats::PcpInfo;
use pagemill::units::NodeId;
use pagemill::{AllocPages, BulkRequest, Config, Folio, Gfp, Page, PageList, Shortage};
use pagemill_testkit::{
    Frames, NORMAL, Traces, World, interrupted_by, order, pages, region, set_cpu, traced,
};

/// The orders that have lists.
const LISTED: [u8; 4] = [1, 2, 3, 9];

/// One zone with lists of up to 2,048 pages, in which nothing is kept back.
fn world(nr_frames: u64, nr_cpus: u32) -> World {
    let memory = [region(NORMAL, nr_frames, 0)];
    World::new(&Config {
        pcp_high: Some(2048),
        min_free_bytes: Some(pages(0)),
        watermark_scale_factor: 0,
        ..Config::new(&memory, nr_cpus)
    })
}

fn list(frames: Frames<'_>, cpu: u32, order: u8) -> PcpInfo {
    let kind = MigrateType::Unmovable;
    let is_it = |list: &PcpInfo| {
        list.cpu.value() == cpu && list.migratetype == kind && list.order.value() == order
    };
    frames.pcp_info().find(is_it).expect("a list of that order")
}

fn take(frames: Frames<'_>, of: u8, nr: usize) -> Vec<Folio<Frames<'_>>> {
    let block = |_| frames.alloc_pages(Gfp::KERNEL, order(of)).expect("there is memory");
    (0..nr).map(block).collect()
}

fn in_lists(frames: Frames<'_>) -> usize {
    frames.pcp_info().map(|list| list.count).sum()
}

#[test]
fn a_block_from_the_list_takes_no_zone_lock() {
    let world = world(8192, 1);
    let lists = [Event::ListsLocked, Event::ListsUnlocked];
    for of in LISTED {
        let nr_pages = order(of).nr_pages();
        drop(take(world.frames(), of, 1));
        let mut folio = None;
        let alloc = || folio = world.frames().alloc_pages(Gfp::KERNEL, order(of));
        assert_eq!(traced(Traces::Events, alloc), lists, "order {of}");
        let folio = folio.expect("a block");
        assert_eq!((folio.order(), folio.pfn().is_aligned(order(of))), (order(of), true));
        let before = list(world.frames(), 0, of).count;
        assert_eq!(traced(Traces::Events, || drop(folio)), lists, "order {of}");
        assert_eq!(list(world.frames(), 0, of).count, before + nr_pages);
    }
}

#[test]
fn a_refill_takes_a_quarter_and_a_full_list_gives_back_half() {
    let world = world(16_384, 1);
    let frames = world.frames();
    for (of, high) in [(1, 64), (2, 32), (3, 16), (9, 4)] {
        let nr_pages = order(of).nr_pages();
        let info = list(frames, 0, of);
        assert_eq!((info.high, info.batch), (high * nr_pages, high / 4 * nr_pages), "order {of}");
        let mut taken = take(frames, of, 1);
        assert_eq!(list(frames, 0, of).count, (high / 4 - 1) * nr_pages, "order {of}");
        taken.extend(take(frames, of, 2 * high));
        frames.drain_all_pages();
        let mut least = usize::MAX;
        for (nr, folio) in taken.into_iter().enumerate() {
            let before = list(frames, 0, of).count;
            drop(folio);
            let after = list(frames, 0, of).count;
            if nr < high {
                assert_eq!(after, (nr + 1) * nr_pages, "order {of}");
            } else if after < before {
                least = least.min(after);
            }
        }
        assert_eq!(least, (high / 2 + 1) * nr_pages, "order {of}");
        frames.drain_all_pages();
    }
}

#[test]
fn blocks_are_counted_in_pages_and_as_one_event() {
    let world = world(8192, 1);
    let frames = world.frames();
    let (mut nr_pages, mut nr_events) = (0, 0);
    for of in (0..=10).rev() {
        for _ in 0..3 {
            drop(take(frames, of, 2));
            nr_pages += 2 * order(of).nr_pages() as u64;
            nr_events += 2;
            let stat = frames.vmstat();
            assert_eq!(stat.pgalloc[ZoneKind::Normal.index()], nr_pages, "order {of}");
            assert_eq!((stat.pgfree, stat.numa_hit), (nr_pages, nr_events), "order {of}");
            assert_eq!((stat.numa_local, stat.numa_miss), (nr_events, 0), "order {of}");
            let free = stat.nr_free_pages + in_lists(frames) as u64;
            assert_eq!((free, frames.nr_free_pages()), (8192, 8192), "order {of}");
        }
    }
    let (in_lists, drained) = (in_lists(frames), frames.drain_all_pages());
    assert_eq!((drained, frames.vmstat().nr_free_pages), (in_lists, 8192));
}

#[test]
fn small_zones_have_small_lists_or_none() {
    for (nr_frames, nr_cpus, highs) in [
        (2048, 1, [32, 32, 32, 0]),
        (4096, 2, [32, 32, 32, 0]),
        (32_768, 1, [128, 128, 128, 512]),
        (32_768, 2, [128, 128, 128, 0]),
        (262_144, 1, [128, 128, 128, 2048]),
    ] {
        let memory = [region(NORMAL, nr_frames, 0)];
        let world = World::new(&Config::new(&memory, nr_cpus));
        let found = LISTED.map(|of| list(world.frames(), 0, of).high);
        assert_eq!(found, highs, "{nr_frames} frames, {nr_cpus} CPUs");
        // At most 1/64 of the zone each, on all CPUs together.
        assert!(found.iter().all(|&high| (high as u64) * u64::from(nr_cpus) * 64 <= nr_frames));
        // Where there is no list, the zone serves and takes back.
        drop(take(world.frames(), 9, 1));
        assert_eq!(list(world.frames(), 0, 9).count, highs[3].min(512));
    }
}

/// Takes all memory as blocks and frees it, so that the lists of CPU `cpu` are full.
fn fill_lists(frames: Frames<'_>, cpu: u32) {
    set_cpu(cpu);
    for of in LISTED {
        let high = list(frames, cpu, of).high / order(of).nr_pages();
        drop(take(frames, of, high));
    }
    assert_eq!(list(frames, cpu, 9).count, 2048);
    assert!(in_lists(frames) >= 3 * 128 + 2048);
}

#[test]
fn a_request_that_cannot_reclaim_gets_every_page_of_its_cpu() {
    for of in [0, 1, 4, 9, 10] {
        let world = world(4096, 2);
        let frames = world.frames();
        fill_lists(frames, 0);
        let block = || frames.alloc_pages(Gfp::NOWAIT, order(of));
        let all: Vec<_> = core::iter::from_fn(block).collect();
        assert_eq!(all.len() << of, 4096, "blocks of order {of}");
    }
}

#[test]
fn single_pages_and_bulk_calls_get_what_is_in_block_lists() {
    let world = world(4096, 1);
    let frames = world.frames();
    fill_lists(frames, 0);
    let one = || frames.alloc_page(Gfp::ATOMIC);
    let all: Vec<Page<_>> = core::iter::from_fn(one).collect();
    assert_eq!(all.len(), 4096);
    drop(all);
    fill_lists(frames, 0);
    let mut list = PageList::new(frames);
    while frames.alloc_pages_bulk_list(Gfp::NOWAIT, 64, &mut list) > 0 {}
    assert_eq!(list.len(), 4096);
}

#[test]
fn a_request_that_reclaims_gets_what_other_cpus_keep() {
    for of in [0, 2, 10] {
        let world = world(4096, 2);
        let frames = world.frames();
        fill_lists(frames, 1);
        set_cpu(0);
        let all: Vec<_> =
            core::iter::from_fn(|| frames.alloc_pages(Gfp::KERNEL, order(of))).collect();
        assert_eq!(all.len() << of, 4096, "blocks of order {of}");
    }
}

#[test]
fn below_the_watermark_the_list_still_serves() {
    let memory = [region(NORMAL, 4096, 0)];
    let config = Config {
        pcp_high: Some(2048),
        min_free_bytes: Some(pages(1024)),
        watermark_scale_factor: 0,
        ..Config::new(&memory, 1)
    };
    let world = World::new(&config);
    let frames = world.frames();
    let kept = take(frames, 3, 16);
    let taken: Vec<_> = core::iter::from_fn(|| frames.alloc_page(Gfp::NOWAIT)).collect();
    assert_eq!(frames.vmstat().nr_free_pages, 1024);
    drop(kept);
    let again: Vec<_> = core::iter::from_fn(|| frames.alloc_pages(Gfp::NOWAIT, order(3))).collect();
    assert_eq!(again.len(), 16);
    drop(again);
    let pages: Vec<_> = core::iter::from_fn(|| frames.alloc_page(Gfp::NOWAIT)).collect();
    assert_eq!((pages.len(), list(frames, 0, 3).count), (128, 0));
    drop(taken);
}

#[test]
fn a_handler_that_interrupts_the_lists_is_served_by_the_zone() {
    let world = world(4096, 1);
    let frames = world.frames();
    let mut times = 0;
    let mut handler = || {
        times += 1;
        for of in LISTED {
            drop(frames.alloc_pages(Gfp::ATOMIC, order(of)).expect("the zone serves"));
        }
    };
    interrupted_by(&mut handler, || {
        for of in LISTED {
            drop(take(frames, of, 4));
            drop(take(frames, of, 1));
        }
        frames.drain_all_pages();
    });
    assert!(times > 10, "the handler ran {times} times");
    let stat = frames.vmstat();
    let of_each: u64 = LISTED.map(|of| order(of).nr_pages() as u64).iter().sum();
    assert_eq!(stat.pgalloc[ZoneKind::Normal.index()], of_each * (5 + times));
    assert_eq!(stat.pgfree, of_each * (5 + times));
}

#[test]
fn blocks_return_to_the_node_that_they_came_from() {
    let memory = [region(NORMAL, 4096, 0), region(NORMAL + 4096, 4096, 1)];
    let cpu_nodes = [0, 1].map(NodeId::new);
    let world = World::new(&Config { cpu_nodes: &cpu_nodes, ..Config::new(&memory, 2) });
    let frames = world.frames();
    for cpu in 0..2 {
        set_cpu(cpu);
        for node in 0..2 {
            let block = frames.alloc_pages_node(NodeId::new(node), Gfp::KERNEL, order(2));
            assert_eq!(block.expect("a block").node(), NodeId::new(node));
        }
    }
    let of_node = |node| {
        let lists = frames.pcp_info().filter(|list| list.node == NodeId::new(node));
        lists.map(|list| list.count).sum::<usize>()
    };
    assert!(of_node(0) > 0 && of_node(1) > 0);
    let stat = frames.vmstat();
    assert_eq!((stat.numa_hit, stat.numa_local, stat.numa_other), (4, 2, 2));
}

/// Counts how often the zone is locked.
fn nr_zone_locks(body: impl FnOnce()) -> usize {
    let events = traced(Traces::Events, body);
    events.iter().filter(|event| matches!(event, Event::ZoneLocked { .. })).count()
}

#[test]
fn a_request_for_many_blocks_takes_the_list_first_and_then_sixteen_at_a_time() {
    for (of, most) in [(1, 16), (2, 16), (3, 16), (4, 16), (6, 16), (8, 16), (9, 8), (10, 4)] {
        let world = world(1 << 17, 1);
        let frames = world.frames();
        let request = BulkRequest { order: order(of), ..BulkRequest::new(Gfp::KERNEL) };
        let mut folios: Vec<Option<Folio<_>>> = (0..64).map(|_| None).collect();
        let locks = nr_zone_locks(|| assert_eq!(frames.bulk_fill(&request, &mut folios).new, 64));
        assert_eq!(locks, 64 / most, "order {of}");
        let pfns: BTreeSet<_> = folios.iter().flatten().map(Folio::pfn).collect();
        assert_eq!(pfns.len(), 64);
        let stat = frames.vmstat();
        assert_eq!((stat.numa_hit, stat.pgalloc[ZoneKind::Normal.index()]), (64, 64 << of));
        let mut list = PageList::new(frames);
        list.extend(folios.into_iter().flatten());
        // A list takes as many as it holds, and gives back a half at a time.
        let freed = if LISTED.contains(&of) { 32 } else { 64 / most };
        assert!(nr_zone_locks(|| drop(list)) <= freed, "order {of}");
        if LISTED.contains(&of) {
            let mut slots: [Option<Folio<_>>; 2] = [const { None }; 2];
            let locks = nr_zone_locks(|| assert_eq!(frames.bulk_fill(&request, &mut slots).new, 2));
            assert_eq!(locks, 0, "order {of}");
        }
    }
}

#[test]
fn extents_of_one_order_are_taken_together() {
    let world = world(1 << 15, 1);
    let mut orders = Vec::new();
    let take = |folio: Folio<_>| orders.push(folio.order().value());
    let request = BulkRequest::new(Gfp::KERNEL);
    let locks = nr_zone_locks(|| {
        assert_eq!(world.frames().bulk_extents(&request, 8 * 1024 + 512 + 3, take).new, 8707);
    });
    orders.sort_unstable();
    assert_eq!(orders, [0, 1, 9, 10, 10, 10, 10, 10, 10, 10, 10]);
    // Freed as they come: orders 0, 1 and 9 to the lists, the others to the zone.
    assert_eq!(locks, 2 + 8 + 1 + 1 + 1);
}

#[test]
fn a_fast_request_for_blocks_leaves_the_watermark() {
    let memory = [region(NORMAL, 4096, 0)];
    let config = Config {
        min_free_bytes: Some(pages(1024)),
        watermark_scale_factor: 0,
        ..Config::new(&memory, 1)
    };
    let world = World::new(&config);
    let frames = world.frames();
    let low = frames.zone_info().next().expect("a zone").watermarks.low;
    for of in [1, 3, 5] {
        let request =
            BulkRequest { order: order(of), effort: Effort::Fast, ..BulkRequest::new(Gfp::NOWAIT) };
        let mut taken: Vec<Option<Folio<_>>> = (0..2048).map(|_| None).collect();
        let outcome = frames.bulk_fill(&request, &mut taken);
        assert_eq!((outcome.new as u64) << of, (4096 - low) >> of << of, "order {of}");
        assert_eq!(outcome.short, Some(Shortage::Memory));
        drop(taken);
        frames.drain_all_pages();
    }
}
