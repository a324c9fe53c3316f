//! Memory from the kernel: mappings, arenas with huge pages, fault regions, and the handling of `fork`.

#[expect(unsafe_code, reason = "memory that a mapping owns")]
pub(crate) mod arena;
#[expect(unsafe_code, reason = "system calls about memory whose pages this process supplies")]
pub(crate) mod fault_region;
#[expect(unsafe_code, reason = "a handler that runs in child processes")]
pub(crate) mod fork;
#[expect(unsafe_code, reason = "memory from the kernel")]
pub(crate) mod mapping;
pub(crate) mod pins;
