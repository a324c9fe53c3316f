//! What requests promise, one test for each promise that was once broken.

use pagemill::accounts::{Account, AccountLimits};
use pagemill::policy::{NodeMask, Policy};
use pagemill::request::Effort;
use pagemill::units::{NodeId, Pfn};
use pagemill::{AllocPages, BulkRequest, Config, Folio, Gfp, Page, PageList, Shortage};
use pagemill_testkit::{Frames, NORMAL, World, pages, region, reserved, set_account};

/// The larger pieces were handed over before it was known that the rest could not be had.
#[test]
fn all_or_nothing_holds_for_extents_too() {
    let memory = [region(NORMAL, 64, 0)];
    let world = World::new(&Config { min_free_bytes: Some(pages(8)), ..Config::new(&memory, 1) });
    let all = BulkRequest { effort: Effort::AllOrNothing, ..BulkRequest::new(Gfp::KERNEL) };
    let mut pieces: Vec<Folio<Frames<'_>>> = Vec::new();
    let outcome = world.frames().bulk_extents(&all, 63, |piece| pieces.push(piece));
    assert_eq!((outcome.new, outcome.short), (0, Some(Shortage::Memory)));
    assert!(pieces.is_empty());
    let outcome = world.frames().bulk_extents(&all, 55, |piece| pieces.push(piece));
    assert_eq!((outcome.new, outcome.short), (55, None));
}

/// Where the nodes of a policy fell short, all nodes were tried whatever the flags said.
#[test]
fn this_node_is_kept_to_under_every_policy() {
    let memory = [region(NORMAL, 512, 0), region(NORMAL + 512, 512, 1)];
    let cpu_nodes = [NodeId::new(0)];
    let world = World::new(&Config { cpu_nodes: &cpu_nodes, ..Config::new(&memory, 1) });
    let far = NodeId::new(1);
    for policy in [Policy::Preferred(far), Policy::PreferredMany(NodeMask::of(&[far]))] {
        let gfp = Gfp::KERNEL | Gfp::THISNODE;
        let request = BulkRequest { policy, ..BulkRequest::new(gfp) };
        let mut pages = Vec::<Page<Frames<'_>>>::new();
        let outcome = world.frames().bulk_each(&request, 1000, |page| pages.push(page));
        assert_eq!(outcome.short, Some(Shortage::Memory));
        assert!(pages.iter().all(|page| page.pfn().value() >= NORMAL + 512), "{policy:?}");
    }
}

/// The sum of what was charged and what was asked for overflowed.
#[test]
fn an_account_can_be_asked_for_more_than_can_be_counted() {
    let memory = [region(NORMAL, 64, 0)];
    let world = World::new(&Config { nr_accounts: 1, ..Config::new(&memory, 1) });
    let frames = world.frames();
    let account = Account::open(frames, AccountLimits::NONE).expect("there is room");
    let held = BulkRequest { account: Some(account.id()), ..BulkRequest::new(Gfp::KERNEL) };
    let mut list = PageList::<Page<_>>::new(frames);
    assert_eq!(frames.bulk_list(&held, 2, &mut list).new, 2);
    let outcome = frames.bulk_list(&held, usize::MAX, &mut list);
    assert!(outcome.new > 0 && outcome.short.is_some(), "{outcome:?}");
    assert_eq!(account.usage().current, list.len() as u64);
    let mut folios = PageList::<Folio<_>>::new(frames);
    drop(list);
    for effort in [Effort::Fast, Effort::TryHard, Effort::AllOrNothing] {
        for account in [None, held.account] {
            let order = pagemill_testkit::order(3);
            let huge = BulkRequest { order, effort, account, ..held };
            let outcome = frames.bulk_list(&huge, usize::MAX / 2, &mut folios);
            assert_eq!(outcome.new > 0, effort != Effort::AllOrNothing, "{effort:?}: {outcome:?}");
            assert!(outcome.short.is_some());
            drop(core::mem::replace(&mut folios, PageList::new(frames)));
        }
    }
    set_account(Some(account.id()));
    let mut list = PageList::<Page<_>>::new(frames);
    frames.alloc_pages_bulk_list(Gfp::KERNEL_ACCOUNT, 2, &mut list);
    assert!(frames.alloc_pages_bulk_list(Gfp::KERNEL_ACCOUNT, usize::MAX, &mut list) > 0);
    set_account(None);
    assert_eq!(account.usage().current, list.len() as u64);
    drop(list);
    assert_eq!(account.usage().current, 0);
}

/// A frame that was handed in had no owner noted, and freeing it looked like a second free.
#[test]
fn a_reserved_frame_that_is_handed_in_can_be_owned() {
    let memory = [region(NORMAL, 64, 0)];
    let reserved = [reserved(NORMAL, 1)];
    let config = Config { reserved: &reserved, page_owner: true, ..Config::new(&memory, 1) };
    let world = World::new(&config);
    let nr_owned = || {
        let mut nr = 0;
        world.frames().for_each_owner(|_, _| nr += 1);
        nr
    };
    // SAFETY: 1. unused: a reserved frame that was not handed in before.
    unsafe { world.frames().hand_in(Pfn::new(NORMAL), 1) }.expect("a reserved frame");
    world.hand_in();
    assert_eq!(nr_owned(), 0);
    let page = world.frames().alloc_contig_range(Gfp::KERNEL, Pfn::new(NORMAL), 1);
    assert_eq!(nr_owned(), 1);
    drop(page);
    assert_eq!(nr_owned(), 0);
}
