//! The one room for unsafe code: blocks of general allocators, calls to C, and a ring between threads.
#![expect(unsafe_code, reason = "what is compared hands out pointers")]

#[cfg(feature = "dpdk")]
pub(crate) mod dpdk;
pub(crate) mod jemalloc;
pub(crate) mod line;
pub(crate) mod malloc;
