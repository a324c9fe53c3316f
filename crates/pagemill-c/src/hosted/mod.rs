//! A process: its allocators, and the functions that only a process has.

mod fail;
mod frame_range;
use crate::handles;
mod pool;
mod process;
mod text;
