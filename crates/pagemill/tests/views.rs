//! Views of an allocator's state: accounts compared with their handles, shards compared with their zones.

use pagemill::accounts::{Account, AccountLimits};
use pagemill::gfp::ZoneKind;
use pagemill::stats::ShardInfo;
use pagemill::{AllocPages, BulkRequest, Config, Gfp};
use pagemill_testkit::{NORMAL, World, region};

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
