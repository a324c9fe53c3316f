//! Ctrl-C, and the polite request to end: noticed, so that a last line can be written.

use alloc::sync::Arc;
#[expect(clippy::disallowed_types, reason = "the type that the signal's handler sets")]
use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering;

use std::io;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Whether the program was asked to end.
#[derive(Clone, Debug, Default)]
#[expect(clippy::disallowed_types, reason = "the type that the signal's handler sets")]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Has SIGINT and SIGTERM noticed; the second of them ends the program at once.
    ///
    /// # Errors
    /// What the system answers.
    #[expect(clippy::disallowed_types, reason = "the type that the signal's handler sets")]
    pub(crate) fn watch() -> io::Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // The status of a process that ends by Ctrl-C.
            flag::register_conditional_shutdown(signal, 130, Arc::clone(&asked))?;
            flag::register(signal, Arc::clone(&asked))?;
        }
        Ok(Self(asked))
    }

    /// Has SIGINT and SIGTERM end the program at once, as they do where nobody handles them, once
    /// it was [asked](Self::ask).
    ///
    /// # Errors
    /// What the system answers.
    pub(crate) fn end_when_asked() -> io::Result<Self> {
        let asked = Self::default();
        for signal in [SIGINT, SIGTERM] {
            flag::register_conditional_default(signal, Arc::clone(&asked.0))?;
        }
        Ok(asked)
    }

    /// Tells whether the program was asked to end.
    pub(crate) fn is_asked(&self) -> bool {
        // Relaxed: nothing else is passed along.
        self.0.load(Ordering::Relaxed)
    }

    /// Asks as a signal would.
    pub(crate) fn ask(&self) {
        // Relaxed: nothing else is passed along.
        self.0.store(true, Ordering::Relaxed);
    }
}
