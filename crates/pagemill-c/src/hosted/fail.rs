//! The end of the process after a wrong call: one line on stderr, then SIGABRT.

use core::cell::Cell;
use core::fmt;
use core::mem::MaybeUninit;
use core::ptr;
use std::io::{self, Write};
use std::panic;
use std::process;
use std::sync::Once;

use super::text::Text;

std::thread_local! {
    /// The message of the panic that this thread is unwinding from.
    static MESSAGE: Cell<Text> = const { Cell::new(Text::EMPTY) };
}

/// Writes `pagemill: CALL: WHAT` to stderr and ends the process with SIGABRT.
#[cold]
#[inline(never)]
pub(super) fn misuse(call: &str, what: fmt::Arguments<'_>) -> ! {
    // One write, so that lines of other threads do not come between; a message has no other line break.
    let line = format!("pagemill: {call}: {what}").replace('\n', " ") + "\n";
    // Otherwise, a reader of stderr that is gone would end the process by SIGPIPE.
    block_sigpipe();
    // Without stderr there is nobody to report to.
    let _written = io::stderr().write_all(line.as_bytes());
    process::abort();
}

/// Keeps SIGPIPE, which a write to a pipe without a reader sends to its own thread, from this thread.
fn block_sigpipe() {
    let mut set = MaybeUninit::uninit();
    // SAFETY:
    // 1. Valid for writes.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY:
    // 1. Initialised above. SIGPIPE is a signal.
    unsafe { libc::sigaddset(set.as_mut_ptr(), libc::SIGPIPE) };
    // SAFETY:
    // 1. Initialised above. Nobody asks for the mask before.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut()) };
}

/// Ends the process because of the panic that this thread is unwinding from.
#[cold]
#[inline(never)]
pub(super) fn panicked(call: &str) -> ! {
    misuse(call, format_args!("{}", MESSAGE.get().as_str()));
}

/// Makes panics of this library keep their message for [`panicked`], instead of printing several lines.
pub(super) fn keep_messages() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        panic::set_hook(Box::new(|info| {
            let message = info.payload_as_str().unwrap_or("a panic without a message");
            MESSAGE.set(Text::new(&message));
        }));
    });
}
