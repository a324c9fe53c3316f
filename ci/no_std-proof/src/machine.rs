//! The machine: one static allocator, and a console that is a volatile byte.

use core::fmt::{self, Write};
use core::hint::black_box;
use core::ptr::NonNull;

use pagemill::Platform;
use pagemill::machine::DirectMap;
use pagemill::units::{CpuId, PAGE_SHIFT, PAGE_SIZE, Pfn};

pagemill::static_allocator! {
    /// The allocator.
    pub static ALLOCATOR: Machine;
    /// Where pages come from.
    pub type Source;
}

/// A machine whose memory is mapped at an address that nothing knows.
pub struct Machine {
    /// Where frame zero is mapped.
    pub base: NonNull<u8>,
}

// SAFETY: the address is a number here; what it points to is used through owned frames only.
unsafe impl Send for Machine {}
// SAFETY: as above.
unsafe impl Sync for Machine {}

impl Platform for Machine {
    fn nr_cpus(&self) -> u32 {
        black_box(1)
    }

    fn pin(&self) -> CpuId {
        CpuId::new(black_box(0))
    }

    fn irq_save(&self) -> usize {
        black_box(0)
    }

    fn irq_restore(&self, state: usize) {
        black_box(state);
    }

    unsafe fn zero_pages(&self, pfn: Pfn, nr_pages: usize) {
        // SAFETY: the frames are mapped and the caller's.
        unsafe { self.frame_ptr(pfn).write_bytes(0, nr_pages * PAGE_SIZE) };
    }
}

// SAFETY: the base plus the frame's address, for every frame; whoever makes a `Machine` maps them.
unsafe impl DirectMap for Machine {
    fn frame_ptr(&self, pfn: Pfn) -> NonNull<u8> {
        let offset = (pfn.value() << PAGE_SHIFT) as usize;
        self.base.map_addr(|base| base.saturating_add(offset))
    }
}

/// Prints on the console.
pub fn print(message: fmt::Arguments<'_>) {
    let _ = Console.write_fmt(message);
}

struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        black_box(text);
        Ok(())
    }
}
