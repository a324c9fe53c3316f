//! Platform over heap memory: a CPU number for each thread, and simulated interrupts.

use alloc::alloc::{alloc_zeroed, dealloc};
use core::alloc::Layout;
use core::cell::Cell;
use core::mem;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use pagemill::{CpuId, DirectMap, PAGE_SIZE, Pfn, Platform};

#[expect(clippy::disallowed_types, reason = "not part of the core: loom has no business here")]
type Flag = core::sync::atomic::AtomicBool;

/// What runs where a CPU can be interrupted.
type Interrupt = *mut dyn FnMut();

thread_local! {
    static CPU: Cell<u32> = const { Cell::new(0) };
    static IRQ_DEPTH: Cell<usize> = const { Cell::new(0) };
    static INTERRUPT: Cell<Option<Interrupt>> = const { Cell::new(None) };
}

/// A machine with CPUs, and with memory if a test looks at bytes.
#[derive(Debug)]
pub struct Machine {
    nr_cpus: u32,
    memory: Option<Memory>,
    is_abandoned: Flag,
}

/// Makes this thread run on CPU `cpu` from now on; it is CPU 0 before.
pub fn set_cpu(cpu: u32) {
    CPU.set(cpu);
}

/// Tells whether this thread keeps interrupts away.
#[must_use]
pub fn interrupts_are_off() -> bool {
    IRQ_DEPTH.get() > 0
}

/// Runs `body`, with `handler` interrupting this thread just before it keeps interrupts away. The
/// handler is not interrupted itself.
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
    /// Makes a machine whose frames have `nr_frames` times [`PAGE_SIZE`] bytes from `start` on.
    ///
    /// # Panics
    /// If there are no frames, or no memory for them.
    #[must_use]
    pub fn new(nr_cpus: u32, start: Pfn, nr_frames: usize) -> Self {
        let memory = Some(Memory::new(start, nr_frames));
        Self { nr_cpus, memory, is_abandoned: Flag::new(false) }
    }

    /// Makes a machine whose frames have no bytes.
    #[must_use]
    pub fn without_memory(nr_cpus: u32) -> Self {
        Self { nr_cpus, memory: None, is_abandoned: Flag::new(false) }
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
        CpuId::new(CPU.get())
    }

    fn irq_save(&self) -> usize {
        let before = IRQ_DEPTH.get();
        if before == 0 {
            interrupt();
        }
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

    fn relax(&self, _spins: u32) {
        assert!(!self.is_abandoned(), "a child waits for a thread that it does not have");
        std::thread::yield_now();
    }

    unsafe fn zero_pages(&self, pfn: Pfn, nr_pages: usize) {
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

/// The bytes of adjacent frames.
#[derive(Debug)]
struct Memory {
    start: Pfn,
    bytes: NonNull<u8>,
    layout: Layout,
}

// SAFETY: 1. code reaches the bytes only through frames, each of which has one owner at a time.
unsafe impl Send for Memory {}
// SAFETY: 1. the same fact as for `Send`.
unsafe impl Sync for Memory {}

impl Memory {
    fn new(start: Pfn, nr_frames: usize) -> Self {
        let layout = Layout::from_size_align(nr_frames * PAGE_SIZE, PAGE_SIZE);
        let layout = layout.expect("no more than a test needs");
        assert!(layout.size() > 0, "a machine with memory has a frame at least");
        // SAFETY: 1. size above zero: just checked.
        let bytes = unsafe { alloc_zeroed(layout) };
        Self { start, bytes: NonNull::new(bytes).expect("there is memory"), layout }
    }

    fn frames(&self, pfn: Pfn, nr_pages: usize) -> NonNull<u8> {
        let index = pfn.value().checked_sub(self.start.value()).expect("a frame of the memory");
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
