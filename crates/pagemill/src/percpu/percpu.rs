//! One CPU's lists of free pages and counters, behind the claim that guards them.

use core::fmt;
use core::hint::cold_path;

use crate::base::gfp::Gfp;
use crate::base::raw_page::{Class, ListId, RawPage};
use crate::base::stats::{ListEvents, ZoneEvents};
use crate::base::units::{CpuId, NodeId};
use crate::percpu::hot_zone::{HotZone, HotZones};
use crate::percpu::slot::{ListMut, ListOrder, Slots};
use crate::platform::claim::{Claim, Claimed};
use crate::platform::platform::Platform;
use crate::platform::trace::Event;
use crate::zone::zone::ShardHint;

/// One CPU's lists and counters.
///
/// No thread waits for the lists. A caller that finds them in use (by a preempted thread, by the
/// code that it interrupted, or by a drain) goes to the zone instead.
#[repr(align(128))]
pub(crate) struct PerCpu {
    /// Guards the lists and the counters.
    claim: Claim,
    /// The shard of each zone that this CPU takes from first.
    pub(crate) home: ShardHint,
    pub(crate) node: NodeId,
    /// Preferred list of each kind of request for the CPU's own node.
    hot_zones: &'static HotZones,
    /// Fast path for `GFP_KERNEL`. Comparing a page's class with this one avoids a chain of dependent
    /// loads on free.
    usual: HotZone,
    slots: &'static [Slots],
    /// Counters, one entry per zone.
    zone_events: &'static [ZoneEvents],
}

const _: () = assert!(size_of::<PerCpu>() == 128, "a CPU's number is shifted to its place");

/// The right to use one CPU's lists and to write its counters.
pub(crate) struct Lists<'a, P: Platform> {
    cpu: &'a PerCpu,
    _claimed: Claimed<'a>,
    platform: &'a P,
}

/// The fields of a new [`PerCpu`].
pub(crate) struct Parts {
    pub(crate) id: CpuId,
    pub(crate) home: ShardHint,
    pub(crate) node: NodeId,
    pub(crate) is_shared: bool,
    pub(crate) hot_zones: &'static HotZones,
    pub(crate) slots: &'static [Slots],
    pub(crate) zone_events: &'static [ZoneEvents],
}

impl PerCpu {
    /// The flags of most requests, from kernels, drivers and servers.
    const USUAL: Gfp = Gfp::KERNEL;

    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { id, home, node, is_shared, hot_zones, slots, zone_events } = parts;
        assert!(hot_zones.are_within(slots), "hot zones of another CPU");
        let claim = if is_shared { Claim::shared(id) } else { Claim::new(id) };
        let usual = hot_zones.of(Self::USUAL).clone();
        Self { claim, home, node, hot_zones, usual, slots, zone_events }
    }

    /// Copies the zones' current watermarks; the caller must be the only writer.
    pub(crate) fn renew_hot_zones(&self) {
        self.usual.renew();
        self.hot_zones.renew();
    }

    /// Yields the copied limit of each hot zone, and the limit that it is a copy of.
    pub(crate) fn limits(&self) -> impl Iterator<Item = (u64, u64)> {
        core::iter::once(self.usual.limits()).chain(self.hot_zones.limits())
    }

    /// Closes the lists for good.
    pub(crate) fn seize(&self) {
        self.claim.seize();
    }

    /// Takes the lists unless they are in use; the caller is pinned to this CPU.
    #[inline]
    pub(crate) fn try_lock<'a, P: Platform>(&'a self, platform: &'a P) -> Option<Lists<'a, P>> {
        // SAFETY: 1. only the platform's two methods take the claim, and `Claim::try_take` once it
        // is shared.
        match unsafe { platform.try_claim(&self.claim) } {
            Some(claimed) => Some(self.lists(claimed, platform)),
            None => self.try_lock_shared(platform),
        }
    }

    /// Takes the lists as [`try_lock`](Self::try_lock) does, but returns `None` if several CPUs share
    /// them. Fast paths use it because it makes no call that returns, and so needs no stack frame.
    #[inline]
    pub(crate) fn try_lock_at_once<'a, P: Platform>(
        &'a self,
        platform: &'a P,
    ) -> Option<Lists<'a, P>> {
        // SAFETY: 1. only the platform's two methods take the claim, and `Claim::try_take` once it
        // is shared.
        let claimed = unsafe { platform.try_claim(&self.claim) }?;
        Some(self.lists(claimed, platform))
    }

    /// Takes the lists, from any CPU, unless they are in use.
    pub(crate) fn try_visit<'a, P: Platform>(&'a self, platform: &'a P) -> Option<Lists<'a, P>> {
        // SAFETY: 1. only the platform's two methods take the claim, and `Claim::try_take` once it
        // is shared.
        match unsafe { platform.try_visit(&self.claim) } {
            Some(claimed) => Some(self.lists(claimed, platform)),
            None => self.try_lock_shared(platform),
        }
    }

    /// Takes lists that are shared: by several CPUs, which not every platform can tell apart, or
    /// because a fence was refused.
    #[cold]
    #[inline(never)]
    fn try_lock_shared<'a, P: Platform>(&'a self, platform: &'a P) -> Option<Lists<'a, P>> {
        platform.claim_failed(&self.claim);
        if !self.claim.is_shared() {
            return None;
        }
        self.claim.try_take().map(|claimed| self.lists(claimed, platform))
    }

    #[inline]
    fn lists<'a, P: Platform>(&'a self, claimed: Claimed<'a>, platform: &'a P) -> Lists<'a, P> {
        debug_assert!(self.claim.is_of(&claimed), "the platform claims other lists");
        platform.trace(Event::ListsLocked);
        Lists { cpu: self, _claimed: claimed, platform }
    }

    /// Returns the preferred list of a request for the CPU's own node.
    #[inline]
    pub(crate) fn hot_zone(&self, gfp: Gfp) -> &HotZone {
        // The flags are mostly constants, so the compiler evaluates this comparison.
        let is_usual = gfp.intersection(Gfp::HOT_ZONE) == Self::USUAL.intersection(Gfp::HOT_ZONE);
        if is_usual { &self.usual } else { self.hot_zones.of(gfp) }
    }

    /// Returns whether `page` returns to this CPU's usual list and is not charged.
    #[inline]
    pub(crate) fn is_usual(&self, page: RawPage) -> bool {
        self.usual.class.difference(Some(page)).is_none()
    }

    /// Returns the order of `block` among those with lists, if it returns to one of the usual lists of
    /// this CPU and is not charged.
    #[inline]
    pub(crate) fn usual_order(&self, block: RawPage) -> Option<ListOrder> {
        let is_usual = self.usual.class.difference(Some(block)).is_only_order();
        if is_usual { ListOrder::of(block.order()) } else { None }
    }

    /// Yields the lists, those of single pages before those of larger blocks of the same zone and
    /// migrate type.
    pub(crate) fn list_ids(&self) -> impl Iterator<Item = (ListId, ListOrder)> + use<> {
        let lists = ListId::all(self.zone_events.len());
        lists.flat_map(|list| ListOrder::all().map(move |order| (list, order)))
    }

    /// Yields the counters of each list, for reading.
    pub(crate) fn list_events(
        &self,
    ) -> impl Iterator<Item = (ListId, ListOrder, &'static ListEvents)> {
        let slots = self.slots.iter().flatten();
        self.list_ids().zip(slots).map(|((list, order), slot)| (list, order, &slot.events))
    }

    /// Returns the counters by zone, for reading.
    pub(crate) fn zone_events(&self) -> &'static [ZoneEvents] {
        self.zone_events
    }
}

impl<P: Platform> Lists<'_, P> {
    /// Returns the CPU.
    #[inline]
    pub(crate) fn cpu(&self) -> CpuId {
        self.cpu.claim.cpu()
    }

    /// Returns a list of single pages.
    #[inline]
    pub(crate) fn list(&mut self, id: ListId) -> ListMut<'_> {
        self.block_list(id, ListOrder::PAGES)
    }

    /// Returns a list of blocks of an order.
    #[inline]
    pub(crate) fn block_list(&mut self, id: ListId, order: ListOrder) -> ListMut<'_> {
        // SAFETY: 1. held: the CPU's claim is. 2. one at a time: this is borrowed for as long.
        unsafe { self.cpu.slots[id.index()][order.index()].hold() }
    }

    /// Returns the list that single pages of `class` return to.
    #[inline]
    pub(crate) fn list_for(&mut self, class: Class) -> ListMut<'_> {
        if class != self.cpu.usual.class {
            cold_path();
            return self.list(class.list());
        }
        self.usual_list()
    }

    /// Returns the CPU's usual list of single pages.
    #[inline]
    pub(crate) fn usual_list(&mut self) -> ListMut<'_> {
        self.usual_block_list(ListOrder::PAGES)
    }

    /// Returns the CPU's usual list of blocks of an order.
    #[inline]
    pub(crate) fn usual_block_list(&mut self, order: ListOrder) -> ListMut<'_> {
        // SAFETY: 1. held: the CPU's claim is; `PerCpu::new` checked that the list is the CPU's. 2.
        // one at a time: this is borrowed for as long.
        unsafe { self.cpu.usual.slots[order.index()].hold() }
    }

    /// Returns the list of single pages of the hot zone of a request.
    #[inline]
    pub(crate) fn hot_list(&mut self, gfp: Gfp) -> ListMut<'_> {
        self.hot_block_list(gfp, ListOrder::PAGES)
    }

    /// Returns the list of blocks of an order of the hot zone of a request.
    #[inline]
    pub(crate) fn hot_block_list(&mut self, gfp: Gfp, order: ListOrder) -> ListMut<'_> {
        // SAFETY: 1. and 2. as in `usual_block_list`.
        unsafe { self.cpu.hot_zone(gfp).slots[order.index()].hold() }
    }

    /// Returns which shards of zones are the CPU's own.
    #[inline]
    pub(crate) fn home(&self) -> ShardHint {
        self.cpu.home
    }

    /// Returns the counters of zone `index`, which the holder may write.
    #[inline]
    pub(crate) fn zone_events(&self, index: usize) -> &'static ZoneEvents {
        &self.cpu.zone_events[index]
    }
}

impl<P: Platform> Drop for Lists<'_, P> {
    #[inline]
    fn drop(&mut self) {
        self.platform.trace(Event::ListsUnlocked);
    }
}

impl fmt::Debug for PerCpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerCpu").field("claim", &self.claim).finish_non_exhaustive()
    }
}
