//! Static allocator whose locks are timed.

use pagemill::{OnceAllocator, PageAllocator, Static, StaticAllocator};
use pagemill_host::Traced;

use super::holds::HoldMeter;

static TIMED: OnceAllocator<Traced<HoldMeter>> = OnceAllocator::new();

/// Names the static.
#[derive(Debug)]
pub enum TimedFrames {}

impl StaticAllocator for TimedFrames {
    type Platform = Traced<HoldMeter>;
    const ALLOCATOR: &'static OnceAllocator<Traced<HoldMeter>> = &TIMED;
}

/// Does what [`install`](crate::frames::install) does for an allocator whose locks are timed.
///
/// # Panics
/// The panics of [`install`](crate::frames::install).
pub fn install_timed(allocator: PageAllocator<Traced<HoldMeter>>) -> Static<TimedFrames> {
    TIMED.set(allocator).expect("a process measures once");
    Static::new()
}
