//! What belongs to one CPU: its lists of free pages and its share of the counters.

use core::fmt;
use core::hint::cold_path;

use crate::base::gfp::Gfp;
use crate::base::raw_page::{Class, RawPage};
use crate::base::stats::{ListEvents, ZoneEvents};
use crate::base::units::{CpuId, NodeId};
use crate::percpu::hot_zone::{HotZone, HotZones};
use crate::percpu::slot::{ListMut, Slot};
use crate::platform::claim::{Claim, Claimed};
use crate::platform::platform::Platform;
use crate::platform::trace::Event;
use crate::zone::zone::ShardHint;

/// One CPU's lists and counters.
///
/// The lists are only ever tried: who finds them in use (by a thread that lost the CPU, by what was
/// interrupted, by a drain) goes to the zone instead.
#[repr(align(128))]
pub(crate) struct PerCpu {
    /// Whose holder uses the lists and writes the counters.
    claim: Claim,
    /// Which shards of zones are its own.
    pub(crate) home: ShardHint,
    pub(crate) node: NodeId,
    /// Where requests for the CPU's own node go first.
    hot_zones: &'static HotZones,
    /// The one of them that ordinary requests take. Most pages come back to its list: to look up the list
    /// of a page is some loads, each of which waits for the page's word; to compare that with what it mostly
    /// is, nobody waits for.
    usual: HotZone,
    slots: &'static [Slot],
    /// One entry for each zone.
    zone_events: &'static [ZoneEvents],
}

const _: () = assert!(size_of::<PerCpu>() == 128, "a CPU's number is shifted to its place");

/// The right to use one CPU's lists and to write its counters.
pub(crate) struct Lists<'a, P: Platform> {
    cpu: &'a PerCpu,
    _claimed: Claimed<'a>,
    platform: &'a P,
}

/// What a CPU is made of.
pub(crate) struct Parts {
    pub(crate) id: CpuId,
    pub(crate) home: ShardHint,
    pub(crate) node: NodeId,
    pub(crate) is_shared: bool,
    pub(crate) hot_zones: &'static HotZones,
    pub(crate) slots: &'static [Slot],
    pub(crate) zone_events: &'static [ZoneEvents],
}

impl PerCpu {
    /// What requests of the kernel itself, of drivers and servers say.
    const USUAL: Gfp = Gfp::KERNEL;

    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { id, home, node, is_shared, hot_zones, slots, zone_events } = parts;
        let claim = if is_shared { Claim::shared(id) } else { Claim::new(id) };
        let usual = hot_zones.of(Self::USUAL).clone();
        Self { claim, home, node, hot_zones, usual, slots, zone_events }
    }

    /// Follows the watermarks of the zones; the caller is the only one that does.
    pub(crate) fn renew_routes(&self) {
        self.usual.renew();
        self.hot_zones.renew();
    }

    /// Closes the lists for good.
    pub(crate) fn seize(&self) {
        self.claim.seize();
    }

    /// Takes the lists if nobody else is using them; the caller is pinned to this CPU.
    #[inline]
    pub(crate) fn try_lock<'a, P: Platform>(&'a self, platform: &'a P) -> Option<Lists<'a, P>> {
        // SAFETY: 1. taken through the platform only, or never without an exchange.
        match unsafe { platform.try_claim(&self.claim) } {
            Some(claimed) => Some(self.lists(claimed, platform)),
            None => self.try_lock_shared(platform),
        }
    }

    /// Takes the lists as [`try_lock`](Self::try_lock) does, unless they are shared: for fast paths,
    /// which need no stack frame if nothing is called that returns.
    #[inline]
    pub(crate) fn try_lock_at_once<'a, P: Platform>(
        &'a self,
        platform: &'a P,
    ) -> Option<Lists<'a, P>> {
        // SAFETY: 1. taken through the platform only, or never without an exchange.
        let claimed = unsafe { platform.try_claim(&self.claim) }?;
        Some(self.lists(claimed, platform))
    }

    /// Takes the lists if nobody else is using them, from any CPU.
    pub(crate) fn try_visit<'a, P: Platform>(&'a self, platform: &'a P) -> Option<Lists<'a, P>> {
        // SAFETY: 1. taken through the platform only, or never without an exchange.
        match unsafe { platform.try_visit(&self.claim) } {
            Some(claimed) => Some(self.lists(claimed, platform)),
            None => self.try_lock_shared(platform),
        }
    }

    /// Takes the lists after all if they are shared: by several CPUs, which not every platform can
    /// tell apart, or because a fence was refused.
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

    /// Returns where a request for the CPU's own node goes first.
    #[inline]
    pub(crate) fn hot_zone(&'static self, gfp: Gfp) -> &'static HotZone {
        // Mostly known when the caller is compiled.
        let is_usual = gfp.intersection(Gfp::HOT_ZONE) == Self::USUAL.intersection(Gfp::HOT_ZONE);
        if is_usual { &self.usual } else { self.hot_zones.of(gfp) }
    }

    /// Returns the place of the list that a page returns to, if it is one of those that this CPU mostly
    /// frees, and not charged.
    #[inline]
    pub(crate) fn usual_slot(&self, page: RawPage) -> Option<&'static Slot> {
        let &HotZone { class, slot, .. } = &self.usual;
        class.difference(Some(page)).is_none().then_some(slot)
    }

    /// Returns the number of lists.
    pub(crate) fn nr_lists(&self) -> usize {
        self.slots.len()
    }

    /// Yields the counters of each list, for reading.
    pub(crate) fn list_events(&self) -> impl Iterator<Item = &'static ListEvents> {
        self.slots.iter().map(|slot| &slot.events)
    }

    /// Returns the counters by zone, for reading.
    pub(crate) fn zone_events(&self) -> &'static [ZoneEvents] {
        self.zone_events
    }
}

impl<P: Platform> Lists<'_, P> {
    /// Returns the list at position `index`.
    #[inline]
    pub(crate) fn list(&mut self, index: usize) -> ListMut<'_> {
        // SAFETY: 1. held: the CPU's claim is. 2. one at a time: this is borrowed for as long.
        unsafe { self.cpu.slots[index].hold() }
    }

    /// Returns the list that pages of a class return to.
    #[inline]
    pub(crate) fn list_for(&mut self, class: Class) -> ListMut<'_> {
        let &HotZone { class: usual, slot, .. } = &self.cpu.usual;
        if class != usual {
            cold_path();
            return self.list(class.list().index());
        }
        // SAFETY: 1. of this CPU.
        unsafe { self.list_at(slot) }
    }

    /// Returns the list in a slot.
    ///
    /// # Safety
    /// The slot is one of this CPU's.
    #[inline]
    pub(crate) unsafe fn list_at(&mut self, slot: &'static Slot) -> ListMut<'_> {
        debug_assert!(
            self.cpu.slots.as_ptr_range().contains(&core::ptr::from_ref(slot)),
            "a list of another CPU"
        );
        // SAFETY: 1. held: the CPU's claim is, and the slot is the CPU's: the caller's obligation.
        // 2. one at a time: this is borrowed for as long.
        unsafe { slot.hold() }
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
