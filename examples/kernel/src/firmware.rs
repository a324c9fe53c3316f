//! What only the firmware knows: how many CPUs there are.

use crate::cpu::MAX_CPUS;
use crate::port;

/// Returns the number of CPUs, as QEMU's configuration device tells it.
///
/// A kernel for real machines reads ACPI's table MADT instead.
pub(crate) fn nr_cpus() -> u32 {
    const SELECTOR: u16 = 0x510;
    const DATA: u16 = 0x511;
    const NB_CPUS: u16 = 5;
    // SAFETY: 1. harmless: `legacy-ports`.
    unsafe { port::write_u16(SELECTOR, NB_CPUS) };
    let bytes = [(); 2].map(|()| {
        // SAFETY: 1. harmless: `legacy-ports`.
        unsafe { port::read(DATA) }
    });
    let nr_cpus = u32::from(u16::from_le_bytes(bytes));
    let max = u32::try_from(MAX_CPUS).expect("64");
    assert!((1..=max).contains(&nr_cpus), "{nr_cpus} CPUs: allowed are 1 to {max}");
    nr_cpus
}
