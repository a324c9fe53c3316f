//! On which nodes a request's pages are to be.

use core::cell::Cell;

use crate::units::{MAX_NR_NODES, NodeId};

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

    /// Tells whether `node` is in the set.
    #[inline]
    #[must_use]
    pub const fn contains(self, node: NodeId) -> bool {
        node.index() < MAX_NR_NODES && self.0 >> node.index() & 1 != 0
    }

    /// Returns the nodes that are in both sets.
    #[inline]
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Tells whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the number of nodes.
    #[must_use]
    pub const fn len(self) -> u32 {
        self.0.count_ones()
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

    /// Returns the first node of the set behind `node`, from the start again after the last.
    fn next_after(self, node: Option<NodeId>) -> Option<NodeId> {
        let up_to = |node: NodeId| u64::MAX >> (MAX_NR_NODES - 1 - node.index());
        let behind = node.map_or(u64::MAX, |node| !up_to(node));
        Self(self.0 & behind).iter().next().or_else(|| self.iter().next())
    }
}

/// Where interleaving goes on; one for each caller that wants its pages spread.
#[derive(Debug, Default)]
pub struct InterleaveCursor {
    last: Cell<Option<NodeId>>,
    /// Pages that `last` still has to get, when nodes are weighted.
    left: Cell<u32>,
}

/// On which nodes a request's pages are to be.
///
/// # Source
/// `linux-6.12` `mm/mempolicy.c`. Differs: a policy belongs to a request, not to a task.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub enum Policy<'a> {
    /// On the caller's node, or else near it.
    #[default]
    Local,
    /// On this node, or else near it.
    Preferred(NodeId),
    /// On these nodes, each request on the nearest that has room, or else anywhere.
    PreferredMany(NodeMask),
    /// On these nodes and on no other.
    Bind(NodeMask),
    /// Spread evenly over these nodes, or else anywhere.
    Interleave(NodeMask, &'a InterleaveCursor),
    /// Spread over these nodes in proportion to their weights, by node number; a node beyond the
    /// weights, or of weight zero, counts as one of weight 1.
    WeightedInterleave(NodeMask, &'a [u8], &'a InterleaveCursor),
}

/// A part of a request that goes to one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// Where to look first; `None` for the caller's node.
    pub(crate) node: Option<NodeId>,
    /// Where to look at all.
    pub(crate) nodes: NodeMask,
    /// Blocks to allocate.
    pub(crate) nr: usize,
}

impl Policy<'_> {
    /// Returns the share to allocate next of `nr` blocks, all of which are still wanted.
    ///
    /// Spread policies hand out one node's share after the other and move their cursor; the others
    /// have one share.
    pub(crate) fn next_share(&self, nr: usize, total: usize) -> Share {
        let everywhere = |node| Share { node, nodes: NodeMask::ALL, nr };
        match *self {
            Self::Local => everywhere(None),
            Self::Preferred(node) => everywhere(Some(node)),
            Self::PreferredMany(nodes) | Self::Bind(nodes) => Share { node: None, nodes, nr },
            Self::Interleave(nodes, cursor) => {
                let Some(node) = nodes.next_after(cursor.last.get()) else {
                    return everywhere(None);
                };
                cursor.last.set(Some(node));
                let share = even_share(nr, total, nodes.len() as usize);
                Share { node: Some(node), nodes: NodeMask::ALL, nr: share }
            }
            Self::WeightedInterleave(nodes, weights, cursor) => {
                let left = cursor.left.get();
                let node = match cursor.last.get().filter(|&node| left > 0 && nodes.contains(node))
                {
                    Some(node) => node,
                    None => match nodes.next_after(cursor.last.get()) {
                        Some(node) => {
                            let weight = weights.get(node.index()).copied().unwrap_or(1).max(1);
                            cursor.left.set(u32::from(weight));
                            node
                        }
                        None => return everywhere(None),
                    },
                };
                let left = cursor.left.get() as usize;
                let share = left.min(nr);
                cursor.last.set(Some(node));
                cursor.left.set(u32::try_from(left - share).unwrap_or(0));
                Share { node: Some(node), nodes: NodeMask::ALL, nr: share }
            }
        }
    }
}

/// Returns the next of the shares, larger ones first, that deal `total` to `parts`, when `nr` of
/// it have not been dealt yet.
fn even_share(nr: usize, total: usize, parts: usize) -> usize {
    let (small, larger) = (total / parts, total % parts);
    let in_larger = larger * (small + 1);
    let dealt = total - nr;
    if dealt < in_larger { small + 1 } else { small }.clamp(1, nr.max(1))
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
        let (mut left, mut shares) = (nr, Vec::new());
        while left > 0 {
            let share = policy.next_share(left, nr);
            assert!((1..=left).contains(&share.nr), "{share:?} of {left}");
            left -= share.nr;
            shares.push((share.node.map(NodeId::value), share.nr));
        }
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
        let mut all = Vec::new();
        for nr in [1, 2, 3, 5, 7, 11, 31] {
            for (node, nr) in dealt(policy, nr) {
                all.extend(vec![node.expect("a node"); nr]);
            }
        }
        assert_eq!(all, expected);
    }

    #[test]
    fn without_nodes_a_spread_is_for_any_node() {
        let cursor = InterleaveCursor::default();
        let none = NodeMask::NONE;
        for policy in
            [Policy::Interleave(none, &cursor), Policy::WeightedInterleave(none, &[2], &cursor)]
        {
            let share = policy.next_share(5, 5);
            assert_eq!(share, Share { node: None, nodes: NodeMask::ALL, nr: 5 });
        }
        assert_eq!(Policy::Bind(none).next_share(5, 5).nodes, none);
    }
}
