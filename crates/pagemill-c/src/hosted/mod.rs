//! A process: its allocators, and the functions that only a process has.

mod fail;
mod handles;
mod pool;
mod process;
