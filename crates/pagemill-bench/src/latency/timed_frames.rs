//! The allocator whose locks are timed, in a static.

use pagemill::{OnceAllocator, PageAllocator, Static, StaticAllocator};
use pagemill_host::Traced;

use super::holds::HoldMeter;

static TIMED: OnceAllocator<Traced<HoldMeter>> = OnceAllocator::new();

/// The name of the static whose locks are timed.
#[derive(Debug)]
pub enum TimedFrames {}

impl StaticAllocator for TimedFrames {
    type Platform = Traced<HoldMeter>;
    const ALLOCATOR: &'static OnceAllocator<Traced<HoldMeter>> = &TIMED;
}

/// As [`install`], for an allocator whose locks are timed.
///
/// # Panics
/// As [`install`].
pub fn install_timed(allocator: PageAllocator<Traced<HoldMeter>>) -> Static<TimedFrames> {
    TIMED.set(allocator).expect("a process measures once");
    Static::new()
}
