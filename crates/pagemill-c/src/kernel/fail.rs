//! The end of the kernel after a wrong call or a panic: one line to the table's `fatal`, and no return.

use core::arch::asm;
use core::fmt;
use core::mem;
use core::panic::PanicInfo;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use super::message::Line;
use super::types::Fatal;

/// Bytes of the longest line, which is on the stack.
const LINE_MAX: usize = 320;

/// The function `fatal` of the last table that a call was given; null before the first.
static FATAL: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());

pub(super) fn set_fatal(fatal: Fatal) {
    // Relaxed: code is there at all times, so nothing must be seen before its address.
    FATAL.store(fatal as *mut (), Ordering::Relaxed);
}

/// Passes `pagemill: CALL: WHAT` to `fatal`. Raises an exception if there is none, or if it returns.
#[cold]
#[inline(never)]
pub(super) fn misuse(call: &str, what: fmt::Arguments<'_>) -> ! {
    end(format_args!("pagemill: {call}: {what}"))
}

#[panic_handler]
fn panicked(info: &PanicInfo<'_>) -> ! {
    end(format_args!("pagemill: {}", info.message()))
}

fn end(what: fmt::Arguments<'_>) -> ! {
    let mut buffer = [0; LINE_MAX];
    let mut line = Line::new(&mut buffer);
    line.push(what);
    let line = line.as_bytes();
    // Relaxed: see `set_fatal`.
    let fatal = FATAL.load(Ordering::Relaxed);
    // Null before the first table: there is nobody to report to.
    if !fatal.is_null() {
        // SAFETY:
        // 1. Not null, and stored by `set_fatal`, from a function of this type.
        let fatal = unsafe { mem::transmute::<*mut (), Fatal>(fatal) };
        // SAFETY:
        // 1. `fatal` can be called in any context with a line: `c-platform`.
        unsafe { fatal(line.as_ptr().cast(), line.len()) };
    }
    // `fatal` must not return. If it does, an exception shows where, and if its handler returns as well,
    // this CPU stops here: the caller must not continue.
    trap();
    loop {
        core::hint::spin_loop();
    }
}

/// Raises the exception of an undefined instruction.
fn trap() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY:
    // 1. Touches nothing.
    unsafe {
        asm!("ud2", options(nomem, nostack));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY:
    // 1. Touches nothing.
    unsafe {
        asm!("udf #0", options(nomem, nostack));
    }
    #[cfg(target_arch = "riscv64")]
    // SAFETY:
    // 1. Touches nothing.
    unsafe {
        asm!("unimp", options(nomem, nostack));
    }
}
