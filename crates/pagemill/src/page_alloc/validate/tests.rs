use alloc::vec::Vec;
use core::mem::ManuallyDrop;
use core::panic::Location;

use super::*;
use crate::account::table::AccountLimits;
use crate::alloc_pages::AllocPages;
use crate::base::gfp::Gfp;
use crate::base::migratetype::MigrateType;
use crate::base::units::{NodeId, Order, Pfn, PhysAddr};
use crate::config::config::{Config, MemoryRegion, ReservedRange};
use crate::page::account::Account;
use crate::page::page::Page;
use crate::page_alloc::setup::tests::{Machine, leaked};
use crate::percpu::slot::ListOrder;

/// Makes an allocator of two zones, one frame of which is reserved; it lives as long as the tests.
fn allocator() -> &'static PageAllocator<Machine> {
    const NORMAL: u64 = 1 << 20;
    let start = PhysAddr::new((NORMAL - 1024) << 12);
    let memory = [MemoryRegion { start, len_bytes: 2048 << 12, node: NodeId::new(0) }];
    let reserved = [ReservedRange { start, len_bytes: 4096 }];
    let config =
        Config { reserved: &reserved, nr_accounts: 2, page_owner: true, ..Config::new(&memory, 2) };
    leaked(&config)
}

type Frames = &'static PageAllocator<Machine>;

/// Puts pages on a per-CPU list.
fn push(frames: Frames, cpu: usize, list: ListId, pages: &[RawPage]) {
    let lists = frames.cpus()[cpu].try_visit(frames.platform());
    let mut lists = lists.expect("no thread uses them");
    for &page in pages {
        let order = ListOrder::of(page.order()).expect("an order with lists");
        lists.block_list(list, order).push(page);
    }
}

#[test]
fn an_allocator_in_use_is_valid() {
    let frames = allocator();
    assert_eq!(frames.validate(), Ok(()));
    let account = Account::open(frames, AccountLimits::NONE).unwrap();
    let mut slots: Vec<Option<Page<Frames>>> = (0..300).map(|_| None).collect();
    frames.fill(Gfp::KERNEL, &mut slots).unwrap();
    let folio = frames.alloc_pages(Gfp::DMA32, Order::new(3).unwrap()).unwrap();
    assert_eq!(frames.validate(), Ok(()));
    frames.release_pages(&mut slots[..100]);
    let shared = slots[200].take().unwrap().share();
    let other = shared.clone();
    assert_eq!(frames.validate(), Ok(()));
    drop((shared, other, account, folio, slots));
    assert_eq!(frames.validate(), Ok(()));
}

#[test]
fn each_book_that_is_wrong_is_found() {
    let spoils: [(Book, fn(Frames)); 13] = [
        (Book::ZoneManaged, |frames| frames.zones()[1].managed.add(1)),
        (Book::FrameReserved, |frames| {
            // As if the first frame had been freed without being handed in.
            let page = frames.alloc_page(Gfp::DMA32).unwrap().into_raw();
            let first = frames.zones()[0].facts.spans.iter().next().unwrap().start;
            push(frames, 1, page.list(), &[page.class().at(Pfn::new(first))]);
        }),
        (Book::Watermark, |frames| {
            let mut marks = frames.zones()[1].marks.get();
            marks.low += 1;
            frames.zones()[1].marks.set(&marks);
        }),
        (Book::HotZoneLimit, |frames| {
            let before = frames.zones()[1].marks.get();
            let mut marks = before;
            marks.low += 1;
            frames.zones()[1].marks.set(&marks);
            frames.cpus()[1].renew_hot_zones();
            frames.zones()[1].marks.set(&before);
        }),
        (Book::ListedClass, |frames| {
            let page = frames.alloc_page(Gfp::KERNEL).unwrap().into_raw();
            let other = ListId::new(1, MigrateType::Movable);
            push(frames, 0, other, &[page]);
        }),
        (Book::ListedOutside, |frames| {
            let page = frames.alloc_page(Gfp::KERNEL).unwrap().into_raw();
            push(frames, 0, page.list(), &[page.class().at(Pfn::new(7))]);
        }),
        (Book::ListedFree, |frames| {
            let page = frames.alloc_page(Gfp::KERNEL).unwrap().into_raw();
            let last = Pfn::new((1 << 20) + 1023);
            push(frames, 0, page.list(), &[page.class().at(last)]);
        }),
        (Book::ListedTwice, |frames| {
            let page = frames.alloc_page(Gfp::KERNEL).unwrap().into_raw();
            frames.owners().release(frames.frame_of(page));
            push(frames, 0, page.list(), &[page]);
            push(frames, 1, page.list(), &[page]);
        }),
        (Book::OwnerOfFree, |frames| {
            let last = frames.zones()[1].facts.spans.find((1 << 20) + 1023).unwrap();
            frames.owners().hold(last.frame((1 << 20) + 1023), Location::caller());
        }),
        (Book::OwnerOfFree, |frames| {
            let page = frames.alloc_page(Gfp::KERNEL).unwrap().into_raw();
            push(frames, 0, page.list(), &[page]);
        }),
        (Book::NrOwners, |frames| {
            let page = frames.alloc_page(Gfp::KERNEL).unwrap().into_raw();
            frames.owners().release(frames.frame_of(page));
        }),
        (Book::Charged, |frames| {
            let account = Account::open(frames, AccountLimits::NONE).unwrap();
            let mut payer = frames.accounts().pay_from(account.id()).unwrap();
            assert_eq!(payer.charge(1, 1, Gfp::KERNEL, |_| {}), 1);
            payer.hand_over(1);
            let _kept = ManuallyDrop::new(account);
        }),
        (Book::AccountUsers, |frames| {
            let account = Account::open(frames, AccountLimits::NONE).unwrap();
            let _kept = ManuallyDrop::new((frames.accounts().pay_from(account.id()), account));
        }),
    ];
    check(spoils);
}

#[test]
fn each_frame_of_a_block_in_a_list_is_checked() {
    check::<2>([
        (Book::ListedFree, |frames| {
            // A block of which only the second frame is free.
            let pages = [(); 2].map(|()| frames.alloc_page(Gfp::KERNEL).unwrap());
            let (even, odd): (Vec<_>, Vec<_>) =
                pages.into_iter().partition(|page| page.pfn().value().is_multiple_of(2));
            drop(odd);
            let even = even.into_iter().next().expect("the pages are adjacent").into_raw();
            frames.drain_all_pages();
            let class = Class::new(even.list(), Order::new(1).unwrap());
            push(frames, 1, even.list(), &[class.at(even.pfn())]);
        }),
        (Book::ListedTwice, |frames| {
            let block = frames.alloc_pages(Gfp::KERNEL, Order::new(1).unwrap()).unwrap().into_raw();
            let second = block.pfn().offset(1);
            push(frames, 0, block.list(), &[block]);
            push(frames, 1, block.list(), &[Class::new(block.list(), Order::ZERO).at(second)]);
        }),
    ]);
}

/// Checks that each spoiled book is the one that is found.
fn check<const N: usize>(spoils: [(Book, fn(Frames)); N]) {
    for (number, (book, spoil)) in spoils.into_iter().enumerate() {
        let frames = allocator();
        spoil(frames);
        let error = frames.validate().expect_err("a book is wrong");
        assert_eq!(error.book, book, "number {number}: {error}");
    }
}

#[test]
fn lists_in_use_are_reported() {
    let frames = allocator();
    let held = frames.cpus()[1].try_visit(frames.platform());
    let error = frames.validate().unwrap_err();
    assert_eq!((error.book, error.place), (Book::ListsInUse, Place::Cpu(CpuId::new(1))));
    drop(held);
    assert_eq!(frames.validate(), Ok(()));
}
