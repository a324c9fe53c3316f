//! The adapter for the crate `x86_64`: its mapper builds and frees page tables in frames of ours.

use pagemill::machine::DirectMap;
use pagemill::units::{PAGE_SIZE, Pfn};
use pagemill::{Gfp, PageAllocator};
use pagemill_adapters::paging::PagingFrames;
use pagemill_testkit::{Machine, Rng, World};
use x86_64::structures::paging::mapper::{CleanUp, MappedPageTable, Mapper, PageTableFrameMapping};
use x86_64::structures::paging::{
    FrameAllocator, FrameDeallocator, Page, PageSize, PageTable, PageTableFlags, PhysFrame,
    Size1GiB, Size2MiB, Size4KiB, Translate,
};
use x86_64::{PhysAddr, VirtAddr};

const FLAGS: PageTableFlags = PageTableFlags::PRESENT.union(PageTableFlags::WRITABLE);

/// The direct map of the test's machine.
struct Mapping<'w>(&'w PageAllocator<Machine>);

// SAFETY: 1. the pointer is the frame's memory: `DirectMap`.
unsafe impl PageTableFrameMapping for Mapping<'_> {
    fn frame_to_pointer(&self, frame: PhysFrame) -> *mut PageTable {
        let pfn = Pfn::new(frame.start_address().as_u64() / PAGE_SIZE as u64);
        self.0.platform().frame_ptr(pfn).cast().as_ptr()
    }
}

#[test]
fn pages_are_mapped_found_and_unmapped() {
    let world = World::with_memory(4096, 1);
    let mut frames = PagingFrames::new(world.frames(), Gfp::KERNEL);
    let mut root = PageTable::new();
    // SAFETY: 1. the root is empty, and all tables below it come from `frames`, which the mapping shows.
    let mut mapper = unsafe { MappedPageTable::new(&mut root, Mapping(world.frames())) };
    let mut rng = Rng::new(1);
    let mut mapped = Vec::new();
    for _ in 0..700 {
        // Over 64 GiB of addresses: most pages need tables of their own.
        let start = VirtAddr::new((rng.below(1 << 24) << 12) as u64);
        let page = Page::<Size4KiB>::from_start_address(start).unwrap();
        let Some(frame) = frames.allocate_frame() else { panic!("no frame") };
        // SAFETY: 1. nothing runs on these tables.
        match unsafe { mapper.map_to(page, frame, FLAGS, &mut frames) } {
            Ok(flush) => flush.ignore(),
            Err(error) => panic!("{error:?}"),
        }
        mapped.push((page, frame));
    }
    for &(page, frame) in &mapped {
        assert_eq!(mapper.translate_addr(page.start_address()), Some(frame.start_address()));
    }
    assert!(world.nr_out() > 700 + 600, "tables are frames too");
    for (page, frame) in mapped {
        let (unmapped, flush) = mapper.unmap(page).unwrap();
        flush.ignore();
        assert_eq!(unmapped, frame);
        // SAFETY: 1. unmapped, so nothing uses it.
        unsafe { frames.deallocate_frame(frame) };
    }
    // SAFETY: 1. no page is mapped, so no table is used.
    unsafe { mapper.clean_up(&mut frames) };
    assert_eq!(world.nr_out(), 0);
}

/// Allocates and frees a frame of one size, and returns its first page.
fn one<Z: PageSize>(frames: &mut PagingFrames<&PageAllocator<Machine>>) -> Option<PhysAddr> {
    let frame: PhysFrame<Z> = frames.allocate_frame()?;
    // SAFETY: 1. nothing uses it.
    unsafe { frames.deallocate_frame(frame) };
    Some(frame.start_address())
}

#[test]
fn frames_of_2_mib_come_from_the_list_of_the_cpu_and_return_to_it() {
    let world = World::with_memory(1 << 17, 1);
    let mut frames = PagingFrames::new(world.frames(), Gfp::KERNEL);
    let nr_listed = || -> usize {
        let lists = world.frames().pcp_info().filter(|list| list.order.value() == 9);
        lists.map(|list| list.count).sum()
    };
    assert_eq!(nr_listed(), 0);
    let first = one::<Size2MiB>(&mut frames);
    let nr = nr_listed();
    assert!(nr >= 512, "{nr} pages in the lists");
    assert_eq!(one::<Size2MiB>(&mut frames), first, "the block that was freed last");
    assert_eq!(nr_listed(), nr);
}

#[test]
fn frames_of_all_sizes_are_aligned_and_come_back() {
    // From 4 GiB on, without bytes.
    let world = World::bare(3 << 18);
    let mut frames = PagingFrames::new(world.frames(), Gfp::KERNEL);
    for _ in 0..3 {
        assert!(one::<Size4KiB>(&mut frames).is_some());
        assert!(one::<Size2MiB>(&mut frames).unwrap().is_aligned(Size2MiB::SIZE));
    }
    assert!(one::<Size1GiB>(&mut frames).unwrap().is_aligned(Size1GiB::SIZE));
    assert_eq!(world.nr_out(), 0);
}
