//! Views of an allocator's state: accounts compared with their handles, shards compared with their zones.

use pagemill::accounts::{Account, AccountLimits};
use pagemill::gfp::ZoneKind;
use pagemill::stats::ShardInfo;
use pagemill::units::Pfn;
use pagemill::{AllocPages, BulkRequest, Config, Gfp};
use pagemill_testkit::{NORMAL, World, order, region, reserved};

#[test]
fn every_account_in_use_is_listed_until_its_last_page_is_freed() {
    let world = World::bare(1024);
    let frames = world.frames();
    assert_eq!(frames.account_info().count(), 0);
    let parent = Account::open(frames, AccountLimits { max: 100, high: 50 }).unwrap();
    let child = parent.open_child(AccountLimits::NONE).unwrap();
    let request = BulkRequest { account: Some(child.id()), ..BulkRequest::new(Gfp::KERNEL) };
    let mut slots = [const { None }; 8];
    assert_eq!(frames.bulk_fill(&request, &mut slots).new, 8);

    let accounts: Vec<_> = frames.account_info().collect();
    let [of_parent, of_child] = accounts[..] else { panic!("{accounts:?}") };
    let numbers = (parent.id().number(), child.id().number());
    assert_eq!((of_parent.number, of_parent.parent), (numbers.0, None));
    assert_eq!((of_child.number, of_child.parent), (numbers.1, Some(numbers.0)));
    assert_eq!(of_parent.limits, AccountLimits { max: 100, high: 50 });
    assert_eq!((of_parent.usage, of_child.usage), (parent.usage(), child.usage()));
    assert_eq!(of_child.usage.current, 8);

    drop(child);
    assert_eq!(frames.account_info().count(), 2, "its pages are in use");
    frames.release_pages(&mut slots);
    assert_eq!(
        frames.account_info().map(|account| account.number).collect::<Vec<_>>(),
        [numbers.0]
    );
    drop(parent);
    assert_eq!(frames.account_info().count(), 0);
}

#[test]
fn the_shards_of_a_zone_have_its_free_pages() {
    let memory = [region(1 << 12, 2048, 0), region(NORMAL, 8192, 0)];
    let world = World::new(&Config { nr_zone_shards: Some(4), ..Config::new(&memory, 1) });
    let frames = world.frames();
    let mut slots = [const { None }; 300];
    assert_eq!(frames.alloc_pages_bulk(Gfp::KERNEL, &mut slots), 300);
    let shards: Vec<ShardInfo> = frames.shard_info().collect();
    for zone in frames.zone_info() {
        let own: Vec<_> =
            shards.iter().filter(|it| (it.node, it.kind) == (zone.node, zone.kind)).collect();
        assert!(own.iter().map(|it| it.shard).eq(0..own.len()), "{own:?}");
        assert_eq!(own.iter().map(|it| it.nr_free_pages).sum::<u64>(), zone.nr_free_pages);
    }
    let nr_normal = shards.iter().filter(|it| it.kind == ZoneKind::Normal).count();
    assert_eq!(nr_normal, 4, "{shards:?}");
    frames.release_pages(&mut slots);
}

#[test]
fn a_frame_is_known_to_be_in_use_only_if_owners_are_recorded() {
    let memory = [region(NORMAL, 1024, 0), region(NORMAL + 2048, 1024, 0)];
    let reserved = [reserved(NORMAL, 8)];
    let config = Config { reserved: &reserved, ..Config::new(&memory, 1) };
    let recording = World::new(&Config { page_owner: true, ..config });
    let frames = recording.frames();
    let block = frames.alloc_pages(Gfp::KERNEL, order(3)).expect("there is memory");
    let last = block.pfn().offset(7);
    assert!(frames.records_owners());
    assert_eq!((frames.is_in_use(block.pfn()), frames.is_in_use(last)), (Some(true), Some(true)));
    assert_eq!(frames.is_in_use(last.offset(1)), Some(false));
    drop(block);
    assert_eq!(frames.is_in_use(last), Some(false));
    for unknown in [NORMAL, NORMAL + 7, NORMAL + 1024, NORMAL + 3072, Pfn::MAX.value()] {
        assert_eq!(frames.is_in_use(Pfn::new(unknown)), None, "{unknown:#x}");
    }
    assert_eq!(frames.is_in_use(Pfn::new(NORMAL + 8)), Some(false));

    let plain = World::new(&config);
    let page = plain.frames().alloc_page(Gfp::KERNEL).expect("there is memory");
    assert!(!plain.frames().records_owners());
    assert_eq!(plain.frames().is_in_use(page.pfn()), None);
}
