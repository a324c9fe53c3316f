//! The clauses of the bulk interface's contract, one test each.
//!
//! If Linux once violated a clause, the test names the commit that fixed it.

use pagemill::gfp::ZoneKind;
use pagemill::handles::free_pages_bulk;
use pagemill::stats::VmStat;
use pagemill::units::NodeId;
use pagemill::{AllocPages, Config, Gfp, Page, PageList};
use pagemill_testkit::{
    Frames, Machine, NORMAL, Slots, World, holes, irq_sections, order, region, set_cpu,
};

fn roomy_world() -> World {
    let memory = [region(NORMAL, 4096, 0)];
    World::new(&Config::new(&memory, 2))
}

/// Takes pages until the zone has `nr_free` left, whatever its watermarks say.
fn take_until<'w>(
    world: &'w World,
    kind: ZoneKind,
    gfp: Gfp,
    nr_free: u64,
) -> Vec<Page<Frames<'w>>> {
    let mut taken = Vec::new();
    loop {
        // Asked seldom: it is a walk over the zone. A page from a list leaves the zone as it is.
        let surplus = world.zone(0, kind).nr_free_pages.saturating_sub(nr_free);
        if surplus == 0 {
            break;
        }
        for _ in 0..surplus {
            let page = world.frames().alloc_page(gfp | Gfp::MEMALLOC);
            taken.push(page.expect("the reserves may be used"));
        }
    }
    assert_eq!(world.zone(0, kind).nr_free_pages, nr_free);
    taken
}

/// Makes slots from a picture: `P` is a page, anything else a hole.
fn slots<'w>(frames: Frames<'w>, picture: &str) -> Slots<'w> {
    let page = |slot| match slot {
        'P' => Some(frames.alloc_page(Gfp::KERNEL | Gfp::MEMALLOC).expect("a page")),
        _ => None,
    };
    picture.chars().map(page).collect()
}

fn picture(slots: &Slots<'_>) -> String {
    slots.iter().map(|slot| if slot.is_some() { 'P' } else { '.' }).collect()
}

fn nr_allocated(stat: &VmStat) -> u64 {
    stat.pgalloc.iter().sum()
}

/// Linux returned 0 for a full array once (`ff4b2b4014cb`), and who waited for a full one hung.
#[test]
fn a_full_slice_returns_its_length_and_costs_nothing() {
    let world = roomy_world();
    let mut full = slots(world.frames(), "PPPPP");
    let (before, sections) = (world.frames().vmstat(), irq_sections());
    assert_eq!(world.frames().alloc_pages_bulk(Gfp::KERNEL, &mut full), 5);
    assert_eq!((world.frames().vmstat(), irq_sections()), (before, sections));
    world.frames().release_pages(&mut full);
}

#[test]
fn an_empty_slice_and_a_list_for_none_give_nothing_and_cost_nothing() {
    let world = roomy_world();
    let before = world.frames().vmstat();
    let mut list = PageList::new(world.frames());
    assert_eq!(world.frames().alloc_pages_bulk(Gfp::KERNEL, &mut []), 0);
    assert_eq!(world.frames().alloc_pages_bulk_list(Gfp::KERNEL, 0, &mut list), 0);
    assert_eq!(world.frames().vmstat(), before);
}

/// Linux read one element past a full array once (`b3b64ebd3822`).
#[test]
fn nothing_behind_the_slice_is_touched() {
    let world = roomy_world();
    let mut all = slots(world.frames(), "PPP.....");
    assert_eq!(world.frames().alloc_pages_bulk(Gfp::KERNEL, &mut all[..3]), 3);
    assert_eq!(picture(&all), "PPP.....");
    assert_eq!(world.frames().alloc_pages_bulk(Gfp::KERNEL, &mut all[1..6]), 5);
    assert_eq!(picture(&all), "PPPPPP..");
    world.frames().release_pages(&mut all);
}

/// A version of Linux's series gave up at the first page behind a hole.
#[test]
fn holes_are_filled_in_one_call_and_what_was_there_stays() {
    let world = roomy_world();
    for before in [".....PPPP", "PP.P..P.", ".P", "P.", "P..P", ".P.P.P.P"] {
        let mut slots = slots(world.frames(), before);
        let kept: Vec<_> = slots.iter().map(|slot| slot.as_ref().map(Page::pfn)).collect();
        let sections = irq_sections();
        assert_eq!(world.frames().alloc_pages_bulk(Gfp::KERNEL, &mut slots), before.len());
        assert!(irq_sections() <= sections + 1, "{before}: one trip to the zone at most");
        for (kept, slot) in kept.iter().zip(&slots) {
            let now = slot.as_ref().map(Page::pfn);
            assert!(now.is_some() && (kept.is_none() || *kept == now), "{before}");
        }
        assert_eq!(world.frames().release_pages(&mut slots), before.len());
    }
}

/// Linux used flags that were never set to choose the watermark, in its first versions.
#[test]
fn bulk_needs_strictly_more_than_low_and_the_length_of_the_slice() {
    let world = World::exact();
    let low = world.zone(0, ZoneKind::Normal).watermarks.low;
    let lens: &[usize] = if cfg!(miri) { &[7] } else { &[2, 7, 64, 100] };
    for &nr in lens {
        let at = low + nr as u64;
        for (nr_free, expected) in [(at, 1), (at + 1, nr)] {
            let taken = take_until(&world, ZoneKind::Normal, Gfp::KERNEL, nr_free);
            let mut slots = holes(nr);
            assert_eq!(world.frames().alloc_pages_bulk(Gfp::KERNEL, &mut slots), expected);
            drop((taken, slots));
            world.frames().drain_all_pages();
            let taken = take_until(&world, ZoneKind::Normal, Gfp::KERNEL, nr_free);
            let mut list = PageList::new(world.frames());
            assert_eq!(world.frames().alloc_pages_bulk_list(Gfp::KERNEL, nr, &mut list), expected);
            drop((taken, list));
            world.frames().drain_all_pages();
        }
    }
}

#[test]
fn the_claim_is_the_whole_slice_not_the_holes_in_it() {
    let world = World::exact();
    let low = world.zone(0, ZoneKind::Normal).watermarks.low;
    let mut slots = slots(world.frames(), "PPPPPP..");
    let taken = take_until(&world, ZoneKind::Normal, Gfp::KERNEL, low + 8);
    assert_eq!(world.frames().alloc_pages_bulk(Gfp::KERNEL, &mut slots), 7, "one at a time");
    drop(taken);
    world.frames().release_pages(&mut slots);
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn low_memory_is_kept_from_requests_that_could_use_more() {
    let memory = [region(NORMAL - 1024, 1024, 0), region(NORMAL, 512, 0)];
    let lowmem_reserve_ratio = [0, 4, 0, 0];
    let pcp_high = Some(1);
    let config = Config { pcp_high, lowmem_reserve_ratio, ..Config::new(&memory, 1) };
    let world = World::new(&config);
    let marks = world.zone(0, ZoneKind::Dma32).watermarks;
    assert_eq!(marks.lowmem_reserve[ZoneKind::Normal.index()], 512 / 4);
    let mut normal = take_until(&world, ZoneKind::Normal, Gfp::KERNEL, 0);
    normal.retain(|page| page.pfn().value() >= NORMAL);
    world.frames().drain_all_pages();
    for (nr_free, expected) in [(marks.low + 128 + 16, 1), (marks.low + 128 + 17, 16)] {
        let dma32 = take_until(&world, ZoneKind::Dma32, Gfp::KERNEL | Gfp::DMA32, nr_free);
        let mut slots = holes(16);
        assert_eq!(world.frames().alloc_pages_bulk(Gfp::KERNEL, &mut slots), expected);
        drop((dma32, slots));
        world.frames().drain_all_pages();
    }
    let dma32 = take_until(&world, ZoneKind::Dma32, Gfp::KERNEL | Gfp::DMA32, marks.low + 17);
    let mut slots = holes(16);
    let gfp = Gfp::KERNEL | Gfp::DMA32;
    assert_eq!(world.frames().alloc_pages_bulk(gfp, &mut slots), 16, "no reserve from itself");
    drop((normal, dma32, slots));
}

#[test]
fn one_page_fills_the_first_hole_and_the_result_counts_up_to_it() {
    let world = World::exact();
    let low = world.zone(0, ZoneKind::Normal).watermarks.low;
    for (before, after, result) in
        [("P.PP", "PPPP", 2), ("....", "P...", 1), ("PP...P", "PPP..P", 3), (".PP", "PPP", 1)]
    {
        let mut slots = slots(world.frames(), before);
        let taken = take_until(&world, ZoneKind::Normal, Gfp::KERNEL, low + 2);
        assert_eq!(world.frames().alloc_pages_bulk(Gfp::KERNEL, &mut slots), result);
        assert_eq!(picture(&slots), after);
        drop((taken, slots));
        world.frames().drain_all_pages();
    }
}

/// Linux returned 0 here once, whatever the slots held (`e5c15cea3391`, `061478438d04`).
#[test]
fn who_gets_nothing_is_told_how_many_slots_he_has() {
    let world = roomy_world();
    let frames = world.frames();
    for (before, result) in [("...", 0), ("PP..", 2), ("P.P.", 1), ("P.", 1)] {
        let mut slots = slots(frames, before);
        let stat = frames.vmstat();
        let gfp = Gfp::NOWAIT | Gfp::DMA;
        assert_eq!(frames.alloc_pages_bulk(gfp, &mut slots), result, "there is no zone DMA");
        assert_eq!(picture(&slots), before);
        assert_eq!(frames.vmstat(), stat);
        frames.release_pages(&mut slots);
    }
}

/// In Linux, the effort depended on slots that were full before (`!nr_account` since 2021).
#[test]
fn one_page_is_got_with_full_effort_also_if_other_slots_are_full() {
    let world = World::exact();
    let mut slots = slots(world.frames(), "PPP...");
    let mut taken = take_until(&world, ZoneKind::Normal, Gfp::KERNEL, 0);
    set_cpu(1);
    drop(taken.pop());
    set_cpu(0);
    drop(taken.pop());
    let mut other = holes(1);
    let no_wait = Gfp::NOWAIT | Gfp::NOMEMALLOC;
    assert_eq!(world.frames().alloc_pages_bulk(no_wait, &mut other), 1, "from its own list");
    world.frames().release_pages(&mut other);
    let gfp = Gfp::KERNEL | Gfp::MEMALLOC;
    assert_eq!(world.frames().alloc_pages_bulk(gfp, &mut slots), 4);
    assert_eq!(world.frames().alloc_pages_bulk(gfp, &mut slots), 5, "from CPU 1's list");
    assert_eq!(world.frames().alloc_pages_bulk(gfp, &mut slots), 5, "there is no more");
}

/// Linux counted one event for a whole batch once (`3e23060b2d0b`).
#[test]
fn bulk_and_its_single_page_are_counted_once_each() {
    let world = World::exact();
    let low = world.zone(0, ZoneKind::Normal).watermarks.low;
    let before = world.frames().vmstat();
    let mut many = holes(100);
    assert_eq!(world.frames().alloc_pages_bulk(Gfp::KERNEL, &mut many), 100);
    let stat = world.frames().vmstat();
    assert_eq!(nr_allocated(&stat) - nr_allocated(&before), 100);
    assert_eq!((stat.numa_hit, stat.numa_local), (100, 100));
    let taken = take_until(&world, ZoneKind::Normal, Gfp::KERNEL, low + 2);
    let before = world.frames().vmstat();
    let mut few = holes(2);
    assert_eq!(world.frames().alloc_pages_bulk(Gfp::KERNEL, &mut few), 1);
    let stat = world.frames().vmstat();
    assert_eq!(nr_allocated(&stat) - nr_allocated(&before), 1);
    assert_eq!(stat.numa_hit - before.numa_hit, 1);
    assert_eq!(world.frames().release_pages(&mut many), 100);
    assert_eq!(world.frames().vmstat().pgfree - stat.pgfree, 100);
    drop((taken, few));
}

/// Early versions of Linux's series prepared the pages again that were on the list before.
#[test]
fn pages_on_the_list_keep_their_order_and_bytes() {
    let memory = [region(NORMAL, 512, 0)];
    let config = Config::new(&memory, 1);
    let world = World::on(Machine::with_memory(1, NORMAL, 512), &config);
    let frames = world.frames();
    let mut list = PageList::new(frames);
    let mut pfns = Vec::new();
    for byte in 1..=3 {
        let mut page = frames.alloc_page(Gfp::KERNEL).expect("a page");
        page.as_bytes_mut().fill(byte);
        pfns.push(page.pfn());
        list.push(page);
    }
    assert_eq!(frames.alloc_pages_bulk_list(Gfp::KERNEL | Gfp::ZERO, 20, &mut list), 20);
    assert_eq!(list.len(), 23);
    for (byte, pfn) in (1..=3_u8).zip(pfns) {
        let page = list.pop().expect("a page of before");
        assert_eq!(page.pfn(), pfn);
        assert!(page.as_bytes().iter().all(|&b| b == byte));
    }
    assert!(list.all(|page| page.as_bytes().iter().all(|&b| b == 0)), "the new ones are zero");
}

#[test]
fn a_list_takes_one_page_of_a_request_that_nothing_could_hold() {
    let world = roomy_world();
    let mut list = PageList::new(world.frames());
    for nr in [4096, usize::MAX] {
        assert_eq!(world.frames().alloc_pages_bulk_list(Gfp::KERNEL, nr, &mut list), 1);
    }
    assert_eq!(free_pages_bulk(&mut list), 2);
}

#[test]
#[should_panic(expected = "belong to different allocators")]
fn a_list_of_another_allocator_is_refused() {
    let (one, other) = (roomy_world(), roomy_world());
    let mut list = PageList::new(other.frames());
    one.frames().alloc_pages_bulk_list(Gfp::KERNEL, 2, &mut list);
}

#[test]
fn bulk_stays_on_its_node_and_one_page_comes_from_the_next() {
    let memory = [region(NORMAL, 512, 0), region(NORMAL + 512, 512, 1)];
    let cpu_nodes = [NodeId::new(0)];
    let pcp_high = Some(1);
    let config = Config { cpu_nodes: &cpu_nodes, pcp_high, ..Config::new(&memory, 1) };
    let world = World::new(&config);
    let frames = world.frames();
    let taken = take_until(&world, ZoneKind::Normal, Gfp::KERNEL | Gfp::THISNODE, 0);
    let before = frames.vmstat();
    let mut slots = holes(8);
    assert_eq!(frames.alloc_pages_bulk(Gfp::KERNEL, &mut slots), 1);
    assert!(slots[0].as_ref().expect("one page").pfn().value() >= NORMAL + 512);
    let stat = frames.vmstat();
    assert_eq!(stat.numa_miss - before.numa_miss, 1);
    assert_eq!(stat.numa_other - before.numa_other, 1);
    let only_here = Gfp::KERNEL | Gfp::THISNODE;
    assert_eq!(frames.alloc_pages_bulk(only_here, &mut slots[1..]), 0);
    assert_eq!(frames.alloc_pages_bulk_node(NodeId::new(1), only_here, &mut slots), 8);
    drop((taken, slots));
}

#[test]
fn this_node_is_no_other_even_if_it_has_no_memory() {
    let memory = [region(NORMAL - 512, 512, 0), region(NORMAL, 512, 2)];
    let cpu_nodes = [0, 1].map(NodeId::new);
    let config = Config { cpu_nodes: &cpu_nodes, ..Config::new(&memory, 2) };
    let world = World::new(&config);
    let frames = world.frames();
    let only = Gfp::KERNEL | Gfp::THISNODE;
    for (node, gfp) in [(1, only), (2, only | Gfp::DMA32)] {
        let node = NodeId::new(node);
        assert!(frames.alloc_page_node(node, gfp).is_none());
        assert!(frames.alloc_pages_node(node, gfp, order(2)).is_none());
        assert_eq!(frames.alloc_pages_bulk_node(node, gfp, &mut holes(4)), 0);
        let mut list = PageList::new(frames);
        assert_eq!(frames.alloc_pages_bulk_list_node(node, gfp, 4, &mut list), 0);
        let elsewhere = gfp.difference(Gfp::THISNODE);
        assert!(frames.alloc_page_node(node, elsewhere).is_some());
        assert_eq!(frames.alloc_pages_bulk_node(node, elsewhere, &mut holes(4)), 4);
    }
}
