//! Configuration of an allocator: memory map, CPUs, zones, watermarks, lists, shards; plain data.

use crate::base::gfp::{NR_ZONE_KINDS, ZoneKind};
use crate::base::units::{
    MAX_NR_NODES, NodeId, PAGE_SHIFT, PAGE_SIZE, PAGEBLOCK_ORDER, PFN_BITS, PhysAddr,
};
use crate::config::error::ConfigError;

/// One range of usable memory on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
#[expect(clippy::exhaustive_structs, reason = "plain data, written out by the caller")]
pub struct MemoryRegion {
    /// First byte; a multiple of [`PAGE_SIZE`].
    pub start: PhysAddr,
    /// Length; a multiple of [`PAGE_SIZE`], not zero.
    pub len_bytes: u64,
    /// NUMA node.
    pub node: NodeId,
}

impl MemoryRegion {
    /// Returns the whole pages within `start..end`, or `None` if there are none.
    ///
    /// For maps such as e820's, whose entries need not end at page boundaries.
    #[must_use]
    pub const fn within(start: PhysAddr, end: PhysAddr, node: NodeId) -> Option<Self> {
        let page_mask = PAGE_SIZE as u64 - 1;
        let end = end.value() & !page_mask;
        let start = match start.value().checked_add(page_mask) {
            Some(start) => start & !page_mask,
            None => return None,
        };
        if start < end {
            Some(Self { start: PhysAddr::new(start), len_bytes: end - start, node })
        } else {
            None
        }
    }

    pub(crate) const fn start_pfn(&self) -> u64 {
        self.start.value() >> PAGE_SHIFT
    }

    pub(crate) const fn end_pfn(&self) -> u64 {
        self.start_pfn() + (self.len_bytes >> PAGE_SHIFT)
    }
}

/// A range that the allocator must not hand out: the kernel's image, a device's window.
///
/// Every page that the range touches is reserved. Ranges may overlap, be empty, come in any order, and
/// extend beyond the memory of the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
#[expect(clippy::exhaustive_structs, reason = "plain data, written out by the caller")]
pub struct ReservedRange {
    /// First byte.
    pub start: PhysAddr,
    /// Length in bytes.
    pub len_bytes: u64,
}

impl ReservedRange {
    /// Returns the frame numbers that the range touches.
    pub(crate) const fn pfns(&self) -> core::ops::Range<u64> {
        let start = self.start.value();
        let end = start + self.len_bytes;
        if self.len_bytes == 0 {
            return 0..0;
        }
        (start >> PAGE_SHIFT)..((end - 1) >> PAGE_SHIFT) + 1
    }
}

/// The configuration of an allocator.
///
/// [`PageAllocator::metadata_layout`](crate::PageAllocator::metadata_layout) and
/// [`PageAllocator::new`](crate::PageAllocator::new) check it. `metadata_layout` has no platform: only
/// `new` finds a [`nr_cpus`](Self::nr_cpus) that is larger than the platform's.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data; start from Config::new")]
pub struct Config<'a> {
    /// The usable memory, sorted by address, disjoint.
    ///
    /// Two nodes must not share a pageblock (2 MiB). All regions together have at most 2^32 - 1 frames,
    /// which is one frame less than 16 TiB.
    ///
    /// No memory can be added later. Describe memory that may be found after the allocator is built, and
    /// reserve it ([`reserved`](Self::reserved)) until then.
    pub memory: &'a [MemoryRegion],
    /// Ranges that must not be handed out.
    pub reserved: &'a [ReservedRange],
    /// Number of CPUs: 1 to [`Platform::nr_cpus`](crate::Platform::nr_cpus).
    ///
    /// A CPU whose number is `nr_cpus` or more shares the lists of another CPU.
    pub nr_cpus: u32,
    /// Node of each CPU; empty if all CPUs are on the first region's node.
    pub cpu_nodes: &'a [NodeId],
    /// Distances between nodes, row by row, as in ACPI's SLIT; empty if all are equal.
    pub distances: &'a [u8],
    /// Whether frames below 16 MiB form a separate zone.
    pub zone_dma: bool,
    /// Whether frames below 4 GiB form a separate zone.
    pub zone_dma32: bool,
    /// Bytes at the top of each node that become its zone Movable, at any address; rounded down to
    /// pageblocks, and never taken from zone DMA. Requests without [`Gfp::MOVABLE`](crate::Gfp::MOVABLE),
    /// such as `Gfp::KERNEL`, do not use it, so it may not be all of the memory.
    pub movable_bytes: u64,
    /// Sum of the min watermarks; `None` for Linux's rule, 4 x sqrt(KiB of memory) KiB.
    pub min_free_bytes: Option<u64>,
    /// Distance from min to low and from low to high, in 1/10000 of the zone; at least min/4.
    pub watermark_scale_factor: u32,
    /// For each kind of zone, the share (1/n) of the memory above it that is kept from requests that
    /// could have used that memory; zero keeps nothing.
    pub lowmem_reserve_ratio: [u32; NR_ZONE_KINDS],
    /// Maximum number of open accounts, up to [`Config::NR_ACCOUNTS_MAX`].
    ///
    /// Zero by default: [`Account::open`](crate::accounts::Account::open) fails until this is set.
    pub nr_accounts: u32,
    /// Whether to record the call that allocated each frame; costs 8 more bytes of metadata per frame.
    ///
    /// A double free is then detected at once.
    pub page_owner: bool,
    /// Whether to fill free pages with a pattern (poison) and check it when they are allocated.
    pub poison: bool,
    /// Capacity in pages of one per-CPU list; a CPU has one list of single pages per zone and migrate
    /// type. `None` for 1/8 of the zone shared among the CPUs, at most [`Config::PCP_HIGH_DEFAULT`].
    ///
    /// The lists of blocks of the orders 1, 2, 3 and 9 hold at most 64, 32, 16 and 4 blocks, and at most
    /// this number of pages each; with `None`, at most 1/64 of the zone shared among the CPUs.
    pub pcp_high: Option<u32>,
    /// Fewest pages moved between a zone and a list of single pages at a time; `None` for a quarter of
    /// high, at most [`Config::PCP_BATCH_MAX`]. From 64 on, a single move may be as small as half of it
    /// or up to 63 pages larger, so that frames of one aligned group of 64 stay together.
    pub pcp_batch: Option<u32>,
    /// Number of shards, each with its own lock, that a zone is divided into: a power of two up to
    /// [`NR_ZONE_SHARDS_MAX`](Self::NR_ZONE_SHARDS_MAX), fewer if the zone has less than two pageblocks
    /// for each. `None` for one shard per CPU of the node (rounded up to a power of two), as long as
    /// each has 64 MiB.
    pub nr_zone_shards: Option<u32>,
}

impl<'a> Config<'a> {
    /// Capacity of a per-CPU list of a large zone.
    ///
    /// Twice the largest batch that users are known to ask for (512, one pageblock), so that taking a
    /// batch and returning it stays within the list: 8 KiB, a quarter of a typical L1 cache.
    pub const PCP_HIGH_DEFAULT: u32 = 1024;
    /// Largest allowed [`pcp_high`](Self::pcp_high).
    pub const PCP_HIGH_MAX: u32 = 1 << 16;
    /// Largest allowed [`pcp_batch`](Self::pcp_batch): one word of a pageblock's bitmap.
    ///
    /// Consecutive moves in one direction grow beyond it automatically.
    pub const PCP_BATCH_MAX: u32 = 64;
    /// Largest number of shards of a zone.
    pub const NR_ZONE_SHARDS_MAX: u32 = 64;

    /// Largest [`watermark_scale_factor`](Self::watermark_scale_factor): 30 % of a zone.
    ///
    /// # Source
    /// `linux-6.12` `kernel/sysctl.c` `watermark_scale_factor`
    pub const WATERMARK_SCALE_FACTOR_MAX: u32 = 3000;

    /// Largest allowed [`nr_accounts`](Self::nr_accounts): a handle has ten bits for the account
    /// number.
    pub const NR_ACCOUNTS_MAX: u32 = 1023;

    /// Makes the configuration of `memory` for `nr_cpus` CPUs, with Linux's policies.
    #[must_use]
    pub const fn new(memory: &'a [MemoryRegion], nr_cpus: u32) -> Self {
        Self {
            memory,
            reserved: &[],
            nr_cpus,
            cpu_nodes: &[],
            distances: &[],
            zone_dma: false,
            zone_dma32: true,
            movable_bytes: 0,
            min_free_bytes: None,
            watermark_scale_factor: 10,
            lowmem_reserve_ratio: [256, 256, 32, 0],
            nr_accounts: 0,
            page_owner: false,
            poison: false,
            pcp_high: None,
            pcp_batch: None,
            nr_zone_shards: None,
        }
    }

    /// Checks everything that can be checked without a platform.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        self.validate_memory()?;
        for (index, range) in self.reserved.iter().enumerate() {
            check_address(index, range.start, range.len_bytes)?;
        }
        if self.nr_cpus == 0 {
            return Err(ConfigError::NoCpus);
        }
        let len = self.cpu_nodes.len();
        if len != 0 && len != self.nr_cpus as usize {
            return Err(ConfigError::BadCpuNodes { len, nr_cpus: self.nr_cpus });
        }
        for &node in self.cpu_nodes {
            check_node(node)?;
        }
        let (len, nr_nodes) = (self.distances.len(), self.nr_nodes());
        if len != 0 && len != nr_nodes * nr_nodes {
            return Err(ConfigError::BadDistances { len, nr_nodes });
        }
        let min_free_bytes = self.min_free_bytes.unwrap_or(0);
        let max =
            self.memory.iter().fold(0_u64, |sum, region| sum.saturating_add(region.len_bytes));
        if min_free_bytes >= max {
            return Err(ConfigError::BadMinFree { min_free_bytes, max });
        }
        let of_node = |node| self.memory.iter().filter(move |region| region.node == node);
        let bytes = |node| of_node(node).fold(0_u64, |sum, r| sum.saturating_add(r.len_bytes));
        let (movable_bytes, max) =
            (self.movable_bytes, self.memory.iter().map(|r| bytes(r.node)).max().unwrap_or(0));
        if movable_bytes > max || !self.has_unmovable_memory() {
            return Err(ConfigError::BadMovable { movable_bytes, max });
        }
        let (factor, max) = (self.watermark_scale_factor, Self::WATERMARK_SCALE_FACTOR_MAX);
        if factor > max {
            return Err(ConfigError::BadWatermarkScale { factor, max });
        }
        let (nr_accounts, max) = (self.nr_accounts, Self::NR_ACCOUNTS_MAX);
        if nr_accounts > max {
            return Err(ConfigError::TooManyAccounts { nr_accounts, max });
        }
        if let Some(high) = self.pcp_high {
            let (min, max) = (1, Self::PCP_HIGH_MAX);
            if !(min..=max).contains(&high) {
                return Err(ConfigError::BadPcpHigh { high, min, max });
            }
        }
        if let Some(batch) = self.pcp_batch {
            let max = self.pcp_high.unwrap_or(Self::PCP_BATCH_MAX).min(Self::PCP_BATCH_MAX);
            if !(1..=max).contains(&batch) {
                return Err(ConfigError::BadPcpBatch { batch, max });
            }
        }
        if let Some(nr_shards) = self.nr_zone_shards {
            let max = Self::NR_ZONE_SHARDS_MAX;
            if !nr_shards.is_power_of_two() || nr_shards > max {
                return Err(ConfigError::BadZoneShards { nr_shards, max });
            }
        }
        Ok(())
    }

    fn validate_memory(&self) -> Result<(), ConfigError> {
        let mut previous: Option<&MemoryRegion> = None;
        for (index, region) in self.memory.iter().enumerate() {
            let MemoryRegion { start, len_bytes, node } = *region;
            if len_bytes == 0 {
                return Err(ConfigError::EmptyRegion { index, start });
            }
            if (start.value() | len_bytes) & (PAGE_SIZE as u64 - 1) != 0 {
                return Err(ConfigError::MisalignedRegion { index, start, len_bytes });
            }
            check_address(index, start, len_bytes)?;
            check_node(node)?;
            if let Some(previous) = previous {
                let previous_start = previous.start;
                if start < previous_start {
                    return Err(ConfigError::UnsortedRegions { index, start, previous_start });
                }
                if region.start_pfn() < previous.end_pfn() {
                    let previous_end = PhysAddr::new(previous.end_pfn() << PAGE_SHIFT);
                    return Err(ConfigError::OverlappingRegions { index, start, previous_end });
                }
                let shared = (previous.end_pfn() - 1) >> PAGEBLOCK_ORDER.value()
                    == region.start_pfn() >> PAGEBLOCK_ORDER.value();
                if shared && node != previous.node {
                    let previous_node = previous.node;
                    return Err(ConfigError::SharedPageblock { index, start, node, previous_node });
                }
            }
            previous = Some(region);
        }
        if previous.is_none() { Err(ConfigError::NoMemory) } else { Ok(()) }
    }

    /// Returns one more than the largest node number in use.
    // Not inlined: setup calls it in several loops.
    #[inline(never)]
    pub(crate) fn nr_nodes(&self) -> usize {
        let memory = self.memory.iter().map(|region| region.node);
        memory.chain(self.cpu_nodes.iter().copied()).map(|node| node.index() + 1).max().unwrap_or(1)
    }

    /// Returns the node of CPU `cpu`.
    pub(crate) fn cpu_node(&self, cpu: usize) -> NodeId {
        self.cpu_nodes.get(cpu).copied().unwrap_or(self.memory[0].node)
    }

    /// Returns the distance from node `from` to node `to`; the nearest node is the node itself.
    pub(crate) fn distance(&self, from: usize, to: usize) -> u8 {
        const SLIT_LOCAL: u8 = 10;
        const SLIT_REMOTE: u8 = 20;
        if from == to {
            return 0;
        }
        let distance = self.distances.get(from * self.nr_nodes() + to).copied();
        distance.unwrap_or(SLIT_REMOTE).max(SLIT_LOCAL)
    }

    /// Returns the frame numbers of a kind of zone on a node, holes included.
    pub(crate) fn zone_limits(&self, node: NodeId, kind: ZoneKind) -> core::ops::Range<u64> {
        const DMA_END: u64 = 16 << 20 >> PAGE_SHIFT;
        const DMA32_END: u64 = 4 << 30 >> PAGE_SHIFT;
        let dma_end = if self.zone_dma { DMA_END } else { 0 };
        let dma32_end = if self.zone_dma32 { DMA32_END } else { dma_end };
        // Zone DMA is too small and too scarce to be divided.
        let movable_start = self.movable_start(node).max(dma_end);
        match kind {
            ZoneKind::Dma => 0..dma_end,
            ZoneKind::Dma32 => dma_end..dma32_end.min(movable_start),
            ZoneKind::Normal => dma32_end..movable_start.max(dma32_end),
            ZoneKind::Movable => movable_start..u64::MAX,
        }
    }

    /// Yields the parts of the memory that are in a kind of zone on a node, as frame numbers.
    #[inline(never)]
    pub(crate) fn zone_memory(&self, node: NodeId, kind: ZoneKind) -> ZoneMemory<'_> {
        ZoneMemory { regions: self.memory.iter(), node, limits: self.zone_limits(node, kind) }
    }

    /// Returns whether any memory is outside of the zones Movable.
    fn has_unmovable_memory(&self) -> bool {
        let kinds = || ZoneKind::ALL.into_iter().filter(|&kind| kind != ZoneKind::Movable);
        let of_node = |node| kinds().any(|kind| self.zone_memory(node, kind).next().is_some());
        self.memory.iter().any(|region| of_node(region.node))
    }

    /// Returns the first frame of a node's movable memory.
    fn movable_start(&self, node: NodeId) -> u64 {
        let pageblock_mask = PAGEBLOCK_ORDER.nr_pages() as u64 - 1;
        let mut left = self.movable_bytes >> PAGE_SHIFT;
        for region in self.memory.iter().rev().filter(|region| region.node == node) {
            let nr_frames = region.end_pfn() - region.start_pfn();
            if left <= nr_frames {
                let start = region.end_pfn() - left;
                return (start + pageblock_mask) & !pageblock_mask;
            }
            left -= nr_frames;
        }
        0
    }
}

/// The parts of the memory that are in one kind of zone on one node.
pub(crate) struct ZoneMemory<'a> {
    regions: core::slice::Iter<'a, MemoryRegion>,
    node: NodeId,
    /// Frame numbers.
    limits: core::ops::Range<u64>,
}

impl Iterator for ZoneMemory<'_> {
    type Item = core::ops::Range<u64>;

    // Not inlined: setup has a dozen loops over the memory of a zone.
    #[inline(never)]
    fn next(&mut self) -> Option<Self::Item> {
        let (node, limits) = (self.node, &self.limits);
        self.regions.by_ref().filter(|region| region.node == node).find_map(|region| {
            let start = region.start_pfn().max(limits.start);
            let end = region.end_pfn().min(limits.end);
            (start < end).then_some(start..end)
        })
    }
}

fn check_address(index: usize, start: PhysAddr, len_bytes: u64) -> Result<(), ConfigError> {
    const END: u64 = 1 << (PFN_BITS + PAGE_SHIFT);
    match start.value().checked_add(len_bytes) {
        Some(end) if end <= END => Ok(()),
        _ => Err(ConfigError::AddressTooHigh { index, start, len_bytes }),
    }
}

fn check_node(node: NodeId) -> Result<(), ConfigError> {
    if node.index() < MAX_NR_NODES { Ok(()) } else { Err(ConfigError::UnknownNode { node }) }
}

#[cfg(test)]
mod tests;
