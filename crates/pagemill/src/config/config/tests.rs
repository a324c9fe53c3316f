use alloc::format;

use super::*;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn region(start: u64, len_bytes: u64, node: u8) -> MemoryRegion {
    MemoryRegion { start: PhysAddr::new(start), len_bytes, node: NodeId::new(node) }
}

fn error(memory: &[MemoryRegion]) -> ConfigError {
    Config::new(memory, 1).validate().unwrap_err()
}

#[test]
fn bad_memory_maps_are_named() {
    assert_eq!(error(&[]), ConfigError::NoMemory);
    assert!(matches!(error(&[region(MIB, 0, 0)]), ConfigError::EmptyRegion { index: 0, .. }));
    assert!(matches!(error(&[region(1, MIB, 0)]), ConfigError::MisalignedRegion { .. }));
    assert!(matches!(error(&[region(MIB, 1, 0)]), ConfigError::MisalignedRegion { .. }));
    assert!(matches!(error(&[region(1 << 52, MIB, 0)]), ConfigError::AddressTooHigh { .. }));
    let wrapping = region(u64::MAX - 0xfff, 0x2000, 0);
    assert!(matches!(error(&[wrapping]), ConfigError::AddressTooHigh { .. }));
    assert!(matches!(
        error(&[region(8 * MIB, MIB, 0), region(4 * MIB, MIB, 0)]),
        ConfigError::UnsortedRegions { index: 1, .. }
    ));
    assert!(matches!(
        error(&[region(MIB, 2 * MIB, 0), region(2 * MIB, MIB, 0)]),
        ConfigError::OverlappingRegions { index: 1, .. }
    ));
    assert!(matches!(
        error(&[region(0, MIB, 0), region(MIB, MIB, 1)]),
        ConfigError::SharedPageblock { index: 1, .. }
    ));
    assert!(matches!(error(&[region(0, MIB, 64)]), ConfigError::UnknownNode { .. }));
}

#[test]
fn bad_policies_are_named() {
    let memory = [region(0, MIB, 0)];
    let config = Config::new(&memory, 2);
    let check = |config: Config<'_>| config.validate().unwrap_err();
    assert_eq!(check(Config { nr_cpus: 0, ..config }), ConfigError::NoCpus);
    let cpu_nodes = &[NodeId::new(0)];
    assert!(matches!(check(Config { cpu_nodes, ..config }), ConfigError::BadCpuNodes { .. }));
    assert!(matches!(
        check(Config { distances: &[1; 2], ..config }),
        ConfigError::BadDistances { .. }
    ));
    assert!(matches!(
        check(Config { pcp_high: Some(0), ..config }),
        ConfigError::BadPcpHigh { .. }
    ));
    let too_many = Some(65);
    assert!(matches!(
        check(Config { pcp_batch: too_many, ..config }),
        ConfigError::BadPcpBatch { .. }
    ));
    let over_high = Config { pcp_high: Some(4), pcp_batch: Some(5), ..config };
    assert_eq!(check(over_high), ConfigError::BadPcpBatch { batch: 5, max: 4 });
    for nr_shards in [0, 3, 128] {
        let shards = Config { nr_zone_shards: Some(nr_shards), ..Config::new(&memory, 1) };
        assert_eq!(check(shards), ConfigError::BadZoneShards { nr_shards, max: 64 });
    }
    let min_free_bytes = Some(MIB);
    assert!(matches!(check(Config { min_free_bytes, ..config }), ConfigError::BadMinFree { .. }));
    let scale = Config { watermark_scale_factor: 3001, ..config };
    assert!(matches!(check(scale), ConfigError::BadWatermarkScale { factor: 3001, max: 3000 }));
    let (max, movable_bytes) = (MIB, MIB + 1);
    let movable = Config { movable_bytes, ..config };
    assert_eq!(check(movable), ConfigError::BadMovable { movable_bytes, max });
    let reserved = &[ReservedRange { start: PhysAddr::new(u64::MAX), len_bytes: 2 }];
    assert!(matches!(check(Config { reserved, ..config }), ConfigError::AddressTooHigh { .. }));
}

#[test]
fn some_memory_must_not_be_movable() {
    let memory = [region(0, 16 * MIB, 0), region(16 * MIB, 4 * MIB, 1)];
    let config = Config::new(&memory, 1);
    let check = |config: Config<'_>| config.validate();
    let (max, movable_bytes) = (16 * MIB, 16 * MIB);
    let all = Config { movable_bytes, ..config };
    assert_eq!(check(all), Err(ConfigError::BadMovable { movable_bytes, max }));
    assert_eq!(check(Config { zone_dma: true, ..all }), Ok(()), "zone DMA remains");
    let almost = Config { movable_bytes: max - 1, ..config };
    assert_eq!(check(almost), Ok(()), "the first 2 MiB remain");
    let small_node = Config { movable_bytes: 4 * MIB, ..config };
    assert_eq!(check(small_node), Ok(()), "a whole node may be movable");
}

#[test]
fn messages_say_what_to_do() {
    let message = format!("{}", error(&[region(1, MIB, 0)]));
    assert!(message.contains("0x1") && message.contains("multiples of 4096"), "{message}");
    let message = format!("{}", ConfigError::NoCpus);
    assert!(message.contains("1 to the platform's Platform::nr_cpus"), "{message}");
    let message = format!("{}", ConfigError::TooManyZones { nr_zones: 300, max: 256 });
    assert!(message.contains("300 zones: allowed are at most 256"), "{message}");
}

fn frame(bytes: u64) -> u64 {
    bytes >> PAGE_SHIFT
}

#[test]
fn zones_split_memory_at_their_limits() {
    let memory = [region(0, 3 * GIB, 0), region(4 * GIB, 4 * GIB, 0)];
    let config = Config { zone_dma: true, movable_bytes: GIB, ..Config::new(&memory, 1) };
    let pfns = |kind| config.zone_memory(NodeId::new(0), kind);
    assert!(pfns(ZoneKind::Dma).eq(core::iter::once(0..frame(16 * MIB))));
    assert!(pfns(ZoneKind::Dma32).eq(core::iter::once(frame(16 * MIB)..frame(3 * GIB))));
    assert!(pfns(ZoneKind::Normal).eq(core::iter::once(frame(4 * GIB)..frame(7 * GIB))));
    assert!(pfns(ZoneKind::Movable).eq(core::iter::once(frame(7 * GIB)..frame(8 * GIB))));
}

#[test]
fn movable_memory_is_the_top_of_a_node_whatever_its_addresses() {
    let memory = [region(0, 8 * GIB, 0)];
    let config = Config { movable_bytes: 7 * GIB, ..Config::new(&memory, 1) };
    let pfns = |kind| config.zone_memory(NodeId::new(0), kind).next();
    assert_eq!(pfns(ZoneKind::Dma32), Some(0..frame(GIB)));
    assert_eq!(pfns(ZoneKind::Normal), None);
    assert_eq!(pfns(ZoneKind::Movable), Some(frame(GIB)..frame(8 * GIB)));
    let config = Config { zone_dma: true, movable_bytes: u64::MAX, ..Config::new(&memory, 1) };
    let pfns = |kind| config.zone_memory(NodeId::new(0), kind).next();
    assert_eq!(pfns(ZoneKind::Dma), Some(0..frame(16 * MIB)));
    assert_eq!(pfns(ZoneKind::Movable), Some(frame(16 * MIB)..frame(8 * GIB)));
}

#[test]
fn regions_are_rounded_inwards() {
    let within =
        |start, end| MemoryRegion::within(PhysAddr::new(start), PhysAddr::new(end), NodeId::new(0));
    assert_eq!(within(0x1001, 0x3fff), Some(region(0x2000, 0x1000, 0)));
    assert_eq!(within(0x1001, 0x2fff), None);
    assert_eq!(within(u64::MAX, u64::MAX), None);
}

#[test]
fn a_reserved_range_keeps_every_page_it_touches() {
    let range = |start, len_bytes| ReservedRange { start: PhysAddr::new(start), len_bytes }.pfns();
    assert_eq!(range(0xfff, 2), 0..2);
    assert_eq!(range(0x1000, 0x1000), 1..2);
    assert!(range(0x1234, 0).is_empty());
}
