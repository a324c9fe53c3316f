//! Building blocks for page pools: handles that return to a pool on drop, and the ring they return
//! through.

#[expect(unsafe_code, reason = "a handle whose drop moves its value")]
pub(crate) mod returning;
#[cfg(feature = "alloc")]
#[expect(unsafe_code, reason = "slots that pass values between threads")]
pub(crate) mod ring;
#[expect(unsafe_code, reason = "an array whose first entries are initialised")]
pub(crate) mod stack;
