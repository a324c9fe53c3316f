//! Page owners: the call site that allocated each frame, if the configuration asks for it.

use core::panic::Location;
use core::ptr;

use crate::base::sync::{AtomicPtr, Ordering};

/// The call that allocated each frame in use.
///
/// `owner-static`: each entry is null or was made from a `&'static Location`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owners(&'static [Entry]);

pub(crate) type Entry = AtomicPtr<Location<'static>>;

impl Owners {
    /// Makes the table; it is empty if owners are not recorded.
    pub(crate) const fn new(entries: &'static [Entry]) -> Self {
        Self(entries)
    }

    /// Records that `site` holds a frame.
    pub(crate) fn hold(&self, frame: usize, site: &'static Location<'static>) {
        // Relaxed: the freeing thread received the frame from the allocating one by means that order
        // this.
        self.0[frame].store(ptr::from_ref(site).cast_mut(), Ordering::Relaxed);
    }

    /// Records that no call site holds a frame any more, and returns the previous one.
    pub(crate) fn release(&self, frame: usize) -> Option<&'static Location<'static>> {
        // Relaxed: as in `hold`; two frees of one frame race for the entry, and one finds null.
        let site = self.0[frame].swap(ptr::null_mut(), Ordering::Relaxed);
        Self::location(site)
    }

    /// Returns the call site that holds a frame.
    pub(crate) fn holder(&self, frame: usize) -> Option<&'static Location<'static>> {
        // Relaxed: a snapshot.
        Self::location(self.0.get(frame)?.load(Ordering::Relaxed))
    }

    fn location(site: *mut Location<'static>) -> Option<&'static Location<'static>> {
        // SAFETY: 1. null, or valid until the program ends: `owner-static`.
        unsafe { site.as_ref() }
    }
}
