//! Signals that ask the program to end: noticed, so that a report can be written first.

use alloc::sync::Arc;
#[expect(clippy::disallowed_types, reason = "the type that the signal's handler sets")]
use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering;

use std::{fs, io};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// Whether the program was asked to end.
#[derive(Clone, Debug, Default)]
#[expect(clippy::disallowed_types, reason = "the type that the signal's handler sets")]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Has SIGINT, SIGTERM and SIGHUP noticed. A second SIGINT, or a second SIGTERM, ends the
    /// program at once; a terminal that is closed may well send several SIGHUP.
    ///
    /// SIGHUP stays ignored in a program that was started with `nohup`.
    ///
    /// # Errors
    /// What the system answers.
    #[expect(clippy::disallowed_types, reason = "the type that the signal's handler sets")]
    pub(crate) fn watch() -> io::Result<Self> {
        for signal in [SIGINT, SIGTERM] {
            // Its own flag: what else asked the program to end must not cut the report short.
            let again = Arc::new(AtomicBool::new(false));
            // The status of a process that ends by Ctrl-C.
            flag::register_conditional_shutdown(signal, 130, Arc::clone(&again))?;
            flag::register(signal, again)?;
        }
        Self::watch_only()
    }

    /// Has the same signals noticed. A second one does not end the program either, which therefore must
    /// not wait for anything: its terminal is to be restored.
    ///
    /// # Errors
    /// What the system answers.
    #[expect(clippy::disallowed_types, reason = "the type that the signal's handler sets")]
    pub(crate) fn watch_only() -> io::Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            flag::register(signal, Arc::clone(&asked))?;
        }
        if !is_ignored(SIGHUP) {
            flag::register(SIGHUP, Arc::clone(&asked))?;
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

/// Tells whether this process ignores `signal`; `false` if the system does not say.
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignores(&status, signal)
}

fn ignores(status: &str, signal: i32) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let bits = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    // Bit 0 is signal 1.
    bits >> (signal - 1) & 1 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_line_of_the_kernel() {
        let status = "Name:\tx\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000001001\n";
        assert!(ignores(status, SIGHUP) && !ignores(status, SIGINT) && !ignores(status, SIGTERM));
        assert!(!ignores("", SIGHUP));
    }
}
