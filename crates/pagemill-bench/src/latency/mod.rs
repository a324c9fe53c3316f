//! Latency benchmark: single calls beside other threads, and lock hold times.

pub mod calls;
pub mod holds;
pub mod timed_frames;
pub mod waits;
