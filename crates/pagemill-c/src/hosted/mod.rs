//! A process: its allocators, and the functions that only a process has.

mod fail;
use crate::handles;
mod pool;
mod process;
