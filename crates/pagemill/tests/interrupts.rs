//! What happens when a request is interrupted while it uses a CPU's lists, and the handler
//! allocates and frees on the same CPU.
//!
//! The lists are taken then. The handler must neither wait nor fail, and no page may be lost.

use pagemill::gfp::ZoneKind;
use pagemill::handles::free_pages_bulk;
use pagemill::{AllocPages, Config, Gfp, PageList};
use pagemill_testkit::{Frames, NORMAL, World, holes, interrupted_by, order, region};

fn world() -> World {
    let memory = [region(NORMAL, 4096, 0)];
    World::new(&Config { pcp_high: Some(16), pcp_batch: Some(4), ..Config::new(&memory, 2) })
}

/// Runs `handler` in the middle of refills and of drains, and returns how often it ran.
fn in_the_middle<'w>(world: &'w World, handler: &mut dyn FnMut(Frames<'w>)) -> usize {
    let frames = world.frames();
    let mut times = 0;
    let mut counting = || {
        times += 1;
        handler(frames);
    };
    interrupted_by(&mut counting, || {
        let mut slots = holes(100);
        assert_eq!(frames.alloc_pages_bulk(Gfp::KERNEL, &mut slots), 100);
        let one = frames.alloc_page(Gfp::KERNEL).expect("a page");
        assert_eq!(frames.release_pages(&mut slots), 100);
        drop(one);
        let mut list = PageList::new(frames);
        assert_eq!(frames.alloc_pages_bulk_list(Gfp::KERNEL, 100, &mut list), 100);
        assert_eq!(free_pages_bulk(&mut list), 100);
        let mut one_by_one: Vec<_> = (0..40).map(|_| frames.alloc_page(Gfp::KERNEL)).collect();
        one_by_one.clear();
        frames.drain_all_pages();
    });
    assert!(times > 10, "the handler ran {times} times");
    times
}

/// Checks that every page allocated since the start was counted once and freed.
fn check_counters(world: &World, nr_pages: usize) {
    let stat = world.frames().vmstat();
    // 100 and 1, 100, 40: what was interrupted.
    let nr = nr_pages as u64 + 241;
    assert_eq!(stat.pgalloc[ZoneKind::Normal.index()], nr);
    assert_eq!((stat.pgfree, stat.numa_miss, stat.numa_other), (nr, 0, 0));
}

#[test]
fn a_handler_allocates_and_frees_single_pages() {
    let world = world();
    let times = in_the_middle(&world, &mut |frames| {
        drop(frames.alloc_page(Gfp::ATOMIC).expect("the zone serves"));
    });
    check_counters(&world, times);
}

/// With the lists taken, Linux serves one page (`4b23a68f9536`); here the zone serves them all.
#[test]
fn a_handler_allocates_in_bulk_and_releases() {
    let world = world();
    let mut nr_pages = 0;
    in_the_middle(&world, &mut |frames| {
        let mut slots = holes(70);
        let filled = frames.alloc_pages_bulk(Gfp::ATOMIC, &mut slots);
        assert_eq!(filled, 70, "the zone serves all of them");
        assert_eq!(frames.release_pages(&mut slots), filled);
        nr_pages += filled;
    });
    check_counters(&world, nr_pages);
}

#[test]
fn a_handler_fills_holes_and_zeroes() {
    let world = world();
    let mut nr_pages = 0;
    in_the_middle(&world, &mut |frames| {
        let mut slots = holes(70);
        slots[3] = frames.alloc_page(Gfp::ATOMIC);
        let filled = frames.alloc_pages_bulk(Gfp::ATOMIC | Gfp::ZERO, &mut slots);
        assert_eq!(filled, 70);
        nr_pages += frames.release_pages(&mut slots);
    });
    assert!(!pagemill_testkit::take_zeroed().is_empty());
    check_counters(&world, nr_pages);
}

#[test]
fn a_handler_uses_lists_of_pages() {
    let world = world();
    let mut nr_pages = 0;
    in_the_middle(&world, &mut |frames| {
        let mut list = PageList::new(frames);
        assert_eq!(frames.alloc_pages_bulk_list(Gfp::ATOMIC, 70, &mut list), 70);
        nr_pages += free_pages_bulk(&mut list);
    });
    check_counters(&world, nr_pages);
}

#[test]
fn a_handler_allocates_blocks_and_splits_them() {
    let world = world();
    let times = in_the_middle(&world, &mut |frames| {
        let block = frames.alloc_pages(Gfp::ATOMIC, order(3)).expect("a block");
        drop(block.split().take(3).collect::<Vec<_>>());
    });
    check_counters(&world, 8 * times);
}

/// On one CPU, a handler could get into lists that a drain was using (`038a102535eb`).
#[test]
fn a_handler_drains_and_passes_over_the_lists_in_use() {
    let world = world();
    in_the_middle(&world, &mut |frames| {
        let page = frames.alloc_page(Gfp::ATOMIC).expect("the zone serves");
        assert_eq!(frames.drain_all_pages(), 0, "the only lists with pages are in use");
        drop(page);
    });
}

/// Only what interrupted work left behind can be missing; what was moved stays moved.
#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn a_zone_that_runs_dry_in_the_middle_gives_a_partial_result() {
    let memory = [region(NORMAL, 512, 0)];
    let config = Config { pcp_high: Some(16), pcp_batch: Some(4), ..Config::new(&memory, 1) };
    for (before, rest) in [(0, 0), (3, 0), (0, 10)] {
        let world = World::new(&config);
        let frames = world.frames();
        let mut hoard = Vec::new();
        let mut times = 0;
        let mut handler = || {
            times += 1;
            if times == 4 {
                let all = || frames.alloc_page(Gfp::ATOMIC | Gfp::MEMALLOC);
                while let Some(page) = all() {
                    hoard.push(page);
                }
                hoard.truncate(hoard.len() - rest);
            }
        };
        let mut slots = holes(200);
        for slot in slots.iter_mut().take(before) {
            *slot = frames.alloc_page(Gfp::KERNEL);
        }
        // A page behind the holes, which the result must not count.
        slots[199] = frames.alloc_page(Gfp::KERNEL);
        let filled =
            interrupted_by(&mut handler, || frames.alloc_pages_bulk(Gfp::KERNEL, &mut slots));
        assert!(filled > before && filled < 199, "{filled}");
        assert_eq!(slots.iter().position(Option::is_none), Some(filled));
        assert_eq!(slots.iter().flatten().count(), filled + 1);
        assert_eq!(frames.nr_free_pages(), (511 - hoard.len() - filled) as u64);
        drop((hoard, slots));
    }
}
