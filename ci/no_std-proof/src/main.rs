//! The proof as a program of a machine without an operating system, linked by Rust's own linker.
#![no_std]
#![no_main]

use no_std_proof as _;

/// Where such a program begins.
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    no_std_proof::stop()
}
