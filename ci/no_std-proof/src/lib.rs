//! Links pagemill into a final artefact without std, without alloc and without an allocator.
//!
//! The compiler refuses to build this where pagemill, or a crate below it, links one of them: std
//! brings a second panic handler, and alloc asks for a global allocator that is not here.
#![no_std]
#![forbid(unsafe_code)]

use core::panic::PanicInfo;

pub use pagemill;

/// A use that the linker may not drop: it must resolve every symbol that this needs.
#[used]
static USE: fn(u64) -> u64 = start_of;

fn start_of(pfn: u64) -> u64 {
    pagemill::units::Pfn::new(pfn).start().value()
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
