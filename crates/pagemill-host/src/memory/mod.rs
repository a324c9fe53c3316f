//! Memory from the kernel: mappings, arenas with huge pages, and the handling of `fork`.

#[expect(unsafe_code, reason = "memory that a mapping owns")]
pub(crate) mod arena;
#[expect(unsafe_code, reason = "a handler that runs in child processes")]
pub(crate) mod fork;
#[expect(unsafe_code, reason = "memory from the kernel")]
pub(crate) mod mapping;
