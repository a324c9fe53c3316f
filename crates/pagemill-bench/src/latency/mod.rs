//! How long single calls take beside other threads, and how long locks are held.

pub mod calls;
pub mod holds;
pub mod timed_frames;
pub mod waits;
