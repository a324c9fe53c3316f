//! Slot: one per-CPU list and its counters, on a cache line of its own.

use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use crate::base::stats::ListEvents;
use crate::base::sync::{MutPtr, UnsafeCell, shared};
use crate::percpu::pcp::PcpList;

/// Holds one list on its own cache line, so that lists of different CPUs share none.
#[repr(align(64))]
pub(crate) struct Slot {
    /// Guarded by the CPU's claim.
    list: UnsafeCell<PcpList>,
    /// Written by the holder of the claim.
    pub(crate) events: ListEvents,
}

// SAFETY: 1. only the holder of the claim reaches the list (`claim-excludes`), so threads pass it
// on and never share it: `Send` suffices.
unsafe impl Sync for Slot where PcpList: Send {}

/// One of a CPU's lists, borrowed by the holder of the CPU's claim.
pub(crate) struct ListMut<'a> {
    list: MutPtr<PcpList>,
    pub(crate) events: &'a ListEvents,
    of: PhantomData<&'a mut PcpList>,
}

impl Slot {
    pub(crate) fn new(list: PcpList) -> Self {
        Self { list: UnsafeCell::new(list), events: ListEvents::new() }
    }

    /// Returns the list.
    ///
    /// # Safety
    /// - The caller holds the CPU's claim for as long as the result exists.
    /// - At most one such result exists for a CPU at a time.
    #[inline]
    pub(crate) unsafe fn hold(&self) -> ListMut<'_> {
        ListMut { list: self.list.get_mut(), events: &self.events, of: PhantomData }
    }
}

impl ListMut<'_> {
    /// Returns how many pages to keep when `nr` are taken; see [`PcpList::leftover_at`].
    #[inline]
    pub(crate) fn leftover(&self, nr: usize) -> usize {
        self.leftover_at(nr, self.events.free.get())
    }

    /// Returns how many pages the next refill takes from the zone; see [`PcpList::next_refill_at`].
    pub(crate) fn next_refill(&mut self) -> usize {
        let freed = self.events.free.get();
        self.next_refill_at(freed)
    }
}

impl Deref for ListMut<'_> {
    type Target = PcpList;

    #[inline]
    fn deref(&self) -> &PcpList {
        // SAFETY: 1. no unique reference: only the holder of the claim reaches the list
        // (`claim-excludes`), and `self` is borrowed. 2. alive: lists live as long as their CPU.
        unsafe { shared(&self.list) }
    }
}

impl DerefMut for ListMut<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut PcpList {
        // SAFETY: 1. exclusive: only the holder of the claim reaches the list (`claim-excludes`),
        // through one `ListMut` at a time, and `self` is borrowed uniquely. 2. alive: lists live as
        // long as their CPU.
        unsafe { self.list.deref() }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("events", &self.events).finish_non_exhaustive()
    }
}
