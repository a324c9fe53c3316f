//! The protocol of a ring with one producer and one consumer: who may touch which slots.
//!
//! A ring has two free-running words of 32 bits. The producer writes its word after it has filled
//! slots, the consumer writes its own after it has emptied them; each reads the other's. Slots
//! between the consumer's word and the producer's are the consumer's, all others the producer's.
//!
//! What is here moves no entry: it says which slots are whose. The other side is not believed: a
//! word that would mean more entries than the ring has is an error, and nothing is touched.
//!
//! # Source
//! `linux-6.12` `net/xdp/xsk_queue.h`, the comment on the ring's ordering

use crate::sync::{AtomicU32, Ordering};

/// A shared word of a ring.
///
/// A trait, so that the tests can put loom's atomics in the place of the real ones.
pub(crate) trait Word {
    /// Reads what the other side has written, and all that it did before.
    fn load_acquire(&self) -> u32;
    /// Shows the other side a new value, and all that was done before.
    fn store_release(&self, value: u32);
}

impl Word for AtomicU32 {
    #[inline]
    fn load_acquire(&self) -> u32 {
        // Acquire: with the release store of the other side of the ring.
        self.load(Ordering::Acquire)
    }

    #[inline]
    fn store_release(&self, value: u32) {
        // Release: with the acquire load of the other side of the ring.
        self.store(value, Ordering::Release);
    }
}

/// The words of a ring contradict each other: more entries than it has slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

/// The producer's own view of a ring.
#[derive(Debug)]
pub(crate) struct Producer {
    /// The producer's word, as last shown.
    produced: u32,
    /// The consumer's word, as last seen.
    consumed: u32,
    nr_slots: u32,
}

impl Producer {
    /// Begins with a ring of `nr_slots` slots, a power of two, whose words are both `start`.
    pub(crate) fn new(nr_slots: u32, start: u32) -> Self {
        assert!(nr_slots.is_power_of_two(), "{nr_slots} slots are no power of two");
        Self { produced: start, consumed: start, nr_slots }
    }

    /// Returns how many entries can be produced, `wanted` at most; looks at the consumer's word
    /// only if it must.
    #[inline]
    pub(crate) fn room(&mut self, consumer: &impl Word, wanted: u32) -> Result<u32, Broken> {
        let known = self.nr_slots - self.produced.wrapping_sub(self.consumed);
        if known >= wanted {
            return Ok(wanted);
        }
        let consumed = consumer.load_acquire();
        let pending = self.produced.wrapping_sub(consumed);
        if pending > self.nr_slots {
            return Err(Broken);
        }
        self.consumed = consumed;
        Ok((self.nr_slots - pending).min(wanted))
    }

    /// Returns the first slot that is the producer's.
    #[inline]
    pub(crate) fn next(&self) -> u32 {
        self.produced
    }

    /// Hands `nr` filled slots to the consumer; they must be within the last [`room`](Self::room).
    #[inline]
    pub(crate) fn submit(&mut self, producer: &impl Word, nr: u32) {
        self.produced = self.produced.wrapping_add(nr);
        debug_assert!(self.produced.wrapping_sub(self.consumed) <= self.nr_slots);
        producer.store_release(self.produced);
    }
}

/// The consumer's own view of a ring.
#[derive(Debug)]
pub(crate) struct Consumer {
    /// The consumer's word, as last shown.
    consumed: u32,
    /// The producer's word, as last seen.
    produced: u32,
    nr_slots: u32,
}

impl Consumer {
    /// Begins with a ring of `nr_slots` slots, a power of two, whose words are both `start`.
    pub(crate) fn new(nr_slots: u32, start: u32) -> Self {
        assert!(nr_slots.is_power_of_two(), "{nr_slots} slots are no power of two");
        Self { consumed: start, produced: start, nr_slots }
    }

    /// Returns how many entries there are, `wanted` at most; looks at the producer's word only if
    /// none is known.
    #[inline]
    pub(crate) fn available(&mut self, producer: &impl Word, wanted: u32) -> Result<u32, Broken> {
        if self.produced == self.consumed {
            let produced = producer.load_acquire();
            if produced.wrapping_sub(self.consumed) > self.nr_slots {
                return Err(Broken);
            }
            self.produced = produced;
        }
        Ok(self.produced.wrapping_sub(self.consumed).min(wanted))
    }

    /// Returns the first slot that is the consumer's.
    #[inline]
    pub(crate) fn next(&self) -> u32 {
        self.consumed
    }

    /// Gives `nr` emptied slots back; they must be within the last [`available`](Self::available).
    #[inline]
    pub(crate) fn release(&mut self, consumer: &impl Word, nr: u32) {
        self.consumed = self.consumed.wrapping_add(nr);
        debug_assert!(self.produced.wrapping_sub(self.consumed) <= self.nr_slots);
        consumer.store_release(self.consumed);
    }
}

#[cfg(test)]
mod tests;
