//! What belongs to one CPU: its lists of free pages and its share of the counters.

use core::fmt;

use crate::pcp::PcpList;
use crate::stats::ZoneEvents;
use crate::sync::{Lock, LockGuard};
use crate::units::NodeId;

/// One CPU's lists and counters.
///
/// The lock is only ever tried: who finds it taken (by a thread that lost the CPU, by what was
/// interrupted, by a drain) goes to the zone instead.
#[repr(align(128))]
pub(crate) struct PerCpu {
    /// Guards the lists and, for writing, `events`.
    lists: Lock<&'static mut [PcpList]>,
    /// One entry for each zone.
    events: &'static [ZoneEvents],
    pub(crate) node: NodeId,
}

/// The right to use one CPU's lists and to write its counters.
pub(crate) struct Lists<'a> {
    lists: LockGuard<'a, &'static mut [PcpList]>,
    events: &'static [ZoneEvents],
}

impl PerCpu {
    pub(crate) fn new(
        node: NodeId,
        lists: &'static mut [PcpList],
        events: &'static [ZoneEvents],
    ) -> Self {
        Self { lists: Lock::new(lists), events, node }
    }

    /// Takes the lists if nobody else is using them.
    #[inline]
    pub(crate) fn try_lock(&self) -> Option<Lists<'_>> {
        Some(Lists { lists: self.lists.try_lock()?, events: self.events })
    }

    /// Returns the counters, for reading.
    pub(crate) fn events(&self) -> &'static [ZoneEvents] {
        self.events
    }
}

impl Lists<'_> {
    /// Returns the list at position `index`.
    #[inline]
    pub(crate) fn list(&mut self, index: usize) -> &mut PcpList {
        &mut self.lists[index]
    }

    /// Returns the counters of zone `index`, which the holder may write.
    #[inline]
    pub(crate) fn events(&self, index: usize) -> &'static ZoneEvents {
        &self.events[index]
    }
}

impl fmt::Debug for PerCpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerCpu").field("node", &self.node).finish_non_exhaustive()
    }
}
