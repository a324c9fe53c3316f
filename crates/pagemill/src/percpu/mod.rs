//! Per-CPU lists of free pages, in front of the zones.

#[expect(unsafe_code, reason = "an array that is filled up to a count")]
pub(crate) mod batch;
pub(crate) mod hot_zone;
#[expect(unsafe_code, reason = "an array that is filled up to a count")]
pub(crate) mod pcp;
#[expect(unsafe_code, reason = "lists behind their claim")]
pub(crate) mod percpu;
#[expect(unsafe_code, reason = "a list behind a claim")]
pub(crate) mod slot;
