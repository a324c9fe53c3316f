//! Sections with interrupts off: how long the longest is that the allocator asks for.

use core::sync::atomic::Ordering;

use crate::cpu::{self, IrqState};
use crate::watch;

/// Runs `work` and returns the ticks of the longest section with interrupts off in it, of those that
/// the allocator began on this CPU.
pub(crate) fn longest(work: impl FnOnce()) -> u64 {
    let own = cpu::own();
    // Relaxed, here and below: read and written by this CPU alone.
    own.longest_section.store(0, Ordering::Relaxed);
    own.times_sections.store(true, Ordering::Relaxed);
    watch::set(true);
    work();
    watch::set(false);
    own.times_sections.store(false, Ordering::Relaxed);
    own.longest_section.load(Ordering::Relaxed)
}

/// Interrupts have just been turned off, or were off before.
pub(crate) fn begin(state: IrqState) {
    let own = cpu::own();
    if own.times_sections.load(Ordering::Relaxed) && state.was_enabled() {
        own.section_began.store(cpu::timestamp(), Ordering::Relaxed);
    }
}

/// Interrupts are to be turned on, if they were on before.
pub(crate) fn end(state: IrqState) {
    let own = cpu::own();
    if own.times_sections.load(Ordering::Relaxed) && state.was_enabled() {
        let ticks = cpu::timestamp() - own.section_began.load(Ordering::Relaxed);
        own.longest_section.fetch_max(ticks, Ordering::Relaxed);
    }
}
