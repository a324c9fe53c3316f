//! Structures of `pagemill_kernel.h`.

use core::ffi::{c_char, c_int, c_void};

use pagemill::setup::{MemoryRegion, ReservedRange};

use crate::types::SizedStruct;

/// `pagemill_platform`: what the kernel supplies.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Table {
    pub(super) size: usize,
    pub(super) context: *mut c_void,
    pub(super) fatal: Option<Fatal>,
    pub(super) nr_cpus: u32,
    pub(super) reserved: u32,
    pub(super) irq_save: Option<unsafe extern "C" fn(*mut c_void) -> usize>,
    pub(super) irq_restore: Option<unsafe extern "C" fn(*mut c_void, usize)>,
    pub(super) pin: Option<unsafe extern "C" fn(*mut c_void) -> u32>,
    pub(super) unpin: Option<unsafe extern "C" fn(*mut c_void)>,
    pub(super) frame_address: Option<unsafe extern "C" fn(*mut c_void, u64) -> *mut c_void>,
    pub(super) zero_pages: Option<unsafe extern "C" fn(*mut c_void, u64, usize)>,
    pub(super) relax: Option<unsafe extern "C" fn(*mut c_void, u32)>,
    pub(super) wait: Option<unsafe extern "C" fn(*mut c_void, Still, *mut c_void)>,
    pub(super) wake: Option<unsafe extern "C" fn(*mut c_void)>,
    pub(super) trace: Option<unsafe extern "C" fn(*mut c_void, *const EventView)>,
}

/// Receives the line with which the kernel ends, and its length.
pub(super) type Fatal = unsafe extern "C" fn(*const c_char, usize);

/// Returns whether a caller of `wait` must still wait.
pub(super) type Still = unsafe extern "C" fn(*mut c_void) -> c_int;

/// `pagemill_event`
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct EventView {
    pub(super) name: *const c_char,
    pub(super) nr_pages: u64,
    pub(super) pfn: u64,
    pub(super) gfp: u32,
    pub(super) order: u32,
}

/// `pagemill_kernel_config`
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct KernelConfig {
    pub(super) size: usize,
    pub(super) regions: *const MemoryRegion,
    pub(super) nr_regions: usize,
    pub(super) ranges: *const ReservedRange,
    pub(super) nr_ranges: usize,
    pub(super) message: *mut c_char,
    pub(super) message_size: usize,
    /// The smallest sum of the min watermarks; zero for Linux's rule.
    pub(super) min_free_bytes: u64,
    pub(super) flags: u32,
    pub(super) reserved: u32,
}

/// `PAGEMILL_KERNEL_PAGE_OWNER`
pub(super) const PAGE_OWNER: u32 = 1;
/// `PAGEMILL_KERNEL_ZONE_DMA`
pub(super) const ZONE_DMA: u32 = 2;
/// `PAGEMILL_KERNEL_NO_ZONE_DMA32`
pub(super) const NO_ZONE_DMA32: u32 = 4;

// tests/kernel/layout.c states the same of the header.
const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<Table>() == 112 && offset_of!(Table, nr_cpus) == 24);
    assert!(offset_of!(Table, pin) == 48 && offset_of!(Table, trace) == 104);
    assert!(size_of::<KernelConfig>() == 72 && offset_of!(KernelConfig, message) == 40);
    assert!(offset_of!(KernelConfig, flags) == 64);
    assert!(size_of::<EventView>() == 32 && offset_of!(EventView, order) == 28);
};

// `pagemill_region` and `pagemill_range` have the layouts of the core's types.
const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<MemoryRegion>() == 24 && size_of::<ReservedRange>() == 16);
    assert!(offset_of!(MemoryRegion, start) == 0 && offset_of!(MemoryRegion, len_bytes) == 8);
    assert!(offset_of!(MemoryRegion, node) == 16 && offset_of!(ReservedRange, len_bytes) == 8);
};

macro_rules! sized {
    ($($Type:ty)*) => {
        // SAFETY:
        // 1. A structure of the layout of C that begins with a size, and whose fields are integers,
        //    optional functions and raw pointers.
        $(unsafe impl SizedStruct for $Type {})*
    };
}
sized! { Table KernelConfig }
