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

    /// Records that the call at `site` hands a frame in, and holds it until it is free.
    pub(crate) fn hold_handed_in(&self, frame: usize, site: &'static Location<'static>) {
        self.0[frame].set_marked(site);
    }

    /// Returns whether the call site that held a frame last handed it in.
    pub(crate) fn was_handed_in(&self, frame: usize) -> bool {
        self.0.get(frame).is_some_and(Entry::is_marked)
    }

    /// Records that no call site holds a frame any more, and returns whether one did. Of two frees of
    /// one frame, one finds none.
    pub(crate) fn release(&self, frame: usize) -> bool {
        self.0[frame].end()
    }

    /// Returns the call site that holds a frame.
    pub(crate) fn holder(&self, frame: usize) -> Option<&'static Location<'static>> {
        self.0.get(frame)?.get()
    }

    /// Returns the call site that holds a frame or, if it is free, the one that held it last.
    pub(crate) fn last_holder(&self, frame: usize) -> Option<&'static Location<'static>> {
        self.0.get(frame)?.last()
    }
}

#[cfg(all(test, loom))]
mod loom;

#[cfg(all(test, not(loom)))]
mod tests {
    use alloc::boxed::Box;

    use super::*;

    #[test]
    fn a_released_frame_has_no_holder_but_a_last_one() {
        let owners = Owners::new(Box::leak(Box::new([Entry::new()])));
        assert!(
            owners.holder(0).is_none() && owners.last_holder(0).is_none() && !owners.release(0)
        );
        let (first, second) = (Location::caller(), Location::caller());
        for site in [first, second] {
            owners.hold(0, site);
            assert_eq!((owners.holder(0), owners.last_holder(0)), (Some(site), Some(site)));
            assert!(owners.release(0) && !owners.release(0));
            assert_eq!((owners.holder(0), owners.last_holder(0)), (None, Some(site)));
        }
        assert!(owners.holder(1).is_none() && !owners.was_handed_in(1), "not recorded");
    }

    #[test]
    fn a_frame_that_was_handed_in_is_not_one_that_was_allocated() {
        let owners = Owners::new(Box::leak(Box::new([Entry::new()])));
        let site = Location::caller();
        assert!(!owners.was_handed_in(0));
        owners.hold_handed_in(0, site);
        assert_eq!(owners.holder(0), Some(site));
        assert!(owners.release(0) && !owners.release(0) && owners.was_handed_in(0));
        assert_eq!((owners.holder(0), owners.last_holder(0)), (None, Some(site)));
        owners.hold(0, site);
        assert!(!owners.was_handed_in(0) && owners.release(0) && !owners.was_handed_in(0));
    }
}
