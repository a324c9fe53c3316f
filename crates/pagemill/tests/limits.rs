//! Who may take the last pages, what misuse is answered with, and how long locks are held.

use core::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use pagemill::gfp::ZoneKind;
use pagemill::handles::free_pages_bulk;
use pagemill::units::{NodeId, PAGEBLOCK_NR_PAGES};
use pagemill::{AllocPages, Config, Folio, Gfp, Page, PageList};
use pagemill_testkit::{
    Frames, Machine, NORMAL, World, holes, interrupted_by, irq_sections, nr_pins, order, pages,
    region, reserved, set_cpu,
};

fn world_of(nr_frames: u64, nr_cpus: u32) -> World {
    let memory = [region(NORMAL, nr_frames, 0)];
    World::new(&Config::new(&memory, nr_cpus))
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn flags_decide_how_many_pages_can_be_had() {
    let memory = [region(NORMAL, 1024, 0)];
    let pcp_high = Some(1);
    let min_free_bytes = Some(pages(100));
    let world = World::new(&Config { pcp_high, min_free_bytes, ..Config::new(&memory, 1) });
    let min = world.zone(0, ZoneKind::Normal).watermarks.min;
    assert_eq!(min, 100);
    for (gfp, left) in [
        (Gfp::KERNEL, 100),
        (Gfp::NOWAIT, 100),
        (Gfp::ATOMIC, 50),
        (Gfp::KERNEL | Gfp::HIGH, 50),
        (Gfp::KERNEL | Gfp::MEMALLOC, 0),
        (Gfp::KERNEL | Gfp::MEMALLOC | Gfp::NOMEMALLOC, 100),
        (Gfp::ATOMIC | Gfp::MEMALLOC | Gfp::NOMEMALLOC, 50),
    ] {
        let all: Vec<_> = core::iter::from_fn(|| world.frames().alloc_page(gfp)).collect();
        assert_eq!(world.frames().nr_free_pages(), left, "{gfp:?}");
        drop(all);
        world.frames().drain_all_pages();
    }
}

#[test]
fn who_may_wait_gets_what_other_cpus_keep_and_who_may_not_does_not() {
    let world = world_of(1024, 2);
    let frames = world.frames();
    let all: Vec<_> =
        core::iter::from_fn(|| frames.alloc_page(Gfp::KERNEL | Gfp::MEMALLOC)).collect();
    assert_eq!(all.len(), 1024);
    set_cpu(1);
    drop(all);
    let list = frames.pcp_info().find(|list| list.count > 0).expect("a list with pages");
    assert_eq!(list.cpu.value(), 1);
    set_cpu(0);
    let zone = core::iter::from_fn(|| frames.alloc_page(Gfp::NOWAIT | Gfp::MEMALLOC));
    assert_eq!(zone.collect::<Vec<_>>().len(), 1024 - list.count);
    let zone: Vec<_> =
        core::iter::from_fn(|| frames.alloc_page(Gfp::NOWAIT | Gfp::MEMALLOC)).collect();
    assert!(frames.alloc_pages(Gfp::NOWAIT | Gfp::MEMALLOC, order(0)).is_none());
    assert!(frames.alloc_page(Gfp::KERNEL | Gfp::MEMALLOC).is_some(), "the lists are drained");
    drop(zone);
}

#[test]
fn a_cpu_without_lists_uses_those_of_another() {
    let memory = [region(NORMAL, 1024, 0)];
    let world = World::on(Machine::new(8), &Config::new(&memory, 2));
    set_cpu(7);
    let mut slots = holes(10);
    assert_eq!(world.frames().alloc_pages_bulk(Gfp::KERNEL, &mut slots), 10);
    world.frames().release_pages(&mut slots);
    let list = world.frames().pcp_info().find(|list| list.count > 0).expect("pages were freed");
    assert_eq!(list.cpu.value(), 1);
}

/// A server gave a CPU's number as the node once, and Linux dereferenced it (`5f7fc5d69f6e`).
#[test]
fn an_unknown_node_is_named_with_the_range() {
    let memory = [region(NORMAL, 512, 0), region(NORMAL + 512, 512, 1)];
    let world = World::new(&Config::new(&memory, 1));
    let (frames, node, gfp) = (world.frames(), NodeId::new(7), Gfp::KERNEL);
    let mut list = PageList::new(frames);
    let calls: [&mut dyn FnMut(); 6] = [
        &mut || drop(frames.alloc_page_node(node, gfp)),
        &mut || drop(frames.alloc_page_node(node, gfp | Gfp::ZERO)),
        &mut || drop(frames.alloc_pages_node(node, gfp, order(3))),
        &mut || {
            frames.alloc_pages_bulk_node(node, gfp, &mut holes(1));
        },
        &mut || {
            frames.alloc_pages_bulk_node(node, gfp, &mut holes(9));
        },
        &mut || {
            frames.alloc_pages_bulk_list_node(node, gfp, 9, &mut list);
        },
    ];
    for call in calls {
        let payload = catch_unwind(AssertUnwindSafe(call)).expect_err("the node is unknown");
        let message = payload.downcast_ref::<String>().expect("a formatted message");
        assert_eq!(message, "unknown node 7: this allocator has nodes 0 to 1");
    }
}

#[test]
#[should_panic(expected = "double free of frame 0x100")]
fn a_page_freed_twice_is_caught_when_it_reaches_the_zone() {
    let world = world_of(512, 1);
    let frames = world.frames();
    let raw = frames.alloc_page(Gfp::KERNEL).expect("a page").into_raw();
    // SAFETY: 1. returned by `into_raw`; this is its first use.
    drop(unsafe { Page::from_raw(frames, raw) });
    frames.drain_all_pages();
    // SAFETY: violated on purpose: the word is used a second time. The allocator only changes its
    // own metadata.
    drop(unsafe { Page::from_raw(frames, raw) });
    frames.drain_all_pages();
}

#[test]
#[should_panic(expected = "double free of frame 0x100")]
fn a_page_freed_twice_into_one_list_is_caught_when_that_is_drained() {
    let world = world_of(512, 1);
    let frames = world.frames();
    let raw = frames.alloc_page(Gfp::KERNEL).expect("a page").into_raw();
    for _ in 0..2 {
        // SAFETY: violated the second time, on purpose: the allocator only changes its own
        // metadata.
        drop(unsafe { Page::from_raw(frames, raw) });
    }
    frames.drain_all_pages();
}

#[test]
#[should_panic(expected = "double free of the block of order 4 at frame 0x100")]
fn a_block_without_a_list_that_is_freed_twice_is_caught_at_once() {
    free_twice(&world_of(512, 1), 4);
}

#[test]
#[should_panic(expected = "double free of the block of order 3 at frame 0x100")]
fn a_block_freed_twice_into_one_list_is_caught_when_that_is_drained() {
    let world = world_of(512, 1);
    free_twice(&world, 3);
    world.frames().drain_all_pages();
}

fn free_twice(world: &World, of: u8) {
    let raw = world.frames().alloc_pages(Gfp::KERNEL, order(of)).expect("a block").into_raw();
    for _ in 0..2 {
        // SAFETY: violated the second time, on purpose: the allocator only changes its own
        // metadata.
        drop(unsafe { Folio::from_raw(world.frames(), raw) });
    }
}

#[test]
#[should_panic(expected = "is not a single page")]
fn a_block_is_no_page() {
    let world = world_of(512, 1);
    let raw = world.frames().alloc_pages(Gfp::KERNEL, order(1)).expect("a block").into_raw();
    // SAFETY: 1. returned by `into_raw`; this is its first use.
    drop(unsafe { Page::from_raw(world.frames(), raw) });
}

#[test]
fn bytes_of_a_page_are_its_own() {
    // Miri takes a minute for all bytes.
    let step = if cfg!(miri) { 97 } else { 1 };
    let memory = [region(NORMAL, 64, 0)];
    let reserved = [reserved(NORMAL + 32, 32)];
    let config = Config { reserved: &reserved, ..Config::new(&memory, 1) };
    let world = World::on(Machine::with_memory(1, NORMAL, 64), &config);
    let mut slots = holes(16);
    assert_eq!(world.frames().alloc_pages_bulk(Gfp::KERNEL, &mut slots), 16);
    for (byte, page) in (0..).zip(slots.iter_mut().flatten()) {
        page.as_bytes_mut().fill(byte);
    }
    let mut block = world.frames().alloc_pages(Gfp::KERNEL, order(2)).expect("a block");
    block.as_bytes_mut().fill(0xff);
    for (byte, page) in (0..).zip(slots.iter_mut().flatten()) {
        assert!(page.as_bytes().iter().step_by(step).all(|&b| b == byte));
    }
    world.frames().release_pages(&mut slots);
    drop(block);
    let mut slots = holes(16);
    assert_eq!(world.frames().alloc_pages_bulk(Gfp::KERNEL | Gfp::ZERO, &mut slots), 16);
    assert!(
        slots.iter().flatten().all(|page| page.as_bytes().iter().step_by(step).all(|&b| b == 0))
    );
    let shared = slots[0].take().expect("a page").share();
    assert_eq!(shared.clone().as_bytes(), shared.as_bytes());
    let block = world.frames().alloc_pages(Gfp::KERNEL | Gfp::ZERO, order(3)).expect("a block");
    assert!(block.as_bytes().iter().step_by(step).all(|&b| b == 0));
}

/// Runs `body` and returns the most frames that moved between zones and lists in one go.
fn most_moved_at_once(frames: Frames<'_>, body: impl FnOnce()) -> u64 {
    let mut last = frames.vmstat().nr_free_pages;
    let mut most = 0;
    let mut watch = || {
        let now = frames.vmstat().nr_free_pages;
        most = most.max(now.abs_diff(last));
        last = now;
    };
    interrupted_by(&mut watch, body);
    watch();
    most
}

/// One call for a gibibyte kept interrupts off for so long that Linux's watchdog barked.
#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn locks_are_held_for_a_bounded_number_of_frames_whatever_the_request() {
    const NR: usize = 100_000;
    /// Pages that move before a CPU's lists are released.
    const PAGES_PER_HOLD: usize = 512;
    let world = world_of(200 * PAGEBLOCK_NR_PAGES as u64, 1);
    let frames = world.frames();
    let bounded = |body: &mut dyn FnMut()| {
        let (pins, sections) = (nr_pins(), irq_sections());
        let most = most_moved_at_once(frames, body);
        assert!(most <= 512, "{most} frames moved while a lock was held");
        let (pins, sections) = (nr_pins() - pins, irq_sections() - sections);
        assert!(pins >= NR / PAGES_PER_HOLD, "the CPU was released only {pins} times");
        assert!(sections <= NR / 64, "{sections} trips to the zone");
    };
    let mut slots = holes(NR);
    bounded(&mut || assert_eq!(frames.alloc_pages_bulk(Gfp::KERNEL, &mut slots), NR));
    bounded(&mut || assert_eq!(frames.release_pages(&mut slots), NR));
    slots[NR / 2] = frames.alloc_page(Gfp::KERNEL);
    bounded(&mut || assert_eq!(frames.alloc_pages_bulk(Gfp::KERNEL, &mut slots), NR));
    drop(slots);
    let mut list = PageList::new(frames);
    bounded(&mut || assert_eq!(frames.alloc_pages_bulk_list(Gfp::KERNEL, NR, &mut list), NR));
    bounded(&mut || assert_eq!(free_pages_bulk(&mut list), NR));
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn a_shattered_zone_is_held_for_a_bounded_number_of_words() {
    /// Frames that share a word, and words that are touched while a zone lock is held.
    const WORD: u64 = 64;
    const NR: usize = if cfg!(miri) { 90 } else { 900 };
    const NR_WORDS: u64 = if cfg!(miri) { 100 } else { 1024 };
    let memory = [region(NORMAL, NR_WORDS * WORD, 0)];
    let min_free_bytes = Some(0);
    let config = Config { min_free_bytes, watermark_scale_factor: 0, ..Config::new(&memory, 1) };
    let world = World::new(&config);
    let frames = world.frames();
    let mut all: Vec<_> = core::iter::from_fn(|| frames.alloc_page(Gfp::KERNEL)).collect();
    assert_eq!(all.len() as u64, NR_WORDS * WORD);
    all.retain(|page| page.pfn().value() % WORD != page.pfn().value() / WORD % WORD);
    frames.drain_all_pages();
    let mut slots = holes(NR);
    let most = most_moved_at_once(frames, || {
        assert_eq!(frames.alloc_pages_bulk(Gfp::KERNEL, &mut slots), NR);
        assert_eq!(frames.release_pages(&mut slots), NR);
        frames.drain_all_pages();
    });
    assert!(most <= 64, "{most} words were touched while a lock was held");
}
