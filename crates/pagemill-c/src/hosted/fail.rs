//! The end of the process after a wrong call: one line on stderr, then SIGABRT.

use core::cell::Cell;
use core::fmt;
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
    // Without stderr there is nobody to report to.
    let _written = io::stderr().write_all(line.as_bytes());
    process::abort();
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
