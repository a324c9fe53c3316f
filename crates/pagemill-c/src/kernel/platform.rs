//! `Platform` as a table of C functions.
//!
//! `c-platform`: the functions of a table keep the rules of the header, and `frame_address` returns for each
//! frame of the memory map a page of memory that only the owner of the frame uses.

use core::ffi::{CStr, c_int, c_void};
use core::ptr;

use pagemill::debug::Event;
use pagemill::units::{CpuId, PAGE_SIZE, Pfn};
use pagemill::{Gfp, Order, Platform};

use super::types::{EventView, Table};

/// The kernel of a C table that was checked.
pub(crate) struct Machine {
    table: Table,
    /// The table's `pin`, or [`first_cpu`]: a call of either costs less than a comparison first.
    pin: unsafe extern "C" fn(*mut c_void) -> u32,
    irq_save: unsafe extern "C" fn(*mut c_void) -> usize,
    irq_restore: unsafe extern "C" fn(*mut c_void, usize),
}

// SAFETY:
// 1. The functions may be called on any CPU, with the same context: `c-platform`.
unsafe impl Send for Machine {}
// SAFETY:
// 1. As for `Send`.
unsafe impl Sync for Machine {}

/// The CPU of a machine that has one.
unsafe extern "C" fn first_cpu(_context: *mut c_void) -> u32 {
    0
}

impl Machine {
    /// Checks a table.
    ///
    /// # Errors
    /// What is wrong with it, and what is allowed.
    pub(super) fn new(table: Table) -> Result<Self, &'static str> {
        let (Some(irq_save), Some(irq_restore)) = (table.irq_save, table.irq_restore) else {
            return Err(
                "irq_save or irq_restore is null; both are required, because an interrupt \
                        handler that allocates would wait for the code that it interrupted",
            );
        };
        if table.nr_cpus == 0 {
            return Err("nr_cpus is 0; allowed is the number of CPUs");
        }
        if table.nr_cpus > 1 && table.pin.is_none() {
            return Err("pin is null; it is required if nr_cpus is above 1");
        }
        if table.pin.is_none() && table.unpin.is_some() {
            return Err("unpin is set without pin; set both or none");
        }
        if table.frame_address.is_none() && table.zero_pages.is_none() {
            return Err("frame_address and zero_pages are null; one of them is required");
        }
        if table.wait.is_some() != table.wake.is_some() {
            return Err("wait or wake is null; set both or none");
        }
        Ok(Self { table, pin: table.pin.unwrap_or(first_cpu), irq_save, irq_restore })
    }

    /// Returns the address of the bytes of a frame, or `None` if the table has no `frame_address`.
    pub(super) fn frame_address(&self, pfn: Pfn) -> Option<*mut c_void> {
        let context = self.table.context;
        self.table.frame_address.map(|address| {
            // SAFETY:
            // 1. A frame of the map: `c-platform`.
            unsafe { address(context, pfn.value()) }
        })
    }
}

impl Platform for Machine {
    fn nr_cpus(&self) -> u32 {
        self.table.nr_cpus
    }

    #[inline]
    fn pin(&self) -> CpuId {
        // SAFETY:
        // 1. `c-platform`, or `first_cpu`.
        CpuId::new(unsafe { (self.pin)(self.table.context) })
    }

    #[inline]
    fn unpin(&self) {
        if let Some(unpin) = self.table.unpin {
            // SAFETY:
            // 1. `c-platform`; after `pin`.
            unsafe { unpin(self.table.context) };
        }
    }

    #[inline]
    fn irq_save(&self) -> usize {
        // SAFETY:
        // 1. `c-platform`.
        unsafe { (self.irq_save)(self.table.context) }
    }

    #[inline]
    fn irq_restore(&self, state: usize) {
        // SAFETY:
        // 1. `c-platform`; the state is from `irq_save`.
        unsafe { (self.irq_restore)(self.table.context, state) };
    }

    fn relax(&self, spins: u32) {
        core::hint::spin_loop();
        if let Some(relax) = self.table.relax {
            // SAFETY:
            // 1. `c-platform`.
            unsafe { relax(self.table.context, spins) };
        }
    }

    fn wait(&self, still: &dyn Fn() -> bool) {
        /// Calls the closure whose address is passed.
        unsafe extern "C" fn call(still: *mut c_void) -> c_int {
            // SAFETY:
            // 1. The address of the closure below, which lives until `wait` has returned.
            let still = unsafe { &*still.cast::<&dyn Fn() -> bool>() };
            still().into()
        }
        let Some(wait) = self.table.wait else {
            if still() {
                self.relax(0);
            }
            return;
        };
        // SAFETY:
        // 1. `c-platform`: does not use the argument after it has returned.
        unsafe { wait(self.table.context, call, (&raw const still).cast_mut().cast()) };
    }

    fn wake(&self) {
        if let Some(wake) = self.table.wake {
            // SAFETY:
            // 1. `c-platform`.
            unsafe { wake(self.table.context) };
        }
    }

    #[inline(always)]
    fn trace(&self, event: Event) {
        // Those of every call cost nothing, because nobody can ask for them.
        if matches!(
            event,
            Event::ListsLocked
                | Event::ListsUnlocked
                | Event::ZoneLocked { .. }
                | Event::ZoneUnlocked { .. }
                | Event::PageAlloc { .. }
                | Event::PageFree { .. }
                | Event::PageFreeBatched { .. }
        ) {
            return;
        }
        if self.table.trace.is_some() {
            self.emit(event);
        }
    }

    unsafe fn zero_pages(&self, pfn: Pfn, nr_pages: usize) {
        let context = self.table.context;
        match (self.table.zero_pages, self.frame_address(pfn)) {
            (Some(zero_pages), _) => {
                // SAFETY:
                // 1. Frames of the map, which the caller owns: guaranteed by the caller; `c-platform`.
                unsafe { zero_pages(context, pfn.value(), nr_pages) };
            }
            (None, Some(bytes)) => {
                // SAFETY:
                // 1. Valid for writes, adjacent: `c-platform`. Owned: guaranteed by the caller.
                unsafe { ptr::write_bytes(bytes.cast::<u8>(), 0, nr_pages * PAGE_SIZE) };
            }
            (None, None) => {}
        }
    }
}

impl Machine {
    /// Passes an event to the table.
    #[cold]
    #[inline(never)]
    fn emit(&self, event: Event) {
        let Some(trace) = self.table.trace else { return };
        let view = view(event);
        // SAFETY:
        // 1. `c-platform`; the event is valid during the call.
        unsafe { trace(self.table.context, &raw const view) };
    }
}

/// Returns an event as the header has it, with Linux's name. Fields that it does not have are zero.
fn view(event: Event) -> EventView {
    let none = (None, 0, Gfp::empty(), Order::ZERO);
    let (name, (pfn, nr_pages, gfp, order)): (&CStr, (Option<Pfn>, u64, Gfp, Order)) = match event {
        Event::PageAllocZoneLocked { order, nr_pages, .. } => {
            (c"mm_page_alloc_zone_locked", (None, nr_pages as u64, Gfp::empty(), order))
        }
        Event::PagePcpuDrain { nr_pages, .. } => {
            (c"mm_page_pcpu_drain", (None, nr_pages as u64, Gfp::empty(), Order::ZERO))
        }
        Event::PageAllocExtfrag { pfn, order, .. } => {
            (c"mm_page_alloc_extfrag", (Some(pfn), 0, Gfp::empty(), order))
        }
        Event::BulkAlloc { gfp, order, got, .. } => (c"bulk_alloc", (None, got as u64, gfp, order)),
        Event::VmscanWakeupKswapd { gfp, order } => {
            (c"mm_vmscan_wakeup_kswapd", (None, 0, gfp, order))
        }
        Event::VmscanDirectReclaimBegin { gfp, order } => {
            (c"mm_vmscan_direct_reclaim_begin", (None, 0, gfp, order))
        }
        Event::VmscanDirectReclaimEnd { nr_reclaimed } => {
            (c"mm_vmscan_direct_reclaim_end", (None, nr_reclaimed, Gfp::empty(), Order::ZERO))
        }
        Event::WaitBegin => (c"wait_begin", none),
        Event::WaitEnd { .. } => (c"wait_end", none),
        _ => (c"other", none),
    };
    EventView {
        name: name.as_ptr(),
        nr_pages,
        pfn: pfn.map_or(0, Pfn::value),
        gfp: gfp.bits(),
        order: order.value().into(),
    }
}
