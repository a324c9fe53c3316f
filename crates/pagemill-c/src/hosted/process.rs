//! Allocators of a process: creates, finds and destroys them.

use alloc::ffi::CString;
use core::cell::RefCell;
use core::ffi::{c_char, c_void};
use core::fmt;
use core::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use pagemill::machine::DirectMap;
use pagemill::{PageAllocator, Platform};
use pagemill_host::{AllocatorConfig, ArenaConfig, Host, HostError, allocator};

use super::fail;
use super::handles::{Handles, NR_HANDLES, Refused};
use crate::calls::{self, export, export_shared};
use crate::environment::Environment;
use crate::error::Code;
use crate::types::{Handle, PageWord};

/// The environment of the shared functions in a process.
pub(crate) struct Process;

static ALLOCATORS: Handles<PageAllocator<Host>, 1> = Handles::new();

impl Environment for Process {
    type Platform = Host;

    #[inline]
    fn allocator(call: &'static str, handle: *mut c_void) -> &'static PageAllocator<Host> {
        match ALLOCATORS.find(handle) {
            // SAFETY:
            // 1. The object exists: `handle-live`. It is not destroyed during the call: `c-arguments`.
            Some(allocator) => unsafe { &*allocator },
            None => no_allocator(call, handle),
        }
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
fn no_allocator(call: &str, handle: *mut c_void) -> ! {
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
    static LAST_ERROR: RefCell<CString> = RefCell::new(CString::default());
}

fn failed(error: &HostError) -> Code {
    let message = CString::new(error.to_string()).unwrap_or_default();
    LAST_ERROR.with_borrow_mut(|last| *last = message);
    if matches!(error, HostError::Config(_)) { Code::CONFIG } else { Code::SYSTEM }
}

/// # Safety
/// `out` is null or valid for writes.
unsafe fn create(call: &'static str, len_bytes: u64, out: *mut Handle) -> i32 {
    let config = AllocatorConfig::new(ArenaConfig::new(len_bytes));
    // SAFETY:
    // 1. Guaranteed by the caller.
    unsafe { create_with(call, &config, out) }.0
}

/// # Safety
/// As for [`create`].
unsafe fn create_with(call: &'static str, config: &AllocatorConfig, out: *mut Handle) -> Code {
    fail::keep_messages();
    if out.is_null() || !out.is_aligned() {
        fail::misuse(call, format_args!("allocator {out:p}; allowed is a pointer to a handle"));
    }
    let frames = match allocator(config) {
        Ok(frames) => Box::into_raw(Box::new(frames)),
        Err(error) => return failed(&error),
    };
    let Some(handle) = ALLOCATORS.add(frames) else {
        // SAFETY:
        // 1. Made from a box above, and not entered.
        drop(unsafe { Box::from_raw(frames) });
        let message = format!("{NR_HANDLES} allocators exist: destroy one first");
        LAST_ERROR.with_borrow_mut(|last| *last = CString::new(message).unwrap_or_default());
        return Code::CONFIG;
    };
    // SAFETY:
    // 1. Aligned and not null: checked above. Valid for writes: guaranteed by the caller.
    unsafe { out.write(handle) };
    Code::OK
}

/// Returns whether all pages of an allocator are free; its lists are emptied.
fn is_unused(frames: &PageAllocator<Host>) -> bool {
    frames.drain_all_pages();
    let managed: u64 = frames.zone_info().map(|zone| zone.managed).sum();
    frames.nr_free_pages() == managed
}

fn destroy(call: &'static str, handle: Handle) -> i32 {
    let frames = Process::allocator(call, handle);
    // In the child of a fork, the pages are the parent's.
    if !frames.platform().is_abandoned() && !is_unused(frames) {
        return Code::BUSY.0;
    }
    let Some(object) = ALLOCATORS.remove(handle) else { no_allocator(call, handle) };
    // SAFETY:
    // 1. Made from a box by `create`, and removed from the table, so nothing else drops it.
    drop(unsafe { Box::from_raw(object) });
    Code::OK.0
}

fn strerror(_call: &'static str, error: i32) -> *const c_char {
    Code(error).text().as_ptr()
}

fn last_error(_call: &'static str) -> *const c_char {
    LAST_ERROR.with_borrow(|last| last.as_ptr())
}

fn page_address(call: &'static str, handle: Handle, page: PageWord) -> *mut c_void {
    let frames = Process::allocator(call, handle);
    let raw = calls::block::<Process>(call, frames, page);
    frames.platform().frame_ptr(raw.pfn()).as_ptr().cast()
}

export_shared!(Process);

export! { Process;
    fn pagemill_create(len_bytes: u64, out: *mut Handle) -> i32 = create;
    fn pagemill_destroy(handle: Handle) -> i32 = destroy;
    fn pagemill_strerror(error: i32) -> *const c_char = strerror;
    fn pagemill_last_error() -> *const c_char = last_error;
    fn pagemill_page_address(handle: Handle, page: PageWord) -> *mut c_void = page_address;
}
