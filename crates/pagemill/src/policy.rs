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
