//! The CPU that runs the caller: its number, its interrupt flag, its registers.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Most CPUs that the kernel can use.
pub(crate) const MAX_CPUS: usize = 64;

/// What a CPU finds at its GS base.
///
/// `own-block`: a CPU's GS base is the address of its own entry of [`PER_CPU`], from [`claim`] on;
/// the number is written before and never changes.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct PerCpu {
    /// Must stay the first field: [`number`] reads it.
    number: AtomicU32,
    /// Whether `irq_save` interrupts itself; see [`reentry`](crate::reentry).
    pub(crate) reenters: AtomicBool,
    /// Interrupts handled here that allocate or free.
    pub(crate) interrupts: AtomicU64,
    /// Whether sections with interrupts off are timed; see [`section`](crate::section).
    pub(crate) times_sections: AtomicBool,
    /// When the section began that is being timed.
    pub(crate) section_began: AtomicU64,
    /// Ticks of the longest section since the timing began.
    pub(crate) longest_section: AtomicU64,
}

impl PerCpu {
    const fn new() -> Self {
        Self {
            number: AtomicU32::new(0),
            reenters: AtomicBool::new(false),
            interrupts: AtomicU64::new(0),
            times_sections: AtomicBool::new(false),
            section_began: AtomicU64::new(0),
            longest_section: AtomicU64::new(0),
        }
    }
}

/// One block for each CPU.
static PER_CPU: [PerCpu; MAX_CPUS] = [const { PerCpu::new() }; MAX_CPUS];

/// The flags register as it was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IrqState(pub(crate) usize);

/// The interrupt flag in the flags register.
const INTERRUPT_FLAG: usize = 1 << 9;

/// Gives the running CPU its number; the first thing that it does in Rust.
pub(crate) fn claim(number: u32) {
    const GS_BASE: u32 = 0xc000_0101;
    let block = &PER_CPU[number as usize];
    // Relaxed: read by this CPU alone.
    block.number.store(number, Ordering::Relaxed);
    let base = (&raw const *block).expose_provenance() as u64;
    let low = u32::try_from(base & 0xffff_ffff).expect("32 bits");
    let high = u32::try_from(base >> 32).expect("32 bits");
    // SAFETY: 1. no memory is reached through GS before, and `own-block` holds behind it.
    unsafe { asm!("wrmsr", in("ecx") GS_BASE, in("eax") low, in("edx") high, options(nostack)) };
}

/// Returns the number of the running CPU.
#[inline]
pub(crate) fn number() -> u32 {
    let number;
    // SAFETY: 1. valid: `own-block`, and the number is the first field. 2. pure: it is constant.
    unsafe {
        asm!("mov {0:e}, gs:[0]", out(reg) number, options(pure, readonly, nostack, preserves_flags));
    }
    number
}

/// Returns the block of the running CPU.
#[inline]
pub(crate) fn own() -> &'static PerCpu {
    &PER_CPU[number() as usize]
}

/// Keeps interrupts away and returns what was in force.
#[inline]
pub(crate) fn irq_save() -> IrqState {
    let flags;
    // SAFETY: 1. the stack is used as pushes and pops use it; no red zone exists. Memory is not
    // declared untouched, so accesses stay behind the instruction.
    unsafe { asm!("pushfq", "pop {}", "cli", out(reg) flags) };
    IrqState(flags)
}

/// Restores what [`irq_save`] found.
#[inline]
pub(crate) fn irq_restore(state: IrqState) {
    if state.was_enabled() {
        enable_interrupts();
    }
}

impl IrqState {
    /// Tells whether interrupts were let in.
    #[inline]
    pub(crate) fn was_enabled(self) -> bool {
        self.0 & INTERRUPT_FLAG != 0
    }
}

/// Lets interrupts in.
#[inline]
pub(crate) fn enable_interrupts() {
    // SAFETY: 1. handlers are in place: the table is loaded before anybody calls this.
    unsafe { asm!("sti", options(nostack)) };
}

/// Sleeps until an interrupt comes, unless `is_due` tells that there is no reason to.
///
/// An interrupt that makes it due between the question and the sleep ends the sleep.
pub(crate) fn sleep_unless(is_due: impl Fn() -> bool) {
    let state = irq_save();
    if is_due() {
        irq_restore(state);
    } else {
        // SAFETY: 1. handlers are in place. `sti` lets interrupts in only after `hlt` has begun.
        unsafe { asm!("sti", "hlt", options(nostack)) };
    }
}

/// Stops this CPU for good.
pub(crate) fn stop() -> ! {
    loop {
        // SAFETY: 1. nothing runs on this CPU afterwards, so nothing can miss an interrupt.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}

/// Returns the time stamp counter, read after all earlier instructions are done.
#[inline]
pub(crate) fn timestamp() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: 1. touches its two registers only. Memory is not declared untouched, so that no
    // access moves across it.
    unsafe { asm!("lfence", "rdtsc", out("eax") low, out("edx") high, options(nostack)) };
    u64::from(high) << 32 | u64::from(low)
}

/// Returns the address of the last page fault.
pub(crate) fn fault_address() -> u64 {
    let address;
    // SAFETY: 1. reading CR2 changes nothing.
    unsafe { asm!("mov {}, cr2", out(reg) address, options(nomem, nostack)) };
    address
}

/// Forgets what this CPU remembers of the translation of `address`.
pub(crate) fn forget_translation(address: u64) {
    // SAFETY: 1. the CPU looks it up again; what memory holds does not change.
    unsafe { asm!("invlpg [{}]", in(reg) address, options(nostack)) };
}

/// Keeps `value` in a vector register while it counts down, and returns what is in it then.
///
/// An interrupt that comes meanwhile must leave the register as it was, though its handler is
/// compiled code like any other.
pub(crate) fn through_vector_register(value: u64, rounds: u64) -> u64 {
    let kept;
    // SAFETY: 1. touches its registers only.
    unsafe {
        asm!(
            "movq xmm0, {kept}",
            "2: dec {rounds}",
            "jnz 2b",
            "movq {kept}, xmm0",
            kept = inout(reg) value => kept,
            rounds = inout(reg) rounds => _,
            out("xmm0") _,
            options(nomem, nostack)
        );
    }
    kept
}

/// Counts down from `rounds` to zero in two instructions a round.
pub(crate) fn count_down(rounds: u64) {
    // SAFETY: 1. touches its register only.
    unsafe { asm!("2: dec {0}", "jnz 2b", inout(reg) rounds => _, options(nomem, nostack)) };
}
