//! Errors of an invalid configuration.

use core::fmt;

use crate::base::units::{MAX_NR_NODES, NodeId, PAGE_SIZE, PFN_BITS, PhysAddr};

/// What is wrong with a configuration, with the value and the allowed range.
///
/// Construction is all or nothing: no allocator is left half-initialised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The memory map has no region.
    NoMemory,
    /// A region has no bytes.
    EmptyRegion {
        /// Index in the memory map.
        index: usize,
        /// First byte of the region.
        start: PhysAddr,
    },
    /// A region does not begin and end at page boundaries.
    MisalignedRegion {
        /// Index in the memory map.
        index: usize,
        /// First byte of the region.
        start: PhysAddr,
        /// Length of the region.
        len_bytes: u64,
    },
    /// A region or reserved range ends beyond the addresses that a handle can carry.
    AddressTooHigh {
        /// Index in its list.
        index: usize,
        /// First byte.
        start: PhysAddr,
        /// Length.
        len_bytes: u64,
    },
    /// A region begins before the one that precedes it in the map.
    UnsortedRegions {
        /// Index of the second of the two.
        index: usize,
        /// First byte of that region.
        start: PhysAddr,
        /// First byte of the region before it.
        previous_start: PhysAddr,
    },
    /// A region begins before the end of the one that precedes it in the map.
    OverlappingRegions {
        /// Index of the second of the two.
        index: usize,
        /// First byte of that region.
        start: PhysAddr,
        /// End of the region before it.
        previous_end: PhysAddr,
    },
    /// Two nodes have frames in the same pageblock.
    SharedPageblock {
        /// Index of the second region.
        index: usize,
        /// First byte of that region.
        start: PhysAddr,
        /// Node of that region.
        node: NodeId,
        /// The node of the region before it.
        previous_node: NodeId,
    },
    /// A node number is too large.
    UnknownNode {
        /// The node number.
        node: NodeId,
    },
    /// The number of CPUs is zero.
    NoCpus,
    /// The number of CPUs is larger than the platform's, or out of the range that a crate such as
    /// `pagemill-host` allows.
    BadNrCpus {
        /// The number asked for.
        nr_cpus: u32,
        /// The largest number allowed; the smallest is 1.
        max: u32,
    },
    /// The list of the CPUs' nodes is neither empty nor one entry per CPU.
    BadCpuNodes {
        /// Length of the list.
        len: usize,
        /// The number of CPUs.
        nr_cpus: u32,
    },
    /// The table of node distances is neither empty nor a square over all nodes.
    BadDistances {
        /// Length of the table.
        len: usize,
        /// The number of nodes.
        nr_nodes: usize,
    },
    /// The size of a per-CPU list is out of range.
    BadPcpHigh {
        /// The size asked for, in pages.
        high: u32,
        /// The smallest size allowed.
        min: u32,
        /// The largest size allowed.
        max: u32,
    },
    /// Zones cannot be divided into that many shards.
    BadZoneShards {
        /// The number asked for.
        nr_shards: u32,
        /// The largest number allowed.
        max: u32,
    },
    /// The number of pages moved at a time is out of range.
    BadPcpBatch {
        /// The number asked for.
        batch: u32,
        /// The largest number allowed; the smallest is 1.
        max: u32,
    },
    /// The reserve is as large as the memory.
    BadMinFree {
        /// The reserve asked for.
        min_free_bytes: u64,
        /// The memory of the map; the reserve must be smaller.
        max: u64,
    },
    /// More memory is configured as movable than any node has, or all memory is.
    BadMovable {
        /// The bytes of each node that are to be movable.
        movable_bytes: u64,
        /// The bytes of the largest node.
        max: u64,
    },
    /// The distance between watermarks is out of range.
    BadWatermarkScale {
        /// The distance asked for, in 1/10000.
        factor: u32,
        /// The largest distance allowed.
        max: u32,
    },
    /// More accounts are configured than a handle can name.
    TooManyAccounts {
        /// The number asked for.
        nr_accounts: u32,
        /// The largest number allowed.
        max: u32,
    },
    /// The map has more zones than a handle can name.
    TooManyZones {
        /// Number of zones in the map.
        nr_zones: usize,
        /// Number allowed.
        max: usize,
    },
    /// The map has more frames than fit into the metadata's 32-bit indexes.
    TooManyFrames {
        /// Number of frames in the map.
        nr_frames: u64,
    },
    /// The metadata memory is too small.
    MetadataTooSmall {
        /// Bytes given.
        given_bytes: usize,
        /// Bytes needed.
        needed_bytes: usize,
    },
    /// The metadata memory is not aligned.
    MetadataMisaligned {
        /// Address of the memory.
        address: usize,
        /// The alignment needed, in bytes.
        align_bytes: usize,
    },
}

impl fmt::Display for ConfigError {
    #[expect(clippy::too_many_lines, reason = "one arm for each variant")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoMemory => write!(f, "the memory map is empty: give at least one region"),
            Self::EmptyRegion { index, start } => {
                write!(f, "region {index} at {start} has no bytes: leave it out")
            }
            Self::MisalignedRegion { index, start, len_bytes } => write!(
                f,
                "region {index} at {start} of {len_bytes:#x} bytes is misaligned: start and length \
                 must be multiples of {PAGE_SIZE}; round the start up and the end down"
            ),
            Self::AddressTooHigh { index, start, len_bytes } => write!(
                f,
                "range {index} at {start} of {len_bytes:#x} bytes ends too high: addresses must be \
                 below 2^{}",
                PFN_BITS + crate::base::units::PAGE_SHIFT
            ),
            Self::UnsortedRegions { index, start, previous_start } => write!(
                f,
                "region {index} at {start} comes after one at {previous_start}: sort the map by \
                 address"
            ),
            Self::OverlappingRegions { index, start, previous_end } => write!(
                f,
                "region {index} at {start} overlaps the one before it, which ends at \
                 {previous_end}: make them disjoint"
            ),
            Self::SharedPageblock { index, start, node, previous_node } => write!(
                f,
                "region {index} at {start} of node {node} begins in a pageblock of node \
                 {previous_node}: let nodes meet at multiples of 2 MiB"
            ),
            Self::UnknownNode { node } => {
                write!(f, "node {node} is too large: allowed are 0 to {}", MAX_NR_NODES - 1)
            }
            Self::NoCpus => {
                write!(f, "nr_cpus is 0: allowed are 1 to the platform's Platform::nr_cpus")
            }
            Self::BadNrCpus { nr_cpus, max } => write!(
                f,
                "{nr_cpus} CPUs are not possible: allowed are 1 to {max}, the platform's number"
            ),
            Self::BadCpuNodes { len, nr_cpus } => write!(
                f,
                "cpu_nodes has {len} entries: give one for each of the {nr_cpus} CPUs, or none"
            ),
            Self::BadDistances { len, nr_nodes } => write!(
                f,
                "distances has {len} entries: give {nr_nodes} x {nr_nodes}, row by row, or none"
            ),
            Self::BadPcpHigh { high, min, max } => write!(
                f,
                "per-CPU lists of {high} pages are not possible: allowed are {min} to {max}"
            ),
            Self::BadPcpBatch { batch, max } => {
                write!(f, "a batch of {batch} pages is not possible: allowed are 1 to {max}")
            }
            Self::BadZoneShards { nr_shards, max } => write!(
                f,
                "zones of {nr_shards} shards are not possible: allowed are powers of two from 1 to {max}"
            ),
            Self::BadMinFree { min_free_bytes, max } => write!(
                f,
                "a reserve of {min_free_bytes} bytes leaves nothing: it must be less than the {max} \
                 bytes of the map"
            ),
            Self::BadMovable { movable_bytes, max } => write!(
                f,
                "{movable_bytes} movable bytes for each node are not possible: the largest node has \
                 {max}, and some memory must remain for pages that are not movable"
            ),
            Self::BadWatermarkScale { factor, max } => {
                write!(f, "a watermark scale of {factor} is not possible: allowed are 0 to {max}")
            }
            Self::TooManyAccounts { nr_accounts, max } => {
                write!(f, "{nr_accounts} accounts are not possible: allowed are 0 to {max}")
            }
            Self::TooManyZones { nr_zones, max } => {
                write!(f, "the map has {nr_zones} zones: allowed are at most {max}")
            }
            Self::TooManyFrames { nr_frames } => write!(
                f,
                "the map has {nr_frames} frames: allowed are at most {}; use several allocators",
                u32::MAX
            ),
            Self::MetadataTooSmall { given_bytes, needed_bytes } => write!(
                f,
                "{given_bytes} bytes of metadata memory are too few: {needed_bytes} are needed for \
                 this memory map and number of CPUs"
            ),
            Self::MetadataMisaligned { address, align_bytes } => write!(
                f,
                "the metadata memory at {address:#x} is misaligned: it must begin at a multiple of \
                 {align_bytes}"
            ),
        }
    }
}

impl core::error::Error for ConfigError {}
