//! The recipes of docs/kernel-guide.md.

use pagemill::accounts::{Account, AccountLimits};
use pagemill::contig::{ContigError, ContigRequest};
use pagemill::units::{NodeId, Pfn, PhysAddr};
use pagemill::{AllocPages, BulkRequest, Config, Gfp, Page, PageList};
use pagemill_testkit::{NORMAL, World, region, set_cpu};

/// Handing out every frame.
#[test]
fn every_frame_is_handed_out_without_watermarks() {
    const NR: u64 = if cfg!(miri) { 200 } else { 3000 };
    // Two zones: one of each side of 4 GiB.
    let memory = [region((1 << 20) - NR / 2, NR, 0)];
    let world = World::new(&Config {
        min_free_bytes: Some(0),
        watermark_scale_factor: 0,
        lowmem_reserve_ratio: [0; 4],
        ..Config::new(&memory, 2)
    });
    assert_eq!(world.zone_info().count(), 2);
    let frames = world.frames();
    // Leaves pages in the lists of both CPUs, for several kinds of requests.
    for cpu in [0, 1] {
        set_cpu(cpu);
        for gfp in [Gfp::KERNEL, Gfp::HIGHUSER_MOVABLE, Gfp::KERNEL | Gfp::RECLAIMABLE] {
            drop(frames.alloc_page(gfp).expect("all is free"));
        }
    }
    let mut all = PageList::new(frames);
    all.extend(core::iter::from_fn(|| frames.alloc_page(Gfp::KERNEL)));
    assert_eq!(all.len() as u64, NR);
}

/// Unknown nodes.
#[test]
fn an_unknown_node_becomes_that_of_the_caller() {
    let nodes = [NodeId::new(0), NodeId::new(1)];
    let world = World::with_cpus_on(1024, 2, &nodes);
    for (cpu, local) in [(0, nodes[0]), (1, nodes[1])] {
        set_cpu(cpu);
        for (node, expected) in [(0, nodes[0]), (1, nodes[1]), (2, local), (255, local)] {
            let node = world.node_or_local(NodeId::new(node));
            assert_eq!(node, expected);
            let page = world.frames().alloc_page_node(node, Gfp::KERNEL).expect("all is free");
            assert_eq!(page.node(), expected);
        }
    }
}

/// Slots that come from C: an array of words, of which zero is an empty one.
#[test]
fn words_are_filled_with_addresses_and_emptied_again() {
    let memory = [region(NORMAL, if cfg!(miri) { 512 } else { 4096 }, 0)];
    for is_charged in [false, true] {
        let world = World::new(&Config { nr_accounts: 1, ..Config::new(&memory, 1) });
        let frames = world.frames();
        let account = Account::open(frames, AccountLimits::NONE).expect("there is room");
        let mut words = [0_u64; 100];
        words[3] = 7 << 12; // in use: kept
        let mut empty = words.iter_mut().filter(|word| **word == 0);
        let payer = is_charged.then(|| account.id());
        let request = BulkRequest { account: payer, ..BulkRequest::new(Gfp::KERNEL) };
        let got = frames.bulk_each(&request, 99, |page: Page<_>| {
            let word = empty.next().expect("as many as were asked for");
            *word = page.into_pfn().start().value();
        });
        assert_eq!((got.new, got.short), (99, None));
        assert_eq!(words[3], 7 << 12);
        assert_eq!(account.usage().current, if is_charged { 99 } else { 0 });
        words[3] = 0;
        let mut pages = PageList::new(frames);
        for word in &mut words {
            let address = core::mem::take(word);
            if address != 0 {
                // SAFETY: 1. the word owned the frame, and no longer does.
                let page = unsafe { Page::from_pfn(frames, Pfn::new(address >> 12)) };
                pages.push(page.expect("a frame of this allocator"));
            }
        }
        assert_eq!(pages.len(), 99);
        assert!(words.iter().all(|&word| word == 0));
        drop(pages);
        assert_eq!((account.usage().current, frames.validate()), (0, Ok(())));
    }
}

/// A large contiguous heap, and DMA below 4 GiB.
#[test]
fn a_range_crosses_4_gib_without_a_zone_below() {
    const NR: u64 = if cfg!(miri) { 1024 } else { 16_384 };
    let nr_heap = usize::try_from(NR).expect("64 bits") * 3 / 4;
    // Half of the memory on each side of 4 GiB.
    let memory = [region((1 << 20) - NR / 2, NR, 0)];
    let world = World::new(&Config::new(&memory, 1));
    let refused = world.frames().alloc_contig(Gfp::KERNEL, nr_heap, 1, None);
    let Err(ContigError::TooLong { largest, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(largest as u64, NR / 2);

    let world = World::new(&Config { zone_dma32: false, ..Config::new(&memory, 1) });
    let frames = world.frames();
    let limit = PhysAddr::new(4 << 30);
    let below_4_gib =
        ContigRequest { limit: Some(limit), ..ContigRequest::new(Gfp::KERNEL, nr_heap / 48) };
    let buffers = frames.alloc_contig_with(&below_4_gib).expect("low memory is free");
    assert!(buffers.phys_addr().value() + ((buffers.nr_pages() as u64) << 12) <= limit.value());
    let heap = frames.alloc_contig(Gfp::KERNEL, nr_heap, 1, None).expect("most memory is free");
    assert!(heap.phys_addr() < limit && heap.pfn().offset(nr_heap as u64).start() > limit);
    assert!(frames.alloc_page(Gfp::DMA32).is_none(), "there is no such zone");
}
