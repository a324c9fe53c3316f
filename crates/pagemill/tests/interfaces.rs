//! The interfaces of other kernels, each by the call of ours that the kernel guide names for it.
//!
//! Each row of the table "Interfaces of other frameworks" names its test here; `each_row_has_its_test`
//! compares the two.

extern crate alloc;

use alloc::collections::BTreeSet;
use core::alloc::Layout;

use pagemill::contig::ContigRequest;
use pagemill::fragment::Carver;
use pagemill::handles::PfnError;
use pagemill::machine::DirectMap;
use pagemill::policy::{InterleaveCursor, NodeMask, Policy};
use pagemill::units::{NodeId, PAGE_SIZE, Pfn, PhysAddr};
use pagemill::{AllocPages, BulkRequest, Config, Folio, Gfp, Page, PageList};
use pagemill_testkit::{
    Frames, Machine, NORMAL, World, holes, order, pages, region, reserved, take_zeroed,
};

const GUIDE: &str = include_str!("../../../docs/kernel-guide.md");
const TESTS: &str = include_str!("interfaces.rs");

#[test]
fn each_row_has_its_test() {
    let (_, section) = GUIDE.split_once("## Interfaces of other frameworks").expect("the section");
    let (section, _) = section.split_once("\n## ").expect("another section follows");
    let cells = section.lines().filter_map(|line| line.strip_suffix(" |")?.rsplit_once("| "));
    let named = cells.map(|(_, name)| name.trim_matches('`'));
    let named: Vec<_> = named.filter(|name| *name != "test" && !name.starts_with("---")).collect();
    let tests = TESTS.split("#[test]\n").skip(1).filter_map(|text| text.split_once("fn "));
    let tests = tests.filter_map(|(_, text)| text.split('(').next());
    let tests: BTreeSet<_> = tests.filter(|name| *name != "each_row_has_its_test").collect();
    assert_eq!(named.len(), tests.len(), "a test that two rows name, or none");
    assert_eq!(named.into_iter().collect::<BTreeSet<_>>(), tests);
}

/// A zone without bytes and without watermarks.
fn world(nr_frames: u64) -> World {
    let memory = [region(NORMAL, nr_frames, 0)];
    let (min_free_bytes, watermark_scale_factor) = (Some(0), 0);
    World::new(&Config { min_free_bytes, watermark_scale_factor, ..Config::new(&memory, 2) })
}

/// Two nodes of 1,024 frames.
fn two_nodes() -> World {
    let memory = [region(NORMAL, 1024, 0), region(NORMAL + 1024, 1024, 1)];
    World::new(&Config::new(&memory, 1))
}

/// Memory with bytes, as the direct map of a kernel shows it.
fn with_bytes(nr_frames: usize) -> World {
    let memory = [region(NORMAL, nr_frames as u64, 0)];
    World::on(Machine::with_memory(1, NORMAL, nr_frames), &Config::new(&memory, 1))
}

/// Frees a range that `into_pfn` or `alloc_pfns_bulk` returned, once.
fn free(frames: Frames<'_>, start: Pfn, nr_pages: usize) -> Result<(), PfnError> {
    // SAFETY: 1. owned and given up: see above.
    unsafe { frames.free_pfn_range(start, nr_pages) }
}

/// Hands in reserved frames that nothing uses.
fn hand_in(world: &World, start: u64, nr_pages: usize) -> Result<(), PfnError> {
    // SAFETY: 1. unused: see above.
    unsafe { world.frames().hand_in(Pfn::new(start), nr_pages) }?;
    (0..nr_pages).for_each(|_| world.hand_in());
    Ok(())
}

/// Allocates by size and alignment in bytes, and returns the address.
fn alloc_layout(frames: Frames<'_>, layout: Layout) -> Option<PhysAddr> {
    let (nr, align) = (layout.size().div_ceil(PAGE_SIZE), layout.align().div_ceil(PAGE_SIZE));
    let (start, _nr) = frames.alloc_contig(Gfp::KERNEL, nr, align, None).ok()?.into_pfn();
    Some(start.start())
}

fn layout(nr_pages: usize, align_pages: usize) -> Layout {
    let sizes = (nr_pages * PAGE_SIZE, align_pages * PAGE_SIZE);
    Layout::from_size_align(sizes.0, sizes.1).expect("a power of two")
}

#[test]
fn ostd_alloc() {
    let world = world(2048);
    for (nr, align) in [(1, 1), (33, 1), (33, 64), (512, 512), (1500, 2)] {
        let address = alloc_layout(world.frames(), layout(nr, align)).expect("there is room");
        assert!(address.value().is_multiple_of((align * PAGE_SIZE) as u64));
        assert_eq!(world.nr_out(), nr as u64);
        free(world.frames(), address.pfn(), nr).expect("frames of the map");
    }
    assert_eq!(alloc_layout(world.frames(), layout(2049, 1)), None);
}

#[test]
fn ostd_dealloc() {
    let world = world(2048);
    let first = alloc_layout(world.frames(), layout(100, 1)).expect("there is room").pfn();
    for (at, nr) in [(99, 1), (0, 30), (50, 49), (30, 20)] {
        free(world.frames(), first.offset(at), nr).expect("frames of the map");
    }
    assert_eq!(world.nr_out(), 0);
}

#[test]
fn ostd_add_free_memory() {
    let memory = [region(NORMAL, 2048, 0)];
    let all = [reserved(NORMAL, 2048)];
    let world = World::new(&Config { reserved: &all, ..Config::new(&memory, 1) });
    let frames = world.frames();
    assert!(frames.alloc_page(Gfp::KERNEL).is_none());
    hand_in(&world, NORMAL + 17, 1500).expect("reserved frames");
    assert_eq!(frames.nr_free_pages(), 1500);
    assert!(frames.alloc_page(Gfp::KERNEL).is_some());
}

#[test]
fn axallocator_add_memory() {
    let memory = [region(NORMAL, 2048, 0)];
    let all = [reserved(NORMAL, 2048)];
    let world = World::new(&Config { reserved: &all, ..Config::new(&memory, 1) });
    for (at, nr) in [(0, 512), (1024, 300)] {
        hand_in(&world, NORMAL + at, nr).expect("reserved frames");
    }
    assert_eq!(world.frames().nr_free_pages(), 812);
    let outside = hand_in(&world, NORMAL + 2000, 100);
    assert!(matches!(outside, Err(PfnError::NotInMap { .. })), "{outside:?}");
}

#[test]
fn axallocator_alloc_pages() {
    let world = world(2048);
    for (nr, align) in [(1, 1), (3, 1), (7, 8), (1024, 1024)] {
        let range = world.frames().alloc_contig(Gfp::KERNEL, nr, align, None).expect("room");
        assert!(range.pfn().value().is_multiple_of(align as u64) && range.nr_pages() == nr);
    }
}

#[test]
fn axallocator_alloc_pages_at() {
    let world = world(2048);
    let start = Pfn::new(NORMAL + 333);
    let range = world.frames().alloc_contig_range(Gfp::KERNEL, start, 700).expect("free frames");
    assert_eq!((range.pfn(), range.nr_pages()), (start, 700));
    let last = start.offset(699);
    assert!(world.frames().alloc_contig_range(Gfp::KERNEL, last, 2).is_err(), "one is in use");
}

#[test]
fn axallocator_dealloc_pages() {
    let world = world(2048);
    let range = world.frames().alloc_contig(Gfp::KERNEL, 10, 1, None).expect("there is room");
    let (start, nr) = range.into_pfn();
    free(world.frames(), start, 4).expect("frames of the map");
    free(world.frames(), start.offset(4), nr - 4).expect("frames of the map");
    assert_eq!(world.nr_out(), 0);
}

#[test]
fn axallocator_total_pages() {
    let world = world(2048);
    let total = || world.frames().zone_info().map(|zone| zone.managed).sum::<u64>();
    let _kept = world.frames().alloc_contig(Gfp::KERNEL, 10, 1, None).expect("there is room");
    let available = world.frames().nr_free_pages();
    assert_eq!((total(), available, total() - available), (2048, 2038, 10));
}

#[test]
fn hermit_init() {
    // What the loader's map says: two ranges, of which the kernel has a part.
    let memory = [region(NORMAL, 1000, 0), region(NORMAL + 2048, 1000, 0)];
    let kernel = [reserved(NORMAL + 100, 50)];
    let world = World::new(&Config { reserved: &kernel, ..Config::new(&memory, 1) });
    assert_eq!(world.frames().nr_free_pages(), 1950);
}

#[test]
fn hermit_allocate() {
    let world = world(2048);
    for (nr, align) in [(1, 1), (5, 4), (512, 512)] {
        let address = alloc_layout(world.frames(), layout(nr, align)).expect("there is room");
        free(world.frames(), address.pfn(), nr).expect("frames of the map");
    }
}

#[test]
fn hermit_allocate_at() {
    let world = world(2048);
    let frames = world.frames();
    let start = Pfn::new(NORMAL + 5);
    let (start, nr) =
        frames.alloc_contig_range(Gfp::KERNEL, start, 20).expect("free frames").into_pfn();
    assert!(frames.alloc_contig_range(Gfp::KERNEL, start, nr).is_err(), "they are in use");
    free(frames, start, nr).expect("frames of the map");
}

#[test]
fn hermit_deallocate() {
    let world = world(2048);
    let start = alloc_layout(world.frames(), layout(70, 1)).expect("there is room").pfn();
    free(world.frames(), start, 70).expect("frames of the map");
    assert_eq!(world.nr_out(), 0);
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn x86_64_allocate_frame() {
    let world = world(3 << 18);
    let frames = world.frames();
    let small = frames.alloc_page(Gfp::KERNEL).expect("a frame of 4 KiB").into_pfn();
    let middle = frames.alloc_pages(Gfp::KERNEL, order(9)).expect("a frame of 2 MiB");
    assert!(middle.pfn().value().is_multiple_of(1 << 9));
    let large = frames.alloc_contig(Gfp::KERNEL, 1 << 18, 1 << 18, None).expect("1 GiB");
    assert!(large.pfn().value().is_multiple_of(1 << 18));
    free(frames, small, 1).expect("a frame of the map");
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn x86_64_deallocate_frame() {
    let world = world(3 << 18);
    let frames = world.frames();
    for nr in [1, 1 << 9, 1 << 18] {
        let (start, nr) = frames.alloc_contig(Gfp::KERNEL, nr, nr, None).expect("room").into_pfn();
        free(frames, start, nr).expect("frames of the map");
        assert_eq!(world.nr_out(), 0);
    }
}

#[test]
fn linux_alloc_page() {
    let world = world(1024);
    let page = world.frames().alloc_page(Gfp::KERNEL).expect("a page");
    assert_eq!(world.nr_out(), 1);
    drop(page);
    let pfn = world.frames().alloc_page(Gfp::ATOMIC).expect("a page").into_pfn();
    // SAFETY: 1. owned: `into_pfn` returned it.
    drop(unsafe { Page::from_pfn(world.frames(), pfn) }.expect("a frame of the map"));
}

#[test]
fn linux_alloc_pages() {
    let world = world(2048);
    for exponent in 0..=10 {
        let folio = world.frames().alloc_pages(Gfp::KERNEL, order(exponent)).expect("a block");
        assert!(folio.pfn().is_aligned(order(exponent)));
        let pfn = folio.into_pfn();
        // SAFETY: 1. owned: `into_pfn` returned it.
        let folio = unsafe { Folio::from_pfn(world.frames(), pfn, order(exponent)) };
        assert_eq!(folio.expect("frames of the map").order(), order(exponent));
    }
}

#[test]
fn linux_alloc_pages_node() {
    let world = two_nodes();
    for node in [0, 1].map(NodeId::new) {
        let page = world.frames().alloc_page_node(node, Gfp::KERNEL).expect("a page");
        let folio = world.frames().alloc_pages_node(node, Gfp::KERNEL, order(2)).expect("a block");
        assert_eq!((page.node(), folio.node()), (node, node));
    }
}

#[test]
fn linux_get_free_pages() {
    let world = with_bytes(64);
    let frames = world.frames();
    let block = frames.alloc_pages(Gfp::KERNEL, order(2)).expect("a block");
    assert_eq!(block.as_bytes().as_ptr(), frames.platform().frame_ptr(block.pfn()).as_ptr());
    free(frames, block.into_pfn(), 4).expect("frames of the map");
}

#[test]
fn linux_get_zeroed_page() {
    let world = world(64);
    let page = world.frames().alloc_page(Gfp::KERNEL | Gfp::ZERO).expect("a page");
    assert_eq!(take_zeroed(), [page.pfn().value()]);
}

#[test]
fn linux_get_dma_pages() {
    let memory = [region(0x800, 0x1000, 0)];
    let world = World::new(&Config { zone_dma: true, ..Config::new(&memory, 1) });
    let block = world.frames().alloc_pages(Gfp::KERNEL | Gfp::DMA, order(3)).expect("a block");
    assert!(block.phys_addr().value() < 16 << 20);
}

#[test]
fn linux_alloc_pages_exact() {
    let world = with_bytes(256);
    let frames = world.frames();
    let bytes = 5 * PAGE_SIZE - 100;
    let mut range =
        frames.alloc_contig(Gfp::KERNEL, bytes.div_ceil(PAGE_SIZE), 1, None).expect("room");
    range.as_bytes_mut().fill(1);
    let (start, nr) = range.into_pfn();
    assert_eq!((nr, world.nr_out()), (5, 5));
    free(frames, start, nr).expect("frames of the map");
}

#[test]
fn linux_alloc_pages_exact_nid() {
    let world = two_nodes();
    let node = Some(NodeId::new(1));
    let request = ContigRequest { node, ..ContigRequest::new(Gfp::KERNEL, 5) };
    let range = world.frames().alloc_contig_with(&request).expect("there is room");
    assert_eq!((range.node(), range.nr_pages()), (NodeId::new(1), 5));
}

#[test]
fn linux_folio_alloc() {
    let world = two_nodes();
    let cursor = InterleaveCursor::default();
    let request = BulkRequest {
        order: order(2),
        policy: Policy::Interleave(NodeMask::of(&[0, 1].map(NodeId::new)), &cursor),
        ..BulkRequest::new(Gfp::HIGHUSER_MOVABLE)
    };
    let mut folios: Vec<Option<Folio<_>>> = vec![None, None];
    assert_eq!(world.frames().bulk_fill(&request, &mut folios).new, 2);
    let nodes: BTreeSet<_> = folios.iter().flatten().map(|folio| folio.node().value()).collect();
    assert_eq!(nodes.into_iter().collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn linux_alloc_pages_bulk() {
    let world = world(1024);
    let mut slots = holes(64);
    assert_eq!(world.frames().alloc_pages_bulk(Gfp::KERNEL, &mut slots), 64);
    let mut pfns = [Pfn::new(0); 64];
    assert_eq!(world.frames().alloc_pfns_bulk(Gfp::KERNEL, &mut pfns), 64);
    // SAFETY: 1. owned: allocated above, and freed once.
    unsafe { world.frames().free_pfns(&pfns) }.expect("frames of the map");
}

#[test]
fn linux_alloc_pages_bulk_list() {
    let world = world(1024);
    let mut list = PageList::new(world.frames());
    assert_eq!(world.frames().alloc_pages_bulk_list(Gfp::KERNEL, 64, &mut list), 64);
    assert_eq!(list.len(), 64);
}

#[test]
fn linux_alloc_pages_bulk_node() {
    let world = two_nodes();
    let node = NodeId::new(1);
    let mut slots = holes(8);
    assert_eq!(world.frames().alloc_pages_bulk_node(node, Gfp::KERNEL, &mut slots), 8);
    assert!(slots.iter().flatten().all(|page| page.node() == node));
}

#[test]
fn linux_alloc_pages_bulk_mempolicy() {
    let world = two_nodes();
    let cursor = InterleaveCursor::default();
    let policy = Policy::Interleave(NodeMask::of(&[0, 1].map(NodeId::new)), &cursor);
    let mut slots = holes(8);
    assert_eq!(world.frames().alloc_pages_bulk_mempolicy(policy, Gfp::KERNEL, &mut slots), 8);
    let on_first = slots.iter().flatten().filter(|page| page.node() == NodeId::new(0)).count();
    assert_eq!(on_first, 4);
}

#[test]
fn linux_release_pages() {
    let world = world(1024);
    let mut slots = holes(64);
    world.frames().alloc_pages_bulk(Gfp::KERNEL, &mut slots);
    assert_eq!(world.frames().release_pages(&mut slots), 64);
    assert_eq!(world.nr_out(), 0);
}

#[test]
fn linux_split_page() {
    let world = world(1024);
    let block = world.frames().alloc_pages(Gfp::KERNEL, order(3)).expect("a block");
    let first = block.pfn();
    let single: Vec<_> = block.split().map(Page::into_pfn).collect();
    assert!(single.iter().copied().eq((0..8).map(|at| first.offset(at))));
    for pfn in single {
        free(world.frames(), pfn, 1).expect("a frame of the map");
    }
}

#[test]
fn linux_free_reserved_area() {
    let memory = [region(NORMAL, 1024, 0)];
    let init = [reserved(NORMAL + 10, 300)];
    let world = World::new(&Config { reserved: &init, ..Config::new(&memory, 1) });
    hand_in(&world, NORMAL + 10, 300).expect("reserved frames");
    assert_eq!(world.frames().nr_free_pages(), 1024);
}

#[test]
fn linux_drain_all_pages() {
    let world = world(1024);
    drop(world.frames().alloc_page(Gfp::KERNEL));
    let listed = |cpu: u32| {
        let lists = world.frames().pcp_info().filter(|list| list.cpu.value() == cpu);
        lists.map(|list| list.count).sum::<usize>()
    };
    let nr = listed(0);
    assert!(nr > 0);
    assert_eq!(world.frames().drain_pages(pagemill::units::CpuId::new(0)), nr);
    assert_eq!(world.frames().drain_all_pages(), 0);
}

#[test]
fn linux_alloc_contig_range() {
    let world = world(2048);
    let start = Pfn::new(NORMAL + 100);
    let range = world.frames().alloc_contig_range(Gfp::KERNEL, start, 600).expect("free frames");
    let (start, nr) = range.into_pfn();
    free(world.frames(), start, 200).expect("frames of the map");
    free(world.frames(), start.offset(200), nr - 200).expect("frames of the map");
    assert_eq!(world.nr_out(), 0);
}

#[test]
fn linux_alloc_contig_pages() {
    let world = two_nodes();
    let request = ContigRequest {
        node: Some(NodeId::new(1)),
        limit: Some(Pfn::new(NORMAL + 1500).start()),
        ..ContigRequest::new(Gfp::KERNEL | Gfp::THISNODE, 300)
    };
    let range = world.frames().alloc_contig_with(&request).expect("there is room");
    assert_eq!((range.nr_pages(), range.node()), (300, NodeId::new(1)));
    assert!(range.phys_addr().value() + pages(300) <= Pfn::new(NORMAL + 1500).start().value());
}

#[test]
fn linux_page_frag_alloc_align() {
    let world = with_bytes(64);
    let page = world.frames().alloc_page(Gfp::KERNEL).expect("a page");
    let mut carver = Carver::new(page);
    let (one, other) = (carver.carve(100, 64), carver.carve(100, 64));
    let (one, other) = (one.expect("there is room"), other.expect("there is room"));
    drop(carver);
    drop(one);
    assert_eq!(world.frames().vmstat().pgfree, 0, "a piece is in use");
    drop(other);
    assert_eq!(world.nr_out(), 0);
}

#[test]
fn linux_get_pfnblock_migratetype() {
    let world = world(1024);
    let frames = world.frames();
    let pfn = frames.alloc_page(Gfp::HIGHUSER_MOVABLE).expect("a page").into_pfn();
    let listed = || {
        let is_movable = |list: &pagemill::stats::PcpInfo| list.migratetype.index() == 1;
        frames.pcp_info().filter(is_movable).map(|list| list.count).sum::<usize>()
    };
    let before = listed();
    free(frames, pfn, 1).expect("a frame of the map");
    assert_eq!(listed(), before + 1, "it returned to the list of movable pages");
}
