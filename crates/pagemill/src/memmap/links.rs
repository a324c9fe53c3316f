//! Per-frame tables: the list link and the share count of each frame.
//!
//! They are separate tables, so that each feature touches only what it needs; allocating and freeing
//! pages through slices touches neither. Nothing here is initialised at setup: a link is written when
//! its page joins a list or, being charged, is given up by its number, and a count when its page is first
//! shared.

use crate::base::sync::{AtomicU32, AtomicU64};

/// The next page of a list, as a page word; for a charged page that is known by its number alone, its own
/// word.
pub(crate) type Link = AtomicU64;
/// Number of owners of a shared page.
pub(crate) type RefCount = AtomicU32;

/// The tables with one entry per frame.
#[derive(Debug)]
pub(crate) struct FrameTables {
    links: &'static [Link],
    refs: &'static [RefCount],
}

impl FrameTables {
    pub(crate) fn new(links: &'static [Link], refs: &'static [RefCount]) -> Self {
        Self { links, refs }
    }

    /// Returns the links of a range of frames.
    pub(crate) fn links(&self, frames: core::ops::Range<usize>) -> &'static [Link] {
        &self.links[frames]
    }

    /// Returns the link of one frame.
    pub(crate) fn link(&self, frame: usize) -> &Link {
        &self.links[frame]
    }

    #[inline]
    pub(crate) fn refs(&self, frame: usize) -> &RefCount {
        &self.refs[frame]
    }
}

// Together with the pageblocks' metadata, below 13 bytes per frame.
#[cfg(not(loom))]
const _: () = assert!(size_of::<Link>() + size_of::<RefCount>() == 12);
