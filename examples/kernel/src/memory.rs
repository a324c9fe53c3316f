//! The memory map as pagemill takes it: regions of usable memory, and what is reserved in them.

use pagemill::Config;
use pagemill::setup::{MemoryRegion, ReservedRange};
use pagemill::units::{NodeId, PAGE_SHIFT, PAGE_SIZE, PhysAddr};

use crate::start_info::StartInfo;

/// Most regions and most reserved ranges; maps of QEMU's machines have about ten.
const CAPACITY: usize = 64;

/// What there is and what must be kept back.
///
/// `reserved-early`: the image, the first MiB, what the loader left, and what [`Map::carve`]
/// returned are reserved.
#[derive(Debug)]
pub(crate) struct Map {
    regions: Table<MemoryRegion>,
    reserved: Table<ReservedRange>,
}

unsafe extern "C" {
    static image_start: u8;
    static image_end: u8;
}

impl Map {
    /// Reads the map of the loader.
    pub(crate) fn of(start_info: u64) -> Self {
        /// The firmware's tables, the trampoline, and the frame of address zero: not worth sharing.
        const FIRST_MIB: u64 = 1 << 20;
        let info = StartInfo::at(start_info);
        let mut map = Self {
            regions: Table::new(MemoryRegion {
                start: PhysAddr::new(0),
                len_bytes: 0,
                node: NodeId::new(0),
            }),
            reserved: Table::new(ReservedRange { start: PhysAddr::new(0), len_bytes: 0 }),
        };
        for entry in info.map() {
            let (start, end) = (entry.start, entry.start + entry.len_bytes);
            if !entry.is_usable() {
                // Where a map contradicts itself, the more careful entry is right.
                map.reserve(start, entry.len_bytes);
            } else if let Some(region) =
                MemoryRegion::within(PhysAddr::new(start), PhysAddr::new(end), NodeId::new(0))
            {
                map.regions.push(region);
            }
        }
        map.regions.filled_mut().sort_unstable_by_key(|region| region.start);
        map.reserve(0, FIRST_MIB);
        let start = (&raw const image_start).addr() as u64;
        let end = (&raw const image_end).addr() as u64;
        map.reserve(start, end - start);
        for (start, len_bytes) in info.occupied() {
            map.reserve(start, len_bytes);
        }
        map
    }

    /// Takes `len_bytes` in whole frames from the highest place below `limit` that has room.
    pub(crate) fn carve(&mut self, len_bytes: u64, limit: u64) -> PhysAddr {
        let len_bytes = len_bytes.next_multiple_of(PAGE_SIZE as u64);
        let place = self.regions.filled().iter().rev().find_map(|region| {
            let start = region.start.value();
            self.highest_room(start, limit.min(start + region.len_bytes), len_bytes)
        });
        let Some(start) = place else {
            panic!("no room for {len_bytes} bytes below {limit:#x}: give more memory")
        };
        self.reserve(start, len_bytes);
        PhysAddr::new(start)
    }

    /// Returns the configuration of an allocator of this memory.
    pub(crate) fn config(&self, nr_cpus: u32) -> Config<'_> {
        Config {
            reserved: self.reserved.filled(),
            zone_dma: true,
            ..Config::new(self.regions.filled(), nr_cpus)
        }
    }

    /// Returns the number of frames of usable memory, reserved ones included.
    pub(crate) fn nr_frames(&self) -> u64 {
        self.regions.filled().iter().map(|region| region.len_bytes >> PAGE_SHIFT).sum()
    }

    /// Returns the address behind the last byte of usable memory.
    pub(crate) fn end(&self) -> u64 {
        self.regions.filled().last().map_or(0, |region| region.start.value() + region.len_bytes)
    }

    /// Tells whether there is usable memory in `start..end`.
    pub(crate) fn has_memory_in(&self, start: u64, end: u64) -> bool {
        self.regions.filled().iter().any(|region| {
            let first = region.start.value();
            first < end && start < first + region.len_bytes
        })
    }

    fn reserve(&mut self, start: u64, len_bytes: u64) {
        self.reserved.push(ReservedRange { start: PhysAddr::new(start), len_bytes });
    }

    /// Returns the highest start of a free range within `start..end`.
    fn highest_room(&self, start: u64, end: u64, len_bytes: u64) -> Option<u64> {
        let mut end = end;
        loop {
            let candidate = end.checked_sub(len_bytes)? & !(PAGE_SIZE as u64 - 1);
            if candidate < start {
                return None;
            }
            let in_the_way = self.reserved.filled().iter().find(|range| {
                let first = range.start.value();
                first < candidate + len_bytes && candidate < first + range.len_bytes
            });
            match in_the_way {
                Some(range) => end = range.start.value(),
                None => return Some(candidate),
            }
        }
    }
}

/// A list of bounded length, for the time before there is a heap.
#[derive(Debug)]
struct Table<T> {
    entries: [T; CAPACITY],
    len: usize,
}

impl<T: Copy> Table<T> {
    fn new(filler: T) -> Self {
        Self { entries: [filler; CAPACITY], len: 0 }
    }

    fn push(&mut self, entry: T) {
        assert!(self.len < CAPACITY, "the memory map has more than {CAPACITY} entries");
        self.entries[self.len] = entry;
        self.len += 1;
    }

    fn filled(&self) -> &[T] {
        &self.entries[..self.len]
    }

    fn filled_mut(&mut self) -> &mut [T] {
        &mut self.entries[..self.len]
    }
}
