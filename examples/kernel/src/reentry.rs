//! Interrupts at the worst moment: when the allocator is about to lock a zone.
//!
//! There it usually holds the lists of its CPU, because it fills or empties one. A CPU that is told
//! to sends itself an interrupt each time it comes by, whose handler allocates.

use core::sync::atomic::Ordering;

use crate::cpu::{self, IrqState};
use crate::{lapic, watch};

/// Begins, or ends, to interrupt the running CPU.
pub(crate) fn set(on: bool) {
    // Relaxed: read by this CPU alone.
    let was_on = cpu::own().reenters.swap(on, Ordering::Relaxed);
    if was_on != on {
        watch::set(on);
    }
}

/// Where the platform is asked to keep interrupts away: the last chance of one to come.
pub(crate) fn point() {
    // Relaxed: as in `set`.
    if cpu::own().reenters.load(Ordering::Relaxed) {
        interrupt();
    }
}

/// Interrupts the running CPU once, if interrupts are let in, and returns after the handler.
#[cold]
pub(crate) fn interrupt() {
    let state: IrqState = cpu::irq_save();
    cpu::irq_restore(state);
    if !state.was_enabled() {
        return;
    }
    // Relaxed: counted by this CPU's own handlers.
    let handled = || cpu::own().interrupts.load(Ordering::Relaxed);
    let before = handled();
    lapic::interrupt_self();
    while handled() == before {
        core::hint::spin_loop();
    }
}
