//! Pins: registrations of an arena with the kernel, during which no memory of it is returned.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use std::thread;

#[expect(clippy::disallowed_types, reason = "not part of the core: loom has no business here")]
type AtomicUsize = core::sync::atomic::AtomicUsize;

/// The number of registrations of an arena, or [`RETURNING`].
///
/// Upholds `pinned-resident`: while the number is not zero, [`unless_pinned`](Self::unless_pinned) runs
/// nothing, and while that runs something, the number does not change.
#[derive(Debug, Default)]
pub(crate) struct Pins(AtomicUsize);

/// Memory of the arena is being returned, so pins have to wait.
const RETURNING: usize = usize::MAX;

/// Keeps the memory of an arena from being returned to the system, until it is dropped.
///
/// For registrations with the kernel (fixed buffers of io_uring, the UMEM of AF_XDP sockets), which keep the
/// pages that they found. If the arena had other pages at the same addresses later, the kernel would read
/// and write the old ones, which nobody sees. A registration that the kernel may never end keeps its pin
/// ([`ManuallyDrop`](core::mem::ManuallyDrop)).
#[derive(Debug)]
#[must_use = "dropping this ends the pin"]
pub struct ArenaPin(Arc<Pins>);

impl ArenaPin {
    /// Pins the arena of `pins`; waits while memory of it is being returned.
    pub(crate) fn new(pins: &Arc<Pins>) -> Self {
        pins.change(|nr| (nr != RETURNING).then(|| nr + 1));
        Self(pins.clone())
    }
}

impl Clone for ArenaPin {
    fn clone(&self) -> Self {
        Self::new(&self.0)
    }
}

impl Drop for ArenaPin {
    // Never waits: in a child of fork, another thread may be returning memory for ever.
    fn drop(&mut self) {
        // Release pairs with the Acquire in `change`: what used the registration is before a return.
        self.0.0.fetch_sub(1, Ordering::Release);
    }
}

impl Pins {
    /// Runs `work` unless there are pins, whose number is the error. No pin is made meanwhile.
    pub(crate) fn unless_pinned<T>(&self, work: impl FnOnce() -> T) -> Result<T, usize> {
        /// Ends the return on drop, also if `work` panics.
        struct Returning<'a>(&'a Pins);
        impl Drop for Returning<'_> {
            fn drop(&mut self) {
                // Release pairs with the Acquire in `change`: a pin comes after the return.
                self.0.0.store(0, Ordering::Release);
            }
        }
        let nr_pins = self.change(|nr| match nr {
            RETURNING => None,
            0 => Some(RETURNING),
            nr_pins => Some(nr_pins),
        });
        if nr_pins > 0 {
            return Err(nr_pins);
        }
        let _returning = Returning(self);
        Ok(work())
    }

    /// Changes the number once `change` returns another, and returns the one before.
    fn change(&self, change: impl Fn(usize) -> Option<usize>) -> usize {
        loop {
            // Acquire pairs with the Release of drops. Relaxed: a failure changes nothing.
            match self.0.fetch_update(Ordering::Acquire, Ordering::Relaxed, &change) {
                Ok(before) => return before,
                Err(_returning) => thread::yield_now(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_refused_until_the_last_pin_is_dropped() {
        let pins = Arc::default();
        let first = ArenaPin::new(&pins);
        let second = first.clone();
        assert_eq!(pins.unless_pinned(|| ()), Err(2));
        drop(first);
        assert_eq!(pins.unless_pinned(|| ()), Err(1));
        drop(second);
        assert_eq!(pins.unless_pinned(|| 7), Ok(7));
        drop(ArenaPin::new(&pins));
    }

    #[test]
    fn a_pin_waits_for_a_return() {
        let pins: Arc<Pins> = Arc::default();
        let done = AtomicUsize::new(0);
        thread::scope(|scope| {
            let other = pins
                .unless_pinned(|| {
                    let other = scope.spawn(|| {
                        let pin = ArenaPin::new(&pins);
                        (done.load(Ordering::Relaxed), pin)
                    });
                    // Whatever the other thread does meanwhile, it has no pin yet.
                    thread::yield_now();
                    done.store(1, Ordering::Relaxed);
                    other
                })
                .unwrap();
            assert_eq!(other.join().unwrap().0, 1);
        });
        assert!(pins.unless_pinned(|| ()).is_ok());
    }
}
