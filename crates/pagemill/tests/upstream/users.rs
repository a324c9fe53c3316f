//! The bugs of its users, and of what was built to serve them.

use core::cell::Cell;
use std::thread;

use pagemill::policy::{InterleaveCursor, NodeMask, Policy};
use pagemill::request::Effort;
use pagemill::reserves::Mempool;
use pagemill::units::NodeId;
use pagemill::{AllocPages, BulkRequest, Config, Gfp, Page, Shortage};
use pagemill_testkit::{
    Frames, NORMAL, Slots, World, holes, interrupted_by, nr_pins, nr_waits, region,
};

use crate::{LOW, exact, picture, roomy, slots, take_until};

/// Runs `handler` wherever `body` can be interrupted with its lists held, and checks that it was.
fn in_the_middle<'w>(
    frames: Frames<'w>,
    mut handler: impl FnMut(Frames<'w>),
    body: impl FnOnce(Frames<'w>),
) {
    let mut times = 0;
    let mut counting = || {
        times += 1;
        handler(frames);
    };
    interrupted_by(&mut counting, || body(frames));
    assert!(times > 2, "the handler ran {times} times");
}

/// `SUNRPC` slept for half a second after every partial result (August 2021).
#[test]
#[cfg_attr(miri, ignore = "takes minutes: many attempts at reclaim")]
fn bug_11_nobody_sleeps_while_there_is_progress() {
    let world = exact();
    let taken = take_until(&world, LOW + 2);
    let (waits, mut slots, mut filled) = (nr_waits(), holes(16), 0);
    for expected in 1..=16 {
        filled = world.frames().alloc_pages_bulk(Gfp::KERNEL, &mut slots);
        assert_eq!(filled, expected, "one page a call, each of them progress");
    }
    assert_eq!(filled, 16);
    world.frames().release_pages(&mut slots);
    let never = || false;
    let patient = BulkRequest { stop: Some(&never), ..BulkRequest::new(Gfp::KERNEL) };
    assert_eq!(world.frames().bulk_fill(&patient, &mut slots).new, 16);
    assert_eq!(nr_waits(), waits);
    drop(taken);
}

/// A gibibyte in one call kept interrupts off for so long that the watchdog barked (vmalloc).
#[test]
fn bug_12_locks_are_held_for_a_bounded_number_of_pages() {
    const NR: usize = if cfg!(miri) { 2_000 } else { 50_000 };
    let memory = [region(NORMAL, 2 * NR as u64, 0)];
    let world = World::new(&Config::new(&memory, 1));
    let frames = world.frames();
    let (most, last) = (Cell::new(0), Cell::new(frames.vmstat().nr_free_pages));
    let mut watch = || {
        let now = frames.vmstat().nr_free_pages;
        most.set(most.get().max(now.abs_diff(last.replace(now))));
    };
    let mut slots = holes(NR);
    let mut pins = nr_pins();
    let mut let_go = || {
        let before = core::mem::replace(&mut pins, nr_pins());
        assert!(pins - before >= NR / 512, "the CPU was hardly released");
    };
    interrupted_by(&mut watch, || {
        assert_eq!(frames.bulk_fill(&BulkRequest::new(Gfp::KERNEL), &mut slots).new, NR);
        let_go();
        assert_eq!(frames.release_pages(&mut slots), NR);
        let_go();
    });
    assert!(most.get() <= 512, "{} frames moved while a lock was held", most.get());
}

/// vmalloc's bulk calls took everything from the local node (`ffb29b1c255a`, `c00b6b961049`).
#[test]
fn bug_13_interleaved_pages_are_spread_within_one() {
    let memory = [0, 1, 2].map(|node| region(NORMAL + 1024 * u64::from(node), 1024, node));
    let world = World::new(&Config::new(&memory, 1));
    let nodes = NodeMask::of(&[0, 1, 2].map(NodeId::new));
    for nr in [1, 2, 3, 64, 100, 301] {
        let cursor = InterleaveCursor::default();
        let policy = Policy::Interleave(nodes, &cursor);
        let request = BulkRequest { policy, ..BulkRequest::new(Gfp::KERNEL) };
        let mut on_node = [0_usize; 3];
        let outcome = world.frames().bulk_each(&request, nr, |page: Page<_>| {
            on_node[usize::try_from((page.pfn().value() - NORMAL) / 1024).expect("of three")] += 1;
        });
        assert_eq!(outcome.new, nr);
        let (most, fewest) = (on_node.iter().max(), on_node.iter().min());
        assert!(most.unwrap() - fewest.unwrap() <= 1, "{nr}: {on_node:?}");
    }
}

/// Linux adds what each node gave to the start of the array, and so counts full slots twice.
#[test]
fn bug_13_a_policy_over_slots_that_are_full_already_counts_each_once() {
    let memory = [0, 1].map(|node| region(NORMAL + 1024 * u64::from(node), 1024, node));
    let world = World::new(&Config::new(&memory, 1));
    let mut slots = holes(9);
    slots[4] = world.frames().alloc_page(Gfp::KERNEL);
    let cursor = InterleaveCursor::default();
    let nodes = NodeMask::of(&[0, 1].map(NodeId::new));
    let policy = Policy::Interleave(nodes, &cursor);
    assert_eq!(world.frames().alloc_pages_bulk_mempolicy(policy, Gfp::KERNEL, &mut slots), 9);
    let second = |slot: &&Option<Page<_>>| {
        slot.as_ref().is_some_and(|page| page.pfn().value() >= NORMAL + 1024)
    };
    assert_eq!(slots.iter().filter(second).count(), 4, "four of the eight new ones");
    assert_eq!(world.frames().release_pages(&mut slots), 9);
}

/// vmalloc had to take NOFAIL away from bulk calls, which did not honour it.
#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn bug_14_a_bulk_request_that_may_not_fail_waits_for_all_its_pages() {
    let world = exact();
    let frames = world.frames();
    let mut taken = take_until(&world, 100);
    thread::scope(|scope| {
        let waiter = scope.spawn(move || {
            let mut slots = holes(64);
            let request = BulkRequest::new(Gfp::KERNEL | Gfp::NOFAIL);
            let outcome = frames.bulk_fill(&request, &mut slots);
            drop(slots);
            outcome
        });
        while !waiter.is_finished() {
            drop(taken.pop());
            thread::yield_now();
        }
        let outcome = waiter.join().expect("no thread panics");
        assert_eq!((outcome.new, outcome.short), (64, None));
    });
}

/// Where another CPU drains the lists, bulk must not wait for them (`4b23a68f9536`,
/// `01b44456a7aa`).
#[test]
fn bug_15_lists_in_use_are_neither_waited_for_nor_entered() {
    let world = roomy();
    let mut got = Vec::new();
    let handler = |frames: Frames<'_>| {
        let mut slots = holes(10);
        got.push(frames.alloc_pages_bulk(Gfp::ATOMIC, &mut slots));
    };
    in_the_middle(world.frames(), handler, |frames| {
        let mut slots = holes(600);
        assert_eq!(frames.alloc_pages_bulk(Gfp::KERNEL, &mut slots), 600);
        frames.release_pages(&mut slots);
        frames.drain_all_pages();
    });
    assert!(got.iter().all(|&nr| nr == 10), "Differs: the zone serves them all");
}

/// On a machine with one CPU, the lock of the lists was a no-op, so an interrupt during a drain
/// corrupted them (`574907741599`, `038a102535eb`).
#[test]
fn bug_16_an_interrupt_in_a_drain_of_the_only_cpu_does_no_harm() {
    let memory = [region(NORMAL, 2048, 0)];
    let world = World::new(&Config { pcp_high: Some(64), ..Config::new(&memory, 1) });
    let mut kept = Vec::new();
    let handler = |frames: Frames<'_>| {
        drop(frames.alloc_page(Gfp::ATOMIC));
        frames.drain_all_pages();
    };
    in_the_middle(world.frames(), handler, |frames| {
        for _ in 0..20 {
            let mut slots = holes(50);
            assert_eq!(frames.alloc_pages_bulk(Gfp::KERNEL, &mut slots), 50);
            kept.extend(slots.iter_mut().step_by(3).filter_map(Option::take));
            frames.release_pages(&mut slots);
            frames.drain_all_pages();
        }
    });
    let mut pfns: Vec<_> = kept.iter().map(Page::pfn).collect();
    pfns.sort_unstable();
    assert!(pfns.is_sorted_by(|a, b| a < b), "a frame was handed out twice");
}

/// A preferred zone that was not there was followed (`8ce41b0f9d77`). There are no cpusets here,
/// but a request can still be left without any zone.
#[test]
fn bug_17_a_request_without_any_zone_falls_short() {
    let world = roomy();
    for (gfp, policy) in
        [(Gfp::KERNEL | Gfp::DMA, Policy::Local), (Gfp::KERNEL, Policy::Bind(NodeMask::NONE))]
    {
        for effort in [Effort::Fast, Effort::TryHard, Effort::AllOrNothing] {
            let request = BulkRequest { policy, effort, ..BulkRequest::new(gfp) };
            let mut slots: Slots<'_> = holes(4);
            let outcome = world.frames().bulk_fill(&request, &mut slots);
            assert_eq!((outcome.new, outcome.short), (0, Some(Shortage::Memory)));
        }
    }
    assert_eq!(world.frames().alloc_pages_bulk(Gfp::KERNEL | Gfp::DMA, &mut holes(4)), 0);
}

/// `SUNRPC` passed a CPU's number as a node, which was followed (`5f7fc5d69f6e`, reverted in 6.7).
#[test]
#[should_panic(expected = "unknown node 7: this allocator has nodes 0 to 0")]
fn bug_19_a_node_that_there_is_not_is_refused() {
    let world = roomy();
    world.frames().alloc_pages_bulk_node(NodeId::new(7), Gfp::KERNEL, &mut holes(4));
}

/// kasan took a partial result for a failure.
#[test]
fn bug_21_a_loop_over_partial_results_gets_everything() {
    let world = exact();
    let taken = take_until(&world, LOW + 20);
    let (mut slots, mut filled, mut calls) = (holes(40), 0, 0);
    while filled < slots.len() {
        let now = world.frames().alloc_pages_bulk(Gfp::KERNEL, &mut slots);
        assert!(now > filled, "no progress at {filled}");
        (filled, calls) = (now, calls + 1);
    }
    assert_eq!(calls, 40, "every result but the last was partial");
    drop(taken);
}

/// blk-crypto expected holes anywhere after a partial result and gave its mempool all slots.
#[test]
fn bug_22_a_partial_result_leaves_its_holes_at_the_end_for_the_mempool() {
    let world = exact();
    let pool = Mempool::new(world.frames(), 8, Gfp::KERNEL).expect("there is memory");
    let taken = take_until(&world, LOW + 3);
    let mut slots = holes(8);
    let easy = BulkRequest { effort: Effort::Fast, ..BulkRequest::new(Gfp::NOWAIT) };
    let nr = world.frames().bulk_fill(&easy, &mut slots).new;
    assert!((1..8).contains(&nr));
    assert!(slots[..nr].iter().all(Option::is_some) && slots[nr..].iter().all(Option::is_none));
    let kept: Vec<_> = slots[..nr].iter().flatten().map(Page::pfn).collect();
    pool.alloc_bulk(Gfp::NOWAIT, &mut slots, None).expect("the reserve has them");
    assert!(slots[..nr].iter().flatten().map(Page::pfn).eq(kept));
    assert!(slots.iter().all(Option::is_some));
    pool.free_bulk(&mut slots);
    drop(taken);
}

/// btrfs freed the slots up to the result only, and lost the pages behind a hole.
#[test]
fn bug_23_what_is_freed_is_what_there_is_also_behind_a_hole() {
    let world = roomy();
    let mut slots = slots(world.frames(), "PP.PP..P");
    assert_eq!(world.frames().release_pages(&mut slots), 5);
    assert_eq!(picture(&slots), "........");
}

/// A caller's code must not run under a lock: it may take long, allocate, or panic.
#[test]
fn pages_are_handed_to_the_callers_code_with_no_list_held() {
    let memory = [region(NORMAL, 1024, 0)];
    let world = World::new(&Config::new(&memory, 1));
    let frames = world.frames();
    let nr_lists = frames.pcp_info().count();
    let mut seen = 0;
    let _outcome = frames.bulk_each(&BulkRequest::new(Gfp::KERNEL), 100, |_page: Page<_>| {
        seen += 1;
        assert_eq!(frames.pcp_info().count(), nr_lists, "lists in use are passed over");
    });
    assert_eq!(seen, 100);
}
