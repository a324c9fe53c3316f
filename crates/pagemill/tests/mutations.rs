//! Behaviour that a change to one line would lose without another test noticing: limits on the paths
//! past the per-CPU lists, the frames of a block behind its first, cursors over many small requests.

use pagemill::accounts::{Account, AccountLimits};
use pagemill::gfp::ZoneKind;
use pagemill::machine::DirectMap;
use pagemill::policy::{InterleaveCursor, NodeMask, Policy};
use pagemill::request::Effort;
use pagemill::reserves::Mempool;
use pagemill::units::{NodeId, PAGE_SIZE};
use pagemill::{AllocPages, BulkRequest, Config, Folio, Gfp, Page};
use pagemill_testkit::{
    Frames, Machine, NORMAL, World, holes, interrupted_by, order, pages, region, set_account,
    take_zeroed,
};

/// What the only zone of [`exact`] keeps above its min and its low watermark.
const MIN: u64 = 100;
const LOW: u64 = 125;

/// 1024 frames below 4 GiB, of which requests that could use the 512 above leave 128, and nothing
/// else is kept back.
fn two_zones() -> World {
    let memory = [region(NORMAL - 1024, 1024, 0), region(NORMAL, 512, 0)];
    World::new(&Config {
        pcp_high: Some(1),
        min_free_bytes: Some(pages(0)),
        watermark_scale_factor: 0,
        lowmem_reserve_ratio: [0, 4, 0, 0],
        ..Config::new(&memory, 2)
    })
}

/// Takes pages until a zone has `nr_free` left, whatever its watermarks say.
fn take_until<'w>(world: &'w World, kind: ZoneKind, nr_free: u64) -> Vec<Page<Frames<'w>>> {
    let gfp = match kind {
        ZoneKind::Dma32 => Gfp::KERNEL | Gfp::DMA32 | Gfp::MEMALLOC,
        _ => Gfp::KERNEL | Gfp::MEMALLOC,
    };
    let mut taken = Vec::new();
    loop {
        // Asked seldom: it is a walk over the zone. A page from a list leaves the zone as it is.
        let surplus = world.zone(0, kind).nr_free_pages.saturating_sub(nr_free);
        if surplus == 0 {
            break;
        }
        let page = || world.frames().alloc_page(gfp).expect("the reserves may be used");
        taken.extend((0..surplus).map(|_| page()));
    }
    assert_eq!(world.zone(0, kind).nr_free_pages, nr_free);
    taken
}

/// Runs `handler` once, in the middle of a refill, so that it finds the CPU's lists in use.
fn with_lists_in_use<'w>(frames: Frames<'w>, gfp: Gfp, handler: impl FnOnce(Frames<'w>)) {
    let mut handler = Some(handler);
    let mut once = || {
        if let Some(handler) = handler.take() {
            handler(frames);
        }
    };
    interrupted_by(&mut once, || drop(frames.alloc_page(gfp)));
    assert!(handler.is_none(), "nothing was refilled");
}

fn fast(gfp: Gfp) -> BulkRequest<'static> {
    BulkRequest { effort: Effort::Fast, ..BulkRequest::new(gfp) }
}

#[test]
fn past_the_lists_a_batch_stops_at_the_low_watermark() {
    let spares: &[usize] = if cfg!(miri) { &[10] } else { &[0, 1, 10, 63] };
    for &spare in spares {
        let world = World::exact();
        let taken = take_until(&world, ZoneKind::Normal, LOW + spare as u64);
        let mut slots = holes(64);
        with_lists_in_use(world.frames(), Gfp::KERNEL, |frames| {
            assert_eq!(frames.bulk_fill(&fast(Gfp::KERNEL), &mut slots).new, spare);
            assert_eq!(world.zone(0, ZoneKind::Normal).nr_free_pages, LOW);
        });
        drop((taken, slots));
    }
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn past_the_lists_a_single_page_stops_at_the_watermark_of_its_request() {
    // What is left of a min of 100 when the request gives up.
    for (gfp, left) in [
        (Gfp::NOWAIT, MIN),
        (Gfp::ATOMIC, MIN / 2),
        (Gfp::ATOMIC | Gfp::MEMALLOC | Gfp::NOMEMALLOC, MIN / 2),
    ] {
        let world = World::exact();
        let taken = take_until(&world, ZoneKind::Normal, LOW);
        let mut more = Vec::new();
        with_lists_in_use(world.frames(), Gfp::KERNEL | Gfp::MEMALLOC, |frames| {
            more.extend(core::iter::from_fn(|| frames.alloc_page(gfp)));
            assert_eq!(world.zone(0, ZoneKind::Normal).nr_free_pages, left, "{gfp:?}");
        });
        drop((taken, more));
    }
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn past_the_lists_low_memory_is_kept_from_requests_that_could_use_more() {
    let world = two_zones();
    let frames = world.frames();
    let reserve = world.zone(0, ZoneKind::Dma32).watermarks.lowmem_reserve;
    assert_eq!(reserve[ZoneKind::Normal.index()], 128);
    let normal = take_until(&world, ZoneKind::Normal, 0);
    let dma32 = take_until(&world, ZoneKind::Dma32, 128 + 10);
    let (mut slots, mut single, mut low) = (holes(64), holes(1), holes(64));
    with_lists_in_use(frames, Gfp::KERNEL, |frames| {
        assert_eq!(frames.bulk_fill(&fast(Gfp::KERNEL), &mut slots).new, 10);
        assert_eq!(world.zone(0, ZoneKind::Dma32).nr_free_pages, 128);
        single[0] = frames.alloc_page(Gfp::NOWAIT);
        assert!(single[0].is_none(), "a single page of what is kept");
        let gfp = Gfp::KERNEL | Gfp::DMA32;
        assert_eq!(frames.bulk_fill(&fast(gfp), &mut low).new, 64, "it is kept for these");
    });
    drop((normal, dma32, slots, single, low));
}

/// The last resort of a request that cannot wait is what its CPU's lists hold.
#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn low_memory_in_a_list_is_kept_from_requests_that_could_use_more() {
    let world = two_zones();
    let frames = world.frames();
    let normal = take_until(&world, ZoneKind::Normal, 0);
    let mut dma32 = take_until(&world, ZoneKind::Dma32, 100);
    // The page goes to the list, and leaves the zone as it is.
    drop(dma32.pop());
    assert_eq!(world.zone(0, ZoneKind::Dma32).nr_free_pages, 100);
    assert!(frames.alloc_page(Gfp::NOWAIT).is_none());
    let page = frames.alloc_page(Gfp::NOWAIT | Gfp::DMA32);
    assert!(page.is_some(), "it is kept for these");
    drop((normal, dma32, page));
}

/// Returns the node of a page of a world whose nodes have 1024 frames each.
fn node_of(page: &Page<Frames<'_>>) -> usize {
    usize::try_from((page.pfn().value() - NORMAL) / 1024).expect("a few nodes")
}

#[test]
fn many_small_requests_of_one_cursor_are_spread_over_the_nodes() {
    let memory = [0, 1, 2].map(|node| region(NORMAL + 1024 * u64::from(node), 1024, node));
    let world = World::new(&Config::new(&memory, 1));
    let frames = world.frames();
    let nodes = NodeMask::of(&[0, 1, 2].map(NodeId::new));
    let weights = [2, 1, 3];
    // Of six pages, each node's; in that order.
    for (is_weighted, share) in [(false, [2, 2, 2]), (true, [2, 1, 3])] {
        for nr in [1, 2, 3] {
            let cursor = InterleaveCursor::default();
            let policy = if is_weighted {
                Policy::WeightedInterleave(nodes, &weights, &cursor)
            } else {
                Policy::Interleave(nodes, &cursor)
            };
            let (mut on_node, mut all) = ([0; 3], Vec::new());
            for _ in 0..24 / nr {
                let mut slots = holes(nr);
                let request = BulkRequest { policy, ..BulkRequest::new(Gfp::KERNEL) };
                assert_eq!(frames.bulk_fill(&request, &mut slots).new, nr);
                all.extend(slots.into_iter().flatten());
            }
            for _ in 0..24 / nr {
                let mut slots = holes(nr);
                assert_eq!(frames.alloc_pages_bulk_mempolicy(policy, Gfp::KERNEL, &mut slots), nr);
                all.extend(slots.into_iter().flatten());
            }
            all.iter().for_each(|page| on_node[node_of(page)] += 1);
            assert_eq!(on_node, share.map(|nr| nr * 8), "{nr} at a time");
        }
    }
}

fn with_owners(poison: bool) -> World {
    let memory = [region(NORMAL, 64, 0)];
    let config = Config { page_owner: true, poison, ..Config::new(&memory, 1) };
    World::on(Machine::with_memory(1, NORMAL, 64), &config)
}

#[test]
fn each_frame_of_a_block_has_an_owner_is_zero_and_is_paid_for() {
    let memory = [region(NORMAL, 1024, 0)];
    let world = World::new(&Config { page_owner: true, nr_accounts: 1, ..Config::new(&memory, 1) });
    let frames = world.frames();
    let account = Account::open(frames, AccountLimits::NONE).expect("there is room");
    let request = BulkRequest {
        account: Some(account.id()),
        order: order(3),
        ..BulkRequest::new(Gfp::KERNEL | Gfp::ZERO)
    };
    let nr_owned = || {
        let mut nr = 0;
        frames.for_each_owner(|_, _| nr += 1);
        nr
    };
    take_zeroed();
    let mut blocks: Vec<Option<Folio<_>>> = vec![None, None];
    assert_eq!(frames.bulk_fill(&request, &mut blocks).new, 2);
    let mut zeroed = take_zeroed();
    zeroed.sort_unstable();
    zeroed.dedup();
    assert_eq!((zeroed.len(), nr_owned(), account.usage().current), (16, 16, 16));
    blocks.pop();
    assert_eq!((nr_owned(), account.usage().current), (8, 8));
    blocks.clear();
    assert_eq!((nr_owned(), account.usage().current), (0, 0));
}

#[test]
#[should_panic(expected = "use after free: byte 12293 of the block of order 2 at frame 0x1000")]
fn a_byte_written_to_the_last_frame_of_a_free_block_is_found() {
    let world = with_owners(true);
    let frames = world.frames();
    // All of it is filled with the pattern again when it is freed.
    for _ in 0..2 {
        let mut block = frames.alloc_pages(Gfp::KERNEL, order(2)).expect("a block");
        block.as_bytes_mut().fill(7);
    }
    let pfn = frames.alloc_pages(Gfp::KERNEL, order(2)).expect("a block").pfn();
    // SAFETY: 1. in bounds: the block has four frames, which are consecutive in memory.
    let byte = unsafe { frames.platform().frame_ptr(pfn).add(3 * PAGE_SIZE + 5) };
    // SAFETY: violated on purpose: the block was freed. The bytes are memory that only this test
    // uses.
    unsafe { byte.write(0) };
    let _found = frames.alloc_pages(Gfp::KERNEL, order(2));
}

/// Frees a block of two pages whose second page is free already, and whose first is not.
fn free_with_a_free_tail(frames: Frames<'_>) {
    let raw = frames.alloc_pages(Gfp::KERNEL, order(1)).expect("a block").into_raw();
    // SAFETY: 1. returned by `into_raw`; this is its first use.
    let mut halves = unsafe { Folio::from_raw(frames, raw) }.split();
    let _kept = halves.next().expect("the first page").into_raw();
    drop(halves);
    frames.drain_all_pages();
    // SAFETY: violated on purpose: half of the block was freed. The allocator only changes its own
    // metadata.
    drop(unsafe { Folio::from_raw(frames, raw) });
}

#[test]
#[should_panic(expected = "double free of the block of order 1 at frame 0x1000")]
fn a_block_whose_second_frame_is_free_is_caught_by_the_zone() {
    let memory = [region(NORMAL, 64, 0)];
    let world = World::new(&Config::new(&memory, 1));
    free_with_a_free_tail(world.frames());
}

#[test]
#[should_panic(expected = "double free of the block of order 1 at frame 0x1000")]
fn a_block_whose_second_frame_has_no_owner_is_caught_by_the_owners() {
    let memory = [region(NORMAL, 64, 0)];
    let config = Config { page_owner: true, ..Config::new(&memory, 1) };
    free_with_a_free_tail(World::new(&config).frames());
}

#[test]
#[should_panic(expected = "free of frame 0x1003ff: it is not in this zone")]
fn a_block_that_ends_behind_the_zone_is_refused() {
    let (large, small) = ([region(NORMAL, 4096, 0)], [region(NORMAL, 512, 0)]);
    let (large, small) = (World::new(&Config::new(&large, 1)), World::new(&Config::new(&small, 1)));
    let blocks = core::iter::from_fn(|| large.frames().alloc_pages(Gfp::KERNEL, order(10)));
    let first = blocks.collect::<Vec<_>>().into_iter().min_by_key(|block| block.pfn());
    let raw = first.expect("a block").into_raw();
    // SAFETY: violated on purpose: the block is of another allocator. This one only changes its own
    // metadata.
    drop(unsafe { Folio::from_raw(small.frames(), raw) });
}

/// Charged pages that fill the reserve up are uncharged.
#[test]
fn a_page_in_the_reserve_of_a_mempool_is_charged_to_nobody() {
    let memory = [region(NORMAL, 64, 0)];
    let world = World::new(&Config {
        pcp_high: Some(1),
        min_free_bytes: Some(pages(0)),
        watermark_scale_factor: 0,
        nr_accounts: 1,
        ..Config::new(&memory, 1)
    });
    let frames = world.frames();
    let account = Account::open(frames, AccountLimits::NONE).expect("there is room");
    let pool = Mempool::new(frames, 4, Gfp::KERNEL).expect("there is memory");
    let (mut charged, mut reserve) = (holes(4), holes(4));
    set_account(Some(account.id()));
    pool.alloc_bulk(Gfp::KERNEL_ACCOUNT, &mut charged, None).expect("from the allocator");
    set_account(None);
    assert_eq!(account.usage().current, 4);
    let hog: Vec<_> = core::iter::from_fn(|| frames.alloc_page(Gfp::KERNEL)).collect();
    pool.alloc_bulk(Gfp::NOWAIT, &mut reserve, None).expect("from the reserve");
    for left in [3, 2, 1, 0] {
        pool.free_bulk(&mut charged[..1]);
        assert_eq!(account.usage().current, left);
        charged.remove(0);
    }
    assert_eq!(frames.nr_free_pages(), 0, "all of it is in the reserve");
    // Pages from the reserve are charged to no account, also when they are freed to the allocator.
    let mut again = holes(4);
    pool.alloc_bulk(Gfp::NOWAIT, &mut again, None).expect("the reserve has four again");
    frames.release_pages(&mut again);
    frames.release_pages(&mut reserve);
    assert_eq!(account.usage().current, 0);
    drop(hog);
}
