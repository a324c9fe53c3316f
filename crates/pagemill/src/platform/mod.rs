//! Interface to the kernel or process below: the `Platform` trait, claims on per-CPU lists, trace
//! events.

#[expect(unsafe_code, reason = "exclusive use of a CPU's lists")]
pub(crate) mod claim;
#[expect(unsafe_code, reason = "unsafe methods of a platform")]
pub(crate) mod platform;
pub(crate) mod trace;
