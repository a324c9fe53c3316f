//! The slabs of a cache that have free objects, in two lists: those with objects in use, and empty ones.

use pagemill::machine::DirectMap;
use pagemill::source::PageSource;

use crate::slabs::{Frame, Slabs};

/// Slabs with free objects, and counts of all slabs; guarded by the cache's lock.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    /// Slabs with free objects and objects in use.
    pub(crate) partial: List,
    /// Slabs without objects in use.
    pub(crate) empty: List,
    /// Number of slabs, full ones included.
    pub(crate) nr_slabs: usize,
    /// Number of their pages.
    pub(crate) nr_pages: usize,
    /// Number of their objects.
    pub(crate) nr_objects: usize,
    /// Number of objects that are in use or in an array.
    pub(crate) nr_in_use: usize,
    /// Number of refills in a row without a release of slabs.
    pub(crate) refills: u32,
}

/// A list of slabs, linked by the table of frames. A slab is on one list at most.
#[derive(Debug, Default)]
pub(crate) struct List {
    first: Option<Frame>,
    len: usize,
}

/// The neighbours of a slab in its list.
struct Links {
    next: Option<Frame>,
    previous: Option<Frame>,
}

impl Links {
    fn of<S: PageSource<Platform: DirectMap>>(slabs: &Slabs<S>, slab: Frame) -> Self {
        let links = slabs.links(slab);
        let (next, previous) = (links & u64::from(u32::MAX), links >> 32);
        Self { next: Frame::from_link(next), previous: Frame::from_link(previous) }
    }

    fn set<S: PageSource<Platform: DirectMap>>(self, slabs: &Slabs<S>, slab: Frame) {
        slabs.set_links(slab, Frame::to_link(self.next) | Frame::to_link(self.previous) << 32);
    }
}

impl List {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn first(&self) -> Option<Frame> {
        self.first
    }

    /// Adds a slab that is on no list.
    pub(crate) fn push<S: PageSource<Platform: DirectMap>>(
        &mut self,
        slabs: &Slabs<S>,
        slab: Frame,
    ) {
        if let Some(next) = self.first {
            Links { previous: Some(slab), ..Links::of(slabs, next) }.set(slabs, next);
        }
        Links { next: self.first, previous: None }.set(slabs, slab);
        self.first = Some(slab);
        self.len += 1;
    }

    /// Removes a slab of this list.
    pub(crate) fn remove<S: PageSource<Platform: DirectMap>>(
        &mut self,
        slabs: &Slabs<S>,
        slab: Frame,
    ) {
        let Links { next, previous } = Links::of(slabs, slab);
        if let Some(next) = next {
            Links { previous, ..Links::of(slabs, next) }.set(slabs, next);
        }
        match previous {
            Some(previous) => Links { next, ..Links::of(slabs, previous) }.set(slabs, previous),
            None => self.first = next,
        }
        self.len -= 1;
    }
}
