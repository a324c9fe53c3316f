//! Types and constants that the header declares too. `tests/c/layout.c` compares them with the header.

use core::ffi::{c_int, c_void};

use pagemill::gfp::NR_ZONE_KINDS;
use pagemill::stats::NR_PAGE_ORDERS;

/// An allocator or a pool as C code knows it: a number that is never an address.
pub(crate) type Handle = *mut c_void;

/// The word of a block of pages; zero for none. See [`RawPage`](pagemill::handles::RawPage).
pub(crate) type PageWord = u64;

/// One more than the most entries that an array of pages can have: more than there are page frames.
pub(crate) const NR_MAX: usize = 1 << 40;

/// A structure of C code that begins with its size, so that later versions can add fields at its end.
///
/// # Safety
/// The first field is `size`, and zeroes are a value.
pub(crate) unsafe trait SizedStruct: Copy {}

/// `struct pagemill_request`
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Request {
    pub(crate) size: usize,
    pub(crate) gfp: u32,
    pub(crate) order: u32,
    pub(crate) effort: u32,
    /// The number of a node plus one; zero for the caller's.
    pub(crate) node: u32,
    pub(crate) stop: Option<unsafe extern "C" fn(*mut c_void) -> c_int>,
    pub(crate) context: *mut c_void,
}

/// `struct pagemill_zone`
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct ZoneView {
    pub(crate) size: usize,
    pub(crate) node: u32,
    pub(crate) kind: u32,
    pub(crate) start_pfn: u64,
    pub(crate) spanned: u64,
    pub(crate) present: u64,
    pub(crate) managed: u64,
    pub(crate) nr_free_pages: u64,
    pub(crate) min: u64,
    pub(crate) low: u64,
    pub(crate) high: u64,
    pub(crate) free_blocks: [u64; NR_PAGE_ORDERS],
}

/// `struct pagemill_list`
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct ListView {
    pub(crate) size: usize,
    pub(crate) cpu: u32,
    pub(crate) node: u32,
    pub(crate) kind: u32,
    pub(crate) migratetype: u32,
    pub(crate) order: u32,
    pub(crate) reserved: u32,
    pub(crate) count: u64,
    pub(crate) high: u64,
    pub(crate) batch: u64,
}

/// `struct pagemill_vmstat`
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct VmStatView {
    pub(crate) size: usize,
    pub(crate) nr_free_pages: u64,
    pub(crate) pgalloc: [u64; NR_ZONE_KINDS],
    pub(crate) pgfree: u64,
    pub(crate) numa_hit: u64,
    pub(crate) numa_miss: u64,
    pub(crate) numa_foreign: u64,
    pub(crate) numa_local: u64,
    pub(crate) numa_other: u64,
}

/// `struct pagemill_config`
#[cfg(feature = "host")]
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct ConfigView {
    pub(crate) size: usize,
    pub(crate) len_bytes: u64,
    pub(crate) min_free_bytes: u64,
    pub(crate) movable_bytes: u64,
    pub(crate) nr_nodes: u32,
    pub(crate) nr_cpus: u32,
    pub(crate) flags: u32,
    pub(crate) reserved: u32,
}

/// `struct pagemill_pool_params`
#[cfg(feature = "host")]
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct PoolParamsView {
    pub(crate) size: usize,
    pub(crate) ring_size: u32,
    pub(crate) refill: u32,
    pub(crate) gfp: u32,
    pub(crate) reserved: u32,
}

/// `struct pagemill_pool_stats`
#[cfg(feature = "host")]
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct PoolStatsView {
    pub(crate) size: usize,
    pub(crate) alloc_fast: u64,
    pub(crate) alloc_slow: u64,
    pub(crate) alloc_empty: u64,
    pub(crate) alloc_refill: u64,
    pub(crate) recycle_cached: u64,
    pub(crate) recycle_cache_full: u64,
    pub(crate) recycle_ring: u64,
    pub(crate) recycle_ring_full: u64,
    pub(crate) nr_out: u64,
}

macro_rules! sized {
    ($($Type:ty)*) => {
        // SAFETY:
        // 1. A structure of the layout of C that begins with a size, and whose fields are integers,
        //    optional functions and raw pointers.
        $(unsafe impl SizedStruct for $Type {})*
    };
}
sized! { Request ZoneView ListView VmStatView }
#[cfg(feature = "host")]
sized! { ConfigView PoolParamsView PoolStatsView }
