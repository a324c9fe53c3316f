//! Per-CPU lists of free pages, in front of the zones.

pub(crate) mod hot_zone;
#[expect(unsafe_code, reason = "an array whose first entries are initialised")]
pub(crate) mod pcp;
#[expect(unsafe_code, reason = "lists that a claim guards")]
pub(crate) mod percpu;
#[expect(unsafe_code, reason = "a list that a claim guards")]
pub(crate) mod slot;
