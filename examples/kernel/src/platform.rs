//! What pagemill asks of the machine.

use core::ptr::NonNull;

use pagemill::Platform;
use pagemill::machine::DirectMap;
use pagemill::units::{CpuId, PAGE_SIZE, Pfn};

use crate::cpu::{self, IrqState};
use crate::{direct_map, watch};

/// This machine.
#[derive(Debug)]
pub(crate) struct Machine {
    nr_cpus: u32,
}

impl Machine {
    /// Describes a machine of `nr_cpus` CPUs.
    pub(crate) const fn new(nr_cpus: u32) -> Self {
        Self { nr_cpus }
    }
}

impl Platform for Machine {
    fn nr_cpus(&self) -> u32 {
        self.nr_cpus
    }

    /// Nothing takes a CPU away from its thread here, so there is nothing to keep off and nothing
    /// for `unpin` to do. A kernel that preempts counts up what its scheduler looks at.
    #[inline]
    fn pin(&self) -> CpuId {
        CpuId::new(cpu::number())
    }

    #[inline]
    fn irq_save(&self) -> usize {
        if watch::is_on() { watch::irq_save().0 } else { cpu::irq_save().0 }
    }

    #[inline]
    fn irq_restore(&self, state: usize) {
        if watch::is_on() {
            watch::before_irq_restore(IrqState(state));
        }
        cpu::irq_restore(IrqState(state));
    }

    unsafe fn zero_pages(&self, pfn: Pfn, nr_pages: usize) {
        // SAFETY: 1. writable: `direct-map`; frames that follow each other are mapped one behind
        // the other. 2. owned: the caller's obligation. 3. zeroes are valid bytes.
        unsafe { self.frame_ptr(pfn).write_bytes(0, nr_pages * PAGE_SIZE) };
    }
}

// SAFETY: What the trait asks of `frame_ptr`, for every frame of the map:
// 1. PAGE_SIZE initialised bytes, readable and writable, for good: `direct-map`; memory always
//    holds some bytes, and these were never the compiler's.
// 2. Aligned, always the same, disjoint, in the order of the frames: a constant plus the address.
unsafe impl DirectMap for Machine {
    #[inline]
    fn frame_ptr(&self, pfn: Pfn) -> NonNull<u8> {
        direct_map::pointer(pfn.start().value())
    }
}
