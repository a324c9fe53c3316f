//! Types and primitives that all other modules use: units, flags, locks, the page word.

pub(crate) mod book;
pub(crate) mod gfp;
pub(crate) mod migratetype;
pub(crate) mod policy;
pub(crate) mod raw_page;
pub(crate) mod shortage;
pub(crate) mod stats;
#[expect(unsafe_code, reason = "a lock and a once-cell")]
pub(crate) mod sync;
pub(crate) mod units;
