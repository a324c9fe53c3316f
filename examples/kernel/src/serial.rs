//! The console: COM1.

use core::fmt::{self, Write};
use core::panic::PanicInfo;

use crate::exit::{self, Code};
use crate::lock::SpinLock;
use crate::port;

/// Prints a line on the console.
macro_rules! println {
    () => { $crate::serial::print(format_args!("\n")) };
    ($($arg:tt)*) => { $crate::serial::print(format_args!("{}\n", format_args!($($arg)*))) };
}

/// Prints on the console.
macro_rules! print {
    ($($arg:tt)*) => { $crate::serial::print(format_args!($($arg)*)) };
}

/// Guards the order of what is printed.
static CONSOLE: SpinLock<Com1> = SpinLock::new(Com1);

/// The first port of COM1.
const COM1: u16 = 0x3f8;

/// The right to write to COM1.
#[derive(Debug)]
struct Com1;

/// Sets COM1 to 115200 baud, 8 bits, no parity, without interrupts.
pub(crate) fn init() {
    for (register, value) in [(1, 0), (3, 0x80), (0, 1), (1, 0), (3, 3), (2, 7), (4, 3)] {
        // SAFETY: 1. harmless: `legacy-ports`.
        unsafe { port::write(COM1 + register, value) };
    }
}

/// Prints; the macros call this.
pub(crate) fn print(text: fmt::Arguments<'_>) {
    // Com1 never fails.
    let _ = CONSOLE.lock().write_fmt(text);
}

/// Prints although the console may be taken: for what ends the run.
pub(crate) fn print_last(text: fmt::Arguments<'_>) {
    let _ = Com1.write_fmt(text);
}

impl Write for Com1 {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        const STATUS: u16 = 5;
        const TRANSMITTER_EMPTY: u8 = 0x20;
        for byte in text.bytes() {
            // SAFETY: 1. harmless: `legacy-ports`.
            while unsafe { port::read(COM1 + STATUS) } & TRANSMITTER_EMPTY == 0 {}
            // SAFETY: 1. harmless: `legacy-ports`.
            unsafe { port::write(COM1, byte) };
        }
        Ok(())
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    print_last(format_args!("\n{info}\n"));
    exit::with(Code::Panic)
}
