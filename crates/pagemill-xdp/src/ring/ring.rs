//! Ring protocol: which slots belong to the single producer and which to the single consumer.
//!
//! A ring has two free-running 32-bit words. The producer writes its word after it has filled slots,
//! and the consumer writes its own after it has emptied them; each reads the other's. Slots from the
//! consumer's word to the producer's belong to the consumer, all others to the producer.
//!
//! This module moves no entries; it computes which slots belong to whom. The other side is not trusted:
//! a word that implies more entries than the ring has is an error, and no slot is accessed.
//!
//! # Source
//! `linux-6.12` `net/xdp/xsk_queue.h`, the comment on the ring's ordering

use crate::sync::{AtomicU32, Ordering};

/// A shared word of a ring.
///
/// A trait, so that tests can replace the real atomics by loom's.
pub(crate) trait Word {
    /// Reads the value of the other side, and all that it wrote before.
    fn load_acquire(&self) -> u32;
    /// Publishes a new value, and all that was written before.
    fn store_release(&self, value: u32);
}

impl Word for AtomicU32 {
    #[inline]
    fn load_acquire(&self) -> u32 {
        // Acquire: pairs with the release store of the other side of the ring.
        self.load(Ordering::Acquire)
    }

    #[inline]
    fn store_release(&self, value: u32) {
        // Release: pairs with the acquire load of the other side of the ring.
        self.store(value, Ordering::Release);
    }
}

/// The words of a ring contradict each other: more entries than it has slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

/// The producer's view of a ring.
#[derive(Debug)]
pub(crate) struct Producer {
    /// The producer's word, as last published.
    produced: u32,
    /// The consumer's word, as last read.
    consumed: u32,
    nr_slots: u32,
}

impl Producer {
    /// Starts with a ring of `nr_slots` slots, a power of two, whose words are both `start`.
    pub(crate) fn new(nr_slots: u32, start: u32) -> Self {
        assert!(nr_slots.is_power_of_two(), "{nr_slots} slots are no power of two");
        Self { produced: start, consumed: start, nr_slots }
    }

    /// Returns how many entries can be produced, at most `wanted`; reads the consumer's word only if
    /// necessary.
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

    /// Returns the first slot that belongs to the producer.
    #[inline]
    pub(crate) fn next(&self) -> u32 {
        self.produced
    }

    /// Passes `nr` filled slots to the consumer; at most as many as the last [`room`](Self::room).
    #[inline]
    pub(crate) fn submit(&mut self, producer: &impl Word, nr: u32) {
        self.produced = self.produced.wrapping_add(nr);
        debug_assert!(self.produced.wrapping_sub(self.consumed) <= self.nr_slots);
        producer.store_release(self.produced);
    }
}

/// The consumer's view of a ring.
#[derive(Debug)]
pub(crate) struct Consumer {
    /// The consumer's word, as last published.
    consumed: u32,
    /// The producer's word, as last read.
    produced: u32,
    nr_slots: u32,
}

impl Consumer {
    /// Starts with a ring of `nr_slots` slots, a power of two, whose words are both `start`.
    pub(crate) fn new(nr_slots: u32, start: u32) -> Self {
        assert!(nr_slots.is_power_of_two(), "{nr_slots} slots are no power of two");
        Self { consumed: start, produced: start, nr_slots }
    }

    /// Returns how many entries are available, at most `wanted`; reads the producer's word only if no
    /// entry is known.
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

    /// Returns the first slot that belongs to the consumer.
    #[inline]
    pub(crate) fn next(&self) -> u32 {
        self.consumed
    }

    /// Returns `nr` emptied slots to the producer; at most as many as the last
    /// [`available`](Self::available).
    #[inline]
    pub(crate) fn release(&mut self, consumer: &impl Word, nr: u32) {
        self.consumed = self.consumed.wrapping_add(nr);
        debug_assert!(self.produced.wrapping_sub(self.consumed) <= self.nr_slots);
        consumer.store_release(self.consumed);
    }
}

#[cfg(test)]
mod tests;
