//! Static allocator whose locks are timed.

use pagemill::PageAllocator;
use pagemill_host::debug::Traced;

use super::holds::HoldMeter;

pagemill::static_allocator! {
    static TIMED: Traced<HoldMeter>;
    /// How pages reach the static.
    pub type TimedFrames;
}

/// Does what [`install`](crate::frames::install) does for an allocator whose locks are timed.
///
/// # Panics
/// The panics of [`install`](crate::frames::install).
pub fn install_timed(allocator: PageAllocator<Traced<HoldMeter>>) -> TimedFrames {
    TIMED.set(allocator).expect("a process measures once");
    TimedFrames::new()
}
