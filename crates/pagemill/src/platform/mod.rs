//! Interface to the kernel or process below: the `Platform` trait, claims on per-CPU lists, trace
//! events.

#[expect(unsafe_code, reason = "who may use the lists of a CPU")]
pub(crate) mod claim;
#[expect(unsafe_code, reason = "promises of a platform")]
pub(crate) mod platform;
pub(crate) mod trace;
