//! Ring through which one thread passes batches to another, the same for all peers.
//!
//! A slot contains a batch: the producer fills it in place and the consumer empties it in place. So
//! only the handles themselves move, from one CPU's cache to the other's.

use alloc::sync::Arc;
#[expect(clippy::disallowed_types, reason = "not part of the core: loom has no business here")]
use core::cell::UnsafeCell;
use core::hint::spin_loop;
#[expect(clippy::disallowed_types, reason = "not part of the core: loom has no business here")]
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::thread;

/// Maximum number of batches in the ring.
const NR_SLOTS: usize = 32;
/// Number of times that a slot is checked before the thread yields its CPU.
const NR_SPINS: u32 = 2000;

const EMPTY: u32 = 0;
const FULL: u32 = 1;
/// The producer has stopped; the slot is empty.
const CLOSED: u32 = 2;

/// A batch, and which end may access it.
///
/// `slot-turn`: only the producer accesses the batch while the state is [`EMPTY`], only the
/// consumer otherwise.
#[repr(align(128))]
struct Slot<B> {
    #[expect(clippy::disallowed_types, reason = "not part of the core: loom has no business here")]
    state: AtomicU32,
    #[expect(clippy::disallowed_types, reason = "not part of the core: loom has no business here")]
    batch: UnsafeCell<B>,
}

// SAFETY:
// 1. One thread at a time accesses a batch (`slot-turn`), and `B: Send`.
unsafe impl<B: Send> Sync for Slot<B> {}

/// The sending end of the ring.
pub(crate) struct Producer<B> {
    slots: Arc<[Slot<B>]>,
    next: usize,
}

/// The receiving end of the ring.
pub(crate) struct Consumer<B> {
    slots: Arc<[Slot<B>]>,
    next: usize,
}

/// Makes a ring of batches that `batch` makes, and returns its two ends.
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
        //    The load pairs with the consumer's store, so its accesses to the batch happened
        //    before.
        fill(unsafe { &mut *slot.batch.get() });
        // Pairs with the load in `take`.
        slot.state.store(FULL, Release);
        self.next = (self.next + 1) % NR_SLOTS;
    }

    /// Ends this series of batches: the consumer's next `take` returns `None`.
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
        // Pairs with the stores in `put` and `close`. Only this end changes the state now.
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

/// Spins until `is_due` returns true, and yields the CPU now and then.
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
