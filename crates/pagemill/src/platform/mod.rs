//! What a kernel or process must provide, and who may use a CPU's lists.

#[expect(unsafe_code, reason = "who may use the lists of a CPU")]
pub(crate) mod claim;
#[expect(unsafe_code, reason = "promises of a platform")]
pub(crate) mod platform;
pub(crate) mod trace;
