//! Snapshot: the state of a process at one moment, as it is sent and shown.

use pagemill::gfp::MigrateType;
use pagemill::stats::{PcpInfo, ShardInfo, ZoneInfo};
use pagemill::{PageAllocator, Platform, accounts::AccountInfo};
use pagemill_pool::stats::PoolStats;
use serde::{Deserialize, Serialize};

use crate::counters::Counters;
use crate::section::Section;

/// The state of a process at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// The process.
    pub process: ProcessStatus,
    /// Its page allocators.
    pub allocators: Vec<AllocatorStatus>,
    /// Its page pools.
    pub pools: Vec<PoolStatus>,
    /// What the program adds.
    pub sections: Vec<Section>,
}

/// The process of a [`Snapshot`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ProcessStatus {
    /// The program.
    pub program: String,
    /// Its version.
    pub version: String,
    /// The number of the process.
    pub pid: u32,
    /// Microseconds from the start of its status to this snapshot, by a clock that does not jump.
    pub uptime_us: u64,
}

/// The state of one page allocator. Numbers are pages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AllocatorStatus {
    /// The name that the program gave it.
    pub name: String,
    /// Its zones.
    pub zones: Vec<ZoneStatus>,
    /// Its counters, under the names of `/proc/vmstat`.
    pub vmstat: Counters,
    /// Its accounts.
    pub accounts: Vec<AccountStatus>,
}

/// One zone, under the names of `/proc/zoneinfo`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ZoneStatus {
    /// The number of its node.
    pub node: u8,
    /// Its name: `DMA`, `DMA32`, `Normal` or `Movable`.
    pub zone: String,
    /// Free pages, without those in per-CPU lists.
    pub free: u64,
    /// The watermark that only urgent requests pass.
    pub min: u64,
    /// The watermark below which reclaim begins.
    pub low: u64,
    /// The watermark at which reclaim ends.
    pub high: u64,
    /// Pages from the first to the last, holes included.
    pub spanned: u64,
    /// Pages that exist.
    pub present: u64,
    /// Pages that can be allocated.
    pub managed: u64,
    /// Pages above a watermark that a request for a higher zone must leave, by zone.
    pub protection: Vec<u64>,
    /// The number of the first frame.
    pub start_pfn: u64,
    /// Free blocks by order.
    pub free_blocks: Vec<u64>,
    /// Free blocks and pageblocks by migrate type.
    pub types: Vec<TypeStatus>,
    /// The per-CPU lists of the zone.
    pub pagesets: Vec<PagesetStatus>,
    /// Free pages of each shard.
    pub shards: Vec<u64>,
}

/// One migrate type in one zone, under the names of `/proc/pagetypeinfo`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TypeStatus {
    /// Its name: `Unmovable`, `Movable` or `Reclaimable`.
    #[serde(rename = "type")]
    pub name: String,
    /// Free blocks by order.
    pub free_blocks: Vec<u64>,
    /// Pageblocks.
    pub pageblocks: u64,
}

/// One list of one CPU. Lists that were in use at the moment of a snapshot are missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PagesetStatus {
    /// The CPU.
    pub cpu: u32,
    /// The migrate type of its pages.
    #[serde(rename = "type")]
    pub name: String,
    /// The order of its blocks.
    pub order: u8,
    /// Pages in the list.
    pub count: u64,
    /// The most pages that it can hold.
    pub high: u64,
    /// Pages moved to or from the zone at a time.
    pub batch: u64,
}

/// One account. Numbers are pages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AccountStatus {
    /// Its number in its allocator.
    pub number: u64,
    /// The number of its parent.
    pub parent: Option<u64>,
    /// Pages charged to it and its descendants.
    pub current: u64,
    /// The largest value that `current` ever had.
    pub peak: u64,
    /// Its limit; `None` without one.
    pub max: Option<u64>,
    /// Its mark for `nr_high`; `None` without one.
    pub high: Option<u64>,
    /// Charges that took it above its mark.
    pub nr_high: u64,
    /// Charges that were cut short or refused at its limit.
    pub nr_max: u64,
}

/// One page pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PoolStatus {
    /// The name that the program gave it.
    pub name: String,
    /// Pages that have not returned to the page allocator: used, in the ring or in the cache.
    pub inflight: u64,
    /// Its counters, under the names of `ethtool --statistics`.
    pub counters: Counters,
}

impl Snapshot {
    /// Calls `change` with every text. A later field must be added here: the fuzz target `status_reply`
    /// looks for control characters in all of them.
    pub(crate) fn for_each_text(&mut self, change: &mut impl FnMut(&mut String)) {
        let Self { process, allocators, pools, sections } = self;
        change(&mut process.program);
        change(&mut process.version);
        for allocator in allocators {
            change(&mut allocator.name);
            allocator.vmstat.for_each_name(change);
            for zone in &mut allocator.zones {
                change(&mut zone.zone);
                zone.types.iter_mut().for_each(|it| change(&mut it.name));
                zone.pagesets.iter_mut().for_each(|it| change(&mut it.name));
            }
        }
        for pool in pools {
            change(&mut pool.name);
            pool.counters.for_each_name(change);
        }
        sections.iter_mut().for_each(|section| section.for_each_text(change));
    }
}

impl AllocatorStatus {
    /// Reads the state of `allocator`.
    ///
    /// # Concurrency
    /// Not one moment: each figure is read on its own.
    ///
    /// # Cost
    /// That of [`PageAllocator::zone_info`] and [`PageAllocator::pcp_info`].
    pub fn of<P: Platform>(name: impl Into<String>, allocator: &PageAllocator<P>) -> Self {
        Self {
            name: name.into(),
            zones: ZoneStatus::all(allocator),
            vmstat: allocator.vmstat().counters().collect(),
            accounts: allocator.account_info().map(AccountStatus::of).collect(),
        }
    }
}

impl ZoneStatus {
    /// Reads the state of each zone of `allocator`.
    pub fn all<P: Platform>(allocator: &PageAllocator<P>) -> Vec<Self> {
        let lists: Vec<PcpInfo> = allocator.pcp_info().collect();
        let shards: Vec<ShardInfo> = allocator.shard_info().collect();
        allocator.zone_info().map(|zone| Self::of(&zone, &lists, &shards)).collect()
    }

    fn of(info: &ZoneInfo, lists: &[PcpInfo], shards: &[ShardInfo]) -> Self {
        let lists = lists.iter().filter(|it| (it.node, it.kind) == (info.node, info.kind));
        let shards = shards.iter().filter(|it| (it.node, it.kind) == (info.node, info.kind));
        Self {
            node: info.node.value(),
            zone: info.kind.name().to_owned(),
            free: info.nr_free_pages,
            min: info.watermarks.min,
            low: info.watermarks.low,
            high: info.watermarks.high,
            spanned: info.spanned,
            present: info.present,
            managed: info.managed,
            protection: info.watermarks.lowmem_reserve.to_vec(),
            start_pfn: info.start_pfn,
            free_blocks: info.buddyinfo().to_vec(),
            types: MigrateType::ALL.map(|kind| TypeStatus::of(info, kind)).into(),
            pagesets: lists.map(PagesetStatus::of).collect(),
            shards: shards.map(|shard| shard.nr_free_pages).collect(),
        }
    }
}

impl TypeStatus {
    fn of(info: &ZoneInfo, migratetype: MigrateType) -> Self {
        Self {
            name: migratetype.name().to_owned(),
            free_blocks: info.free_blocks[migratetype.index()].to_vec(),
            pageblocks: info.pageblocks[migratetype.index()],
        }
    }
}

impl PagesetStatus {
    fn of(list: &PcpInfo) -> Self {
        Self {
            cpu: list.cpu.value(),
            name: list.migratetype.name().to_owned(),
            order: list.order.value(),
            count: list.count as u64,
            high: list.high as u64,
            batch: list.batch as u64,
        }
    }
}

impl AccountStatus {
    fn of(info: AccountInfo) -> Self {
        let limit = |pages: u64| (pages != u64::MAX).then_some(pages);
        Self {
            number: info.number as u64,
            parent: info.parent.map(|number| number as u64),
            current: info.usage.current,
            peak: info.usage.peak,
            max: limit(info.limits.max),
            high: limit(info.limits.high),
            nr_high: info.usage.nr_high,
            nr_max: info.usage.nr_max,
        }
    }
}

impl PoolStatus {
    /// Makes a status of what [`PagePool::stats`](pagemill_pool::PagePool::stats) and
    /// [`inflight`](pagemill_pool::PagePool::inflight) return.
    #[must_use]
    pub fn of(name: impl Into<String>, stats: &PoolStats, inflight: i32) -> Self {
        let inflight = u64::try_from(inflight).unwrap_or(0);
        Self { name: name.into(), inflight, counters: stats.counters().collect() }
    }
}
