//! Types and constants that the header declares too; `layout.c` among the tests compares them.

use core::ffi::c_void;

/// An allocator as C code knows it: a number that is never an address.
pub(crate) type Handle = *mut c_void;

/// The word of a block of pages; zero for none. See [`RawPage`](pagemill::handles::RawPage).
pub(crate) type PageWord = u64;

/// Most entries that an array of pages can have: more than there are page frames.
pub(crate) const NR_MAX: usize = 1 << 40;
