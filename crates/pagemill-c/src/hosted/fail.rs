//! The end of the process after a wrong call: one line on stderr, then SIGABRT.

use core::cell::RefCell;
use core::fmt;
use std::io::{self, Write};
use std::panic;
use std::process;
use std::sync::Once;

std::thread_local! {
    /// The message of the panic that this thread is unwinding from.
    static MESSAGE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Writes `pagemill: CALL: WHAT` to stderr and ends the process with SIGABRT.
#[cold]
#[inline(never)]
pub(super) fn misuse(call: &str, what: fmt::Arguments<'_>) -> ! {
    // One write, so that lines of other threads do not come between; a message has no other line break.
    let line = format!("pagemill: {call}: {what}").replace('\n', " ") + "\n";
    // Without stderr there is nobody to report to.
    let _written = io::stderr().write_all(line.as_bytes());
    process::abort();
}

/// Ends the process because of the panic that this thread is unwinding from.
#[cold]
#[inline(never)]
pub(super) fn panicked(call: &str) -> ! {
    let message = MESSAGE.with_borrow_mut(core::mem::take);
    misuse(call, format_args!("{message}"));
}

/// Makes panics of this library keep their message for [`panicked`], instead of printing several lines.
pub(super) fn keep_messages() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        panic::set_hook(Box::new(|info| {
            let message = info.payload_as_str().unwrap_or("a panic without a message");
            MESSAGE.with_borrow_mut(|kept| message.clone_into(kept));
        }));
    });
}
