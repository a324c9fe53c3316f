//! A second mapping: page tables out of bulk-allocated pages, for pages that are bulk-allocated too.

use core::ptr;

use alloc::vec::Vec;

use pagemill::units::PAGE_SIZE;
use pagemill::{AllocPages, Gfp};

use crate::cpu;
use crate::direct_map::{BASE, PRESENT_WRITABLE};
use crate::frames::{FRAMES, Frame};

/// Where the window begins: behind the 512 GiB of the direct map, with a root entry of its own.
const WINDOW: u64 = BASE + (512 << 30);
const ROOT_ENTRY: usize = 257;
/// Pages in the window: a table full of them and some of the next.
const NR_PAGES: usize = 700;
const NR_LEAVES: usize = NR_PAGES.div_ceil(512);

/// What the CPU notes in an entry of a page that was written.
const DIRTY: u64 = 1 << 6;

unsafe extern "C" {
    /// The root of the page tables.
    static mut boot_root: [u64; 512];
}

/// Maps pages in reverse order, reads and writes them through the mapping, and takes it down.
pub(super) fn check() {
    let mut pages: Vec<Option<Frame>> = (0..NR_PAGES).map(|_| None).collect();
    assert!(FRAMES.alloc_pages_bulk(Gfp::KERNEL, &mut pages) == NR_PAGES, "pages for the window");
    for (page, number) in pages.iter_mut().flatten().zip(0_u64..) {
        page.as_bytes_mut()[..8].copy_from_slice(&number.to_le_bytes());
    }
    let mut tables: [Option<Frame>; 2 + NR_LEAVES] = [const { None }; 2 + NR_LEAVES];
    let nr_tables = tables.len();
    let filled = FRAMES.alloc_pages_bulk(Gfp::KERNEL | Gfp::ZERO, &mut tables);
    assert!(filled == nr_tables, "pages for the tables");
    link(&mut tables, &pages);
    for place in 0..NR_PAGES {
        use_through_window(place);
    }
    for (page, number) in pages.iter().flatten().zip(0_u64..) {
        let word = &page.as_bytes()[8..16];
        assert!(word == (!number).to_le_bytes(), "page {number} was not written through");
    }
    let leaves = tables[2..].iter().flatten().flat_map(|table| table.as_bytes().chunks_exact(8));
    let dirty = leaves.filter(|entry| entry[0] & DIRTY.to_le_bytes()[0] != 0).count();
    assert!(dirty == NR_PAGES, "the CPU marked {dirty} of {NR_PAGES} entries as written");
    unlink();
    assert!(FRAMES.release_pages(&mut tables) == nr_tables, "the tables are freed");
    assert!(FRAMES.release_pages(&mut pages) == NR_PAGES, "the pages are freed");
    println!("{NR_PAGES} pages read and written through {nr_tables} page tables of our own");
}

/// Fills the tables: the first two lead to the leaves, these to the pages, the last one first.
fn link(tables: &mut [Option<Frame>], pages: &[Option<Frame>]) {
    let address = |page: &Option<Frame>| page.as_ref().expect("filled").phys_addr().value();
    let addresses: Vec<u64> = tables.iter().map(address).collect();
    set(&mut tables[0], 0, addresses[1]);
    for (index, &leaf) in addresses[2..].iter().enumerate() {
        set(&mut tables[1], index, leaf);
    }
    for (place, page) in pages.iter().rev().enumerate() {
        set(&mut tables[2 + place / 512], place % 512, address(page));
    }
    set_root(addresses[0] | PRESENT_WRITABLE);
}

fn set(table: &mut Option<Frame>, index: usize, address: u64) {
    let entry = address | PRESENT_WRITABLE;
    let table = table.as_mut().expect("filled");
    table.as_bytes_mut()[index * 8..][..8].copy_from_slice(&entry.to_le_bytes());
}

/// Checks the number in the page at `place` of the window, and writes its complement behind it.
fn use_through_window(place: usize) {
    let word = pointer(place).cast::<u64>();
    // SAFETY: 1. mapped: `link` did so. 2. nobody else uses the page; its owner is the caller.
    let number = unsafe { ptr::read_volatile(word) };
    assert!(number == (NR_PAGES - 1 - place) as u64, "place {place} shows page {number}");
    // SAFETY: 1. and 2. as above; 8 bytes further is the same page.
    unsafe { ptr::write_volatile(word.wrapping_add(1), !number) };
}

fn pointer(place: usize) -> *mut u8 {
    let start = usize::try_from(WINDOW).expect("addresses have 64 bits");
    ptr::with_exposed_provenance_mut(start + place * PAGE_SIZE)
}

fn unlink() {
    set_root(0);
    for place in 0..NR_PAGES {
        cpu::forget_translation(pointer(place).addr() as u64);
    }
}

fn set_root(entry: u64) {
    let place = (&raw mut boot_root).cast::<u64>().wrapping_add(ROOT_ENTRY);
    // SAFETY: 1. valid: the root is the boot code's table of 512 entries, of which this is one. 2.
    // no other CPU uses what it maps: only this check knows of the window.
    unsafe { ptr::write_volatile(place, entry) };
    cpu::forget_translation(WINDOW);
}
