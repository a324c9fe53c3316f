//! Request context: the CPU that makes a request, and the zones and nodes that may serve it.

use core::hint::cold_path;

use crate::base::gfp::{Gfp, ZoneKind};
use crate::base::migratetype::MigrateType;
use crate::base::policy::{NodeMask, Policy};
use crate::base::units::{NodeId, Order};
use crate::page_alloc::allocator::PageAllocator;
use crate::percpu::hot_zone::HotZone;
use crate::percpu::percpu::{Lists, PerCpu};
use crate::platform::platform::Platform;
use crate::zone::watermark::Mark;
use crate::zone::zone::{ShardHint, Zone};
use crate::zone::zonelist::{ZoneList, position};

/// The zones and nodes that may serve a request.
#[derive(Clone, Copy)]
pub(crate) struct AllocContext {
    pub(crate) migratetype: MigrateType,
    pub(crate) highest: ZoneKind,
    zones: &'static [u16],
    /// Nodes that may serve the request.
    pub(crate) nodes: NodeMask,
    /// Node of the requesting CPU, and the CPU's index there.
    pub(crate) local: NodeId,
    pub(crate) home: ShardHint,
}

/// The CPU that the caller is pinned to, as far as the platform can pin.
pub(crate) struct Pinned<'a, P: Platform> {
    allocator: &'a PageAllocator<P>,
    cpu: &'static PerCpu,
}

impl<P: Platform> PageAllocator<P> {
    /// Returns the node of the CPU that runs the caller, as far as the platform can tell.
    #[must_use]
    pub fn local_node(&self) -> NodeId {
        self.pin().cpu().node
    }

    /// Returns `node` if the allocator has it, else [`local_node`](Self::local_node).
    ///
    /// For node numbers from elsewhere, such as the firmware's number for a device: calls that name a node
    /// panic if the allocator does not have it, because a wrong number is usually a bug.
    ///
    /// # Examples
    /// ```
    /// # use pagemill::source::PageSource;
    /// # use pagemill::units::NodeId;
    /// # use pagemill::{AllocPages, Gfp, Page};
    /// # fn example<S: AllocPages + Copy>(frames: S, of_device: NodeId) -> Option<Page<S>> {
    /// let node = frames.allocator().node_or_local(of_device);
    /// frames.alloc_page_node(node, Gfp::KERNEL)
    /// # }
    /// ```
    ///
    /// # Source
    /// `linux-6.12` `mm/mempolicy.c` `numa_map_to_online_node`. Differs: the node of the caller's CPU,
    /// not the nearest one to an absent node, whose distances are unknown here.
    #[must_use]
    pub fn node_or_local(&self, node: NodeId) -> NodeId {
        if node.index() < self.nr_nodes() { node } else { self.local_node() }
    }

    #[inline]
    pub(crate) fn pin(&self) -> Pinned<'_, P> {
        let number = self.platform().pin().value() as usize;
        // Read after pinning, which may be a call, so that the value need not be saved across it.
        let cpus = self.tables.cpus;
        let cpu = cpus.get(number).unwrap_or_else(|| wrapped(cpus, number));
        Pinned { allocator: self, cpu }
    }

    /// Does what [`pin`](Self::pin) does, but returns `None` for a CPU that has no lists of its own. Makes no
    /// call that returns, unless the platform does.
    #[inline]
    pub(crate) fn pin_at_once(&self) -> Option<Pinned<'_, P>> {
        let number = self.platform().pin().value() as usize;
        match self.tables.cpus.get(number) {
            Some(cpu) => Some(Pinned { allocator: self, cpu }),
            None => {
                cold_path();
                self.platform().unpin();
                None
            }
        }
    }

    /// Prepares a request by the pinned CPU, for `node` or for the CPU's own node.
    ///
    /// # Panics
    /// If `node` is neither a node of the map nor of a CPU.
    #[inline]
    pub(crate) fn context(
        &self,
        pinned: &Pinned<'_, P>,
        gfp: Gfp,
        node: Option<NodeId>,
    ) -> AllocContext {
        let local = pinned.cpu.node;
        let highest = gfp.highest_zone();
        let node = node.unwrap_or(local);
        let zones = self.zonelist(node, highest).zones();
        let nodes = if gfp.contains(Gfp::THISNODE) { NodeMask::of(&[node]) } else { NodeMask::ALL };
        let home = pinned.cpu.home;
        AllocContext { migratetype: gfp.migratetype(), highest, zones, nodes, local, home }
    }

    #[inline]
    fn zonelist(&self, node: NodeId, highest: ZoneKind) -> &'static ZoneList {
        match self.tables.zonelists.get(position(node, highest)) {
            Some(list) => list,
            None => unknown_node(node, self.nr_nodes()),
        }
    }

    /// Yields the zones that may serve a request, best first.
    #[inline]
    pub(crate) fn eligible(
        &self,
        context: &AllocContext,
    ) -> impl Iterator<Item = &'static Zone> + use<'_, P> {
        let nodes = context.nodes;
        let zones = context.zones.iter().map(|&index| self.zone(usize::from(index)));
        zones.filter(move |zone| nodes.contains(zone.facts.node))
    }

    /// Prepares a request that all of a policy's nodes may serve.
    pub(crate) fn context_for(&self, gfp: Gfp, policy: &Policy<'_>) -> AllocContext {
        let pinned = self.pin();
        let this_node = gfp.contains(Gfp::THISNODE);
        let nodes = if this_node { policy.nodes_named(pinned.cpu.node) } else { policy.nodes() };
        self.context(&pinned, gfp.difference(Gfp::THISNODE), None).on(nodes)
    }

    /// Returns an upper limit on the blocks of `order` that a request's zones could give down to `mark`
    /// if no page were in use. Ignores the holes of a zone, which may rule some out.
    pub(crate) fn most(&self, context: &AllocContext, order: Order, mark: Mark) -> u64 {
        let spare = |zone: &Zone| {
            // Counts reserved frames, which may be handed in later.
            zone.marks.spare(zone.facts.present, mark, context.highest)
        };
        self.eligible(context).map(|zone| spare(zone) >> order.value()).sum()
    }

    /// Checks a node that the caller of a public function names.
    ///
    /// # Panics
    /// If it is neither a node of the map nor of a CPU.
    #[inline]
    #[track_caller]
    pub(crate) fn check_node(&self, node: NodeId) {
        if node.index() >= self.nr_nodes() {
            unknown_node(node, self.nr_nodes());
        }
    }

    /// Checks the nodes that a policy interleaves over or binds to.
    ///
    /// # Panics
    /// If one of them is neither a node of the map nor of a CPU.
    #[track_caller]
    pub(crate) fn check_nodes(&self, policy: &Policy<'_>) {
        let last = match *policy {
            Policy::Preferred(node) => Some(node),
            Policy::Interleave(nodes, _) | Policy::WeightedInterleave(nodes, ..) => nodes.last(),
            _ => None,
        };
        if let Some(node) = last {
            self.check_node(node);
        }
    }

    /// Returns the nodes of the zones that may serve a request.
    pub(crate) fn nodes_of(&self, context: &AllocContext) -> NodeMask {
        self.eligible(context).fold(NodeMask::NONE, |nodes, zone| nodes.with(zone.facts.node))
    }

    /// Returns the node of a request's preferred zone.
    #[inline]
    pub(crate) fn preferred(&self, context: &AllocContext) -> Option<NodeId> {
        context.zones.first().map(|&index| self.zone(usize::from(index)).facts.node)
    }
}

impl<'a, P: Platform> Pinned<'a, P> {
    #[inline]
    pub(crate) fn cpu(&self) -> &'static PerCpu {
        self.cpu
    }

    /// Takes the CPU's lists unless they are in use.
    #[inline]
    pub(crate) fn lists(&self) -> Option<Lists<'a, P>> {
        self.cpu.try_lock(self.allocator.platform())
    }

    /// Takes the CPU's lists as [`lists`](Self::lists) does, but returns `None` if they are shared.
    #[inline]
    pub(crate) fn lists_at_once(&self) -> Option<Lists<'a, P>> {
        self.cpu.try_lock_at_once(self.allocator.platform())
    }

    /// Returns the hot zone of a request that prefers `node`, or the CPU's own node; `None` if `node`
    /// is another.
    #[inline]
    pub(crate) fn hot_zone(&self, gfp: Gfp, node: Option<NodeId>) -> Option<&'static HotZone> {
        if node.is_some_and(|node| node != self.cpu.node) {
            return None;
        }
        Some(self.cpu.hot_zone(gfp))
    }
}

impl<P: Platform> Drop for Pinned<'_, P> {
    #[inline]
    fn drop(&mut self) {
        self.allocator.platform().unpin();
    }
}

impl AllocContext {
    /// Returns the same request, restricted to `nodes`.
    #[inline]
    pub(crate) fn on(self, nodes: NodeMask) -> Self {
        Self { nodes: self.nodes.and(nodes), ..self }
    }
}

/// Returns the lists of CPU `number` where CPUs share lists because there are fewer lists than CPUs.
#[cold]
#[inline(never)]
fn wrapped(cpus: &'static [PerCpu], number: usize) -> &'static PerCpu {
    &cpus[number % cpus.len()]
}

#[cold]
#[track_caller]
fn unknown_node(node: NodeId, nr_nodes: usize) -> ! {
    panic!("unknown node {node}: this allocator has nodes 0 to {}", nr_nodes - 1)
}
