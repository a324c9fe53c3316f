//! Allocators of a kernel: sizes, creates, finds, checks and destroys them.
//!
//! The caller's memory begins with the [`PageAllocator`] itself; the metadata of its frames follows.
//!
//! `c-memory`: nothing else uses the memory given to `pagemill_kernel_create`, nor a frame of its map that is
//! not reserved, until `pagemill_kernel_destroy` returns `PAGEMILL_OK`.

use core::alloc::Layout;
use core::ffi::{c_char, c_void};
use core::fmt;
use core::mem::offset_of;
use core::ptr::NonNull;
use core::slice;

use pagemill::setup::ConfigError;
use pagemill::units::PAGE_SIZE;
use pagemill::{Config, PageAllocator, Platform};

use super::fail;
use super::message::Line;
use super::platform::Machine;
use super::types::{Fatal, KernelConfig, NO_ZONE_DMA32, PAGE_OWNER, Table, ZONE_DMA};
use crate::calls::{self, export, export_shared};
use crate::environment::Environment;
use crate::error::Code;
use crate::handles::{Handles, Hold, NR_HANDLES, Refused};
use crate::types::{Handle, PageWord};

/// The environment of the shared functions in a kernel.
pub(crate) struct Kernel;

static ALLOCATORS: Handles<PageAllocator<Machine>, 3> = Handles::new();

impl Environment for Kernel {
    type Platform = Machine;

    #[inline]
    fn find_allocator(handle: *mut c_void) -> Option<&'static PageAllocator<Machine>> {
        ALLOCATORS.find(handle).map(|allocator| {
            // SAFETY:
            // 1. The object exists: `handle-live`. It is not destroyed during the call: `c-arguments`.
            unsafe { &*allocator }
        })
    }

    #[inline]
    fn allocator(call: &'static str, handle: *mut c_void) -> &'static PageAllocator<Machine> {
        match Self::find_allocator(handle) {
            Some(allocator) => allocator,
            None => no_allocator(call, handle),
        }
    }

    fn hold(handle: *mut c_void) -> Hold<'static> {
        ALLOCATORS.hold(handle)
    }

    fn misuse(call: &str, what: fmt::Arguments<'_>) -> ! {
        fail::misuse(call, what)
    }

    #[inline]
    fn run<R>(_call: &'static str, body: impl FnOnce() -> R) -> R {
        // A panic ends in the panic handler, and nothing unwinds.
        body()
    }
}

#[cold]
#[inline(never)]
fn no_allocator(call: &str, handle: *mut c_void) -> ! {
    let why = match ALLOCATORS.refused(handle) {
        Refused::Null => "is null",
        Refused::Gone => "was destroyed",
        Refused::Unknown => "was not returned by pagemill_kernel_create",
    };
    fail::misuse(
        call,
        format_args!(
            "allocator {handle:p} {why}; allowed are handles of pagemill_kernel_create until \
             pagemill_kernel_destroy"
        ),
    )
}

/// Returns the function `fatal` of a table whose size may be wrong.
///
/// # Safety
/// `platform` is null, or valid for reads up to the field `fatal`, whatever its size.
unsafe fn fatal_of(platform: *const Table) -> Option<Fatal> {
    if platform.is_null() || !platform.is_aligned() {
        return None;
    }
    let field = platform.wrapping_byte_add(offset_of!(Table, fatal)).cast::<Option<Fatal>>();
    // SAFETY:
    // 1. Aligned: so is the table. Valid for reads: guaranteed by the caller. Null is a value.
    unsafe { field.read() }
}

/// Reads and checks a table; from then on, its `fatal` gets the line of a wrong call.
///
/// # Safety
/// As for [`calls::read_struct`] and [`fatal_of`].
unsafe fn machine(call: &'static str, platform: *const Table) -> Machine {
    // Before the size is checked, so that a wrong size in the first table is reported too.
    // SAFETY:
    // 1. Guaranteed by the caller.
    if let Some(fatal) = unsafe { fatal_of(platform) } {
        fail::set_fatal(fatal);
    }
    // SAFETY:
    // 1. Guaranteed by the caller.
    let table = unsafe { calls::read_struct::<Kernel, _>(call, "platform", platform) };
    if table.fatal.is_none() {
        fail::misuse(call, format_args!("platform.fatal is null; it is required"));
    }
    calls::check_reserved::<Kernel>(call, "platform", table.reserved);
    match Machine::new(table) {
        Ok(machine) => machine,
        Err(what) => fail::misuse(call, format_args!("platform.{what}")),
    }
}

/// Why a configuration is refused.
enum Invalid {
    Config(ConfigError),
    TooMany,
    /// A page of the metadata is a frame that could be allocated.
    MetadataNotReserved {
        pfn: u64,
    },
}

impl From<ConfigError> for Invalid {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::TooMany => write!(f, "{NR_HANDLES} allocators exist: destroy one"),
            Self::MetadataNotReserved { pfn } => {
                write!(
                    f,
                    "the metadata is in frame {pfn:#x}, which could be allocated: put the metadata in a \
                     range, or outside of the regions"
                )
            }
        }
    }
}

/// Checks that no byte of the metadata is in a frame that could be allocated.
///
/// Without `frame_address`, the library does not know where frames are, and checks nothing.
fn check_metadata(
    machine: &Machine,
    config: &Config<'_>,
    metadata: usize,
    size: usize,
) -> Result<(), Invalid> {
    /// Bytes of a page.
    const PAGE: u64 = PAGE_SIZE as u64;
    let (start, end) = (metadata as u64, (metadata as u64).saturating_add(size as u64));
    for region in config.memory {
        let first = region.start.pfn();
        let Some(base) = machine.frame_address(first) else { return Ok(()) };
        let base = base.addr() as u64;
        // The frames of a region have adjacent addresses.
        let (from, to) = (start.max(base), end.min(base.saturating_add(region.len_bytes)));
        if from >= to {
            continue;
        }
        let (mut next, last) =
            (first.value() + (from - base) / PAGE, first.value() + (to - 1 - base) / PAGE);
        while next <= last {
            // The end of a range that touches the frame.
            let end = config.reserved.iter().find_map(|range| {
                let start = range.start.value();
                let end = start.saturating_add(range.len_bytes).div_ceil(PAGE);
                (range.len_bytes != 0 && start / PAGE <= next && next < end).then_some(end)
            });
            next = end.ok_or(Invalid::MetadataNotReserved { pfn: next })?;
        }
    }
    Ok(())
}

/// Makes a slice of an array of a C structure.
///
/// # Safety
/// `first` is null, or has `nr` entries that do not change while the slice is used.
unsafe fn entries<'a, T>(call: &'static str, what: &str, first: *const T, nr: usize) -> &'a [T] {
    /// More than any memory map has.
    const NR_ENTRIES_MAX: usize = 1 << 16;
    if nr == 0 {
        return &[];
    }
    if nr > NR_ENTRIES_MAX {
        fail::misuse(
            call,
            format_args!("config.nr_{what} {nr}; allowed are 0 to {NR_ENTRIES_MAX}"),
        );
    }
    if first.is_null() || !first.is_aligned() {
        fail::misuse(
            call,
            format_args!("config.{what} {first:p}; allowed is an aligned array of {nr} entries"),
        );
    }
    // SAFETY:
    // 1. Aligned, not null, not longer than an address space: checked above.
    // 2. Valid, and constant meanwhile: guaranteed by the caller. Every integer is an entry.
    unsafe { slice::from_raw_parts(first, nr) }
}

/// Makes the core's configuration of a C structure, and passes it on.
///
/// # Safety
/// As for [`calls::read_struct`] and [`entries`].
unsafe fn with_config<R>(
    call: &'static str,
    nr_cpus: u32,
    config: *const KernelConfig,
    body: impl FnOnce(&Config<'_>) -> Result<R, Invalid>,
) -> Result<R, Code> {
    // SAFETY:
    // 1. Guaranteed by the caller.
    let view = unsafe { calls::read_struct::<Kernel, _>(call, "config", config) };
    calls::check_reserved::<Kernel>(call, "config", view.reserved);
    let flags = view.flags;
    let allowed = PAGE_OWNER | ZONE_DMA | NO_ZONE_DMA32;
    if flags & !allowed != 0 {
        fail::misuse(
            call,
            format_args!("config.flags {flags:#x}; allowed are the bits of {allowed:#x}"),
        );
    }
    // SAFETY:
    // 1. Guaranteed by the caller.
    let memory = unsafe { entries(call, "regions", view.regions, view.nr_regions) };
    // SAFETY:
    // 1. Guaranteed by the caller.
    let reserved = unsafe { entries(call, "ranges", view.ranges, view.nr_ranges) };
    let config = Config {
        reserved,
        zone_dma: flags & ZONE_DMA != 0,
        zone_dma32: flags & NO_ZONE_DMA32 == 0,
        page_owner: flags & PAGE_OWNER != 0,
        min_free_bytes: (view.min_free_bytes != 0).then_some(view.min_free_bytes),
        ..Config::new(memory, nr_cpus)
    };
    body(&config).map_err(|error| {
        // SAFETY:
        // 1. Guaranteed by the caller.
        unsafe { explain(view.message, view.message_size, &error) };
        Code::CONFIG
    })
}

/// Writes a message to a buffer of C code, with a zero at its end.
///
/// # Safety
/// `to` is null, or valid for writes of `size` bytes.
unsafe fn explain(to: *mut c_char, size: usize, what: &dyn fmt::Display) {
    let Some(len) = size.checked_sub(1) else { return };
    if to.is_null() {
        return;
    }
    // SAFETY:
    // 1. Not null. Valid: guaranteed by the caller.
    unsafe { to.write_bytes(0, size) };
    // SAFETY:
    // 1. Valid for writes, and nothing else uses it: guaranteed by the caller. Written above.
    let buffer = unsafe { slice::from_raw_parts_mut(to.cast::<u8>(), len) };
    Line::new(buffer).push(format_args!("{what}"));
}

/// Returns the layout of an allocator followed by metadata, and where the metadata begins.
fn extend(metadata: Layout) -> Result<(Layout, usize), ConfigError> {
    // It fails only beyond the address space, where the size of the metadata has failed already.
    Layout::new::<PageAllocator<Machine>>().extend(metadata).map_err(|_| ConfigError::NoMemory)
}

/// # Safety
/// As for [`machine`] and [`with_config`]; `size` and `align` are null or valid for writes.
unsafe fn metadata_layout(
    call: &'static str,
    platform: *const Table,
    config: *const KernelConfig,
    size: *mut usize,
    align: *mut usize,
) -> i32 {
    // SAFETY:
    // 1. Guaranteed by the caller.
    let machine = unsafe { machine(call, platform) };
    for (what, to) in [("size", size), ("align", align)] {
        if to.is_null() || !to.is_aligned() {
            fail::misuse(call, format_args!("{what} {to:p}; allowed is a pointer to a size_t"));
        }
    }
    let layout =
        |config: &Config<'_>| Ok(extend(PageAllocator::<Machine>::metadata_layout(config)?)?);
    // SAFETY:
    // 1. Guaranteed by the caller.
    match unsafe { with_config(call, machine.nr_cpus(), config, layout) } {
        Ok((layout, _)) => {
            // SAFETY:
            // 1. Aligned, not null: checked above. Valid: guaranteed by the caller.
            unsafe { size.write(layout.size()) };
            // SAFETY:
            // 1. As for `size`.
            unsafe { align.write(layout.align()) };
            Code::OK.0
        }
        Err(code) => code.0,
    }
}

/// # Safety
/// As for [`machine`] and [`with_config`]; `out` is null or valid for writes; `c-memory`.
unsafe fn create(
    call: &'static str,
    platform: *const Table,
    config: *const KernelConfig,
    metadata: *mut c_void,
    size: usize,
    out: *mut Handle,
) -> i32 {
    // SAFETY:
    // 1. Guaranteed by the caller.
    let machine = unsafe { machine(call, platform) };
    let nr_cpus = machine.nr_cpus();
    if out.is_null() || !out.is_aligned() {
        fail::misuse(call, format_args!("allocator {out:p}; allowed is a pointer to a handle"));
    }
    if metadata.is_null() {
        fail::misuse(call, format_args!("metadata is null; allowed is the memory for it"));
    }
    let build = |config: &Config<'_>| {
        let (layout, start) = extend(PageAllocator::<Machine>::metadata_layout(config)?)?;
        if !metadata.addr().is_multiple_of(layout.align()) {
            return Err(Invalid::Config(ConfigError::MetadataMisaligned {
                address: metadata.addr(),
                align_bytes: layout.align(),
            }));
        }
        if size < layout.size() {
            return Err(Invalid::Config(ConfigError::MetadataTooSmall {
                given_bytes: size,
                needed_bytes: layout.size(),
            }));
        }
        check_metadata(&machine, config, metadata.addr(), layout.size())?;
        // Before the memory is written to, because an error leaves it unchanged.
        let claim = ALLOCATORS.claim().ok_or(Invalid::TooMany)?;
        // SAFETY:
        // 1. In the memory: `start` is below its size.
        let rest = unsafe { metadata.cast::<u8>().add(start) };
        // SAFETY:
        // 1. Part of memory that is not null.
        let rest = unsafe { NonNull::new_unchecked(rest) };
        let rest = NonNull::slice_from_raw_parts(rest, layout.size() - start);
        // SAFETY:
        // 1. Memory and frames that nothing else uses: `c-memory`.
        let allocator = unsafe { PageAllocator::new(config, rest, machine) }?;
        let object = metadata.cast::<PageAllocator<Machine>>();
        // SAFETY:
        // 1. Aligned and large enough: checked above. Valid for writes: `c-memory`.
        unsafe { object.write(allocator) };
        Ok((object, claim))
    };
    // SAFETY:
    // 1. Guaranteed by the caller.
    let (object, claim) = match unsafe { with_config(call, nr_cpus, config, build) } {
        Ok(created) => created,
        Err(code) => return code.0,
    };
    let handle = claim.enter(object);
    // SAFETY:
    // 1. Aligned, not null: checked above. Valid for writes: guaranteed by the caller.
    unsafe { out.write(handle) };
    Code::OK.0
}

fn destroy(call: &'static str, handle: Handle) -> i32 {
    let frames = Kernel::allocator(call, handle);
    frames.drain_all_pages();
    let managed: u64 = frames.zone_info().map(|zone| zone.managed).sum();
    if ALLOCATORS.is_held(handle) || frames.nr_free_pages() != managed {
        return Code::BUSY.0;
    }
    let Some(object) = ALLOCATORS.remove(handle) else { no_allocator(call, handle) };
    // SAFETY:
    // 1. Written by `create`, and removed from the table, so nothing else drops it.
    unsafe { object.drop_in_place() };
    Code::OK.0
}

fn page_address(call: &'static str, handle: Handle, page: PageWord) -> *mut c_void {
    let frames = Kernel::allocator(call, handle);
    let raw = calls::block::<Kernel>(call, frames, page);
    match frames.platform().frame_address(raw.pfn()) {
        Some(address) => address,
        None => {
            fail::misuse(call, format_args!("platform.frame_address is null; it is required here"))
        }
    }
}

/// # Safety
/// As for [`explain`].
unsafe fn validate(call: &'static str, handle: Handle, message: *mut c_char, size: usize) -> i32 {
    match Kernel::allocator(call, handle).validate() {
        Ok(()) => Code::OK.0,
        Err(error) => {
            // SAFETY:
            // 1. Guaranteed by the caller.
            unsafe { explain(message, size, &error) };
            Code::CORRUPT.0
        }
    }
}

export_shared!(Kernel);

export! { Kernel;
    fn pagemill_kernel_metadata_layout(
        platform: *const Table, config: *const KernelConfig, size: *mut usize, align: *mut usize,
    ) -> i32 = metadata_layout;
    fn pagemill_kernel_create(
        platform: *const Table, config: *const KernelConfig, metadata: *mut c_void, size: usize,
        allocator: *mut Handle,
    ) -> i32 = create;
    fn pagemill_kernel_destroy(handle: Handle) -> i32 = destroy;
    fn pagemill_kernel_validate(handle: Handle, message: *mut c_char, size: usize) -> i32 = validate;
    fn pagemill_page_address(handle: Handle, page: PageWord) -> *mut c_void = page_address;
}
