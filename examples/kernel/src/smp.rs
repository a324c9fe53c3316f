//! The other CPUs: how they start, and how they are given work.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use pagemill::units::{PAGE_SIZE, PhysAddr};
use pagemill::{AllocPages, Folio, Gfp, Order};

use crate::cpu::{self, MAX_CPUS};
use crate::frames::FRAMES;
use crate::lock::SpinLock;
use crate::{direct_map, interrupt, lapic, ticks};

/// Where the first code of the other CPUs is copied to: below 1 MiB, which is reserved.
pub(crate) const TRAMPOLINE: u64 = 0x8000;

/// CPUs that have arrived, the first one not counted; the boot code counts.
pub(crate) static ARRIVED: AtomicU32 = AtomicU32::new(0);
/// Numbers that are given out to CPUs, the first one's included; the boot code reads it.
pub(crate) static EXPECTED: AtomicU32 = AtomicU32::new(1);
/// Where the stack of each CPU begins; the boot code reads it.
pub(crate) static STACKS: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

/// What the CPUs are to do, given to each with its number.
static JOB: SpinLock<fn(u32)> = SpinLock::new(|_| {});
/// Number of the job; a CPU works when it sees a new one.
static JOB_NUMBER: AtomicU32 = AtomicU32::new(0);
/// CPUs that are ready: they have started, or finished the job.
static READY: AtomicU32 = AtomicU32::new(0);

unsafe extern "C" {
    static trampoline_start: u8;
    static trampoline_end: u8;
}

/// Starts all CPUs but the running one, on stacks from the allocator.
pub(crate) fn start(nr_cpus: u32) {
    if nr_cpus == 1 {
        return;
    }
    let order = Order::new(2).expect("2 is an order");
    for stack in &STACKS[1..nr_cpus as usize] {
        let block = FRAMES.alloc_pages(Gfp::KERNEL, order).expect("there is memory at the start");
        // Relaxed: the start-up interrupt orders what the new CPU sees.
        stack.store(stack_top(block), Ordering::Relaxed);
    }
    EXPECTED.store(nr_cpus, Ordering::Relaxed);
    copy_trampoline();
    lapic::start_others(u8::try_from(TRAMPOLINE / PAGE_SIZE as u64).expect("below 1 MiB"));
    wait_for(nr_cpus - 1);
}

/// Returns how many CPUs run.
pub(crate) fn nr_cpus() -> u32 {
    // Relaxed: written once, before the others start.
    EXPECTED.load(Ordering::Relaxed)
}

/// Lets every CPU do `job`, and returns when all have.
pub(crate) fn on_all(job: fn(u32)) {
    *JOB.lock() = job;
    // Relaxed: the Release below orders it.
    READY.store(0, Ordering::Relaxed);
    // Release pairs with the Acquire in `cpu_main`.
    JOB_NUMBER.fetch_add(1, Ordering::Release);
    lapic::wake_others();
    job(cpu::number());
    wait_for(nr_cpus() - 1);
}

/// What the boot code calls on each further CPU, with its number.
pub(crate) extern "C" fn cpu_main(number: u32) -> ! {
    cpu::claim(number);
    interrupt::load();
    lapic::init();
    let mut done = 0;
    loop {
        // Release pairs with the Acquire in `wait_for`.
        READY.fetch_add(1, Ordering::Release);
        // Acquire pairs with the Release in `on_all`.
        let is_due = || JOB_NUMBER.load(Ordering::Acquire) != done;
        while !is_due() {
            cpu::sleep_unless(is_due);
        }
        done = JOB_NUMBER.load(Ordering::Acquire);
        let job = *JOB.lock();
        cpu::enable_interrupts();
        job(number);
    }
}

/// Waits until `nr_others` CPUs are ready.
fn wait_for(nr_others: u32) {
    let start = cpu::timestamp();
    // Acquire pairs with the Release in `cpu_main`.
    while READY.load(Ordering::Acquire) != nr_others {
        core::hint::spin_loop();
        assert!(
            cpu::timestamp() - start < ticks::MANY_SECONDS,
            "{} of {nr_others} other CPUs are ready",
            READY.load(Ordering::Acquire)
        );
    }
}

/// Turns a block into a stack that is never given back, and returns where it begins.
fn stack_top(block: Folio<crate::frames::Frames>) -> u64 {
    let len_bytes = (PAGE_SIZE << block.order().value()) as u64;
    let start: PhysAddr = block.phys_addr();
    let _forever = block.into_raw();
    direct_map::BASE + start.value() + len_bytes
}

fn copy_trampoline() {
    let start = &raw const trampoline_start;
    let len_bytes = (&raw const trampoline_end).addr() - start.addr();
    assert!(len_bytes <= PAGE_SIZE, "the trampoline fills a frame");
    let target = direct_map::pointer(TRAMPOLINE).as_ptr();
    // SAFETY: 1. the source is the image's, as long as its two ends say. 2. the target is mapped,
    // and the first MiB is reserved for such uses (`reserved-early`). 3. they do not overlap.
    unsafe { target.copy_from_nonoverlapping(start, len_bytes) };
}
