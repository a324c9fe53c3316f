use alloc::alloc::{alloc, alloc_zeroed, dealloc};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::Cell;
use core::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use super::*;
use crate::alloc_pages::AllocPages;
use crate::base::gfp::Gfp;
use crate::base::migratetype::NR_MIGRATE_TYPES;
use crate::base::units::{MAX_ORDER, PAGEBLOCK_ORDER, Pfn, PhysAddr};
use crate::config::config::{MemoryRegion, ReservedRange};
use crate::page::list::PageList;
use crate::page::page::Page;
use crate::page_alloc::allocator::PageAllocator;
use crate::platform::platform::Platform;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

fn region(start: u64, len_bytes: u64, node: u8) -> MemoryRegion {
    MemoryRegion { start: PhysAddr::new(start), len_bytes, node: NodeId::new(node) }
}

/// A machine that counts how often the zone lock is taken.
#[derive(Default)]
pub(crate) struct Machine {
    zone_locks: Cell<usize>,
}

impl Platform for Machine {
    fn nr_cpus(&self) -> u32 {
        64
    }

    fn pin(&self) -> CpuId {
        CpuId::new(0)
    }

    fn irq_save(&self) -> usize {
        self.zone_locks.set(self.zone_locks.get() + 1);
        0
    }

    unsafe fn zero_pages(&self, _: Pfn, _: usize) {}
}

/// Memory for metadata.
struct Memory {
    bytes: NonNull<u8>,
    layout: Layout,
}

impl Memory {
    /// Takes memory that is full of zeroes and not backed before it is touched.
    fn lazy(layout: Layout) -> Self {
        // Not aligned to ALIGN: to align it, the allocator of the tests would fill it itself.
        let layout = Layout::from_size_align(layout.size() + ALIGN, 16).unwrap();
        // SAFETY: 1. size above zero: every allocator has metadata.
        let bytes = NonNull::new(unsafe { alloc_zeroed(layout) });
        Self { bytes: bytes.expect("there are addresses"), layout }
    }

    /// Returns the part that begins at the first multiple of ALIGN.
    fn aligned(&self) -> NonNull<[u8]> {
        let start = self.bytes.as_ptr().align_offset(ALIGN);
        self.part(start..self.layout.size())
    }

    /// Takes memory that is full of `byte`.
    fn filled(layout: Layout, byte: u8) -> Self {
        // SAFETY: 1. size above zero: every allocator has metadata.
        let bytes = NonNull::new(unsafe { alloc(layout) }).expect("there is memory");
        // SAFETY: 1. valid for writes: just allocated with this size.
        unsafe { bytes.write_bytes(byte, layout.size()) };
        Self { bytes, layout }
    }

    fn part(&self, range: core::ops::Range<usize>) -> NonNull<[u8]> {
        assert!(range.start <= range.end && range.end <= self.layout.size());
        // SAFETY: 1. in bounds: just checked.
        let start = unsafe { self.bytes.add(range.start) };
        NonNull::slice_from_raw_parts(start, range.len())
    }

    /// Returns the bytes, when no allocator uses them.
    fn bytes(&self, range: core::ops::Range<usize>) -> &[u8] {
        // SAFETY: 1. initialised, valid, no writer: the callers' allocators were dropped or do not
        // use this part.
        unsafe { self.part(range).as_ref() }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: 1. allocated with this layout. 2. not used any more: dropped after allocators.
        unsafe { dealloc(self.bytes.as_ptr(), self.layout) };
    }
}

fn new_allocator(
    config: &Config<'_>,
    metadata: NonNull<[u8]>,
) -> Result<PageAllocator<Machine>, ConfigError> {
    // SAFETY: 1. initialised, valid, not used otherwise: a part of a `Memory` that outlives the
    // allocator. 2. frames not used otherwise: they have no memory.
    unsafe { PageAllocator::new(config, metadata, Machine::default()) }
}

/// Builds an allocator that lives as long as the tests.
#[cfg(not(loom))]
pub(crate) fn leaked(config: &Config<'_>) -> &'static PageAllocator<Machine> {
    use alloc::boxed::Box;

    let memory = Box::leak(Box::new(Memory::lazy(metadata_layout(config).unwrap())));
    Box::leak(Box::new(new_allocator(config, memory.aligned()).unwrap()))
}

/// Returns the bytes that the lists of all CPUs take: for pages as much as configured, and for blocks
/// what `metadata_layout` says.
fn pcp_bytes(config: &Config<'_>, nr_zones: u64) -> u64 {
    let high = u64::from(config.pcp_high.expect("the test set it"));
    let of_zone = NR_MIGRATE_TYPES as u64 * high * 8 + 4096;
    u64::from(config.nr_cpus) * nr_zones * of_zone
}

#[test]
fn books_take_at_most_13_bytes_per_frame() {
    for len_bytes in [GIB, 64 * GIB, TIB, 4 * TIB] {
        for (nr_cpus, nr_accounts) in [(1, 0), (64, 0), (1, 1), (64, 100)] {
            let memory = [region(0, len_bytes, 0)];
            let pcp_high = Some(1024);
            let config = Config { nr_accounts, pcp_high, ..Config::new(&memory, nr_cpus) };
            let layout = metadata_layout(&config).unwrap();
            let nr_zones = if len_bytes > 4 * GIB { 2 } else { 1 };
            let net = layout.size() as u64 - pcp_bytes(&config, nr_zones);
            let nr_frames = len_bytes >> PAGE_SHIFT;
            assert!(net <= 13 * nr_frames, "{net} bytes for {nr_frames} frames");
        }
    }
}

#[test]
fn holes_cost_nothing() {
    let near = [region(0, 32 * MIB, 0), region(32 * MIB, 32 * MIB, 0)];
    let far = [region(0, 32 * MIB, 0), region(3 * GIB, 32 * MIB, 0)];
    let size = |memory: &[_]| metadata_layout(&Config::new(memory, 4)).unwrap().size();
    assert_eq!(size(&near), size(&far));
}

#[test]
fn too_little_memory_is_refused_and_nothing_is_written() {
    let memory = [region(0, 16 * MIB, 0), region(4 * GIB, 16 * MIB, 1)];
    let config = Config::new(&memory, 3);
    let layout = metadata_layout(&config).unwrap();
    let metadata = Memory::filled(layout, 0x5a);
    for given_bytes in [0, 1, layout.size() / 2, layout.size() - 1] {
        let error = new_allocator(&config, metadata.part(0..given_bytes)).unwrap_err();
        let needed_bytes = layout.size();
        assert_eq!(error, ConfigError::MetadataTooSmall { given_bytes, needed_bytes });
    }
    assert!(metadata.bytes(0..layout.size()).iter().all(|&byte| byte == 0x5a));
}

#[test]
fn misaligned_memory_is_refused_and_nothing_is_written() {
    let memory = [region(0, 16 * MIB, 0)];
    let config = Config::new(&memory, 1);
    let needed = metadata_layout(&config).unwrap();
    assert_eq!(needed.align(), ALIGN);
    let larger = Layout::from_size_align(needed.size() + ALIGN, ALIGN).unwrap();
    let metadata = Memory::filled(larger, 0x5a);
    for by in [1, 8, ALIGN / 2, ALIGN - 1] {
        let part = metadata.part(by..by + needed.size());
        let error = new_allocator(&config, part).unwrap_err();
        let address = part.cast::<u8>().addr().get();
        assert_eq!(error, ConfigError::MetadataMisaligned { address, align_bytes: ALIGN });
    }
    assert!(metadata.bytes(0..larger.size()).iter().all(|&byte| byte == 0x5a));
}

#[test]
fn more_cpus_than_the_platform_has_are_refused() {
    let memory = [region(0, 16 * MIB, 0)];
    let config = Config::new(&memory, 65);
    let metadata = Memory::filled(metadata_layout(&config).unwrap(), 0);
    let error = new_allocator(&config, metadata.part(0..metadata.layout.size())).unwrap_err();
    assert_eq!(error, ConfigError::BadNrCpus { nr_cpus: 65, max: 64 });
}

#[test]
fn more_frames_than_an_index_can_name_are_refused() {
    let memory = [region(0, 1 << 44, 0)];
    let error = metadata_layout(&Config::new(&memory, 1)).unwrap_err();
    assert_eq!(error, ConfigError::TooManyFrames { nr_frames: 1 << 32 });
}

/// Uses every table to its end, with memory behind the metadata that must not be written.
#[test]
fn the_layout_is_large_enough_whatever_was_there_before() {
    let node = NodeId::new;
    let (odd, far) = ([region(0x1000, 3 * MIB, 0)], [region(0x7000, MIB, 0), region(GIB, MIB, 3)]);
    let shared = [region(0, 0x5000, 0), region(0x8000, 0x3000, 0), region(5 * GIB, 7 * MIB, 0)];
    let reserved = [ReservedRange { start: PhysAddr::new(0), len_bytes: 0x4001 }];
    let cpu_nodes = [node(0), node(5), node(3)];
    let configs = [
        Config::new(&odd, 1),
        Config { pcp_high: Some(1), ..Config::new(&odd, 7) },
        Config { cpu_nodes: &cpu_nodes, ..Config::new(&far, 3) },
        Config { reserved: &reserved, zone_dma: true, ..Config::new(&shared, 2) },
        Config { movable_bytes: 4 * MIB, ..Config::new(&shared, 2) },
        Config { zone_dma32: false, ..Config::new(&shared, 2) },
    ];
    let nr_configs = if cfg!(miri) { 1 } else { configs.len() };
    for config in configs.into_iter().take(nr_configs) {
        let layout = metadata_layout(&config).unwrap();
        let larger = Layout::from_size_align(layout.size() + 4096, ALIGN).unwrap();
        for byte in [0, 0xff] {
            let metadata = Memory::filled(larger, byte);
            let allocator = new_allocator(&config, metadata.part(0..layout.size())).unwrap();
            let nr_free = allocator.nr_free_pages();
            let mut list = PageList::new(&allocator);
            while let Some(page) = (&allocator).alloc_page(Gfp::HIGHUSER_MOVABLE | Gfp::MEMALLOC) {
                list.push(page);
            }
            assert_eq!(list.len() as u64, nr_free);
            let shared: Vec<_> = list.map(|page| page.share()).collect();
            assert!(shared.iter().all(|page| page.nr_owners() == 1));
            drop(shared);
            allocator.drain_all_pages();
            assert_eq!(allocator.nr_free_pages(), nr_free);
            let behind = metadata.bytes(layout.size()..larger.size());
            assert!(behind.iter().all(|&b| b == byte), "written behind the metadata");
        }
    }
}

/// Builds an allocator of one zone, and returns the zone locks taken for each of 40 bulk calls of
/// 64 pages and their release.
fn zone_locks_of_bulk_calls(len_bytes: u64) -> Vec<usize> {
    let memory = [region(4 * GIB, len_bytes, 0)];
    let config = Config::new(&memory, 4);
    let metadata = Memory::lazy(metadata_layout(&config).unwrap());
    let allocator = new_allocator(&config, metadata.aligned()).unwrap();
    assert_eq!(allocator.nr_free_pages(), len_bytes >> PAGE_SHIFT);
    let mut batches = Vec::new();
    let mut locks = Vec::new();
    let mut measure = |step: &mut dyn FnMut()| {
        let before = allocator.platform().zone_locks.get();
        step();
        locks.push(allocator.platform().zone_locks.get() - before);
    };
    for _ in 0..40 {
        let mut slots: [Option<Page<_>>; 64] = [const { None }; 64];
        measure(&mut || {
            assert_eq!((&allocator).alloc_pages_bulk(Gfp::KERNEL, &mut slots), 64);
        });
        batches.push(slots);
    }
    for mut slots in batches {
        measure(&mut || assert_eq!((&allocator).release_pages(&mut slots), 64));
    }
    allocator.drain_all_pages();
    assert_eq!(allocator.nr_free_pages(), len_bytes >> PAGE_SHIFT);
    locks
}

#[test]
#[cfg_attr(miri, ignore = "the metadata of 1 TiB takes 3 GiB")]
fn a_tebibyte_is_served_like_a_gibibyte() {
    let locks = zone_locks_of_bulk_calls(GIB);
    assert_eq!(zone_locks_of_bulk_calls(TIB), locks);
    let nr_calls = locks.len();
    let nr_locks: usize = locks.iter().sum();
    assert!(nr_locks < nr_calls, "{nr_locks} zone locks for {nr_calls} calls");
}

#[test]
fn watermarks_divide_the_reserve_by_size() {
    let memory = [region(0, 32 * MIB, 0), region(4 * GIB, 96 * MIB, 0)];
    let config = Config { min_free_bytes: Some(4 * MIB), ..Config::new(&memory, 1) };
    let metadata = Memory::filled(metadata_layout(&config).unwrap(), 0);
    let allocator = new_allocator(&config, metadata.part(0..metadata.layout.size())).unwrap();
    let mins: Vec<_> = allocator.zone_info().map(|zone| zone.watermarks.min).collect();
    assert_eq!(mins, [256, 768]);
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn watermarks_follow_memory_that_is_handed_in() {
    let memory = [region(0, 4096, 0), region(GIB, 8 * MIB, 0), region(4 * GIB, 8 * MIB, 0)];
    let all = Config { zone_dma: true, pcp_high: Some(64), ..Config::new(&memory, 2) };
    let reserved = [ReservedRange { start: PhysAddr::new(0), len_bytes: 2 * GIB }];
    let some = Config { reserved: &reserved, ..all };
    let metadata =
        [all, some].map(|config| Memory::filled(metadata_layout(&config).unwrap(), 0xff));
    let build = |config, metadata: &Memory| {
        new_allocator(config, metadata.part(0..metadata.layout.size())).unwrap()
    };
    let (all, some) = (build(&all, &metadata[0]), build(&some, &metadata[1]));
    let facts = |allocator: &PageAllocator<Machine>| -> Vec<_> {
        allocator.zone_info().map(|zone| (zone.managed, zone.watermarks)).collect()
    };
    assert_eq!(facts(&some)[1].0, 0);
    for pfn in (1 << 18..(1 << 18) + 2048).chain(0..1) {
        let pfn = Pfn::new(pfn);
        // SAFETY: 1. unused: a reserved frame that was not handed in before.
        unsafe { AllocPages::hand_in(&some, pfn, 1) }.unwrap();
    }
    assert_eq!(facts(&some), facts(&all));
    // What each CPU remembers of them follows, too.
    let mut slots = [const { None }; 16];
    let mut taken = Vec::new();
    while some.alloc_pages_bulk(Gfp::KERNEL | Gfp::DMA32, &mut slots) > 1 {
        taken.extend(slots.iter_mut().filter_map(Option::take));
    }
    let (low, nr_free) = (facts(&some)[1].1.low, some.zone_info().nth(1).unwrap().nr_free_pages);
    assert!(low > 0 && nr_free + 17 >= low, "{nr_free} pages are left of {low}");
    slots.iter_mut().for_each(|slot| drop(slot.take()));
    drop(taken);
    some.drain_all_pages();
}

/// Gives `zone` back what was never taken, in a zone of two regions and two shards.
fn give_back(give: impl FnOnce(&'static Zone, Class, &Machine)) {
    let memory = [region(4 * GIB, 3 * MIB, 0), region(4 * GIB + 16 * MIB, 4 * MIB, 0)];
    let config = Config { nr_zone_shards: Some(2), ..Config::new(&memory, 2) };
    let layout = metadata_layout(&config).unwrap();
    let metadata = Memory::filled(layout, 0);
    let allocator = new_allocator(&config, metadata.part(0..layout.size())).unwrap();
    let zone = allocator.zone(0);
    give(zone, Class::new(zone.list(MigrateType::Movable), Order::ZERO), allocator.platform());
}

#[test]
#[should_panic(expected = "free of frame 0x100300: it is not in this zone")]
fn a_frame_between_two_regions_is_refused() {
    give_back(|zone, class, machine| {
        zone.free_pages(machine, &[class.at(Pfn::new(0x10_0300))]);
    });
}

#[test]
#[should_panic(expected = "free of frame 0x1003ff: it is not in this zone")]
fn a_block_that_ends_between_two_regions_is_refused() {
    give_back(|zone, _, machine| zone.free(machine, Pfn::new(0x10_0000), MAX_ORDER));
}

#[test]
fn a_pair_of_which_the_upper_half_is_free_is_refused_and_nothing_changes() {
    give_back(|zone, class, machine| {
        let (home, kind) = (ShardHint(0), MigrateType::Movable);
        let pair = zone.rmqueue(machine, home, kind, MAX_ORDER, |_| {}).expect("a whole pair");
        let half = PAGEBLOCK_ORDER;
        let upper = pair.pfn().offset(half.nr_pages() as u64);
        zone.free(machine, upper, half);
        let free = AssertUnwindSafe(|| zone.free(machine, pair.pfn(), MAX_ORDER));
        catch_unwind(free).expect_err("the upper half is free");
        assert_eq!(zone.check(machine), Ok(()));
        zone.free(machine, pair.pfn(), half);
        assert_eq!(zone.check(machine), Ok(()));
        let again = zone.rmqueue(machine, home, kind, MAX_ORDER, |_| {});
        assert_eq!(again.map(|block| (block.pfn(), class)), Some((pair.pfn(), class)));
    });
}

#[test]
#[should_panic(expected = "double free of frame 0x101141")]
fn a_frame_that_is_free_is_refused_by_its_shard() {
    give_back(|zone, class, machine| {
        zone.free_pages(machine, &[class.at(Pfn::new(0x10_1141))]);
    });
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes: hundreds of worlds are emptied frame by frame")]
fn a_frame_twice_in_what_comes_back_is_found_wherever_it_stands() {
    for len in 2..=70 {
        for (first, second) in [(0, 1), (0, len - 1), (len / 2, len - 1), (len - 2, len - 1)] {
            if first == second {
                continue;
            }
            give_back(|zone, class, machine| {
                let home = ShardHint(0);
                let take =
                    || zone.rmqueue(machine, home, MigrateType::Movable, Order::ZERO, |_| {});
                while take().is_some() {}
                let pfns = (0x10_0000..).take(len);
                let mut pages: Vec<_> = pfns.map(|pfn| class.at(Pfn::new(pfn))).collect();
                pages[second] = pages[first];
                let free = AssertUnwindSafe(|| zone.free_pages(machine, &pages));
                let payload = catch_unwind(free).expect_err("one comes twice");
                let message = payload.downcast_ref::<String>().expect("a formatted message");
                let expected = format!("double free of frame {}", pages[first].pfn());
                assert!(message.starts_with(&expected), "{len} pages: {message}, not {expected}");
            });
        }
    }
}

/// The limits and some values between them, compared with arithmetic in 128 bits.
#[test]
fn reserve_is_shared_out_without_overflow_or_rounding_error() {
    const MAX: u64 = u32::MAX as u64;
    let values = [0, 1, 2, 3, 1000, 65_521, 1 << 20, MAX / 3, MAX / 2 + 1, MAX - 1, MAX];
    for min_free in values {
        for managed in values {
            for total in values {
                let product = u128::from(min_free) * u128::from(managed);
                let expected = product.checked_div(u128::from(total)).unwrap_or(0);
                let share = reserve_share(min_free, managed, total);
                assert_eq!(u128::from(share), expected, "{min_free} * {managed} / {total}");
            }
        }
    }
}
