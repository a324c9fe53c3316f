//! Allocators of a process: creates, finds and destroys them; addresses of their pages.

use core::cell::Cell;
use core::ffi::{c_char, c_void};
use core::fmt;
use core::panic::AssertUnwindSafe;
use core::sync::atomic::Ordering;
use std::panic::catch_unwind;

use pagemill::machine::DirectMap;
use pagemill::units::{MAX_NR_NODES, PAGE_SIZE, Pfn};
use pagemill::{AllocPages, Folio, PageAllocator, Platform};
use pagemill_host::arena::{Backing, HugePages};
use pagemill_host::{AllocatorConfig, ArenaConfig, Host, HostError, allocator};

use super::fail;
use super::frame_range::{FrameRange, NR_FRAMES_MAX};
use super::handles::{Handles, Hold, NR_HANDLES, Refused};
use super::text::Text;
use crate::calls::{self, export, export_shared};
use crate::environment::Environment;
use crate::error::{Code, WrongFrames};
use crate::types::{ConfigView, Handle, PageWord};

/// The environment of the shared functions in a process.
pub(crate) struct Process;

/// An allocator that C code created.
pub(super) struct Hosted {
    pub(super) frames: PageAllocator<Host>,
    /// Pools of its pages, which refer to it.
    pub(super) nr_pools: Count,
    /// Whether the owner of each page is recorded.
    pub(super) has_owners: bool,
    /// Dropped after the frames: fields are dropped in order.
    _range: FrameRange,
}

#[expect(clippy::disallowed_types, reason = "not part of the core: loom has no business here")]
pub(super) type Count = core::sync::atomic::AtomicUsize;

static ALLOCATORS: Handles<Hosted, 1> = Handles::new();

#[inline]
fn find(handle: Handle) -> Option<&'static Hosted> {
    ALLOCATORS.find(handle).map(|hosted| {
        // SAFETY:
        // 1. The object exists: `handle-live`. It is not destroyed during the call: `c-arguments`.
        unsafe { &*hosted }
    })
}

/// Returns the allocator of a handle, or ends the process.
#[inline]
pub(super) fn hosted(call: &'static str, handle: Handle) -> &'static Hosted {
    match find(handle) {
        Some(hosted) => hosted,
        None => no_allocator(call, handle),
    }
}

impl Environment for Process {
    type Platform = Host;

    #[inline]
    fn find_allocator(handle: Handle) -> Option<&'static PageAllocator<Host>> {
        Some(&find(handle)?.frames)
    }

    #[inline]
    fn allocator(call: &'static str, handle: Handle) -> &'static PageAllocator<Host> {
        &hosted(call, handle).frames
    }

    fn hold(handle: Handle) -> Hold<'static> {
        ALLOCATORS.hold(handle)
    }

    fn misuse(call: &str, what: fmt::Arguments<'_>) -> ! {
        fail::misuse(call, what)
    }

    #[inline]
    fn run<R>(call: &'static str, body: impl FnOnce() -> R) -> R {
        // After a panic, the process ends: nothing sees a broken state.
        catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_payload| fail::panicked(call))
    }
}

#[cold]
#[inline(never)]
fn no_allocator(call: &str, handle: Handle) -> ! {
    let why = match ALLOCATORS.refused(handle) {
        Refused::Null => "is null",
        Refused::Gone => "was destroyed",
        Refused::Unknown => "was not returned by pagemill_create",
    };
    fail::misuse(
        call,
        format_args!(
            "allocator {handle:p} {why}; allowed are handles of pagemill_create until pagemill_destroy"
        ),
    )
}

std::thread_local! {
    static LAST_ERROR: Cell<Text> = const { Cell::new(Text::EMPTY) };
}

/// Keeps the message of an error for `pagemill_last_error`.
pub(super) fn failed(code: Code, error: &dyn fmt::Display) -> Code {
    LAST_ERROR.set(Text::new(error));
    code
}

fn last_error(_call: &'static str) -> *const c_char {
    LAST_ERROR.with(|last| last.as_ptr().cast())
}

/// Ends the process unless a handle can be written to `out`.
pub(super) fn check_out(call: &'static str, what: &str, out: *mut Handle) {
    if out.is_null() || !out.is_aligned() {
        fail::misuse(call, format_args!("{what} {out:p}; allowed is a pointer to a handle"));
    }
}

/// # Safety
/// `out` is null or valid for writes.
unsafe fn create(call: &'static str, len_bytes: u64, out: *mut Handle) -> i32 {
    let config = AllocatorConfig::new(ArenaConfig::new(len_bytes));
    // SAFETY:
    // 1. Guaranteed by the caller.
    unsafe { create_on(call, &config, out) }.0
}

/// # Safety
/// As for [`create`] and [`calls::read_struct`].
unsafe fn create_with(call: &'static str, config: *const ConfigView, out: *mut Handle) -> i32 {
    // SAFETY:
    // 1. Guaranteed by the caller.
    let view = unsafe { calls::read_struct::<Process, _>(call, "config", config) };
    let config = match config_of(call, &view) {
        Ok(config) => config,
        Err(code) => return code.0,
    };
    // SAFETY:
    // 1. Guaranteed by the caller.
    unsafe { create_on(call, &config, out) }.0
}

fn config_of(call: &'static str, view: &ConfigView) -> Result<AllocatorConfig, Code> {
    const OWNERS: u32 = 1;
    const POISON: u32 = 2;
    const PREFAULT: u32 = 4;
    const LOCK: u32 = 8;
    const MEMFD: u32 = 16;
    const HUGETLB: u32 = 32;
    const NO_HUGE: u32 = 64;
    calls::check_reserved::<Process>(call, "config", view.reserved);
    let has = |flag| view.flags & flag != 0;
    if view.flags > 127 || has(HUGETLB) && has(NO_HUGE) {
        let flags = view.flags;
        fail::misuse(
            call,
            format_args!(
                "config.flags {flags:#x}; allowed are the PAGEMILL_CONFIG flags, but not HUGETLB and NO_HUGE \
                 together"
            ),
        );
    }
    let nr_nodes = u8::try_from(view.nr_nodes.max(1)).map_err(|_| {
        let given = view.nr_nodes;
        failed(Code::CONFIG, &format_args!("nr_nodes {given}: allowed are 0 to {MAX_NR_NODES}"))
    })?;
    let arena = ArenaConfig {
        backing: if has(MEMFD) { Backing::Memfd } else { Backing::Anonymous },
        huge: if has(HUGETLB) {
            HugePages::HugeTlb
        } else if has(NO_HUGE) {
            HugePages::Never
        } else {
            HugePages::Auto
        },
        prefault: has(PREFAULT),
        lock: has(LOCK),
        ..ArenaConfig::new(view.len_bytes)
    };
    Ok(AllocatorConfig {
        nr_nodes,
        nr_cpus: (view.nr_cpus != 0).then_some(view.nr_cpus),
        min_free_bytes: (view.min_free_bytes != 0).then_some(view.min_free_bytes),
        movable_bytes: view.movable_bytes,
        page_owner: has(OWNERS),
        poison: has(POISON),
        ..AllocatorConfig::new(arena)
    })
}

/// Returns whether the caller's numbers or the system are the cause of an error.
const fn code_of(error: &HostError) -> Code {
    match error {
        HostError::Config(_)
        | HostError::ArenaLength { .. }
        | HostError::NrNodes { .. }
        | HostError::BasePfn { .. }
        | HostError::PfnRange { .. } => Code::CONFIG,
        _ => Code::SYSTEM,
    }
}

/// # Safety
/// As for [`create`].
unsafe fn create_on(call: &'static str, config: &AllocatorConfig, out: *mut Handle) -> Code {
    fail::keep_messages();
    check_out(call, "allocator", out);
    let nr_frames = config.arena.len_bytes.div_ceil(PAGE_SIZE as u64);
    if nr_frames > NR_FRAMES_MAX {
        let (len_bytes, most) = (config.arena.len_bytes, NR_FRAMES_MAX * PAGE_SIZE as u64);
        return failed(
            Code::CONFIG,
            &format_args!(
                "a memory of {len_bytes:#x} bytes is too large: at most {most:#x} are allowed"
            ),
        );
    }
    let Some(range) = FrameRange::take(nr_frames) else { return too_many() };
    let config = AllocatorConfig { base_pfn: range.base, ..*config };
    let hosted = match allocator(&config) {
        Ok(frames) => Box::into_raw(Box::new(Hosted {
            frames,
            nr_pools: Count::new(0),
            has_owners: config.page_owner,
            _range: range,
        })),
        Err(error) => return failed(code_of(&error), &error),
    };
    let Some(handle) = ALLOCATORS.add(hosted) else {
        // SAFETY:
        // 1. Made from a box above, and not entered.
        drop(unsafe { Box::from_raw(hosted) });
        return too_many();
    };
    // SAFETY:
    // 1. Aligned and not null: checked above. Valid for writes: guaranteed by the caller.
    unsafe { out.write(handle) };
    Code::OK
}

fn too_many() -> Code {
    failed(Code::CONFIG, &format_args!("{NR_HANDLES} allocators exist: destroy one"))
}

/// Returns whether all pages of an allocator are free; its lists are emptied.
fn is_unused(frames: &PageAllocator<Host>) -> bool {
    frames.drain_all_pages();
    let managed: u64 = frames.zone_info().map(|zone| zone.managed).sum();
    frames.nr_free_pages() == managed
}

fn destroy(call: &'static str, handle: Handle) -> i32 {
    let hosted = hosted(call, handle);
    // In the child of a fork, the pages are the parent's.
    let is_forked = hosted.frames.platform().is_abandoned();
    // Acquire pairs with the Release in `pool::destroy`.
    let has_pools = hosted.nr_pools.load(Ordering::Acquire) != 0;
    if has_pools || ALLOCATORS.is_held(handle) || !is_forked && !is_unused(&hosted.frames) {
        return Code::BUSY.0;
    }
    let Some(object) = ALLOCATORS.remove(handle) else { no_allocator(call, handle) };
    // SAFETY:
    // 1. Made from a box by `create_on`, and removed from the table, so nothing else drops it.
    drop(unsafe { Box::from_raw(object) });
    Code::OK.0
}

fn page_address(call: &'static str, handle: Handle, page: PageWord) -> *mut c_void {
    let frames = Process::allocator(call, handle);
    let raw = calls::block::<Process>(call, frames, page);
    frames.platform().frame_ptr(raw.pfn()).as_ptr().cast()
}

/// Returns the frame that begins at an address, or ends the process.
fn frame_at(call: &'static str, frames: &PageAllocator<Host>, address: *const c_void) -> Pfn {
    let host = frames.platform();
    let (base, len) = (host.memory().base().addr().get(), host.memory().len_bytes());
    let offset = address.addr().wrapping_sub(base);
    if offset >= len || !offset.is_multiple_of(PAGE_SIZE) {
        let last = base + len - PAGE_SIZE;
        fail::misuse(
            call,
            format_args!(
                "address {address:p}; allowed are addresses of pages of the allocator, multiples of \
                 {PAGE_SIZE} from {base:#x} to {last:#x}"
            ),
        );
    }
    host.base_pfn().offset((offset / PAGE_SIZE) as u64)
}

/// # Safety
/// The caller owns the block.
unsafe fn page_at(
    call: &'static str,
    handle: Handle,
    address: *const c_void,
    order: u32,
) -> PageWord {
    let frames = Process::allocator(call, handle);
    let (pfn, order) = (frame_at(call, frames, address), calls::order::<Process>(call, order));
    if pfn.is_aligned(order) {
        calls::check_in_use::<Process>(call, frames, pfn, order.nr_pages());
    }
    // SAFETY:
    // 1. Guaranteed by the caller. The handle gives the block up below: the caller is its owner.
    match unsafe { Folio::from_pfn(frames, pfn, order) } {
        Ok(block) => block.into_raw().to_bits().get(),
        Err(error) => {
            fail::misuse(call, format_args!("address {address:p}: {}", WrongFrames(error)))
        }
    }
}

/// # Safety
/// The caller owns the pages.
unsafe fn free_at(call: &'static str, handle: Handle, address: *mut c_void, nr: usize) {
    let frames = Process::allocator(call, handle);
    if address.is_null() && nr == 0 {
        return;
    }
    let pfn = frame_at(call, frames, address);
    calls::check_in_use::<Process>(call, frames, pfn, nr);
    // SAFETY:
    // 1. Guaranteed by the caller.
    if let Err(error) = unsafe { frames.free_pfn_range(pfn, nr) } {
        fail::misuse(call, format_args!("{nr} pages from {address:p}: {}", WrongFrames(error)));
    }
}

export_shared!(Process);

export! { Process;
    fn pagemill_create(len_bytes: u64, out: *mut Handle) -> i32 = create;
    fn pagemill_create_with(config: *const ConfigView, out: *mut Handle) -> i32 = create_with;
    fn pagemill_destroy(handle: Handle) -> i32 = destroy;
    fn pagemill_last_error() -> *const c_char = last_error;
    fn pagemill_page_address(handle: Handle, page: PageWord) -> *mut c_void = page_address;
    fn pagemill_page_at(handle: Handle, address: *const c_void, order: u32) -> PageWord = page_at;
    fn pagemill_free_at(handle: Handle, address: *mut c_void, nr: usize) = free_at;
}
