//! Page tables by the crate `x86_64`, whose mapper allocates and frees its tables and frames here.

use pagemill::Gfp;
use pagemill_adapters::paging::PagingFrames;
use x86_64::VirtAddr;
use x86_64::structures::paging::mapper::{CleanUp, OffsetPageTable};
use x86_64::structures::paging::{
    FrameAllocator, FrameDeallocator, Mapper, Page, PageTable, PageTableFlags, Size4KiB,
};

use crate::cpu;
use crate::direct_map::{self, BASE};
use crate::frames::{FRAMES, Frames, allocator};

/// Where the pages are mapped: behind the window of the check before, with a root entry of its own.
const START: u64 = BASE + (1024 << 30);
/// Pages that are mapped, each 1 GiB and 2 MiB behind the one before: most need tables of their own.
const NR_PAGES: u64 = 100;
const STRIDE: u64 = (1 << 30) + (2 << 20);

unsafe extern "C" {
    /// The root of the page tables.
    static mut boot_root: [u64; 512];
}

/// Maps pages, writes and reads them through the mapping, and unmaps them with their tables.
pub(super) fn check() {
    let before = allocator().nr_free_pages();
    let mut frames = PagingFrames::new(FRAMES, Gfp::KERNEL);
    let root = (&raw mut boot_root).cast::<PageTable>();
    // SAFETY: 1. valid and aligned: the boot code's table. 2. the only reference: only checks change the
    // root, one after the other.
    let root = unsafe { &mut *root };
    // SAFETY: 1. all memory is mapped from `BASE` on: `direct-map`. 2. the root is the one in use.
    let mut mapper = unsafe { OffsetPageTable::new(root, VirtAddr::new(BASE)) };
    for number in 0..NR_PAGES {
        map(&mut mapper, &mut frames, number);
    }
    let nr_tables = before - allocator().nr_free_pages() - NR_PAGES;
    assert!(nr_tables >= NR_PAGES, "{nr_tables} tables for {NR_PAGES} pages");
    for number in 0..NR_PAGES {
        unmap(&mut mapper, &mut frames, number);
    }
    let (first, last) = (page(0), page(NR_PAGES - 1));
    // SAFETY: 1. no page of the range is mapped, so no table of it is in use.
    unsafe { mapper.clean_up_addr_range(Page::range_inclusive(first, last), &mut frames) };
    cpu::forget_translation(START);
    assert!(allocator().nr_free_pages() == before, "the tables and the pages are freed");
    println!("{NR_PAGES} pages mapped by the crate x86_64, with {nr_tables} page tables");
}

fn page(number: u64) -> Page {
    Page::containing_address(VirtAddr::new(START + number * STRIDE))
}

/// Maps a new frame, and writes `number` to it through the mapping.
fn map(mapper: &mut OffsetPageTable<'_>, frames: &mut PagingFrames<Frames>, number: u64) {
    let frame = FrameAllocator::<Size4KiB>::allocate_frame(frames).expect("a frame");
    let flags = PageTableFlags::PRESENT | PageTableFlags::WRITABLE;
    // SAFETY: 1. a new frame at an address that nothing else uses.
    let mapped = unsafe { mapper.map_to(page(number), frame, flags, frames) };
    mapped.unwrap_or_else(|error| panic!("page {number}: {error:?}")).ignore();
    let word = page(number).start_address().as_mut_ptr::<u64>();
    // SAFETY: 1. just mapped, and owned.
    unsafe { word.write_volatile(number) };
}

/// Reads the number through the mapping and through the direct map, and frees the frame.
fn unmap(mapper: &mut OffsetPageTable<'_>, frames: &mut PagingFrames<Frames>, number: u64) {
    let start = page(number).start_address();
    // SAFETY: 1. mapped and owned.
    let seen = unsafe { start.as_ptr::<u64>().read_volatile() };
    let (frame, flush) =
        mapper.unmap(page(number)).unwrap_or_else(|error| panic!("page {number}: {error:?}"));
    flush.ignore();
    cpu::forget_translation(start.as_u64());
    let direct = direct_map::pointer(frame.start_address().as_u64()).cast::<u64>();
    // SAFETY: 1. `direct-map`. 2. owned.
    let direct = unsafe { direct.read_volatile() };
    assert!(seen == number && direct == number, "page {number} holds {seen} and {direct}");
    // SAFETY: 1. unmapped: nothing uses it.
    unsafe { frames.deallocate_frame(frame) };
}
