//! Links pagemill into a final artefact without std, without alloc and without an allocator.
//!
//! The compiler refuses to build this where pagemill, or a crate below it, links one of them: std
//! brings a second panic handler, and alloc asks for a global allocator that is not here. `calls.rs`
//! contains every public call, so the artefact shows their size and what they need from outside.
#![no_std]

#[cfg_attr(feature = "small", expect(unused_imports, reason = "of the calls that are left out"))]
mod calls;
mod machine;

use core::panic::PanicInfo;

/// Stops the CPU.
pub fn stop() -> ! {
    loop {
        core::hint::spin_loop();
    }
}

/// Prints where and why, as a kernel does: without a reader, the compiler would drop the messages.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    machine::print(format_args!("{info}"));
    stop()
}
