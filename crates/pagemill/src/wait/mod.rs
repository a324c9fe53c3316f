//! Queue of requests that wait for memory.

pub(crate) mod queue;
