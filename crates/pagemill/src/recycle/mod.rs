//! Building blocks for page pools: handles that return to a pool on drop, and the ring they return
//! through.

#[expect(unsafe_code, reason = "a handle whose drop moves its value")]
pub(crate) mod returning;
#[cfg(feature = "alloc")]
#[expect(unsafe_code, reason = "slots that threads hand to each other")]
pub(crate) mod ring;
#[expect(unsafe_code, reason = "an array that is filled up to a count")]
pub(crate) mod stack;
