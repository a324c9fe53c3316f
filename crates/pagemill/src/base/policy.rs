//! NUMA policies: the nodes on which a request's pages are allocated.

use core::cell::Cell;

use crate::base::units::{MAX_NR_NODES, NodeId};

/// A set of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeMask(u64);

impl NodeMask {
    /// Every node.
    pub const ALL: Self = Self(u64::MAX);
    /// No node.
    pub const NONE: Self = Self(0);

    /// Makes the set of `nodes`.
    ///
    /// # Panics
    /// If a node is not below [`MAX_NR_NODES`].
    #[must_use]
    #[track_caller]
    pub const fn of(nodes: &[NodeId]) -> Self {
        let mut mask = 0;
        let mut index = 0;
        while index < nodes.len() {
            assert!(nodes[index].index() < MAX_NR_NODES, "the node does not fit a mask");
            mask |= 1 << nodes[index].index();
            index += 1;
        }
        Self(mask)
    }

    /// Returns whether `node` is in the set.
    #[inline]
    #[must_use]
    pub const fn contains(self, node: NodeId) -> bool {
        node.index() < MAX_NR_NODES && self.0 >> node.index() & 1 != 0
    }

    /// Returns the set with one more node.
    ///
    /// # Panics
    /// If `node` is not below [`MAX_NR_NODES`].
    #[inline]
    #[must_use]
    pub(crate) const fn with(self, node: NodeId) -> Self {
        Self(self.0 | Self::of(&[node]).0)
    }

    /// Returns the nodes that are in both sets.
    #[inline]
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the number of nodes.
    #[must_use]
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Returns the highest node.
    pub(crate) fn last(self) -> Option<NodeId> {
        let number = u8::try_from(self.0.checked_ilog2()?).ok()?;
        Some(NodeId::new(number))
    }

    /// Yields the nodes, lowest first.
    pub fn iter(self) -> impl Iterator<Item = NodeId> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let node = NodeId::new(u8::try_from(rest.trailing_zeros()).ok()?);
            (rest != 0).then(|| {
                rest &= rest - 1;
                node
            })
        })
    }

    /// Returns the next node of the set after `node`, starting again after the last one.
    fn next_after(self, node: Option<NodeId>) -> Option<NodeId> {
        let up_to = |node: NodeId| u64::MAX >> (MAX_NR_NODES - 1 - node.index());
        let behind = node.map_or(u64::MAX, |node| !up_to(node));
        Self(self.0 & behind).iter().next().or_else(|| self.iter().next())
    }
}

/// The position of an interleaving caller; each caller has its own.
#[derive(Debug, Default)]
pub struct InterleaveCursor {
    last: Cell<Option<NodeId>>,
    /// With weights, the pages that `last` has yet to get.
    left: Cell<usize>,
}

/// The nodes on which a request's pages are allocated.
///
/// # Source
/// `linux-6.12` `mm/mempolicy.c`. Differs: a policy belongs to a request, not to a task.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub enum Policy<'a> {
    /// The caller's node, else the nearest.
    #[default]
    Local,
    /// This node, else the nearest to it.
    Preferred(NodeId),
    /// The nearest of these nodes that has room, for each request; else any node.
    PreferredMany(NodeMask),
    /// These nodes and no others.
    Bind(NodeMask),
    /// Spread evenly over these nodes; else any node.
    Interleave(NodeMask, &'a InterleaveCursor),
    /// Spread over these nodes in proportion to their weights, by node number; else any node. A node
    /// without a weight, or of weight zero, counts as one of weight 1.
    WeightedInterleave(NodeMask, &'a [u8], &'a InterleaveCursor),
}

/// A part of a request that is served by one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// The preferred node; `None` for the caller's.
    pub(crate) node: Option<NodeId>,
    /// The nodes that may serve it.
    pub(crate) nodes: NodeMask,
    /// Blocks to allocate.
    pub(crate) nr: usize,
}

impl Policy<'_> {
    /// Returns the nodes of a request that stays on those that the policy names, or on the local one if
    /// it names none, as with [`Gfp::THISNODE`](crate::Gfp::THISNODE).
    pub(crate) fn nodes_named(&self, local: NodeId) -> NodeMask {
        let only = |node| NodeMask::NONE.with(node);
        match *self {
            Self::Local => only(local),
            Self::Preferred(node) => only(node),
            Self::PreferredMany(nodes) | Self::Bind(nodes) => nodes.and(only(local)),
            Self::Interleave(nodes, _) | Self::WeightedInterleave(nodes, ..) => {
                if nodes.is_empty() { only(local) } else { nodes }
            }
        }
    }

    /// Returns the nodes that may serve a request: all, if the policy only prefers its nodes.
    pub(crate) fn nodes(&self) -> NodeMask {
        match *self {
            Self::Bind(nodes) => nodes,
            _ => NodeMask::ALL,
        }
    }

    /// Divides the `nr` blocks of a request among nodes.
    pub(crate) fn deal(&self, nr: usize) -> Deal<'_> {
        let mut deal = Deal {
            policy: *self,
            left: nr,
            nodes_left: 1,
            rounds: 0,
            rest: nr,
            at: None,
            end: (None, 0),
        };
        match *self {
            Self::Interleave(nodes, cursor) => {
                deal.nodes_left = nodes.len() as usize;
                deal.end = (cursor.last.get(), cursor.left.get());
            }
            Self::WeightedInterleave(nodes, weights, cursor) => {
                let round: usize = nodes.iter().map(|node| weight(weights, node)).sum();
                deal.nodes_left = nodes.len() as usize;
                deal.rounds = nr.checked_div(round).unwrap_or(0);
                deal.rest = nr - deal.rounds * round;
                deal.end = (cursor.last.get(), cursor.left.get());
            }
            _ => {}
        }
        deal.at = deal.end.0;
        deal
    }
}

/// Iterates over the shares of a request: mostly one per node.
#[derive(Debug)]
pub(crate) struct Deal<'a> {
    policy: Policy<'a>,
    /// Blocks that are not in a share yet.
    left: usize,
    /// Nodes that have no share yet.
    nodes_left: usize,
    /// Full rounds, in each of which every node gets its whole weight.
    rounds: usize,
    /// Blocks beyond the full rounds that are not in a share yet.
    rest: usize,
    /// The node of the last share.
    at: Option<NodeId>,
    /// Where the cursor will be.
    end: (Option<NodeId>, usize),
}

impl Deal<'_> {
    /// Returns the next share; `None` if all blocks are in one.
    pub(crate) fn next_share(&mut self) -> Option<Share> {
        if self.left == 0 {
            return None;
        }
        let all = self.left;
        let share = |node, nodes, nr| Share { node, nodes, nr };
        let share = match self.policy {
            Policy::Local => share(None, NodeMask::ALL, all),
            Policy::Preferred(node) => share(Some(node), NodeMask::ALL, all),
            Policy::PreferredMany(nodes) | Policy::Bind(nodes) => share(None, nodes, all),
            Policy::Interleave(nodes, _) => match nodes.next_after(self.at) {
                None => share(None, NodeMask::ALL, all),
                Some(node) => {
                    // Larger shares first: divides the remaining blocks by the remaining nodes, rounded
                    // up.
                    let nr = all.div_ceil(self.nodes_left.max(1));
                    self.nodes_left = self.nodes_left.saturating_sub(1);
                    self.at = Some(node);
                    self.end = (Some(node), 0);
                    share(Some(node), NodeMask::ALL, nr)
                }
            },
            Policy::WeightedInterleave(nodes, weights, _) => match self.weighted(nodes, weights) {
                None => share(None, NodeMask::ALL, all),
                Some((node, nr)) => share(Some(node), NodeMask::ALL, nr),
            },
        };
        self.left -= share.nr;
        Some(share)
    }

    /// Moves the cursor after all shares were served: the next request continues from there.
    pub(crate) fn commit(self) {
        if let Policy::Interleave(_, cursor) | Policy::WeightedInterleave(_, _, cursor) =
            self.policy
        {
            cursor.last.set(self.end.0);
            cursor.left.set(self.end.1);
        }
    }

    /// Returns the next node and its number of blocks: all full rounds at its first turn, plus its part
    /// of the blocks beyond them.
    fn weighted(&mut self, nodes: NodeMask, weights: &[u8]) -> Option<(NodeId, usize)> {
        let is_first = self.nodes_left == nodes.len() as usize;
        let goes_on = |node: &NodeId| is_first && self.end.1 > 0 && nodes.contains(*node);
        let resumed = self.at.filter(goes_on);
        let node = resumed.or_else(|| nodes.next_after(self.at))?;
        let whole = weight(weights, node);
        let due = if resumed.is_some() { self.end.1 } else { whole };
        let taken = due.min(self.rest);
        if taken > 0 {
            self.rest -= taken;
            self.end = (Some(node), due - taken);
        }
        self.at = Some(node);
        let rounds = if self.nodes_left > 0 { self.rounds } else { 0 };
        self.nodes_left = self.nodes_left.saturating_sub(1);
        Some((node, rounds * whole + taken))
    }
}

/// Returns how many consecutive blocks a node gets.
fn weight(weights: &[u8], node: NodeId) -> usize {
    usize::from(weights.get(node.index()).copied().unwrap_or(1).max(1))
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;

    fn mask(nodes: &[u8]) -> NodeMask {
        let nodes: Vec<_> = nodes.iter().map(|&node| NodeId::new(node)).collect();
        NodeMask::of(&nodes)
    }

    /// Deals `nr` blocks and returns each share's node and number.
    fn dealt(policy: Policy<'_>, nr: usize) -> Vec<(Option<u8>, usize)> {
        let (mut left, mut shares, mut deal) = (nr, Vec::new(), policy.deal(nr));
        while let Some(share) = deal.next_share() {
            assert!((1..=left).contains(&share.nr), "{share:?} of {left}");
            left -= share.nr;
            shares.push((share.node.map(NodeId::value), share.nr));
        }
        assert_eq!(left, 0);
        deal.commit();
        shares
    }

    /// Deals one block after the other.
    fn one_by_one(policy: Policy<'_>, nr: usize) -> Vec<u8> {
        (0..nr).map(|_| dealt(policy, 1)[0].0.expect("a node")).collect()
    }

    #[test]
    fn a_mask_holds_its_nodes_and_no_others() {
        let nodes = mask(&[0, 5, 63]);
        assert_eq!(nodes.iter().map(NodeId::value).collect::<Vec<_>>(), [0, 5, 63]);
        assert!(nodes.contains(NodeId::new(63)) && !nodes.contains(NodeId::new(62)));
        assert!(!nodes.contains(NodeId::new(64)) && !NodeMask::ALL.contains(NodeId::new(255)));
        assert_eq!((nodes.len(), NodeMask::ALL.len(), NodeMask::NONE.len()), (3, 64, 0));
        assert_eq!(nodes.and(mask(&[5, 6])), mask(&[5]));
        assert!(NodeMask::NONE.is_empty() && NodeMask::NONE.iter().next().is_none());
    }

    #[test]
    #[should_panic(expected = "the node does not fit a mask")]
    fn a_node_beyond_the_mask_is_refused() {
        let _mask = mask(&[64]);
    }

    #[test]
    fn the_node_behind_the_last_is_the_first() {
        let after = |nodes: NodeMask, node| nodes.next_after(node).map(NodeId::value);
        assert_eq!(after(mask(&[2, 63]), None), Some(2));
        assert_eq!(after(mask(&[2, 63]), Some(NodeId::new(2))), Some(63));
        assert_eq!(after(mask(&[2, 63]), Some(NodeId::new(63))), Some(2));
        assert_eq!(after(NodeMask::NONE, Some(NodeId::new(1))), None);
    }

    #[test]
    fn even_shares_differ_by_one_at_most_and_larger_ones_come_first() {
        for nr_nodes in 1..=5_u8 {
            let nodes: Vec<u8> = (0..nr_nodes).collect();
            for nr in 0..40 {
                let cursor = InterleaveCursor::default();
                let shares = dealt(Policy::Interleave(mask(&nodes), &cursor), nr);
                let counts: Vec<usize> = shares.iter().map(|&(_, nr)| nr).collect();
                assert!(counts.is_sorted_by(|a, b| a >= b), "{counts:?}");
                assert!(counts.first().unwrap_or(&0) - counts.last().unwrap_or(&0) <= 1);
                assert_eq!(shares.len(), nr.min(nodes.len()), "each node once");
            }
        }
    }

    #[test]
    fn a_cursor_goes_on_where_the_last_request_ended() {
        let cursor = InterleaveCursor::default();
        let policy = Policy::Interleave(mask(&[1, 3, 4]), &cursor);
        assert_eq!(one_by_one(policy, 7), [1, 3, 4, 1, 3, 4, 1]);
        assert_eq!(dealt(policy, 4), [(Some(3), 2), (Some(4), 1), (Some(1), 1)]);
        assert_eq!(dealt(policy, 1), [(Some(3), 1)]);
    }

    #[test]
    fn weights_are_kept_to_over_requests_of_any_size() {
        let weights = [3, 0, 2];
        let nodes = mask(&[0, 1, 2, 7]);
        // Weight zero, and none, count as one.
        let round = [0, 0, 0, 1, 2, 2, 7];
        let (one, many) = (InterleaveCursor::default(), InterleaveCursor::default());
        let expected: Vec<u8> = round.iter().copied().cycle().take(60).collect();
        assert_eq!(one_by_one(Policy::WeightedInterleave(nodes, &weights, &one), 60), expected);
        let policy = Policy::WeightedInterleave(nodes, &weights, &many);
        let mut rest = &expected[..];
        for nr in [1, 2, 3, 5, 7, 11, 31] {
            let shares = dealt(policy, nr);
            assert!(shares.len() <= nodes.len() as usize + 1, "one share for each: {shares:?}");
            let mut all: Vec<u8> = Vec::new();
            for (node, nr) in shares {
                all.extend(vec![node.expect("a node"); nr]);
            }
            let (due, later) = rest.split_at(nr);
            let mut due = due.to_vec();
            due.sort_unstable();
            all.sort_unstable();
            assert_eq!(all, due, "of {nr}");
            rest = later;
        }
    }

    #[test]
    fn a_request_that_was_not_served_does_not_move_the_cursor() {
        let cursor = InterleaveCursor::default();
        for policy in [
            Policy::Interleave(mask(&[1, 2]), &cursor),
            Policy::WeightedInterleave(mask(&[1, 2]), &[], &cursor),
        ] {
            let before = policy.deal(3).next_share();
            assert_eq!(policy.deal(3).next_share(), before);
        }
    }

    #[test]
    fn without_nodes_a_spread_is_for_any_node() {
        let cursor = InterleaveCursor::default();
        let none = NodeMask::NONE;
        for policy in
            [Policy::Interleave(none, &cursor), Policy::WeightedInterleave(none, &[2], &cursor)]
        {
            let share = policy.deal(5).next_share();
            assert_eq!(share, Some(Share { node: None, nodes: NodeMask::ALL, nr: 5 }));
        }
        assert_eq!(Policy::Bind(none).deal(5).next_share().map(|share| share.nodes), Some(none));
    }
}
