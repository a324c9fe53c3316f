//! CPU time of a thread.

use std::io;

use super::syscall;

/// Returns the CPU time of the thread with number `thread` of this process, in nanoseconds.
///
/// # Errors
/// The error of the system for a thread that has ended.
///
/// # Source
/// `linux-6.12` `include/linux/posix-timers_types.h` `CPUCLOCK_PERTHREAD_MASK`
pub(crate) fn thread_cpu_ns(thread: i32) -> io::Result<u64> {
    /// The clock of scheduled CPU time.
    const SCHED: i32 = 2;
    /// For one thread instead of the process.
    const PER_THREAD: i32 = 4;

    let clock = (!thread << 3) | SCHED | PER_THREAD;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY:
    // 1. The kernel writes one `timespec`, a local variable.
    syscall::answer(unsafe { libc::clock_gettime(clock, &raw mut time) })?;
    let (seconds, nanoseconds) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    Ok(seconds * 1_000_000_000 + nanoseconds)
}
