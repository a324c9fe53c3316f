//! An allocator over an arena: platform, allocation scopes, background reclaim.

#[expect(unsafe_code, reason = "an arena becomes the frames of a platform")]
pub(crate) mod allocator;
#[expect(unsafe_code, reason = "unsafe methods of a platform; pointers to frames")]
pub(crate) mod platform;
pub(crate) mod reclaim;
pub(crate) mod scope;
#[expect(unsafe_code, reason = "memory of free frames is returned to the system")]
pub(crate) mod trim;
