//! Unsafe code of this program: blocks of general allocators, calls to C, and a ring between threads.

#[cfg(feature = "dpdk")]
pub(crate) mod dpdk;
pub(crate) mod jemalloc;
pub(crate) mod line;
pub(crate) mod malloc;
