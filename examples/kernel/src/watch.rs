//! What checks want to know of the places where the platform turns interrupts off and on.
//!
//! One word tells whether any check does, so that these places cost two instructions more otherwise.

use core::sync::atomic::{AtomicU32, Ordering};

use crate::cpu::{self, IrqState};
use crate::{reentry, section};

/// How many CPUs are watched.
static NR_WATCHED: AtomicU32 = AtomicU32::new(0);

/// Watches the running CPU, or no longer; calls with true and false take turns.
pub(crate) fn set(on: bool) {
    // Relaxed: a CPU sees its own change, and the others need not see it.
    if on {
        NR_WATCHED.fetch_add(1, Ordering::Relaxed);
    } else {
        NR_WATCHED.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Returns whether any CPU is watched.
#[inline]
pub(crate) fn is_on() -> bool {
    // Relaxed: as in `set`.
    NR_WATCHED.load(Ordering::Relaxed) != 0
}

/// Turns interrupts off, and returns what was in force.
#[cold]
pub(crate) fn irq_save() -> IrqState {
    reentry::point();
    let state = cpu::irq_save();
    section::begin(state);
    state
}

/// Interrupts are to be turned on, if they were on before.
#[cold]
pub(crate) fn before_irq_restore(state: IrqState) {
    section::end(state);
}
