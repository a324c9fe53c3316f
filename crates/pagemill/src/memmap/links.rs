//! Per-frame tables: the list link and the share count of each frame.
//!
//! They are separate tables, so that each feature touches only what it needs; allocating and freeing
//! pages through slices touches neither. Nothing here is initialised at setup: a link is written when
//! its page joins a list, and a count when its page is first shared.

use core::mem::MaybeUninit;

use crate::base::sync::{AtomicU32, AtomicU64};

/// The next page of a list, as a page word.
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
    /// Makes the tables from memory that holds arbitrary, but initialised, bytes.
    pub(crate) fn new(
        links: &'static mut [MaybeUninit<Link>],
        refs: &'static mut [MaybeUninit<RefCount>],
    ) -> Self {
        // loom's atomics are objects, not words: in its build each must be made.
        #[cfg(loom)]
        {
            for link in links.iter_mut() {
                link.write(Link::new(0));
            }
            for count in refs.iter_mut() {
                count.write(RefCount::new(0));
            }
        }
        // SAFETY: 1. initialised: all metadata memory is, and any bytes are a valid atomic integer.
        let links = unsafe { links.assume_init_mut() };
        // SAFETY: 1. initialised: all metadata memory is, and any bytes are a valid atomic integer.
        let refs = unsafe { refs.assume_init_mut() };
        Self { links, refs }
    }

    #[inline]
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
