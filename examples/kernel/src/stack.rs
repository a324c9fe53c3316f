//! Stack depth: how many bytes below its caller a call uses, seen by what it overwrites.

use core::arch::asm;
use core::ptr;

use crate::cpu;

/// Bytes that are painted below the caller: most of the boot CPU's stack of 64 KiB.
const PAINTED: usize = 40 << 10;
/// What they are painted with.
const PAINT: u64 = 0x5ac3_5ac3_5ac3_5ac3;

/// Calls `work` and returns how deep the stack was below the caller, in bytes.
///
/// Interrupts are off meanwhile: handlers would use the same stack. Only for the boot CPU, whose stack is
/// large enough.
#[inline(never)]
pub(crate) fn depth(work: &mut dyn FnMut()) -> usize {
    let state = cpu::irq_save();
    let top: usize;
    // SAFETY: 1. writes only below the stack pointer, where nothing is: no red zone exists, and interrupts
    // are off. 2. within the stack: `kernel_main` uses some KiB of the 64.
    unsafe {
        asm!(
            "lea rdi, [rsp - {painted}]",
            "rep stosq",
            "mov {top}, rsp",
            painted = const PAINTED,
            top = out(reg) top,
            inout("rcx") PAINTED / 8 => _,
            in("rax") PAINT,
            out("rdi") _,
        );
    }
    work();
    let words = (0..PAINTED / 8).map(|index| top - PAINTED + index * 8);
    let unpainted = words.take_while(|&word| {
        // SAFETY: 1. the painted words, which nothing else uses: this function's frame is above.
        PAINT == unsafe { ptr::read_volatile(ptr::with_exposed_provenance(word)) }
    });
    let untouched = unpainted.count() * 8;
    cpu::irq_restore(state);
    assert!(untouched > 0, "more than {PAINTED} bytes of stack");
    PAINTED - untouched
}
