//! Handles that return to a pool instead of the allocator, and the ring through which they do.

#[expect(unsafe_code, reason = "a handle whose drop moves its value")]
pub(crate) mod returning;
#[cfg(feature = "alloc")]
#[expect(unsafe_code, reason = "slots that threads hand to each other")]
pub(crate) mod ring;
#[expect(unsafe_code, reason = "an array that is filled up to a count")]
pub(crate) mod stack;
