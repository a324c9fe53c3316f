//! The ring through which one thread hands batches to another, the same for all peers.
//!
//! A slot is a batch in place: the producer fills it where it lies and the consumer empties it, so that
//! nothing is copied but the handles themselves, from one CPU's cache to the other's.

use alloc::sync::Arc;
#[expect(clippy::disallowed_types, reason = "not part of the core: loom has no business here")]
use core::cell::UnsafeCell;
use core::hint::spin_loop;
#[expect(clippy::disallowed_types, reason = "not part of the core: loom has no business here")]
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::thread;

/// Batches under way at most.
const NR_SLOTS: usize = 32;
/// Looks at a slot before the CPU is offered to others.
const NR_SPINS: u32 = 2000;

const EMPTY: u32 = 0;
const FULL: u32 = 1;
/// The producer has stopped; the slot holds nothing.
const CLOSED: u32 = 2;

/// A batch and whose it is.
///
/// `slot-turn`: while the state is [`EMPTY`] the producer alone reaches the batch, otherwise the
/// consumer alone.
#[repr(align(128))]
struct Slot<B> {
    #[expect(clippy::disallowed_types, reason = "not part of the core: loom has no business here")]
    state: AtomicU32,
    #[expect(clippy::disallowed_types, reason = "not part of the core: loom has no business here")]
    batch: UnsafeCell<B>,
}

// SAFETY:
// 1. A batch is reached by one thread at a time (`slot-turn`), and may be sent.
unsafe impl<B: Send> Sync for Slot<B> {}

/// The end of the ring that gives.
pub(crate) struct Producer<B> {
    slots: Arc<[Slot<B>]>,
    next: usize,
}

/// The end of the ring that takes.
pub(crate) struct Consumer<B> {
    slots: Arc<[Slot<B>]>,
    next: usize,
}

/// Makes a ring of batches that `batch` makes, and returns its ends: there is one of each.
pub(crate) fn line<B: Send>(mut batch: impl FnMut() -> B) -> (Producer<B>, Consumer<B>) {
    #[expect(clippy::disallowed_types, reason = "not part of the core: loom has no business here")]
    let slot = |_| Slot { state: AtomicU32::new(EMPTY), batch: UnsafeCell::new(batch()) };
    let slots: Arc<[Slot<B>]> = (0..NR_SLOTS).map(slot).collect();
    (Producer { slots: Arc::clone(&slots), next: 0 }, Consumer { slots, next: 0 })
}

impl<B: Send> Producer<B> {
    /// Waits for an empty batch, lets `fill` fill it, and hands it over.
    #[inline]
    pub(crate) fn put(&mut self, fill: impl FnOnce(&mut B)) {
        let slot = &self.slots[self.next];
        wait(|| slot.state.load(Acquire) == EMPTY);
        // SAFETY:
        // 1. No other reference: the state is empty and this is the only producer (`slot-turn`).
        //    The load pairs with the consumer's store, so what it did to the batch is over.
        fill(unsafe { &mut *slot.batch.get() });
        // Pairs with the load in `take`.
        slot.state.store(FULL, Release);
        self.next = (self.next + 1) % NR_SLOTS;
    }

    /// Tells the consumer that nothing comes any more, for this time.
    pub(crate) fn close(&mut self) {
        let slot = &self.slots[self.next];
        wait(|| slot.state.load(Acquire) == EMPTY);
        slot.state.store(CLOSED, Release);
        self.next = (self.next + 1) % NR_SLOTS;
    }
}

impl<B: Send> Consumer<B> {
    /// Waits for a full batch and lets `empty` empty it; `None` if the producer has stopped.
    #[inline]
    pub(crate) fn take<R>(&mut self, empty: impl FnOnce(&mut B) -> R) -> Option<R> {
        let slot = &self.slots[self.next];
        wait(|| slot.state.load(Relaxed) != EMPTY);
        // Pairs with the stores in `put` and `close`. Only this end changes it from here on.
        let result = if slot.state.load(Acquire) == FULL {
            // SAFETY:
            // 1. No other reference: the state is full and this is the only consumer
            //    (`slot-turn`).
            Some(empty(unsafe { &mut *slot.batch.get() }))
        } else {
            None
        };
        // Pairs with the loads in `put` and `close`.
        slot.state.store(EMPTY, Release);
        self.next = (self.next + 1) % NR_SLOTS;
        result
    }
}

/// Looks until `is_due`, and lets others run now and then.
#[inline]
fn wait(is_due: impl Fn() -> bool) {
    let mut nr_spins = 0;
    while !is_due() {
        nr_spins += 1;
        if nr_spins < NR_SPINS {
            spin_loop();
        } else {
            nr_spins = 0;
            thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_arrives_in_order_and_closing_is_for_once() {
        let (mut producer, mut consumer) = line(|| 0_u32);
        for turn in 1..4 {
            thread::scope(|scope| {
                scope.spawn(|| {
                    for number in 0..1000 {
                        producer.put(|batch| *batch = turn * number);
                    }
                    producer.close();
                });
                for number in 0..1000 {
                    assert_eq!(consumer.take(|batch| *batch), Some(turn * number));
                }
                assert_eq!(consumer.take(|batch| *batch), None);
            });
        }
    }
}
