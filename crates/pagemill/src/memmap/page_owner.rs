//! Page owners: the call site that allocated each frame, if the configuration asks for it.

use core::panic::Location;

use crate::base::sync::AtomicRef;

/// The call that allocated each frame in use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owners(&'static [Entry]);

pub(crate) type Entry = AtomicRef<Location<'static>>;

impl Owners {
    /// Makes the table; it is empty if owners are not recorded.
    pub(crate) const fn new(entries: &'static [Entry]) -> Self {
        Self(entries)
    }

    /// Records that `site` holds a frame.
    pub(crate) fn hold(&self, frame: usize, site: &'static Location<'static>) {
        self.0[frame].set(site);
    }

    /// Records that no call site holds a frame any more, and returns the previous one. Of two frees of
    /// one frame, one finds none.
    pub(crate) fn release(&self, frame: usize) -> Option<&'static Location<'static>> {
        self.0[frame].take()
    }

    /// Returns the call site that holds a frame.
    pub(crate) fn holder(&self, frame: usize) -> Option<&'static Location<'static>> {
        self.0.get(frame)?.get()
    }
}
