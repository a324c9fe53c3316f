//! The end: a code that QEMU turns into its exit status.

use crate::{cpu, port};

/// How the run ended; QEMU exits with twice the code plus one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Code {
    /// Every check held: status 33. QEMU's own errors are status 1.
    Pass = 16,
    /// A check or an assertion failed: status 35.
    Panic = 17,
    /// The CPU raised an exception: status 37.
    Exception = 18,
}

/// The port of QEMU's device isa-debug-exit.
const DEBUG_EXIT: u16 = 0xf4;

/// Ends the run; without the device, stops here.
pub(crate) fn with(code: Code) -> ! {
    // SAFETY: 1. harmless: `legacy-ports`; a write ends the machine, which is what is asked for.
    unsafe { port::write(DEBUG_EXIT, code as u8) };
    cpu::stop()
}
