//! Worker: the packet loop, its source of frames, its sinks, and adaptive polling.

pub(crate) mod frame_pool;
pub(crate) mod sink;
pub(crate) mod spin;
pub(crate) mod worker;
