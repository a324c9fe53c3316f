//! The shrinker of a server: it frees the pages of sleeping workers when memory is short.

use alloc::sync::{Arc, Weak};

use pagemill::reclaim::{ShrinkControl, Shrinker};

use crate::rqst::pages::Frames;
use crate::server::server_state::ServerState;
use crate::wire::sync::{Mutex, lock, try_lock};

/// The shrinker of a server.
///
/// An allocator may keep a shrinker for ever, so this one is in a box that is leaked: a few words for
/// each start of a server.
pub(crate) struct IdleShrinker<S: Frames>(Mutex<Weak<ServerState<S>>>);

impl<S: Frames> IdleShrinker<S> {
    /// Makes the shrinker of a server.
    pub(crate) fn leak(state: &Arc<ServerState<S>>) -> &'static Self {
        Box::leak(Box::new(Self(Mutex::new(Arc::downgrade(state)))))
    }

    /// Forgets the server, whose memory is freed then.
    pub(crate) fn clear(&self) {
        *lock(&self.0) = Weak::new();
    }

    fn state(&self) -> Option<Arc<ServerState<S>>> {
        try_lock(&self.0)?.upgrade()
    }
}

impl<S: Frames> Shrinker for IdleShrinker<S> {
    fn count(&self, _control: ShrinkControl) -> usize {
        let Some(state) = self.state() else { return 0 };
        let Some(slots) = try_lock(&state.slots) else { return 0 };
        slots.iter().map(|slot| slot.idle.nr_pages()).sum()
    }

    fn scan(&self, nr: usize, _control: ShrinkControl) -> usize {
        let Some(state) = self.state() else { return 0 };
        let Some(slots) = try_lock(&state.slots) else { return 0 };
        slots.iter().fold(0, |freed, slot| freed + slot.idle.shrink(&state.source, nr - freed))
    }
}
