//! Environment: what the shared functions need of the process or kernel that they are built for.

use core::ffi::c_void;
use core::fmt;

use pagemill::{PageAllocator, Platform};

use crate::handles::Hold;

/// A process or a kernel with allocators that C code knows by handles.
pub(crate) trait Environment {
    /// The platform of its allocators.
    type Platform: Platform + 'static;

    /// Returns the allocator of a handle, as [`allocator`](Self::allocator) does, or `None`.
    fn find_allocator(handle: *mut c_void) -> Option<&'static PageAllocator<Self::Platform>>;

    /// Returns the allocator of a handle, or ends the program with a line that begins with `call`.
    ///
    /// The reference is valid until the allocator is destroyed (`c-arguments`).
    fn allocator(call: &'static str, handle: *mut c_void)
    -> &'static PageAllocator<Self::Platform>;

    /// Keeps the allocator of a handle from being destroyed while a callback of C code may run.
    fn hold(handle: *mut c_void) -> Hold<'static>;

    /// Ends the program with one line, because a call breaks a rule of the header.
    fn misuse(call: &str, what: fmt::Arguments<'_>) -> !;

    /// Runs a call of the C function `call`; a panic in it ends the program with one line.
    fn run<R>(call: &'static str, body: impl FnOnce() -> R) -> R;
}
