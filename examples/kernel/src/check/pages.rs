//! Single pages, pages in bulk and blocks: each is there once, whole, and its owner's alone.

use alloc::vec::Vec;

use pagemill::handles::free_pages_bulk;
use pagemill::units::PAGE_SIZE;
use pagemill::{AllocPages, Gfp, Order, PageList};

use crate::content;
use crate::frames::{FRAMES, Frame};

/// Checks each way to allocate.
pub(super) fn check() {
    let singles = single_pages(1000);
    let slots: usize = [1, 2, 63, 64, 65, 512].map(slots_with_holes).into_iter().sum();
    let listed: usize = [1, 64, 700].map(list).into_iter().sum();
    zeroes(200);
    let blocks = Order::all().map(block).count();
    println!("{singles} single, {slots} by array, {listed} by list, {blocks} orders; zeroed: 200");
}

fn single_pages(nr: usize) -> usize {
    let mut pages: Vec<Frame> = Vec::new();
    pages.extend((0..nr).map_while(|_| FRAMES.alloc_page(Gfp::KERNEL)));
    mark_then_check(pages.iter_mut(), nr)
}

/// Fills `nr` slots, frees every third page, and fills the holes.
fn slots_with_holes(nr: usize) -> usize {
    let mut slots: Vec<Option<Frame>> = (0..nr).map(|_| None).collect();
    fill(&mut slots);
    for page in slots.iter_mut().flatten() {
        content::mark(page, 1);
    }
    for hole in slots.iter_mut().step_by(3) {
        *hole = None;
    }
    fill(&mut slots);
    for (page, index) in slots.iter_mut().flatten().zip(0..) {
        if index % 3 == 0 {
            content::mark(page, 1);
        }
    }
    slots.iter().flatten().for_each(|page| content::check(page, 1));
    assert!(FRAMES.release_pages(&mut slots) == nr, "all {nr} slots held a page");
    nr
}

fn fill(slots: &mut [Option<Frame>]) {
    let filled = FRAMES.alloc_pages_bulk(Gfp::KERNEL, slots);
    assert!(filled == slots.len(), "{filled} of {} slots are filled", slots.len());
}

fn list(nr: usize) -> usize {
    let mut list = PageList::new(FRAMES);
    let taken = FRAMES.alloc_pages_bulk_list(Gfp::KERNEL, nr, &mut list);
    assert!(taken == nr && list.len() == nr, "{taken} of {nr} pages are on the list");
    let mut pages: Vec<Frame> = list.by_ref().collect();
    mark_then_check(pages.iter_mut(), nr);
    list.extend(pages);
    assert!(free_pages_bulk(&mut list) == nr, "an owned page is freed");
    nr
}

/// Marks all pages before it checks the first, so that a frame handed out twice shows.
fn mark_then_check<'a>(pages: impl Iterator<Item = &'a mut Frame>, nr: usize) -> usize {
    let mut marked: Vec<&mut Frame> = Vec::new();
    for page in pages {
        content::mark(page, 2);
        marked.push(page);
    }
    assert!(marked.len() == nr, "{} of {nr} pages", marked.len());
    marked.iter().for_each(|page| content::check(page, 2));
    nr
}

/// Dirties pages, frees them, and asks for zeroed ones, which are likely the same.
fn zeroes(nr: usize) {
    let mut slots: Vec<Option<Frame>> = (0..nr).map(|_| None).collect();
    fill(&mut slots);
    slots.iter_mut().flatten().for_each(|page| page.as_bytes_mut().fill(0xff));
    FRAMES.release_pages(&mut slots);
    let filled = FRAMES.alloc_pages_bulk(Gfp::KERNEL | Gfp::ZERO, &mut slots);
    assert!(filled == nr, "{filled} of {nr} zeroed pages");
    for page in slots.iter().flatten() {
        assert!(page.as_bytes() == &[0; PAGE_SIZE], "{page:?} is not zeroed");
    }
    FRAMES.release_pages(&mut slots);
}

/// Allocates a block, uses its two ends, and frees one half of it as single pages.
fn block(order: Order) {
    let mut block = FRAMES.alloc_pages(Gfp::KERNEL, order).expect("a block of every order");
    assert!(block.pfn().is_aligned(order), "{block:?} is not aligned");
    let bytes = block.as_bytes_mut();
    assert!(bytes.len() == PAGE_SIZE << order.value(), "{} bytes", bytes.len());
    bytes[0] = 1;
    bytes[bytes.len() - 1] = 2;
    let mut pages = block.split();
    assert!(pages.len() == order.nr_pages(), "{pages:?}");
    pages.by_ref().take(order.nr_pages() / 2).for_each(drop);
}
