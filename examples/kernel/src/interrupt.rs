//! The interrupt table and what the handlers do.

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU64, Ordering};

use crate::exit::{self, Code};
use crate::{cpu, lapic, port, serial, tenant};

/// The vector of the timer.
pub(crate) const TIMER: u8 = 0x40;
/// The vector with which a CPU interrupts itself.
pub(crate) const SELF: u8 = 0x41;
/// The vector that wakes a CPU and means nothing else.
pub(crate) const WAKE: u8 = 0x42;
/// The vector of interrupts that were none.
pub(crate) const SPURIOUS: u8 = 0xff;

/// What the stubs leave on the stack.
#[repr(C)]
struct Frame {
    vector: u64,
    error: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

/// The table: a gate of two words for each vector. Written before it is loaded, and then no more.
static TABLE: [[AtomicU64; 2]; 256] = [const { [AtomicU64::new(0), AtomicU64::new(0)] }; 256];

global_asm!(
    include_str!("interrupt.s"),
    interrupt_entry = sym interrupt_entry,
    options(att_syntax)
);

unsafe extern "C" {
    static interrupt_stubs: u8;
}

/// Distance from one stub to the next.
const STUB_BYTES: u64 = 16;

/// Fills the table, loads it, and silences the interrupt controllers of old.
pub(crate) fn init() {
    const CODE_SEGMENT: u64 = 0x08;
    /// Present, for the kernel, interrupts off in the handler.
    const INTERRUPT_GATE: u64 = 0x8e00;
    let stubs = (&raw const interrupt_stubs).addr() as u64;
    for (gate, vector) in TABLE.iter().zip(0..) {
        let handler = stubs + vector * STUB_BYTES;
        let low = handler & 0xffff | CODE_SEGMENT << 16 | INTERRUPT_GATE << 32;
        // Relaxed: this CPU loads the table below; the others start later.
        gate[0].store(low | (handler >> 16 & 0xffff) << 48, Ordering::Relaxed);
        gate[1].store(handler >> 32, Ordering::Relaxed);
    }
    load();
    for data in [0x21, 0xa1] {
        // SAFETY: 1. harmless: `legacy-ports`; all its lines are masked.
        unsafe { port::write(data, 0xff) };
    }
}

/// Loads the table on the running CPU.
pub(crate) fn load() {
    #[repr(C, packed)]
    struct Pointer {
        limit: u16,
        base: u64,
    }
    let base = (&raw const TABLE).expose_provenance() as u64;
    let pointer = Pointer { limit: 256 * 16 - 1, base };
    // SAFETY: 1. valid: the table is a static, filled, and in the format of the CPU.
    unsafe { asm!("lidt [{}]", in(reg) &raw const pointer, options(readonly, nostack)) };
}

/// What every stub calls.
extern "C" fn interrupt_entry(frame: &Frame) {
    match u8::try_from(frame.vector) {
        Ok(TIMER) => {
            tenant::interrupted();
            lapic::end_of_interrupt();
            lapic::rearm();
        }
        Ok(SELF) => {
            tenant::interrupted();
            lapic::end_of_interrupt();
        }
        Ok(WAKE) => lapic::end_of_interrupt(),
        Ok(SPURIOUS) => {}
        _ => failed(frame),
    }
}

/// Ends the run: no exception is meant to happen.
fn failed(frame: &Frame) -> ! {
    let Frame { vector, error, rip, cs, rflags, rsp, ss } = frame;
    let (number, fault) = (cpu::number(), cpu::fault_address());
    serial::print_last(format_args!(
        "\nexception {vector} on CPU {number}: error {error:#x}, cr2 {fault:#x}, rip {rip:#x}, \
         cs {cs:#x}, rflags {rflags:#x}, rsp {rsp:#x}, ss {ss:#x}\n"
    ));
    exit::with(Code::Exception)
}
