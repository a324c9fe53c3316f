//! Context switches: how many times the scheduler took the CPU away from a thread.

use core::mem::MaybeUninit;

/// Returns how many times the calling thread was switched out so far, voluntarily or not.
///
/// Two equal results mean that the thread had its CPU all the time in between, except for interrupts
/// and for what the host of a virtual machine does unseen.
///
/// # Cost
/// A system call.
///
/// # Source
/// `linux-6.12` `kernel/sys.c` `getrusage`, `RUSAGE_THREAD`
#[must_use]
pub fn context_switches() -> u64 {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY:
    // 1. The pointer is to a structure of the type that the call writes.
    let failed = unsafe { libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) } != 0;
    debug_assert!(!failed, "the kernel has known RUSAGE_THREAD since 2.6.26");
    // SAFETY:
    // 1. Initialised: all fields are integers, so zeroes and whatever the kernel wrote are valid.
    let usage = unsafe { usage.assume_init() };
    usage.ru_nvcsw.unsigned_abs() + usage.ru_nivcsw.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    #[test]
    fn who_waits_is_switched_out_and_nobody_else_counts() {
        let (ask, asked) = channel();
        let (answer, answered) = channel();
        let other = thread::spawn(move || {
            let before = context_switches();
            for () in asked {
                answer.send(()).unwrap();
            }
            context_switches() - before
        });
        let before = context_switches();
        for _ in 0..100 {
            ask.send(()).unwrap();
            answered.recv().unwrap();
        }
        drop(ask);
        let theirs = other.join().unwrap();
        // On one CPU each waits for each; on several, a message may come before one waits for it.
        assert!(context_switches() > before || theirs > 0);
    }
}
