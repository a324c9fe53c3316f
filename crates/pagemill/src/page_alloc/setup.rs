//! Setup: builds the allocator's tables in the metadata memory, and chooses each zone's number of
//! shards.
//!
//! One piece of code walks the configuration twice: once to count bytes, once to lay the tables out. So
//! the two cannot disagree.

use core::alloc::Layout;
use core::mem::MaybeUninit;
use core::ptr::NonNull;

use crate::account::table::{self, Accounts};
use crate::base::gfp::{NR_ZONE_KINDS, ZoneKind};
use crate::base::migratetype::MigrateType;
use crate::base::raw_page::{Class, ListId, MAX_NR_ZONES, RawPage, Words};
use crate::base::stats::ZoneEvents;
use crate::base::units::{CpuId, NodeId, Order, PAGE_SHIFT};
use crate::config::config::Config;
use crate::config::error::ConfigError;
use crate::memmap::links::{FrameTables, Link, RefCount};
use crate::memmap::page_owner::{self, Owners};
use crate::percpu::hot_zone::HotZones;
use crate::percpu::pcp::PcpList;
use crate::percpu::percpu::{Parts, PerCpu};
use crate::percpu::slot::{ListOrder, NR_LIST_ORDERS, Slot, Slots};
use crate::zone::block_state::{BlockState, BlockStates};
use crate::zone::buddy::{Block, Buddy};
use crate::zone::frame_set::{FrameSet, FrameSetBlock};
use crate::zone::located::Located;
use crate::zone::pageblock::Bitmap;
use crate::zone::shard::{Shard, ShardId};
use crate::zone::shard_map::ShardMap;
use crate::zone::span::{Span, Spans, block_base};
use crate::zone::watermark::{MarkPolicy, Watermarks, default_min_free_pages, lowmem_reserve};
use crate::zone::zone::{ShardHint, Zone, ZoneFacts};
use crate::zone::zonelist::{ZoneList, zone_order};

/// The tables of an allocator, in memory that it owns for its lifetime.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) frames: FrameTables,
    pub(crate) zones: &'static [Zone],
    /// Where the search for a frame that is known by its number begins.
    pub(crate) largest_span: Located,
    /// For each list, the words of single pages, not charged, in the largest span of its zone.
    pub(crate) plain_words: &'static [Words],
    pub(crate) cpus: &'static [PerCpu],
    /// One list for each node and kind of zone; see [`zonelist`](crate::zone::zonelist).
    pub(crate) zonelists: &'static [ZoneList],
    pub(crate) accounts: Accounts,
    pub(crate) owners: Owners,
}

/// Alignment of the metadata memory: a pair of cache lines.
const ALIGN: usize = 128;

/// Returns how much metadata memory `config` needs.
pub(crate) fn metadata_layout(config: &Config<'_>) -> Result<Layout, ConfigError> {
    config.validate()?;
    let counts = Counts::of(config)?;
    let mut carver = MetadataCarver { memory: None, used: 0 };
    carve(config, &counts, &mut carver);
    Ok(Layout::from_size_align(carver.used.next_multiple_of(ALIGN), ALIGN)
        .expect("2^32 frames need less than 2^63 bytes"))
}

/// Lays out and fills the tables; `is_shared` means that there are more CPUs than lists.
///
/// # Safety
/// `metadata` points to initialised memory that is valid for reads and writes, and that nothing
/// else uses, for as long as the tables are used.
pub(crate) unsafe fn build(
    config: &Config<'_>,
    metadata: NonNull<[u8]>,
    is_shared: bool,
) -> Result<Tables, ConfigError> {
    let layout = metadata_layout(config)?;
    if metadata.len() < layout.size() {
        return Err(ConfigError::MetadataTooSmall {
            given_bytes: metadata.len(),
            needed_bytes: layout.size(),
        });
    }
    let memory = metadata.cast::<u8>();
    let address = memory.addr().get();
    if !address.is_multiple_of(ALIGN) {
        return Err(ConfigError::MetadataMisaligned { address, align_bytes: ALIGN });
    }
    let counts = Counts::of(config)?;
    let mut carver = MetadataCarver { memory: Some(memory), used: 0 };
    Ok(carve(config, &counts, &mut carver).expect("the carver has memory").fill(config, is_shared))
}

/// Number of entries that a configuration needs in each table.
struct Counts {
    zones: usize,
    shards: usize,
    spans: usize,
    blocks: usize,
    frames: usize,
    nodes: usize,
    cpus: usize,
    /// Capacity of all lists of one CPU together, in words.
    pcp_pages: usize,
}

impl Counts {
    fn of(config: &Config<'_>) -> Result<Self, ConfigError> {
        let nodes = config.nr_nodes();
        let (mut zones, mut shards, mut spans, mut blocks, mut frames) = (0, 0, 0, 0, 0);
        let mut pcp_pages = 0;
        for (node, kind) in zone_names(nodes) {
            let zone = ZoneCounts::of(config, node, kind);
            if zone.spans > 0 {
                zones += 1;
                shards += zone.shards;
                spans += zone.spans;
                blocks += zone.blocks;
                frames += zone.frames;
                let rooms =
                    ListOrder::all().map(|order| pcp_room(list_high(config, zone.frames, order)));
                pcp_pages += rooms.sum::<usize>() * ListId::nr_lists(1);
            }
        }
        if zones > MAX_NR_ZONES {
            return Err(ConfigError::TooManyZones { nr_zones: zones, max: MAX_NR_ZONES });
        }
        if frames > u64::from(u32::MAX) {
            return Err(ConfigError::TooManyFrames { nr_frames: frames });
        }
        Ok(Self {
            zones,
            shards,
            spans,
            blocks,
            frames: usize::try_from(frames).expect("checked to fit in 32 bits"),
            nodes,
            cpus: config.nr_cpus as usize,
            pcp_pages,
        })
    }
}

struct ZoneCounts {
    shards: usize,
    spans: usize,
    blocks: usize,
    frames: u64,
}

impl ZoneCounts {
    // Not inlined: the walks over the configuration call it in several loops.
    #[inline(never)]
    fn of(config: &Config<'_>, node: NodeId, kind: ZoneKind) -> Self {
        let mut counts = Self { shards: 0, spans: 0, blocks: 0, frames: 0 };
        let mut next_base = 0;
        for pfns in config.zone_memory(node, kind) {
            counts.spans += 1;
            counts.frames += pfns.end - pfns.start;
            let end_base = block_base(pfns.end - 1) + 1;
            let new_blocks = end_base - block_base(pfns.start).max(next_base);
            counts.blocks += usize::try_from(new_blocks).expect("checked to fit in 32 bits");
            next_base = end_base;
        }
        counts.shards = nr_shards(config, node, counts.blocks);
        counts
    }
}

/// Yields the name of every possible zone, in the order of their numbers.
fn zone_names(nr_nodes: usize) -> impl Iterator<Item = (NodeId, ZoneKind)> {
    (0..nr_nodes).flat_map(|node| {
        let node = node_id(node);
        ZoneKind::ALL.into_iter().map(move |kind| (node, kind))
    })
}

fn node_id(node: usize) -> NodeId {
    NodeId::new(u8::try_from(node).expect("checked to be below MAX_NR_NODES"))
}

/// Returns the number of shards of a zone of `nr_blocks` pageblocks.
fn nr_shards(config: &Config<'_>, node: NodeId, nr_blocks: usize) -> usize {
    let wanted = config.nr_zone_shards.unwrap_or_else(|| {
        let of_node = (0..config.nr_cpus).filter(|&cpu| config.cpu_node(cpu as usize) == node);
        let nr_cpus = match of_node.count() {
            // Memory of a node without CPUs is used by all CPUs.
            0 => config.nr_cpus as usize,
            nr_cpus => nr_cpus,
        };
        // Each shard has at least 64 MiB.
        let room = (nr_blocks / 32).max(1);
        u32::try_from(nr_cpus.next_power_of_two().min(previous_power_of_two(room)))
            .unwrap_or(Config::NR_ZONE_SHARDS_MAX)
            .min(Config::NR_ZONE_SHARDS_MAX)
    });
    // A shard is at least one pair of pageblocks, and none is empty.
    let mut nr_shards = (wanted as usize).min(previous_power_of_two((nr_blocks / 2).max(1)));
    while nr_shards > 1 && (nr_shards - 1) * nr_blocks.div_ceil(nr_shards) >= nr_blocks {
        nr_shards /= 2;
    }
    nr_shards
}

/// Returns a CPU's index among the CPUs of its node.
fn home(config: &Config<'_>, cpu: usize) -> ShardHint {
    let node = config.cpu_node(cpu);
    ShardHint((0..cpu).map(|other| u32::from(config.cpu_node(other) == node)).sum())
}

fn previous_power_of_two(number: usize) -> usize {
    1 << number.ilog2()
}

/// Returns the size of each per-CPU list of a zone of `nr_frames`, in blocks of `order`.
fn list_high(config: &Config<'_>, nr_frames: u64, order: ListOrder) -> usize {
    let share =
        |part: u64| u32::try_from(nr_frames / part / u64::from(config.nr_cpus)).unwrap_or(u32::MAX);
    if order == ListOrder::PAGES {
        let default = || share(8).clamp(1, Config::PCP_HIGH_DEFAULT);
        return config.pcp_high.unwrap_or_else(default) as usize;
    }
    // Less than for single pages, since there are four such lists beside each list of these.
    let nr_pages = config.pcp_high.unwrap_or_else(|| share(64));
    (nr_pages as usize >> order.order().value()).min(BLOCKS_MAX[order.index()])
}

/// The largest size of each list of blocks, by the order's index.
///
/// Half a list of orders 1 to 3 is what a zone gives or takes under one hold of its lock in less than
/// the time of a batch of single pages; four blocks of 2 MiB are as much memory as two lists of pages.
const BLOCKS_MAX: [usize; NR_LIST_ORDERS] = [Config::PCP_HIGH_MAX as usize, 64, 32, 16, 4];

/// Returns how many blocks a list of `high` blocks of `order` exchanges with its zone at a time.
fn list_batch(config: &Config<'_>, high: usize, order: ListOrder) -> usize {
    let quarter = (high / 4).max(1);
    let batch = match config.pcp_batch {
        Some(batch) if order == ListOrder::PAGES => batch as usize,
        _ => quarter.min(Config::PCP_BATCH_MAX as usize),
    };
    batch.min(high)
}

/// Returns the number of entries allotted to a list of `high` pages: rounded so that the next list,
/// too, begins on a cache line, and copies of batches touch as few lines as possible.
const fn pcp_room(high: usize) -> usize {
    high.next_multiple_of(64 / size_of::<RawPage>())
}

/// The tables before they are filled.
struct Raw {
    zones: &'static mut [MaybeUninit<Zone>],
    shards: &'static mut [MaybeUninit<Shard>],
    spans: &'static mut [MaybeUninit<Span>],
    blocks: &'static mut [MaybeUninit<Block>],
    bitmaps: &'static mut [MaybeUninit<Bitmap>],
    frames: FrameTables,
    cpus: &'static mut [MaybeUninit<PerCpu>],
    zone_events: &'static mut [MaybeUninit<ZoneEvents>],
    slots: &'static mut [MaybeUninit<Slots>],
    pages: &'static mut [MaybeUninit<RawPage>],
    zonelists: &'static mut [MaybeUninit<ZoneList>],
    zone_indexes: &'static mut [MaybeUninit<u16>],
    hot_zones: &'static mut [MaybeUninit<HotZones>],
    accounts: &'static mut [MaybeUninit<table::Entry>],
    owners: &'static mut [MaybeUninit<page_owner::Entry>],
    states: StateTables,
    plain_words: &'static mut [MaybeUninit<Words>],
}

/// Takes the tables' memory in order; `None` if the carver only counts.
fn carve(config: &Config<'_>, counts: &Counts, carver: &mut MetadataCarver) -> Option<Raw> {
    let nr_lists = counts.cpus * ListId::nr_lists(counts.zones);
    let bitmaps = carver.take(counts.blocks);
    let blocks = carver.take(counts.blocks);
    let zones = carver.take(counts.zones);
    let shards = carver.take(counts.shards);
    let spans = carver.take(counts.spans);
    let cpus = carver.take(counts.cpus);
    let zone_events = carver.take(counts.cpus * counts.zones);
    let slots = carver.take(nr_lists);
    // Placed behind the cache-line-aligned tables: see `pcp_room`.
    let pages = carver.take(counts.cpus * counts.pcp_pages);
    let zonelists = carver.take(counts.nodes * NR_ZONE_KINDS);
    let zone_indexes = carver.take(counts.nodes * zone_order_len(config, counts));
    let hot_zones = carver.take(counts.cpus);
    let links = carver.take(counts.frames);
    let refs = carver.take(counts.frames);
    // Entry zero stands for no account.
    let accounts = carver.take(config.nr_accounts as usize + 1);
    let owners = carver.take(if config.page_owner { counts.frames } else { 0 });
    let states = carver.take(counts.blocks);
    let reserved = carver.take(counts.blocks);
    let charged = carver.take(if config.nr_accounts > 0 { counts.blocks } else { 0 });
    let plain_words = carver.take(ListId::nr_lists(counts.zones));
    let states = StateTables {
        states: TableCarver(states?),
        reserved: TableCarver(reserved?),
        charged: TableCarver(charged?),
    };
    Some(Raw {
        zones: zones?,
        shards: shards?,
        spans: spans?,
        blocks: blocks?,
        bitmaps: bitmaps?,
        frames: frame_tables(links?, refs?),
        cpus: cpus?,
        zone_events: zone_events?,
        slots: slots?,
        pages: pages?,
        zonelists: zonelists?,
        zone_indexes: zone_indexes?,
        hot_zones: hot_zones?,
        accounts: accounts?,
        owners: owners?,
        states,
        plain_words: plain_words?,
    })
}

/// Makes the per-frame tables without writing them: their entries hold arbitrary values.
fn frame_tables(
    links: &'static mut [MaybeUninit<Link>],
    refs: &'static mut [MaybeUninit<RefCount>],
) -> FrameTables {
    // loom's atomics are objects, not words: in its build each must be made.
    #[cfg(loom)]
    {
        for link in links.iter_mut() {
            link.write(Link::new(0));
        }
        for count in refs.iter_mut() {
            count.write(RefCount::new(0));
        }
    }
    // SAFETY: 1. initialised: the metadata memory is, and any bytes are a valid atomic.
    let links = unsafe { links.assume_init_mut() };
    // SAFETY: 1. initialised: as above.
    let refs = unsafe { refs.assume_init_mut() };
    FrameTables::new(links, refs)
}

/// Returns how many zone numbers the zonelists of one node hold together.
fn zone_order_len(config: &Config<'_>, counts: &Counts) -> usize {
    let below = |highest: ZoneKind| {
        zone_names(counts.nodes)
            .filter(|&(_, kind)| kind <= highest)
            .filter(|&(node, kind)| ZoneCounts::of(config, node, kind).spans > 0)
            .count()
    };
    ZoneKind::ALL.into_iter().map(below).sum()
}

impl Raw {
    fn fill(self, config: &Config<'_>, is_shared: bool) -> Tables {
        let zones = fill_zones(
            config,
            self.zones,
            self.shards,
            self.spans,
            self.blocks,
            self.bitmaps,
            self.states,
        );
        let zonelists = fill_zonelists(config, zones, self.zonelists, self.zone_indexes);
        let mut hot_zones = TableCarver(self.hot_zones);
        let mut slots = TableCarver(self.slots);
        let mut pages = TableCarver(self.pages);
        let mut zone_events = TableCarver(self.zone_events);
        let cpus = write_all(self.cpus, |cpu| {
            let (node, home) = (config.cpu_node(cpu), home(config, cpu));
            let of_node = &zonelists[node.index() * NR_ZONE_KINDS..][..NR_ZONE_KINDS];
            let mut lists = ListId::all(zones.len());
            let slots = slots.next(ListId::nr_lists(zones.len()));
            let slots: &'static [Slots] = write_all(slots, |_| {
                let list = lists.next().expect("as many lists as slots");
                let nr_frames = zones[list.zone()].facts.present;
                let mut orders = ListOrder::all();
                core::array::from_fn(|_| {
                    let order = orders.next().expect("as many orders as slots");
                    let high = list_high(config, nr_frames, order);
                    let pages = pages.next(pcp_room(high));
                    let batch = list_batch(config, high, order);
                    Slot::new(PcpList::new(&mut pages[..high], batch))
                })
            });
            let hot_zones = hot_zones.next(1);
            PerCpu::new(Parts {
                id: CpuId::new(u32::try_from(cpu).expect("as many as Config says")),
                home,
                node,
                is_shared,
                hot_zones: &write_all(hot_zones, |_| {
                    HotZones::new(node, home, zones, slots, of_node)
                })[0],
                slots,
                zone_events: write_all(zone_events.next(zones.len()), |_| ZoneEvents::new()),
            })
        });
        let accounts = Accounts::new(write_all(self.accounts, |_| table::Entry::new()));
        let owners = Owners::new(write_all(self.owners, |_| page_owner::Entry::new()));
        let largest_span = Located::largest(zones).expect("a memory map has a region");
        let mut lists = ListId::all(zones.len());
        let plain_words = write_all(self.plain_words, |_| {
            let list = lists.next().expect("as many lists as entries");
            let Span { start, end, .. } = *zones[list.zone()].facts.spans.largest();
            Class::new(list, Order::ZERO).words(start, end)
        });
        Tables {
            frames: self.frames,
            zones,
            largest_span,
            plain_words,
            cpus,
            zonelists,
            accounts,
            owners,
        }
    }
}

fn fill_zones(
    config: &Config<'_>,
    zones: &'static mut [MaybeUninit<Zone>],
    shards: &'static mut [MaybeUninit<Shard>],
    spans: &'static mut [MaybeUninit<Span>],
    blocks: &'static mut [MaybeUninit<Block>],
    bitmaps: &'static mut [MaybeUninit<Bitmap>],
    mut states: StateTables,
) -> &'static [Zone] {
    let (mut shards, mut spans) = (TableCarver(shards), TableCarver(spans));
    let (mut blocks, mut bitmaps) = (TableCarver(blocks), TableCarver(bitmaps));
    let ranges = || config.reserved.iter().map(crate::config::config::ReservedRange::pfns);
    let mut first_frame = 0;
    let mut names = zone_names(config.nr_nodes())
        .filter(|&(node, kind)| ZoneCounts::of(config, node, kind).spans > 0);
    let zones = write_all(zones, |index| {
        let (node, kind) = names.next().expect("as many zones as were counted");
        let counts = ZoneCounts::of(config, node, kind);
        let mut memory = config.zone_memory(node, kind);
        let mut next_base = 0;
        let mut first_block = 0;
        let spans = write_all(spans.next(counts.spans), |_| {
            let pfns = memory.next().expect("as many spans as were counted");
            // A span that begins in the previous span's pageblock shares its metadata.
            let base = block_base(pfns.start);
            first_block -= u32::from(base < next_base);
            let span = Span { start: pfns.start, end: pfns.end, first_block, first_frame };
            let last_base = block_base(pfns.end - 1);
            first_block += narrow(last_base - base + 1);
            first_frame += narrow(pfns.end - pfns.start);
            next_base = last_base + 1;
            span
        });
        let spans = Spans::new(spans);
        let shard_nr_blocks = narrow(counts.blocks.div_ceil(counts.shards) as u64);
        let number = u16::try_from(index).expect("checked to be below MAX_NR_ZONES");
        // Keeps pairs of pageblocks together.
        let first_block = |shard: usize| {
            let block = narrow(shard as u64) * shard_nr_blocks;
            let first = spans.first_in(block).and_then(|pfn| Some((spans.find(pfn)?, pfn)));
            first.map_or(narrow(counts.blocks as u64), |(span, pfn)| {
                block + u32::from(spans.is_upper(span, pfn))
            })
        };
        let states = states.next(counts.blocks, spans, ranges());
        let shards = write_all(shards.next(counts.shards), |shard| {
            let first = first_block(shard);
            let nr_blocks = (first_block(shard + 1) - first) as usize;
            let blocks = write_all(blocks.next(nr_blocks), |_| Block::new());
            let bitmaps = write_all(bitmaps.next(nr_blocks), |_| Bitmap::EMPTY);
            let states = &states.table()[first as usize..][..nr_blocks];
            let mut buddy = Buddy::new(blocks, bitmaps, states, spans, first);
            buddy.free_all_except(ranges());
            let shard = u16::try_from(shard).expect("64 at most");
            Shard::new(ShardId { node, zone: number, shard }, buddy)
        });
        let facts = ZoneFacts {
            index: number,
            first_class: Class::new(ListId::new(number, MigrateType::ALL[0]), Order::ZERO),
            kind,
            node,
            spans,
            present: counts.frames,
            shard_map: ShardMap::new(shard_nr_blocks, counts.shards, first_block),
        };
        Zone::new(shards, facts, states)
    });
    set_watermarks(&mark_policy(config), zones);
    zones
}

/// Returns the inputs of the zones' watermarks.
pub(crate) fn mark_policy(config: &Config<'_>) -> MarkPolicy {
    MarkPolicy {
        min_free: config.min_free_bytes.map(|bytes| bytes >> PAGE_SHIFT),
        scale_factor: config.watermark_scale_factor,
        lowmem_reserve_ratio: config.lowmem_reserve_ratio,
    }
}

/// Divides the reserve among the zones by size, and returns whether a watermark changed; the caller
/// must be the only writer.
///
/// Zone Movable lends none of its pages to the kernel, but keeps a share like the others, since its
/// pages are freed and taken in the same way.
pub(crate) fn set_watermarks(policy: &MarkPolicy, zones: &[Zone]) -> bool {
    let mut is_new = false;
    for_each_watermarks(policy, zones, |zone, marks| is_new |= zone.marks.set(marks));
    is_new
}

/// Calls `visit` with each zone and the watermarks that its managed frames give.
pub(crate) fn for_each_watermarks(
    policy: &MarkPolicy,
    zones: &[Zone],
    mut visit: impl FnMut(&Zone, &Watermarks),
) {
    let total: u64 = zones.iter().map(|zone| zone.managed.get()).sum();
    let min_free = policy.min_free.unwrap_or_else(|| default_min_free_pages(total));
    // Zones are sorted by node.
    for of_node in zones.chunk_by(|one, next| one.facts.node == next.facts.node) {
        let mut managed_by_kind = [0; NR_ZONE_KINDS];
        for zone in of_node {
            managed_by_kind[zone.facts.kind.index()] = zone.managed.get();
        }
        for zone in of_node {
            let (kind, managed) = (zone.facts.kind, zone.managed.get());
            let min = reserve_share(min_free, managed, total).min(managed);
            let mut marks = Watermarks::new(min, managed, policy.scale_factor);
            marks.lowmem_reserve =
                lowmem_reserve(kind, &managed_by_kind, &policy.lowmem_reserve_ratio);
            visit(zone, &marks);
        }
    }
}

/// Returns the part of a reserve of `min_free` frames that falls to a zone of `managed` frames, of
/// `total` frames in all zones; rounded down.
///
/// The product fits in 64 bits: each factor is a number of frames of one allocator, which has at most
/// `u32::MAX` of them. Dividing 128 bits would call a helper of the compiler (`__udivti3`).
fn reserve_share(min_free: u64, managed: u64, total: u64) -> u64 {
    (min_free * managed).checked_div(total).unwrap_or(0)
}

fn fill_zonelists(
    config: &Config<'_>,
    zones: &[Zone],
    zonelists: &'static mut [MaybeUninit<ZoneList>],
    indexes: &'static mut [MaybeUninit<u16>],
) -> &'static [ZoneList] {
    let mut indexes = TableCarver(indexes);
    let distance = |from, to| config.distance(from, to);
    write_all(zonelists, |list| {
        let (node, highest) = (list / NR_ZONE_KINDS, ZoneKind::ALL[list % NR_ZONE_KINDS]);
        let nr = zones.iter().filter(|zone| zone.facts.kind <= highest).count();
        let zone_indexes = write_all(indexes.next(nr), |_| 0);
        zone_order(zones, node, highest, distance, zone_indexes);
        ZoneList::new(zone_indexes)
    })
}

fn narrow(count: u64) -> u32 {
    u32::try_from(count).expect("an allocator has at most 2^32 frames")
}

/// Initialises every entry of a table.
fn write_all<T>(
    table: &'static mut [MaybeUninit<T>],
    mut make: impl FnMut(usize) -> T,
) -> &'static mut [T] {
    for (index, entry) in table.iter_mut().enumerate() {
        entry.write(make(index));
    }
    // SAFETY: 1. initialised: every entry was just written.
    unsafe { table.assume_init_mut() }
}

/// A table that is handed out in pieces.
struct TableCarver<T: 'static>(&'static mut [MaybeUninit<T>]);

impl<T> TableCarver<T> {
    fn next(&mut self, len: usize) -> &'static mut [MaybeUninit<T>] {
        let (piece, rest) = core::mem::take(&mut self.0).split_at_mut(len);
        self.0 = rest;
        piece
    }
}

/// The tables of pageblock states and of the frames that these count, for all zones.
struct StateTables {
    states: TableCarver<BlockState>,
    reserved: TableCarver<FrameSetBlock>,
    /// Empty if there are no accounts.
    charged: TableCarver<FrameSetBlock>,
}

impl StateTables {
    /// Makes the states of the next zone, which has `nr_blocks` pageblocks.
    fn next(
        &mut self,
        nr_blocks: usize,
        spans: Spans,
        reserved: impl Iterator<Item = core::ops::Range<u64>>,
    ) -> BlockStates {
        let set = |tables: &mut TableCarver<FrameSetBlock>, len| {
            &*write_all(tables.next(len), |_| FrameSetBlock::new())
        };
        let reserved = FrameSet::new(set(&mut self.reserved, nr_blocks), spans, reserved);
        let nr_charged = nr_blocks.min(self.charged.0.len());
        let charged = set(&mut self.charged, nr_charged);
        let charged = FrameSet::new(charged, spans, core::iter::empty());
        let states = write_all(self.states.next(nr_blocks), |block| {
            BlockState::new(reserved.count_in(narrow(block as u64)))
        });
        BlockStates::new(states, spans, reserved, charged)
    }
}

/// Hands out the metadata memory in order, or only counts it.
///
/// `carved-once`: each byte below `used` was handed out once, and no byte above it was.
struct MetadataCarver {
    memory: Option<NonNull<u8>>,
    used: usize,
}

impl MetadataCarver {
    fn take<T>(&mut self, len: usize) -> Option<&'static mut [MaybeUninit<T>]> {
        const { assert!(align_of::<T>() <= ALIGN) };
        let start = self.used.next_multiple_of(align_of::<T>());
        self.used = start + len * size_of::<T>();
        let memory = self.memory?;
        // SAFETY: 1. in bounds: `build` checked that the memory holds all that this walk takes.
        let first = unsafe { memory.add(start) };
        let table = NonNull::slice_from_raw_parts(first.cast::<MaybeUninit<T>>(), len);
        // SAFETY: 1. valid for as long as it is used: guaranteed by the caller of `build`.
        // 2. aligned: the memory to `ALIGN`, and `start` to `T`. 3. exclusive: `carved-once`.
        Some(unsafe { &mut *table.as_ptr() })
    }
}

#[cfg(test)]
pub(crate) mod tests;
