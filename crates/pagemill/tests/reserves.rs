//! Reserves hand out pages that fit the request, whichever pages they hold.

use pagemill::accounts::{Account, AccountLimits};
use pagemill::reserves::{LocalPages, Mempool};
use pagemill::units::NodeId;
use pagemill::{AllocPages, Config, Gfp, Page, PageVec};
use pagemill_testkit::{Frames, NORMAL, World, holes, region, set_account, take_zeroed};

/// First frame of the zone DMA32 of [`two_zones`].
const DMA32: u64 = 1 << 12;

/// An allocator with 1024 frames in each of the zones DMA32 and Normal, and room for an account.
fn two_zones() -> World {
    let memory = [region(DMA32, 1024, 0), region(NORMAL, 1024, 0)];
    World::new(&Config { nr_accounts: 1, ..Config::new(&memory, 1) })
}

fn is_low(page: &Page<Frames<'_>>) -> bool {
    page.pfn().value() < NORMAL
}

/// Makes a local reserve that holds eight pages of the zone Normal.
fn filled(frames: Frames<'_>) -> LocalPages<Frames<'_>, 16> {
    let mut local = LocalPages::new(frames);
    let pages = [(); 8].map(|()| frames.alloc_page(Gfp::KERNEL).expect("there are free pages"));
    for page in pages {
        assert!(!is_low(&page));
        local.free(page);
    }
    assert_eq!(local.len(), 8);
    local
}

#[test]
fn a_local_reserve_zeroes_pages_on_request() {
    let world = World::with_memory(256, 1);
    let frames = world.frames();
    let dirty = || {
        let mut page = frames.alloc_page(Gfp::KERNEL).unwrap();
        page.as_bytes_mut().fill(7);
        page
    };
    let mut local = LocalPages::<_, 8>::new(frames);
    let pages = [(); 5].map(|()| dirty());
    pages.into_iter().for_each(|page| local.free(page));
    let page = local.alloc(Gfp::KERNEL | Gfp::ZERO).unwrap();
    assert!(page.as_bytes().iter().all(|&byte| byte == 0));
    let mut vec = PageVec::<_, 8>::new(frames);
    assert!(vec.push(dirty()).is_ok());
    assert_eq!(local.alloc_bulk(Gfp::KERNEL | Gfp::ZERO, 6, &mut vec), 6);
    for nth in (0..7).rev() {
        let page = vec.pop().unwrap();
        let expected = if nth == 0 { 7 } else { 0 };
        assert!(page.as_bytes().iter().all(|&byte| byte == expected), "page {nth}");
    }
}

#[test]
fn a_local_reserve_does_not_serve_requests_for_a_zone() {
    let world = two_zones();
    let frames = world.frames();
    let mut local = filled(frames);
    let page = local.alloc(Gfp::KERNEL | Gfp::DMA32).unwrap();
    assert!(is_low(&page));
    let mut vec = PageVec::<_, 8>::new(frames);
    assert_eq!(local.alloc_bulk(Gfp::KERNEL | Gfp::DMA32, 4, &mut vec), 4);
    assert!(core::iter::from_fn(|| vec.pop()).all(|page| is_low(&page)));
    assert!(local.alloc(Gfp::KERNEL | Gfp::DMA).is_none(), "there is no zone DMA");
    assert_eq!(local.len(), 8);
}

#[test]
fn a_local_reserve_does_not_serve_requests_for_one_node() {
    let world = World::with_memory(2048, 2);
    let frames = world.frames();
    let mut local = LocalPages::<_, 16>::new(frames);
    local.free(frames.alloc_page_node(NodeId::new(1), Gfp::KERNEL | Gfp::THISNODE).unwrap());
    let page = local.alloc(Gfp::KERNEL | Gfp::THISNODE).unwrap();
    assert_eq!(page.node(), NodeId::new(0));
}

#[test]
fn pages_of_a_local_reserve_are_neither_charged_nor_movable() {
    let world = two_zones();
    let frames = world.frames();
    let account = Account::open(frames, AccountLimits::NONE).unwrap();
    set_account(Some(account.id()));
    let mut local = filled(frames);
    let page = local.alloc(Gfp::KERNEL_ACCOUNT).unwrap();
    let mut vec = PageVec::<_, 8>::new(frames);
    assert_eq!(local.alloc_bulk(Gfp::KERNEL_ACCOUNT, 4, &mut vec), 4);
    set_account(None);
    assert_eq!((account.usage().current, local.len()), (5, 8));
    local.free(page);
    assert_eq!((account.usage().current, local.len()), (4, 8));
    assert!(vec.push(frames.alloc_page(Gfp::KERNEL | Gfp::MOVABLE).unwrap()).is_ok());
    assert!(vec.push(frames.alloc_page(Gfp::KERNEL).unwrap()).is_ok());
    assert_eq!(local.free_bulk(&mut vec), 6);
    assert_eq!((account.usage().current, local.len()), (0, 9), "the plain page was kept");
}

#[test]
fn a_local_reserve_fills_slots_and_takes_their_pages_back() {
    let world = two_zones();
    let frames = world.frames();
    let mut local = filled(frames);
    let mut slots = holes(40);
    slots[3] = frames.alloc_page(Gfp::KERNEL | Gfp::MOVABLE);
    let there = slots[3].as_ref().map(Page::pfn);
    assert_eq!(local.alloc_into(Gfp::KERNEL, &mut slots[..8]), 7);
    assert_eq!((slots[3].as_ref().map(Page::pfn), local.len()), (there, 1));
    assert_eq!(local.alloc_into(Gfp::KERNEL, &mut slots), 32, "more than the reserve holds");
    assert!(slots.iter().all(Option::is_some));
    assert_eq!(local.alloc_into(Gfp::KERNEL, &mut slots), 0, "no slot is empty");
    assert_eq!(local.free_from(&mut slots), 40);
    assert!(slots.iter().all(Option::is_none) && (1..=16).contains(&local.len()));
    let nr = local.len();
    assert_eq!(local.into_iter().count(), nr);
}

#[test]
fn a_local_reserve_fills_slots_with_what_the_flags_choose() {
    let world = two_zones();
    let frames = world.frames();
    let account = Account::open(frames, AccountLimits::NONE).unwrap();
    set_account(Some(account.id()));
    let mut local = filled(frames);
    let mut slots = holes(12);
    assert_eq!(local.alloc_into(Gfp::KERNEL | Gfp::DMA32, &mut slots[..4]), 4);
    assert!(slots[..4].iter().flatten().all(is_low));
    assert_eq!(local.alloc_into(Gfp::KERNEL_ACCOUNT, &mut slots[..8]), 4);
    set_account(None);
    assert_eq!((account.usage().current, local.len()), (4, 8));
    take_zeroed();
    assert_eq!(local.alloc_into(Gfp::KERNEL | Gfp::ZERO, &mut slots), 4);
    let zeroed = slots[8..].iter().flatten().map(|page| page.pfn().value());
    assert!(zeroed.eq(take_zeroed()));
    assert_eq!(local.len(), 4);
    assert_eq!(local.free_from(&mut slots), 12);
    assert_eq!((account.usage().current, local.len()), (0, 12), "all but those charged");
}

#[test]
fn a_local_reserve_fills_as_many_slots_as_there_are_pages() {
    let world = World::with_memory(256, 1);
    let frames = world.frames();
    let mut local = LocalPages::<_, 16>::new(frames);
    let mut slots = holes(300);
    let got = local.alloc_into(Gfp::ATOMIC, &mut slots);
    assert!((1..=256).contains(&got) && local.is_empty(), "{got}");
    assert_eq!(slots.iter().flatten().count(), got);
    assert!(frames.alloc_page(Gfp::ATOMIC).is_none());
}

#[test]
fn a_mempool_keeps_no_page_of_another_zone() {
    let world = two_zones();
    let frames = world.frames();
    let pool = Mempool::new(frames, 4, Gfp::KERNEL | Gfp::DMA32).unwrap();
    world.fail_all(true);
    let mut low = holes(4);
    pool.alloc_bulk(Gfp::NOWAIT, &mut low, None).unwrap();
    world.fail_all(false);
    let mut high = holes(4);
    assert_eq!(frames.alloc_pages_bulk(Gfp::KERNEL, &mut high), 4);
    assert!(high.iter().flatten().all(|page| !is_low(page)));
    pool.free_bulk(&mut high);
    drop(low);
    world.fail_all(true);
    let mut slots = holes(4);
    let got = pool.alloc_bulk(Gfp::NOWAIT | Gfp::DMA32, &mut slots, None);
    assert!(slots.iter().flatten().all(is_low), "{got:?}");
    world.fail_all(false);
}
