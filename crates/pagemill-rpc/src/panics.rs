//! Panic handling: catches and logs panics, so that a worker thread continues.

use core::any::Any;
use core::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

/// Runs `work`. If it panics, calls `report` with the panic's message and returns `None`.
///
/// A panic in `report` is dropped: logging must not end a thread.
pub(crate) fn caught<T>(work: impl FnOnce() -> T, report: impl FnOnce(&str)) -> Option<T> {
    // The callers close or rebuild what `work` changes after a panic.
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => Some(done),
        Err(panic) => {
            drop(catch_unwind(AssertUnwindSafe(|| report(message_of(&*panic)))));
            // A payload whose drop panics would end the thread; only string payloads are possible.
            drop(catch_unwind(AssertUnwindSafe(|| drop(panic))));
            None
        }
    }
}

/// Returns the text that `panic!` was called with.
fn message_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_reported_and_a_panic_in_the_report_goes_no_further() {
        let mut message = String::new();
        assert_eq!(caught(|| 7, |_| unreachable!("nothing panics")), Some(7));
        let panics = || -> u32 { panic!("number {}", 3) };
        assert_eq!(caught(panics, |text| message = text.to_owned()), None);
        assert_eq!(message, "number 3");
        assert_eq!(caught(|| -> u32 { panic!("constant") }, |text| panic!("{text}")), None);
    }
}
