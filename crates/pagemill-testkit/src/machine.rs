//! Platform over heap memory: CPU numbers, simulated interrupts, and counts of calls, for each thread.
//!
//! Tests that run side by side do not see each other's counts.

use alloc::alloc::{alloc_zeroed, dealloc};
use core::alloc::Layout;
use core::cell::{Cell, RefCell};
use core::mem;
use core::panic::AssertUnwindSafe;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;
use core::time::Duration;
use std::panic::catch_unwind;
use std::sync::{Condvar, Mutex};

use pagemill::accounts::AccountId;
use pagemill::debug::Event;
use pagemill::machine::DirectMap;
use pagemill::units::{CpuId, PAGE_SIZE, Pfn};
use pagemill::{Gfp, Platform};

#[expect(clippy::disallowed_types, reason = "not part of the core: loom has no business here")]
type Flag = core::sync::atomic::AtomicBool;

/// What runs where a CPU can be interrupted.
type Interrupt = *mut dyn FnMut();

thread_local! {
    static CPU: Cell<u32> = const { Cell::new(0) };
    static PINS: Cell<u32> = const { Cell::new(0) };
    static NR_PINS: Cell<usize> = const { Cell::new(0) };
    static IRQ_SAVES: Cell<usize> = const { Cell::new(0) };
    static IRQ_DEPTH: Cell<usize> = const { Cell::new(0) };
    static ZEROED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    static INTERRUPT: Cell<Option<Interrupt>> = const { Cell::new(None) };
    static NR_WAITS: Cell<usize> = const { Cell::new(0) };
    static NR_WAKES: Cell<usize> = const { Cell::new(0) };
    static RECLAIMS: Cell<usize> = const { Cell::new(0) };
    static ACCOUNT: Cell<Option<AccountId>> = const { Cell::new(None) };
    static EVENTS: RefCell<Vec<Event>> = const { RefCell::new(Vec::new()) };
    static TRACES: Cell<Traces> = const { Cell::new(Traces::Nothing) };
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
}

/// A function that decides which calls of the machine panic.
type Hook = Box<dyn FnMut(Call) -> bool>;

/// A call of the machine by the allocator.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Call {
    /// [`Platform::trace`], with its event.
    Trace(Event),
    /// [`Platform::wait`].
    Wait,
    /// [`Platform::wake`].
    Wake,
    /// [`Platform::zero_pages`].
    Zero,
}

/// Runs `body`, and calls `hook` before each call that this thread makes of a machine meanwhile. The
/// first call for which it returns true panics; it is not called again then.
///
/// # Errors
/// The panic of `body`.
pub fn hooked<R>(
    hook: impl FnMut(Call) -> bool + 'static,
    body: impl FnOnce() -> R,
) -> std::thread::Result<R> {
    HOOK.set(Some(Box::new(hook)));
    let result = catch_unwind(AssertUnwindSafe(body));
    HOOK.take();
    result
}

fn note(call: Call) {
    let Some(mut hook) = HOOK.take() else { return };
    assert!(!hook(call), "the machine fails in {call:?}");
    HOOK.set(Some(hook));
}

/// The events that a thread records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Traces {
    /// None.
    Nothing,
    /// All but those of single pages.
    Events,
    /// All.
    Pages,
}

/// A machine with CPUs, and with memory if a test looks at bytes.
#[derive(Debug)]
pub struct Machine {
    nr_cpus: u32,
    memory: Option<Memory>,
    /// How long a wait lasts that no wake-up ends.
    wait_at_most: Duration,
    sleep: Mutex<Sleep>,
    woken: Condvar,
    is_abandoned: Flag,
}

/// The threads that wait for memory.
#[derive(Debug, Default)]
struct Sleep {
    /// How often all of them were woken.
    nr_wakes: u64,
    nr_asleep: usize,
    /// Waits that no wake-up ended.
    nr_late: usize,
}

/// As the host has it.
const WAIT_AT_MOST: Duration = Duration::from_millis(10);

/// Makes this thread run on CPU `cpu` from now on; it is CPU 0 before.
pub fn set_cpu(cpu: u32) {
    CPU.set(cpu);
}

/// Makes `account` pay for what this thread allocates with `Gfp::ACCOUNT` from now on.
pub fn set_account(account: Option<AccountId>) {
    ACCOUNT.set(account);
}

/// Returns what happened while this thread ran `body`.
pub fn traced(traces: Traces, body: impl FnOnce()) -> Vec<Event> {
    EVENTS.take();
    TRACES.set(traces);
    body();
    TRACES.set(Traces::Nothing);
    EVENTS.take()
}

/// Returns how often this thread has kept interrupts away so far.
pub fn irq_sections() -> usize {
    IRQ_SAVES.get()
}

/// Returns how often this thread was pinned to its CPU so far.
pub fn nr_pins() -> usize {
    NR_PINS.get()
}

/// Returns how often this thread has waited for memory so far.
pub fn nr_waits() -> usize {
    NR_WAITS.get()
}

/// Returns how often this thread has called for background reclaim so far.
pub fn nr_wakes() -> usize {
    NR_WAKES.get()
}

/// Tells whether this thread keeps interrupts away.
pub fn interrupts_are_off() -> bool {
    IRQ_DEPTH.get() > 0
}

/// Returns the frames that this thread has filled with zeroes since it last asked.
pub fn take_zeroed() -> Vec<u64> {
    ZEROED.take()
}

/// Checks that this thread is pinned to no CPU and keeps no interrupt away.
///
/// # Panics
/// If it is or does.
pub fn check_balance() {
    assert_eq!(PINS.get(), 0, "pin without unpin");
    assert_eq!(IRQ_DEPTH.get(), 0, "irq_save without irq_restore");
}

/// Runs `body`, with `handler` interrupting this thread just before it keeps interrupts away: in the
/// middle of a refill or a drain, while the lists are in use. The handler is not interrupted itself.
pub fn interrupted_by<R>(handler: &mut dyn FnMut(), body: impl FnOnce() -> R) -> R {
    /// Takes the handler away, also if `body` panics.
    struct Restore(Option<Interrupt>);
    impl Drop for Restore {
        fn drop(&mut self) {
            INTERRUPT.set(self.0);
        }
    }
    let handler: *mut (dyn FnMut() + '_) = handler;
    // SAFETY: 1. only the lifetime of the pointer changes. It is called only while `body` runs,
    // which is within the true lifetime: `Restore` removes it.
    let handler = unsafe { mem::transmute::<*mut (dyn FnMut() + '_), Interrupt>(handler) };
    let _restore = Restore(INTERRUPT.replace(Some(handler)));
    body()
}

/// Runs the handler, if there is one and it is not running.
fn interrupt() {
    /// Puts the handler back, also if it panics.
    struct PutBack(Interrupt);
    impl Drop for PutBack {
        fn drop(&mut self) {
            INTERRUPT.set(Some(self.0));
        }
    }
    if let Some(handler) = INTERRUPT.take() {
        let handler = PutBack(handler);
        // SAFETY: 1. alive: `interrupted_by` has not returned. 2. exclusive: it was taken out, so no
        // other call of it is running.
        unsafe { (*handler.0)() };
    }
}

impl Machine {
    /// Makes a machine whose frames have no bytes.
    pub fn new(nr_cpus: u32) -> Self {
        Self {
            nr_cpus,
            memory: None,
            wait_at_most: WAIT_AT_MOST,
            sleep: Mutex::default(),
            woken: Condvar::new(),
            is_abandoned: Flag::new(false),
        }
    }

    /// Makes a machine on which a wait lasts for a minute unless a wake-up ends it: a test that
    /// needs [`nr_late`](Self::nr_late) to be zero sees every wake-up that is missing.
    pub fn patient(nr_cpus: u32) -> Self {
        Self { wait_at_most: Duration::from_mins(1), ..Self::new(nr_cpus) }
    }

    /// Returns how many threads wait for memory at the moment.
    ///
    /// # Panics
    /// If a thread has panicked in a wait.
    pub fn nr_asleep(&self) -> usize {
        self.sleep.lock().expect("no thread panics with it").nr_asleep
    }

    /// Returns how many waits lasted until their limit.
    ///
    /// # Panics
    /// If a thread has panicked in a wait.
    pub fn nr_late(&self) -> usize {
        self.sleep.lock().expect("no thread panics with it").nr_late
    }

    /// Makes a machine with bytes for `nr_frames` frames from `start` on.
    ///
    /// # Panics
    /// If there are no frames, or no memory for them.
    pub fn with_memory(nr_cpus: u32, start: u64, nr_frames: usize) -> Self {
        Self { memory: Some(Memory::new(start, nr_frames)), ..Self::new(nr_cpus) }
    }

    /// Makes this the machine of a child of `fork`: an allocator on it must not be used any more.
    pub fn abandon(&self) {
        // Relaxed: for tests of one thread.
        self.is_abandoned.store(true, Ordering::Relaxed);
    }
}

impl Platform for Machine {
    fn nr_cpus(&self) -> u32 {
        self.nr_cpus
    }

    fn pin(&self) -> CpuId {
        PINS.set(PINS.get() + 1);
        NR_PINS.set(NR_PINS.get() + 1);
        CpuId::new(CPU.get())
    }

    fn unpin(&self) {
        PINS.set(PINS.get().checked_sub(1).expect("unpin without pin"));
    }

    fn irq_save(&self) -> usize {
        let before = IRQ_DEPTH.get();
        if before == 0 {
            interrupt();
        }
        IRQ_SAVES.set(IRQ_SAVES.get() + 1);
        IRQ_DEPTH.set(before + 1);
        before
    }

    fn irq_restore(&self, state: usize) {
        assert_eq!(IRQ_DEPTH.get(), state + 1, "restored out of order");
        IRQ_DEPTH.set(state);
    }

    fn is_abandoned(&self) -> bool {
        // Relaxed: as in `abandon`.
        self.is_abandoned.load(Ordering::Relaxed)
    }

    fn relax(&self, spins: u32) {
        assert!(!self.is_abandoned(), "a child waits for a thread that it does not have");
        assert!(spins < 10_000_000, "a lock is never released");
        std::thread::yield_now();
    }

    fn gfp_context(&self, gfp: Gfp) -> Gfp {
        if RECLAIMS.get() > 0 { gfp | Gfp::MEMALLOC } else { gfp }
    }

    fn enter_reclaim(&self) {
        RECLAIMS.set(RECLAIMS.get() + 1);
    }

    fn leave_reclaim(&self) {
        RECLAIMS.set(RECLAIMS.get().checked_sub(1).expect("left without entering"));
    }

    fn wake_reclaim(&self) {
        NR_WAKES.set(NR_WAKES.get() + 1);
    }

    fn current_account(&self) -> Option<AccountId> {
        ACCOUNT.get()
    }

    fn wait(&self, still: &dyn Fn() -> bool) {
        note(Call::Wait);
        NR_WAITS.set(NR_WAITS.get() + 1);
        let mut sleep = self.sleep.lock().expect("no thread panics with it");
        // Checked under the lock, which wakers take too, so no wake-up is lost after the check.
        if still() {
            sleep.nr_asleep += 1;
            let before = sleep.nr_wakes;
            let is_asleep = |sleep: &mut Sleep| sleep.nr_wakes == before;
            let woken = self.woken.wait_timeout_while(sleep, self.wait_at_most, is_asleep);
            let (mut sleep, limit) = woken.expect("no thread panics with it");
            sleep.nr_asleep -= 1;
            sleep.nr_late += usize::from(limit.timed_out());
        }
    }

    fn wake(&self) {
        note(Call::Wake);
        self.sleep.lock().expect("no thread panics with it").nr_wakes += 1;
        self.woken.notify_all();
    }

    fn trace(&self, event: Event) {
        note(Call::Trace(event));
        if TRACES.get() != Traces::Nothing {
            EVENTS.with_borrow_mut(|events| events.push(event));
        }
    }

    fn traces_pages(&self) -> bool {
        TRACES.get() == Traces::Pages
    }

    unsafe fn poison_pages(&self, pfn: Pfn, nr_pages: usize) {
        if let Some(memory) = &self.memory {
            let bytes = memory.frames(pfn, nr_pages);
            // SAFETY: the same facts as in `zero_pages`.
            unsafe { bytes.write_bytes(POISON, nr_pages * PAGE_SIZE) };
        }
    }

    unsafe fn find_unpoisoned(&self, pfn: Pfn, nr_pages: usize) -> Option<usize> {
        let first = self.memory.as_ref()?.frames(pfn, nr_pages).as_ptr();
        // SAFETY: 1. valid: as in `zero_pages`. 2. no writer: only the allocator uses the frames.
        let bytes = unsafe { core::slice::from_raw_parts(first, nr_pages * PAGE_SIZE) };
        bytes.iter().position(|&byte| byte != POISON)
    }

    unsafe fn zero_pages(&self, pfn: Pfn, nr_pages: usize) {
        note(Call::Zero);
        assert_eq!(IRQ_DEPTH.get(), 0, "frames are zeroed with interrupts on");
        ZEROED.with_borrow_mut(|zeroed| zeroed.extend((pfn.value()..).take(nr_pages)));
        if let Some(memory) = &self.memory {
            let bytes = memory.frames(pfn, nr_pages);
            // SAFETY: 1. valid: `frames` checked. 2. exclusive: only the allocator uses the frames,
            // which the caller guarantees.
            unsafe { bytes.write_bytes(0, nr_pages * PAGE_SIZE) };
        }
    }
}

// SAFETY: 1. valid, initialised, aligned, constant, disjoint and contiguous: `Memory` is one zeroed
// allocation in which frames are consecutive. 2. alive as long as the platform, which owns it.
unsafe impl DirectMap for Machine {
    fn frame_ptr(&self, pfn: Pfn) -> NonNull<u8> {
        self.memory.as_ref().expect("the test gave its machine memory").frames(pfn, 1)
    }
}

/// What free frames are filled with where a test asks for it.
const POISON: u8 = 0xaa;

/// The bytes of adjacent frames.
#[derive(Debug)]
struct Memory {
    start: u64,
    bytes: NonNull<u8>,
    layout: Layout,
}

// SAFETY: 1. code reaches the bytes only through frames, each of which has one owner at a time.
unsafe impl Send for Memory {}
// SAFETY: 1. the same fact as for `Send`.
unsafe impl Sync for Memory {}

impl Memory {
    fn new(start: u64, nr_frames: usize) -> Self {
        let layout = Layout::from_size_align(nr_frames * PAGE_SIZE, PAGE_SIZE);
        let layout = layout.expect("no more than a test needs");
        assert!(layout.size() > 0, "a machine with memory has a frame at least");
        // SAFETY: 1. size above zero: just checked.
        let bytes = unsafe { alloc_zeroed(layout) };
        Self { start, bytes: NonNull::new(bytes).expect("there is memory"), layout }
    }

    fn frames(&self, pfn: Pfn, nr_pages: usize) -> NonNull<u8> {
        let index = pfn.value().checked_sub(self.start).expect("a frame of the memory");
        let at = usize::try_from(index).expect("a frame of the memory") * PAGE_SIZE;
        assert!(
            at + nr_pages * PAGE_SIZE <= self.layout.size(),
            "{nr_pages} frames from {pfn} on are outside of the memory"
        );
        // SAFETY: 1. in bounds: just checked.
        unsafe { self.bytes.add(at) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: 1. allocated by `new` with this layout. 2. not used any more: the memory is being
        // dropped.
        unsafe { dealloc(self.bytes.as_ptr(), self.layout) };
    }
}
