//! Observation of an allocator in use.

#[expect(unsafe_code, reason = "a platform that calls unsafe methods of another")]
pub(crate) mod traced;
