//! Idle pages: what a sleeping worker holds for its next call.
//!
//! A worker fills the pages of a call and of its reply before it waits for work: 2 MiB with the default
//! payload. While it sleeps, they are in its slot, where a shrinker finds them.

use crate::rqst::pages::{Frames, PageArray};
use crate::rqst::rqst::Rqst;
use crate::wire::sync::{Mutex, lock, try_lock};

/// The pages of a worker while it sleeps; empty arrays while it does not.
#[derive(Debug)]
pub(crate) struct IdlePages<S: Frames>(Mutex<[PageArray<S>; 2]>);

impl<S: Frames> IdlePages<S> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new([PageArray::new(0), PageArray::new(0)]))
    }

    /// Exchanges these pages and those of a request: once before the worker sleeps, and once after.
    pub(crate) fn swap(&self, rqst: &mut Rqst<S>) {
        rqst.swap_pages(&mut lock(&self.0));
    }

    /// Returns how many pages there are; none if the worker wakes up just now.
    pub(crate) fn nr_pages(&self) -> usize {
        try_lock(&self.0).map_or(0, |pages| pages.iter().map(PageArray::nr_pages).sum())
    }

    /// Frees up to `nr` pages and returns their number.
    pub(crate) fn shrink(&self, source: &S, nr: usize) -> usize {
        let Some(mut pages) = try_lock(&self.0) else { return 0 };
        pages.iter_mut().fold(0, |freed, array| freed + array.shrink(source, nr - freed))
    }
}
