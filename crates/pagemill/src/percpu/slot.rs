//! Slot: one per-CPU list and its counters, on a cache line of its own; which orders have a list.

use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use crate::base::raw_page::RawPage;
use crate::base::stats::ListEvents;
use crate::base::sync::{MutPtr, UnsafeCell, shared};
use crate::base::units::{MAX_ORDER, Order};
use crate::percpu::pcp::PcpList;

/// An order whose blocks have per-CPU lists.
///
/// # Source
/// `linux-6.12` `mm/page_alloc.c` `pcp_allowed_order`: orders up to `PAGE_ALLOC_COSTLY_ORDER`, and that
/// of a huge page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListOrder(u8);

/// Number of orders whose blocks have per-CPU lists.
pub(crate) const NR_LIST_ORDERS: usize = LIST_ORDERS.len();

const LIST_ORDERS: [u8; 5] = [0, 1, 2, 3, 9];

/// The lists of one zone and migrate type, by [`ListOrder`].
pub(crate) type Slots = [Slot; NR_LIST_ORDERS];

impl ListOrder {
    /// Single pages.
    pub(crate) const PAGES: Self = Self(0);

    /// Returns `order` as one whose blocks have lists, or `None` if they have none.
    #[inline]
    pub(crate) const fn of(order: Order) -> Option<Self> {
        const NONE: u8 = u8::MAX;
        const POSITIONS: [u8; 16] = {
            let mut positions = [NONE; 16];
            let mut position = 0;
            while position < NR_LIST_ORDERS {
                #[expect(clippy::cast_possible_truncation, reason = "there are five")]
                let number = position as u8;
                positions[LIST_ORDERS[position] as usize] = number;
                position += 1;
            }
            positions
        };
        const { assert!(MAX_ORDER.value() < 16) };
        match POSITIONS[order.value() as usize & 15] {
            NONE => None,
            position => Some(Self(position)),
        }
    }

    /// Yields all of them, single pages first.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..).map(Self).take(NR_LIST_ORDERS)
    }

    /// Returns the order of the blocks.
    pub(crate) fn order(self) -> Order {
        Order::new(LIST_ORDERS[self.index()]).expect("all of them are orders")
    }

    /// Returns its position among the lists of a zone and migrate type.
    #[inline]
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }
}

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
    /// Takes the page or block that was freed last, and counts it as allocated.
    #[inline]
    pub(crate) fn pop_counted(&mut self) -> Option<RawPage> {
        let block = self.pop()?;
        self.events.alloc.add(1);
        Some(block)
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_orders_with_lists_are_those_of_linux() {
        assert!(Order::all().filter_map(ListOrder::of).eq(ListOrder::all()));
        let orders = ListOrder::all().map(|order| order.order().value());
        assert!(orders.eq([0, 1, 2, 3, 9]));
    }
}
