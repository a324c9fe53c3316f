//! The interrupt controller of each CPU: a timer, and interrupts to itself and to the others.

use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::interrupt::{SELF, SPURIOUS, TIMER, WAKE};
use crate::random::Random;
use crate::{cpu, direct_map};

/// Where every CPU finds its own controller.
const BASE: u64 = 0xfee0_0000;

const END_OF_INTERRUPT: u64 = 0xb0;
const SPURIOUS_VECTOR: u64 = 0xf0;
const COMMAND_LOW: u64 = 0x300;
const TIMER_VECTOR: u64 = 0x320;
const TIMER_START: u64 = 0x380;
const TIMER_DIVISOR: u64 = 0x3e0;

/// The command's wait bit: it has not been delivered yet.
const PENDING: u32 = 1 << 12;
const TO_SELF: u32 = 1 << 18;
const TO_OTHERS: u32 = 3 << 18;
const ASSERTED: u32 = 1 << 14;
const INIT: u32 = 5 << 8;
const START_UP: u32 = 6 << 8;

/// Whether timers are started again by their handlers.
static STORM: AtomicBool = AtomicBool::new(false);

/// Switches the running CPU's controller on.
pub(crate) fn init() {
    const ENABLED: u32 = 1 << 8;
    const BY_ONE: u32 = 0xb;
    write(SPURIOUS_VECTOR, ENABLED | u32::from(SPURIOUS));
    write(TIMER_DIVISOR, BY_ONE);
    write(TIMER_VECTOR, u32::from(TIMER));
}

/// Tells the controller that the handler is done.
pub(crate) fn end_of_interrupt() {
    write(END_OF_INTERRUPT, 0);
}

/// Lets timers interrupt all CPUs that call [`rearm`], again and again.
pub(crate) fn begin_storm() {
    // Relaxed: it orders nothing; a CPU may see it a timer tick later.
    STORM.store(true, Ordering::Relaxed);
}

/// Ends the storm on the running CPU, and keeps the others from going on with it.
pub(crate) fn end_storm() {
    // Relaxed: as in `begin_storm`.
    STORM.store(false, Ordering::Relaxed);
    // What was due already interrupts on the way out of here.
    write(TIMER_START, 0);
}

/// Starts the running CPU's timer once more if there is a storm.
///
/// Called when a handler is done, so that what it interrupts gets on however slow the machine is.
pub(crate) fn rearm() {
    /// In cycles of a bus that QEMU gives 1 GHz: 2 to 34 microseconds.
    const SHORTEST: u32 = 2_000;
    // Relaxed: as in `begin_storm`.
    if STORM.load(Ordering::Relaxed) {
        let jitter = Random::new(cpu::timestamp()).below(32_000);
        write(TIMER_START, SHORTEST + u32::try_from(jitter).expect("below 32,000"));
    }
}

/// Interrupts the running CPU itself.
pub(crate) fn interrupt_self() {
    command(TO_SELF | ASSERTED | u32::from(SELF));
}

/// Wakes all other CPUs.
pub(crate) fn wake_others() {
    command(TO_OTHERS | ASSERTED | u32::from(WAKE));
}

/// Resets all other CPUs and lets them begin at `page`, a frame number below 256.
pub(crate) fn start_others(page: u8) {
    command(TO_OTHERS | ASSERTED | INIT);
    pause();
    for _ in 0..2 {
        command(TO_OTHERS | ASSERTED | START_UP | u32::from(page));
        pause();
    }
}

/// Waits some milliseconds, as the start-up of CPUs asks for.
fn pause() {
    cpu::count_down(5_000_000);
}

fn command(value: u32) {
    write(COMMAND_LOW, value);
    while read(COMMAND_LOW) & PENDING != 0 {
        core::hint::spin_loop();
    }
}

fn register(offset: u64) -> *mut u32 {
    direct_map::pointer(BASE + offset).as_ptr().cast()
}

fn write(offset: u64, value: u32) {
    // SAFETY: 1. valid and aligned: the first 4 GiB are all in the direct map, and a register is
    // 4 bytes at a multiple of 16. 2. the commands written here reach no memory but through
    // handlers and start-up code of this kernel.
    unsafe { ptr::write_volatile(register(offset), value) };
}

fn read(offset: u64) -> u32 {
    // SAFETY: 1. valid and aligned: as in `write`. 2. reading a register changes nothing.
    unsafe { ptr::read_volatile(register(offset)) }
}
