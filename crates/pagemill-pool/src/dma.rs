//! DMA: the mapper that makes pages reachable for a device, and the sync calls between device and CPU.

use core::fmt;
use core::ops::Range;

use pagemill::units::{PAGE_SHIFT, Pfn};

use crate::sync::{AtomicU64, Ordering};

/// An address as the device uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DmaAddr(u64);

impl DmaAddr {
    /// Makes an address from its number.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// Returns the number.
    #[must_use]
    pub const fn value(self) -> u64 {
        self.0
    }
}

impl fmt::Display for DmaAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// The direction of data between memory and device.
///
/// # Source
/// `linux-6.12` `include/linux/dma-direction.h`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there are these three")]
pub enum DmaDirection {
    /// The device reads.
    ToDevice,
    /// The device writes.
    #[default]
    FromDevice,
    /// Both.
    Bidirectional,
}

/// Adjacent frames that are mapped as one unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data: where and how much")]
pub struct DmaBlock {
    /// The first frame.
    pub pfn: Pfn,
    /// Length in bytes.
    pub len_bytes: usize,
}

/// Maps pages for a device.
///
/// A pool maps each page once, when it comes from the allocator, and unmaps it when it is freed; a page
/// that circulates stays mapped.
///
/// # Panics
/// A mapper should not panic. If a call for a page panics, the pool leaks that page, since the device
/// may still access it, and possibly pages that return in the same batch (up to 64). Leaked pages are
/// still counted in [`PagePool::inflight`](crate::PagePool::inflight).
pub trait DmaMapper {
    /// Data that is kept with a mapped page; empty where the address follows from the frame number.
    type Mapping: Copy + Send + Sync;

    /// Whether pages are mapped at all.
    const MAPS: bool = true;

    /// Maps a block; `None` on failure.
    fn map(&self, block: DmaBlock, direction: DmaDirection) -> Option<Self::Mapping>;

    /// Unmaps a block.
    fn unmap(&self, block: DmaBlock, mapping: Self::Mapping, direction: DmaDirection);

    /// Returns the address of a mapped block's first byte.
    fn addr(&self, block: DmaBlock, mapping: Self::Mapping) -> DmaAddr;

    /// Passes some of a block's bytes to the device, after the CPU has accessed them.
    fn sync_for_device(&self, _block: DmaBlock, _mapping: Self::Mapping, _bytes: Range<usize>) {}

    /// Passes some of a block's bytes to the CPU, after the device has accessed them.
    fn sync_for_cpu(&self, _block: DmaBlock, _mapping: Self::Mapping, _bytes: Range<usize>) {}
}

/// No device: pages are not mapped, and a page's DMA address is its physical address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "there is nothing in it")]
pub struct NoDma;

impl DmaMapper for NoDma {
    type Mapping = ();
    const MAPS: bool = false;

    #[inline]
    fn map(&self, _block: DmaBlock, _direction: DmaDirection) -> Option<()> {
        Some(())
    }

    #[inline]
    fn unmap(&self, _block: DmaBlock, (): (), _direction: DmaDirection) {}

    fn addr(&self, block: DmaBlock, (): ()) -> DmaAddr {
        DmaAddr(block.pfn.start().value())
    }
}

/// For a device that addresses an arena by byte offsets, as an AF_XDP socket addresses its UMEM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArenaOffsets {
    base_pfn: Pfn,
}

impl ArenaOffsets {
    /// Counts offsets from the first byte of frame `base_pfn`.
    #[must_use]
    pub const fn new(base_pfn: Pfn) -> Self {
        Self { base_pfn }
    }
}

impl DmaMapper for ArenaOffsets {
    type Mapping = ();

    /// Fails for a block before the arena.
    #[inline]
    fn map(&self, block: DmaBlock, _direction: DmaDirection) -> Option<()> {
        (block.pfn >= self.base_pfn).then_some(())
    }

    #[inline]
    fn unmap(&self, _block: DmaBlock, (): (), _direction: DmaDirection) {}

    #[inline]
    fn addr(&self, block: DmaBlock, (): ()) -> DmaAddr {
        DmaAddr((block.pfn.value() - self.base_pfn.value()) << PAGE_SHIFT)
    }
}

/// A mapper for tests, which fails on command and counts its calls.
#[derive(Debug)]
pub struct FaultyMapper<M> {
    inner: M,
    /// Bit n is set if the mapping n from now on fails.
    failures: AtomicU64,
    mapped: AtomicU64,
    unmapped: AtomicU64,
    synced_for_device: AtomicU64,
    synced_for_cpu: AtomicU64,
}

impl<M: DmaMapper> FaultyMapper<M> {
    /// Passes all calls on to `inner`, until [`fail`](Self::fail) is called.
    pub fn new(inner: M) -> Self {
        Self {
            inner,
            failures: AtomicU64::new(0),
            mapped: AtomicU64::new(0),
            unmapped: AtomicU64::new(0),
            synced_for_device: AtomicU64::new(0),
            synced_for_cpu: AtomicU64::new(0),
        }
    }

    /// Sets which of the next 64 mappings fail: the lowest bit is the next one.
    pub fn fail(&self, failures: u64) {
        // Relaxed, here and below: each mapping reads the bits independently.
        self.failures.store(failures, Ordering::Relaxed);
    }

    /// Returns how many blocks are mapped.
    pub fn nr_mapped(&self) -> u64 {
        self.mapped.load(Ordering::Relaxed) - self.unmapped.load(Ordering::Relaxed)
    }

    /// Returns how many bytes were passed to the device.
    pub fn bytes_for_device(&self) -> u64 {
        self.synced_for_device.load(Ordering::Relaxed)
    }

    /// Returns how many bytes were passed to the CPU.
    pub fn bytes_for_cpu(&self) -> u64 {
        self.synced_for_cpu.load(Ordering::Relaxed)
    }
}

impl<M: DmaMapper> DmaMapper for FaultyMapper<M> {
    type Mapping = M::Mapping;
    const MAPS: bool = M::MAPS;

    fn map(&self, block: DmaBlock, direction: DmaDirection) -> Option<M::Mapping> {
        let failures = self.failures.load(Ordering::Relaxed);
        self.failures.store(failures >> 1, Ordering::Relaxed);
        if failures & 1 != 0 {
            return None;
        }
        let mapping = self.inner.map(block, direction)?;
        self.mapped.fetch_add(1, Ordering::Relaxed);
        Some(mapping)
    }

    fn unmap(&self, block: DmaBlock, mapping: M::Mapping, direction: DmaDirection) {
        self.unmapped.fetch_add(1, Ordering::Relaxed);
        self.inner.unmap(block, mapping, direction);
    }

    fn addr(&self, block: DmaBlock, mapping: M::Mapping) -> DmaAddr {
        self.inner.addr(block, mapping)
    }

    fn sync_for_device(&self, block: DmaBlock, mapping: M::Mapping, bytes: Range<usize>) {
        self.synced_for_device.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.inner.sync_for_device(block, mapping, bytes);
    }

    fn sync_for_cpu(&self, block: DmaBlock, mapping: M::Mapping, bytes: Range<usize>) {
        self.synced_for_cpu.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.inner.sync_for_cpu(block, mapping, bytes);
    }
}
