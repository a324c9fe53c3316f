//! I/O ports.
//!
//! `legacy-ports`: the ports written are those of COM1, of the two interrupt controllers, of the
//! firmware's configuration and of the exit device. A machine that lacks one ignores the write and
//! reads as all ones.

use core::arch::asm;

/// Writes one byte.
///
/// # Safety
/// What the device does with it breaks nobody's memory.
#[inline]
pub(crate) unsafe fn write(port: u16, value: u8) {
    // SAFETY: 1. harmless: the caller's obligation.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack)) };
}

/// Writes two bytes.
///
/// # Safety
/// As for [`write`].
#[inline]
pub(crate) unsafe fn write_u16(port: u16, value: u16) {
    // SAFETY: 1. harmless: the caller's obligation.
    unsafe { asm!("out dx, ax", in("dx") port, in("ax") value, options(nomem, nostack)) };
}

/// Reads one byte.
///
/// # Safety
/// What the device does on a read breaks nobody's memory.
#[inline]
pub(crate) unsafe fn read(port: u16) -> u8 {
    let value;
    // SAFETY: 1. harmless: the caller's obligation.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack)) };
    value
}
