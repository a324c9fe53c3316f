//! Observation of an allocator in use.

#[expect(unsafe_code, reason = "a platform that passes the promises of another on")]
pub(crate) mod traced;
